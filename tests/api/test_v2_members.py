"""Image API v2: the projects that an image is shared with."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import jsonschema
import pytest
from tests.kit.gateway import Answer, Gateway
from tests.kit.identity import ADMIN, READER, of
from tests.kit.v1 import OWNER

GUEST, OTHER, STRANGER = of("p2"), of("p3"), of("p9")
GUESTS_READER = {"X-Auth-Token": "p2:reader"}
MEMBER_KEYS = ["member_id", "image_id", "status", "created_at", "updated_at", "schema"]


async def ask(
    gate: Gateway, method: str, path: str, body: Any = None, who: Mapping[str, str] = OWNER
) -> Answer:
    data = body if body is None or isinstance(body, bytes) else json.dumps(body)
    kind = {} if body is None else {"Content-Type": "application/json"}
    return await gate.ask(method, f"/v2/images/{path}", data=data, headers={**kind, **who})


async def invite(
    gate: Gateway, image_id: str, project: str, who: Mapping[str, str] = OWNER
) -> Answer:
    return await ask(gate, "POST", f"{image_id}/members", {"member": project}, who)


async def answer(
    gate: Gateway, image_id: str, project: str, status: Any, who: Mapping[str, str]
) -> Answer:
    return await ask(gate, "PUT", f"{image_id}/members/{project}", {"status": status}, who)


async def listed(gate: Gateway, who: Mapping[str, str], query: str = "") -> list[str]:
    found = await gate.ask("GET", f"/v2/images{query}", headers=who)
    return [image["id"] for image in found.json["images"]]


@pytest.fixture
async def image_id(shared_gate: Gateway) -> str:
    """Shared with p2 and p3."""
    created = await shared_gate.ask("POST", "/v2/images", json={"name": "x"}, headers=OWNER)
    found: str = created.json["id"]
    for project in ("p2", "p3"):
        assert (await invite(shared_gate, found, project)).status == 200
    return found


async def test_a_new_member_is_pending_and_shown_whole(shared_gate: Gateway, image_id: str) -> None:
    found = await invite(shared_gate, image_id, "p4")
    assert (found.status, found.headers["Content-Type"]) == (200, "application/json")
    member = found.json
    assert list(member) == MEMBER_KEYS
    assert (member["member_id"], member["image_id"]) == ("p4", image_id)
    assert (member["status"], member["schema"]) == ("pending", "/v2/schemas/member")
    assert member["created_at"] == member["updated_at"]
    assert len(member["created_at"]) == len("2000-01-01T00:00:00Z")
    assert (await ask(shared_gate, "GET", f"{image_id}/members/p4")).json == member


async def test_members_fit_their_schemas(shared_gate: Gateway, image_id: str) -> None:
    page = (await ask(shared_gate, "GET", f"{image_id}/members")).json
    assert list(page) == ["members", "schema"]
    assert page["schema"] == "/v2/schemas/members"
    one = (await shared_gate.ask("GET", "/v2/schemas/member")).json
    many = (await shared_gate.ask("GET", page["schema"])).json
    assert (list(one), list(many)) == (["name", "properties"], ["name", "properties", "links"])
    assert set(one["properties"]) == set(MEMBER_KEYS)
    assert many["properties"]["members"]["items"] == one
    assert many["links"] == [{"rel": "describedby", "href": "{schema}"}]
    jsonschema.validate(page, many)
    jsonschema.validate(page["members"][0], {**one, "additionalProperties": False})


async def test_a_members_answer_decides_what_its_lists_show(
    shared_gate: Gateway, image_id: str
) -> None:
    for status, lists in (
        ("pending", {"pending", "all"}),
        ("accepted", {"accepted", "all", ""}),
        ("rejected", {"rejected", "all"}),
        ("pending", {"pending", "all"}),
    ):
        found = await answer(shared_gate, image_id, "p2", status, GUEST)
        assert (found.status, found.json["status"]) == (200, status)
        shown = {
            wanted
            for wanted in ("", "pending", "accepted", "rejected", "all")
            if image_id
            in await listed(shared_gate, GUEST, f"?member_status={wanted}" if wanted else "")
        }
        assert (status, shown) == (status, lists)
        path = f"/v2/images/{image_id}"
        assert (await shared_gate.ask("GET", path, headers=GUEST)).status == 200


async def test_its_own_images_are_listed_whatever_the_member_status(
    shared_gate: Gateway, image_id: str
) -> None:
    for status in ("pending", "accepted", "rejected", "all"):
        assert await listed(shared_gate, OWNER, f"?member_status={status}") == [image_id]
        shared = f"?visibility=shared&member_status={status}"
        assert await listed(shared_gate, ADMIN, shared) == [image_id]


@pytest.mark.parametrize(
    ("who", "seen"),
    [
        (OWNER, ["p2", "p3"]),
        (READER, ["p2", "p3"]),
        (ADMIN, ["p2", "p3"]),
        (GUEST, ["p2"]),
        (GUESTS_READER, ["p2"]),
    ],
)
async def test_a_member_sees_its_own_entry_alone(
    shared_gate: Gateway, image_id: str, who: Mapping[str, str], seen: list[str]
) -> None:
    page = (await ask(shared_gate, "GET", f"{image_id}/members", who=who)).json
    assert [member["member_id"] for member in page["members"]] == seen
    for project in ("p2", "p3"):
        found = await ask(shared_gate, "GET", f"{image_id}/members/{project}", who=who)
        assert found.status == (200 if project in seen else 404)


@pytest.mark.parametrize(
    ("who", "codes"),
    [
        # list, show p2, add, accept p2, accept p3, remove p2, remove p3
        (OWNER, (200, 200, 200, 403, 403, 204, 204)),
        (READER, (200, 200, 403, 403, 403, 403, 403)),
        (ADMIN, (200, 200, 200, 200, 200, 204, 204)),
        (GUEST, (200, 200, 403, 200, 404, 403, 404)),
        (GUESTS_READER, (200, 200, 403, 403, 404, 403, 404)),
        (OTHER, (200, 404, 403, 404, 200, 404, 403)),
        (STRANGER, (404, 404, 404, 404, 404, 404, 404)),
    ],
)
async def test_who_may(
    shared_gate: Gateway, image_id: str, who: Mapping[str, str], codes: tuple[int, ...]
) -> None:
    found = (
        await ask(shared_gate, "GET", f"{image_id}/members", who=who),
        await ask(shared_gate, "GET", f"{image_id}/members/p2", who=who),
        await invite(shared_gate, image_id, "p4", who),
        await answer(shared_gate, image_id, "p2", "accepted", who),
        await answer(shared_gate, image_id, "p3", "accepted", who),
        await ask(shared_gate, "DELETE", f"{image_id}/members/p2", who=who),
        await ask(shared_gate, "DELETE", f"{image_id}/members/p3", who=who),
    )
    assert tuple(one.status for one in found) == codes
    assert all(one.message for one in found if one.status >= 400)


async def test_a_removed_member_is_out_until_it_is_invited_again(
    shared_gate: Gateway, image_id: str
) -> None:
    await answer(shared_gate, image_id, "p2", "accepted", GUEST)
    path = f"{image_id}/members/p2"
    first = (await ask(shared_gate, "GET", path)).json
    removed = await ask(shared_gate, "DELETE", path)
    assert (removed.status, removed.body, "Content-Type" in removed.headers) == (204, b"", False)
    assert (await ask(shared_gate, "DELETE", path)).status == 404
    assert (await ask(shared_gate, "GET", path)).status == 404
    assert (await shared_gate.ask("GET", f"/v2/images/{image_id}", headers=GUEST)).status == 404
    again = (await invite(shared_gate, image_id, "p2")).json
    assert (again["status"], again["created_at"]) == ("pending", first["created_at"])


async def test_nobody_is_a_member_twice(shared_gate: Gateway, image_id: str) -> None:
    again = await invite(shared_gate, image_id, "p2")
    assert (again.status, "duplicated" in again.message) == (409, True)


async def test_one_more_than_the_quota_is_413(shared_gate: Gateway, image_id: str) -> None:
    assert (await invite(shared_gate, image_id, "p4")).status == 200
    refused = await invite(shared_gate, image_id, "p5")
    assert refused.status == 413
    assert "Attempted: 4, Maximum: 3" in refused.message


@pytest.mark.parametrize("visibility", ["private", "community", "public"])
async def test_only_shared_images_have_members(
    shared_gate: Gateway, image_id: str, visibility: str
) -> None:
    async def show(shown: str) -> None:
        body = [{"op": "replace", "path": "/visibility", "value": shown}]
        media = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
        changed = await ask(shared_gate, "PATCH", image_id, body, {**ADMIN, **media})
        assert changed.status == 200

    await answer(shared_gate, image_id, "p2", "accepted", GUEST)
    await show(visibility)
    for who in (OWNER, ADMIN):
        found = (
            await ask(shared_gate, "GET", f"{image_id}/members", who=who),
            await ask(shared_gate, "GET", f"{image_id}/members/p2", who=who),
            await invite(shared_gate, image_id, "p4", who),
            await answer(shared_gate, image_id, "p2", "rejected", who),
            await ask(shared_gate, "DELETE", f"{image_id}/members/p2", who=who),
        )
        assert [one.status for one in found] == [403, 404, 403, 403, 403]
    seen = await shared_gate.ask("GET", f"/v2/images/{image_id}", headers=GUEST)
    assert seen.status == (404 if visibility == "private" else 200)
    await show("shared")
    kept = (await ask(shared_gate, "GET", f"{image_id}/members/p2")).json
    assert kept["status"] == "accepted"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"5", b"\xff", {}, [], ["p4"], {"member": ""}, {"member": None}, {"member": 5},
     {"member": ["p4"]}, {"members": "p4"}, {"member": "x" * 256}, {"member": "a\0b"},
     {"member": "a\nb"}, {"member": "p1"}],
)  # fmt: skip
async def test_what_names_no_other_project_is_400(
    shared_gate: Gateway, image_id: str, body: Any
) -> None:
    refused = await ask(shared_gate, "POST", f"{image_id}/members", body)
    assert refused.status == 400
    assert refused.message
    assert len((await ask(shared_gate, "GET", f"{image_id}/members")).json["members"]) == 2


@pytest.mark.parametrize(
    "body",
    [b"", b"{", {}, [], ["accepted"], {"status": ""}, {"status": None}, {"status": "Accepted"},
     {"status": ["accepted"]}, {"member": "p2"}],
)  # fmt: skip
async def test_what_is_no_status_is_400(shared_gate: Gateway, image_id: str, body: Any) -> None:
    refused = await ask(shared_gate, "PUT", f"{image_id}/members/p2", body, GUEST)
    assert refused.status == 400
    assert refused.message
    kept = (await ask(shared_gate, "GET", f"{image_id}/members/p2")).json
    assert kept["status"] == "pending"


async def test_other_members_of_a_body_mean_nothing(shared_gate: Gateway, image_id: str) -> None:
    body = {"member": "p4", "status": "accepted", "member_id": "p5", "can_share": True}
    made = await ask(shared_gate, "POST", f"{image_id}/members", body)
    assert (made.json["member_id"], made.json["status"]) == ("p4", "pending")
    body = {"status": "accepted", "member": "p9", "image_id": "x", "created_at": "now"}
    changed = await ask(shared_gate, "PUT", f"{image_id}/members/p4", body, of("p4"))
    assert (changed.json["member_id"], changed.json["status"]) == ("p4", "accepted")


async def test_a_body_where_none_is_taken_is_400(shared_gate: Gateway, image_id: str) -> None:
    for method, path in (("GET", ""), ("GET", "/p2"), ("DELETE", "/p2")):
        refused = await ask(shared_gate, method, f"{image_id}/members{path}", b"{}")
        assert refused.status == 400


async def test_sec_46_that_an_image_is_not_there_is_said_before_anything_of_the_body(
    shared_gate: Gateway, image_id: str
) -> None:
    for place in (image_id, str(uuid4())):
        for method, path in (("POST", "members"), ("PUT", "members/p2")):
            refused = await ask(shared_gate, method, f"{place}/{path}", b"{", STRANGER)
            assert refused.status == 404
            assert refused.message == f"No image found with ID {place}"


@pytest.mark.parametrize(
    ("path", "allowed"), [("members", "GET, POST"), ("members/p2", "DELETE, GET, PUT")]
)
async def test_another_method_is_405(
    shared_gate: Gateway, image_id: str, path: str, allowed: str
) -> None:
    for method in ("PATCH", "HEAD", "TRACE"):
        refused = await ask(shared_gate, method, f"{image_id}/{path}")
        assert (refused.status, refused.headers["Allow"]) == (405, allowed)
