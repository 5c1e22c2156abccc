"""Image API v2: who sees which images in a list."""

import json
from collections.abc import Mapping

import pytest
from tests.kit.gateway import Gateway
from tests.kit.identity import ADMIN, NOBODY, READER, of

P1, P2 = of("p1"), of("p2")

MINE = "mine-private mine-shared mine-community mine-public"
SHARED = "accepted pending rejected"
THEIRS = f"their-private their-shared their-community their-public {SHARED}"
NO_ONES = "nobodys"

TABLE = f"""
                                      | {MINE} their-public accepted                            | {MINE} their-private their-shared their-public {SHARED} {NO_ONES}
visibility=all                        | {MINE} their-public their-community accepted            | {MINE} {THEIRS} {NO_ONES}
visibility=private                    | mine-private                                            | mine-private their-private
visibility=shared                     | mine-shared accepted                                    | mine-shared their-shared {SHARED} {NO_ONES}
visibility=community                  | mine-community their-community                          | mine-community their-community
visibility=public                     | mine-public their-public                                | mine-public their-public
visibility=                           |                                                         |
member_status=all                     | {MINE} their-public {SHARED}                            | {MINE} their-private their-shared their-public {SHARED} {NO_ONES}
member_status=pending                 | {MINE} their-public pending                             | {MINE} their-private their-shared their-public {SHARED} {NO_ONES}
visibility=shared&member_status=rejected | mine-shared rejected                                 | mine-shared their-shared {SHARED} {NO_ONES}
visibility=all&owner=p2               | their-public their-community accepted                   | {THEIRS}
owner=p1                              | {MINE}                                                  | {MINE}
os_hidden=true                        | mine-hidden their-hidden                                | mine-hidden their-hidden
os_hidden=true&visibility=private     | mine-hidden                                             | mine-hidden
"""  # noqa: E501
"""Query, and what a member of p1 and an administrator of p1 see."""


async def create(gate: Gateway, who: Mapping[str, str], name: str, **fields: object) -> str:
    kind = name.rpartition("-")[2]
    body = {
        "name": name,
        "visibility": kind if kind in ("private", "community", "public") else "shared",
        **fields,
    }
    answer = await gate.ask("POST", "/v2/images", json=body, headers={**ADMIN, **who})
    assert answer.status == 201, answer.body
    image_id: str = answer.json["id"]
    return image_id


@pytest.fixture
async def images(shared_gate: Gateway) -> dict[str, str]:
    """Names by ids."""
    found = {}
    for name in f"{MINE} {THEIRS} {NO_ONES} mine-hidden their-hidden".split():
        fields: dict[str, object] = {"owner": "p1" if name.startswith("mine") else "p2"}
        if name == NO_ONES:
            fields["owner"] = None
        if name.endswith("hidden"):
            public = "public" if name.startswith("their") else "private"
            fields |= {"os_hidden": True, "visibility": public}
        image_id = await create(shared_gate, {}, name, **fields)
        found[image_id] = name
        if name in SHARED.split():
            path = f"/v2/images/{image_id}/members"
            kind = {"Content-Type": "application/json"}
            invited = json.dumps({"member": "p1"})
            await shared_gate.ask("POST", path, data=invited, headers={**P2, **kind})
            answer = json.dumps({"status": name})
            await shared_gate.ask("PUT", f"{path}/p1", data=answer, headers={**P1, **kind})
    return found


async def seen(
    gate: Gateway, images: Mapping[str, str], query: str, who: Mapping[str, str]
) -> list[str]:
    answer = await gate.ask("GET", f"/v2/images?{query}", headers=who)
    assert answer.status == 200, answer.body
    return sorted(images[image["id"]] for image in answer.json["images"])


async def test_who_sees_what(shared_gate: Gateway, images: dict[str, str]) -> None:
    admin = {"X-Auth-Token": "p1:admin,member,reader"}
    for line in TABLE.strip("\n").split("\n"):
        query, *columns = (cell.strip() for cell in line.split("|"))
        for who, names in zip((P1, admin), columns, strict=True):
            found = await seen(shared_gate, images, query, who)
            assert (query, who, found) == (query, who, sorted(names.split()))


async def test_a_reader_sees_what_a_member_sees(
    shared_gate: Gateway, images: dict[str, str]
) -> None:
    for query in ("", "visibility=all"):
        assert await seen(shared_gate, images, query, READER) == await seen(
            shared_gate, images, query, P1
        )


async def test_without_a_role_or_a_project_there_is_no_list(shared_gate: Gateway) -> None:
    for who in (NOBODY, {"X-Auth-Token": "p1:other"}):
        answer = await shared_gate.ask("GET", "/v2/images", headers=who)
        assert (answer.status, "get_images" in answer.message) == (403, True)


async def test_pages_of_a_user_show_what_its_list_does(
    shared_gate: Gateway, images: dict[str, str]
) -> None:
    whole = await shared_gate.ask("GET", "/v2/images?sort=name:asc", headers=P1)
    path: str | None = "/v2/images?sort=name:asc&limit=1"
    found = []
    while path:
        page = (await shared_gate.ask("GET", path, headers=P1)).json
        found += page["images"]
        path = page.get("next")
    assert found == whole.json["images"]


async def test_sec_49_a_marker_that_may_not_be_seen_is_told_from_no_unknown_one(
    shared_gate: Gateway, images: dict[str, str]
) -> None:
    private = next(image_id for image_id, name in images.items() if name == "their-private")
    answer = await shared_gate.ask("GET", f"/v2/images?marker={private}", headers=P1)
    assert answer.status == 400
    unknown = "00000000-0000-4000-8000-000000000000"
    other = await shared_gate.ask("GET", f"/v2/images?marker={unknown}", headers=P1)
    assert other.message.replace(unknown, private) == answer.message


async def test_a_marker_needs_not_fit_the_filters(
    shared_gate: Gateway, images: dict[str, str]
) -> None:
    ids = {name: image_id for image_id, name in images.items()}
    query = f"name=mine-private&sort=created_at:asc&marker={ids['mine-shared']}"
    assert await seen(shared_gate, images, query, P1) == []
    query = f"name=mine-private&sort=created_at:desc&marker={ids['mine-shared']}"
    assert await seen(shared_gate, images, query, P1) == ["mine-private"]
