"""Image API v2: who may do what with an image, by role, project and visibility."""

import json
from typing import Any

import pytest
from tests.kit.gateway import V21, Answer, Gateway
from tests.kit.identity import ADMIN, READER, of

OWNER, GUEST, STRANGER = of("p1"), of("p2"), of("p9")
CALLERS = {
    "owner": OWNER,
    "owner's reader": READER,
    "guest": GUEST,
    "stranger": STRANGER,
    "no role": {"X-Auth-Token": "p1:other"},
    "admin": ADMIN,
}

TABLE = """
call             | owner | owner's reader | guest | stranger on public | stranger | no role | admin
show             | 200   | 200            | 200   | 200                | 404      | 404     | 200
empty patch      | 200   | 200            | 200   | 200                | 404      | 404     | 200
rename           | 200   | 403            | 403   | 403                | 404      | 404     | 200
add a property   | 200   | 403            | 403   | 403                | 404      | 404     | 200
give away        | 403   | 403            | 403   | 403                | 404      | 404     | 200
take (add)       | 403   | 403            | 403   | 403                | 404      | 404     | 200
make public      | 403   | 403            | 403   | 403                | 404      | 404     | 200
make community   | 200   | 403            | 403   | 403                | 404      | 404     | 200
put a tag        | 204   | 403            | 403   | 403                | 404      | 404     | 204
drop a tag       | 204   | 403            | 403   | 403                | 404      | 404     | 204
delete           | 204   | 403            | 403   | 403                | 404      | 404     | 204
"""

CALLS: dict[str, tuple[str, str, Any]] = {
    "show": ("GET", "", None),
    "empty patch": ("PATCH", "", []),
    "rename": ("PATCH", "", [{"op": "replace", "path": "/name", "value": "new"}]),
    "add a property": ("PATCH", "", [{"op": "add", "path": "/k", "value": "v"}]),
    "give away": ("PATCH", "", [{"op": "replace", "path": "/owner", "value": "p2"}]),
    "take (add)": ("PATCH", "", [{"op": "add", "path": "/owner", "value": "p9"}]),
    "make public": ("PATCH", "", [{"op": "replace", "path": "/visibility", "value": "public"}]),
    "make community": (
        "PATCH", "", [{"op": "replace", "path": "/visibility", "value": "community"}],
    ),
    "put a tag": ("PUT", "/tags/new", None),
    "drop a tag": ("DELETE", "/tags/old", None),
    "delete": ("DELETE", "", None),
}  # fmt: skip


async def image(gate: Gateway, visibility: str) -> str:
    """Of p1, with p2 as a member."""
    body = {"name": "x", "tags": ["old"], "owner": "p1", "visibility": visibility}
    answer = await gate.ask("POST", "/v2/images", json=body, headers=ADMIN)
    assert answer.status == 201, answer.body
    image_id: str = answer.json["id"]
    if visibility == "shared":
        path, json_type = f"/v2/images/{image_id}/members", {"Content-Type": "application/json"}
        member = json.dumps({"member": "p2"})
        await gate.ask("POST", path, data=member, headers={**OWNER, **json_type})
    return image_id


async def call(gate: Gateway, name: str, image_id: str, who: dict[str, str]) -> Answer:
    method, path, body = CALLS[name]
    data = None if body is None else json.dumps(body)
    headers = {**who, "Content-Type": V21} if method == "PATCH" else who
    return await gate.ask(method, f"/v2/images/{image_id}{path}", data=data, headers=headers)


@pytest.mark.parametrize("name", CALLS)
async def test_who_may(shared_gate: Gateway, name: str) -> None:
    head, *rows = ([cell.strip() for cell in line.split("|")] for line in TABLE.split("\n") if line)
    row = next(row for row in rows if row[0] == name)
    for caller, code in zip(head[1:], row[1:], strict=True):
        who, _, public = caller.partition(" on ")
        image_id = await image(shared_gate, public or "shared")
        before = (await shared_gate.ask("GET", f"/v2/images/{image_id}", headers=ADMIN)).json
        answer = await call(shared_gate, name, image_id, CALLERS[who])
        assert (name, caller, answer.status) == (name, caller, int(code))
        if answer.status >= 400:
            assert answer.message
            after = await shared_gate.ask("GET", f"/v2/images/{image_id}", headers=ADMIN)
            assert after.json == before


def test_every_call_is_in_the_table() -> None:
    assert {line.partition("|")[0].strip() for line in TABLE.split("\n")[2:] if line} == set(CALLS)


async def test_sec_46_what_may_not_be_seen_is_refused_as_what_is_not_there(
    shared_gate: Gateway,
) -> None:
    hidden = await image(shared_gate, "private")
    nowhere = "00000000-0000-4000-8000-000000000000"
    for name in CALLS:
        found = await call(shared_gate, name, hidden, STRANGER)
        absent = await call(shared_gate, name, nowhere, STRANGER)
        assert found.status == absent.status == 404
        assert found.message == absent.message.replace(nowhere, hidden)
        assert found.headers.keys() == absent.headers.keys()


@pytest.mark.parametrize(
    ("who", "body", "status"),
    [
        (OWNER, {"owner": "p1"}, 201),
        (OWNER, {"owner": "p2"}, 403),
        (OWNER, {"owner": None}, 403),
        (OWNER, {"owner": ""}, 403),
        (OWNER, {"visibility": "public"}, 403),
        (OWNER, {"visibility": "community"}, 201),
        (READER, {}, 403),
        (ADMIN, {"owner": "p2"}, 201),
        (ADMIN, {"owner": None}, 201),
        (ADMIN, {"visibility": "public"}, 201),
    ],
)
async def test_who_may_create(
    shared_gate: Gateway, who: dict[str, str], body: dict[str, Any], status: int
) -> None:
    answer = await shared_gate.ask("POST", "/v2/images", json=body, headers=who)
    assert answer.status == status
    if status == 201 and "owner" in body:
        assert answer.json["owner"] == body["owner"]
