"""Image API v1: the projects that an image is shared with."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from tests.kit.gateway import Answer, Gateway
from tests.kit.identity import ADMIN, NOBODY, READER, of
from tests.kit.v1 import OWNER, head, listed, made

JSON = {"Content-Type": "application/json"}
GUEST, STRANGER = of("p2"), of("p3")


async def share(
    gate: Gateway, image_id: str, project: str, body: Any = None, who: Mapping[str, str] = OWNER
) -> Answer:
    return await gate.ask(
        "PUT",
        f"/v1/images/{image_id}/members/{project}",
        headers={**who, **JSON},
        data=None if body is None else json.dumps(body),
    )


async def replace(
    gate: Gateway, image_id: str, body: Any, who: Mapping[str, str] = OWNER
) -> Answer:
    return await gate.ask(
        "PUT",
        f"/v1/images/{image_id}/members",
        headers={**who, **JSON},
        data=body if isinstance(body, bytes) else json.dumps(body),
    )


async def members(gate: Gateway, image_id: str, who: Mapping[str, str] = OWNER) -> dict[str, bool]:
    """Who they are, and whether they can share."""
    answer = await gate.ask("GET", f"/v1/images/{image_id}/members", headers=who)
    assert answer.status == 200, answer.body
    assert answer.json.keys() == {"members"}
    return {member["member_id"]: member["can_share"] for member in answer.json["members"]}


async def shared(gate: Gateway, project: str, who: Mapping[str, str]) -> dict[str, bool]:
    """Images that are shared with the project, and whether it can share them."""
    answer = await gate.ask("GET", f"/v1/shared-images/{project}", headers=who)
    assert answer.status == 200
    assert answer.json.keys() == {"shared_images"}
    return {one["image_id"]: one["can_share"] for one in answer.json["shared_images"]}


@pytest.fixture
async def image_id(shared_gate: Gateway) -> str:
    return await made(shared_gate, b"bytes", name="x")


# add, change, remove


async def test_sharing_lets_a_project_read_and_list(shared_gate: Gateway, image_id: str) -> None:
    assert (await head(shared_gate, image_id, GUEST)).status == 404
    answer = await share(shared_gate, image_id, "p2")
    assert (answer.status, answer.body) == (204, b"")
    got = await shared_gate.ask("GET", f"/v1/images/{image_id}", headers=GUEST)
    assert got.body == b"bytes"
    assert await listed(shared_gate, GUEST) == ["x"]
    assert (await head(shared_gate, image_id, STRANGER)).status == 404


async def test_unsharing_ends_it(shared_gate: Gateway, image_id: str) -> None:
    await share(shared_gate, image_id, "p2")
    path = f"/v1/images/{image_id}/members/p2"
    answer = await shared_gate.ask("DELETE", path, headers=OWNER)
    assert (answer.status, answer.body) == (204, b"")
    assert (await head(shared_gate, image_id, GUEST)).status == 404
    assert await members(shared_gate, image_id) == {}
    again = await shared_gate.ask("DELETE", path, headers=OWNER)
    assert again.status == 404


@pytest.mark.parametrize(
    ("before", "body", "after"),
    [
        (None, None, False),
        (None, {"member": {}}, False),
        (None, {"member": {"can_share": True}}, True),
        (None, {"member": {"can_share": "yes"}}, True),
        (None, {"member": {"can_share": 0}}, False),
        (True, None, True),
        (True, {"member": {}}, True),
        (True, {"member": {"can_share": None}}, False),
        (True, {"member": {"can_share": False}}, False),
    ],
)
async def test_can_share(
    shared_gate: Gateway, image_id: str, before: bool | None, body: Any, after: bool
) -> None:
    if before is not None:
        await share(shared_gate, image_id, "p2", {"member": {"can_share": before}})
    assert (await share(shared_gate, image_id, "p2", body)).status == 204
    assert await members(shared_gate, image_id) == {"p2": after}


async def test_who_was_removed_can_be_added_again(shared_gate: Gateway, image_id: str) -> None:
    await share(shared_gate, image_id, "p2", {"member": {"can_share": True}})
    await shared_gate.ask("DELETE", f"/v1/images/{image_id}/members/p2", headers=OWNER)
    assert (await share(shared_gate, image_id, "p2")).status == 204
    assert await members(shared_gate, image_id) == {"p2": False}


async def test_a_new_member_is_pending_in_v2(shared_gate: Gateway, image_id: str) -> None:
    await share(shared_gate, image_id, "p2")
    for query, found in (("", []), ("?member_status=pending", ["x"])):
        answer = await shared_gate.ask("GET", f"/v2/images{query}", headers=GUEST)
        assert [image["name"] for image in answer.json["images"]] == found


@pytest.mark.parametrize(
    "body", [{}, {"member": None}, {"member": ["p2"]}, {"can_share": True}, ["p2"], "p2"]
)
async def test_a_malformed_member_is_400(shared_gate: Gateway, image_id: str, body: Any) -> None:
    answer = await share(shared_gate, image_id, "p2", body)
    assert answer.status == 400
    assert answer.message
    assert await members(shared_gate, image_id) == {}


@pytest.mark.parametrize("project", ["p1", "x" * 256, "a%00b", "a%0Ab"])
async def test_what_is_no_other_project_cannot_be_a_member(
    shared_gate: Gateway, image_id: str, project: str
) -> None:
    answer = await share(shared_gate, image_id, project)
    assert answer.status == 400
    assert answer.message


# replace


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ({"memberships": []}, {}),
        ({"memberships": [{"member_id": "p3"}]}, {"p3": False}),
        ({"memberships": [{"member_id": "p3", "can_share": True}, {"member_id": "p2"}]},
         {"p2": True, "p3": True}),
        ({"memberships": [{"member_id": "p2", "can_share": False}]}, {"p2": False}),
        ({"member_id": "p3"}, {"p3": False}),
    ],
)  # fmt: skip
async def test_replacing_all(
    shared_gate: Gateway, image_id: str, body: Any, after: dict[str, bool]
) -> None:
    await share(shared_gate, image_id, "p2", {"member": {"can_share": True}})
    answer = await replace(shared_gate, image_id, body)
    assert (answer.status, answer.body) == (204, b"")
    assert await members(shared_gate, image_id) == after


@pytest.mark.parametrize(
    "body",
    [b"", b"{", {}, [], [{"member_id": "p3"}], {"memberships": None}, {"memberships": {}},
     {"memberships": [{}]}, {"memberships": ["p3"]}, {"memberships": [{"member_id": 3}]},
     {"memberships": [{"member_id": ""}]}, {"memberships": [{"member_id": "p1"}]}],
)  # fmt: skip
async def test_a_malformed_replacement_is_400_and_changes_nothing(
    shared_gate: Gateway, image_id: str, body: Any
) -> None:
    await share(shared_gate, image_id, "p2")
    answer = await replace(shared_gate, image_id, body)
    assert answer.status == 400
    assert answer.message
    assert await members(shared_gate, image_id) == {"p2": False}


async def test_what_a_web_page_could_send_is_400_and_not_415(gate: Gateway) -> None:
    image_id = await made(gate)
    answer = await gate.ask(
        "PUT",
        f"/v1/images/{image_id}/members",
        data='{"memberships": []}',
        headers={"Content-Type": "text/plain"},
    )
    assert answer.status == 400


# the quota (three, here)


async def test_the_quota_is_413_and_counts_additions_alone(
    shared_gate: Gateway, image_id: str
) -> None:
    for project in ("p2", "p3", "p4"):
        assert (await share(shared_gate, image_id, project)).status == 204
    change = await share(shared_gate, image_id, "p4", {"member": {"can_share": True}})
    assert change.status == 204
    answer = await share(shared_gate, image_id, "p5")
    assert answer.status == 413
    assert "Attempted: 4, Maximum: 3" in answer.message
    many = {"memberships": [{"member_id": f"p{number}"} for number in range(4, 8)]}
    assert (await replace(shared_gate, image_id, many)).status == 413
    assert sorted(await members(shared_gate, image_id)) == ["p2", "p3", "p4"]


# who


CALLS = {
    "list": ("GET", "", None),
    "add": ("PUT", "/p5", None),
    "replace": ("PUT", "", b'{"memberships": []}'),
    "remove": ("DELETE", "/p2", None),
}


@pytest.mark.parametrize(
    ("who", "codes"),
    [
        (OWNER, (200, 204, 204, 204)),
        (ADMIN, (200, 204, 204, 204)),
        (of("sharer"), (200, 204, 204, 204)),
        (GUEST, (200, 404, 404, 404)),
        (READER, (200, 404, 404, 404)),
        ({"X-Auth-Token": "sharer:reader"}, (200, 404, 404, 404)),
        (STRANGER, (404, 404, 404, 404)),
        (NOBODY, (404, 401, 401, 401)),
    ],
)
async def test_who_may(
    shared_gate: Gateway, image_id: str, who: Mapping[str, str], codes: tuple[int, ...]
) -> None:
    for (method, path, data), code in zip(CALLS.values(), codes, strict=True):
        await replace(
            shared_gate,
            image_id,
            {"memberships": [{"member_id": "p2"}, {"member_id": "sharer", "can_share": True}]},
        )
        answer = await shared_gate.ask(
            method,
            f"/v1/images/{image_id}/members{path}",
            headers={**who, **JSON},
            data=data,
        )
        assert answer.status == code, (method, path)


async def test_a_member_sees_its_own_row_alone(shared_gate: Gateway, image_id: str) -> None:
    await share(shared_gate, image_id, "p2")
    await share(shared_gate, image_id, "p3", {"member": {"can_share": True}})
    assert await members(shared_gate, image_id, OWNER) == {"p2": False, "p3": True}
    assert await members(shared_gate, image_id, ADMIN) == {"p2": False, "p3": True}
    assert await members(shared_gate, image_id, GUEST) == {"p2": False}


async def test_who_may_read_a_public_image_is_not_told_its_members(shared_gate: Gateway) -> None:
    image_id = await made(shared_gate, who=ADMIN, is_public="true", owner="p1")
    answer = await shared_gate.ask("GET", f"/v1/images/{image_id}/members", headers=STRANGER)
    assert answer.status == 404
    assert await members(shared_gate, image_id, OWNER) == {}


async def test_a_public_image_cannot_be_shared(shared_gate: Gateway) -> None:
    image_id = await made(shared_gate, who=ADMIN, is_public="true", owner="p1")
    assert (await share(shared_gate, image_id, "p2")).status == 403
    assert (await replace(shared_gate, image_id, {"memberships": []})).status == 403


@pytest.mark.parametrize(("method", "path", "data"), CALLS.values(), ids=CALLS)
async def test_an_unknown_image_is_404(
    shared_gate: Gateway, method: str, path: str, data: bytes | None
) -> None:
    answer = await shared_gate.ask(
        method, f"/v1/images/nope/members{path}", headers={**OWNER, **JSON}, data=data
    )
    assert answer.status == 404


# what is shared with a project


async def test_what_is_shared_is_told_to_whom_it_concerns(
    shared_gate: Gateway, image_id: str
) -> None:
    await share(shared_gate, image_id, "p2", {"member": {"can_share": True}})
    theirs = await made(shared_gate, who=STRANGER)
    await share(shared_gate, theirs, "p2", who=STRANGER)
    assert await shared(shared_gate, "p2", GUEST) == {image_id: True, theirs: False}
    assert await shared(shared_gate, "p2", ADMIN) == {image_id: True, theirs: False}
    assert await shared(shared_gate, "p2", OWNER) == {image_id: True}
    assert await shared(shared_gate, "p2", of("p9")) == {}
    assert await shared(shared_gate, "nobody", OWNER) == {}


async def test_a_deleted_image_is_shared_no_more(shared_gate: Gateway, image_id: str) -> None:
    await share(shared_gate, image_id, "p2")
    await shared_gate.ask("DELETE", f"/v1/images/{image_id}", headers=OWNER)
    assert await shared(shared_gate, "p2", GUEST) == {}
