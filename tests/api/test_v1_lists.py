"""Image API v1: lists, who is shown what, filters, order and pages."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest
from tests.kit.gateway import Gateway
from tests.kit.identity import ADMIN, NOBODY, of
from tests.kit.v1 import OWNER, listed, made, put

from tidegate.catalog.base import ImageChange
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.image import Image, Visibility
from tidegate.domain.member import MemberStatus

SHORT = {"id", "name", "size", "disk_format", "container_format", "checksum"}
FULL = SHORT | {"status", "virtual_size", "is_public", "protected", "min_ram", "min_disk", "owner",
                "created_at", "updated_at", "deleted", "deleted_at", "properties"}  # fmt: skip


async def refused(gate: Gateway, who: Mapping[str, str] = OWNER, **query: str) -> str:
    """What a list says of a query that cannot be one."""
    params = {name.replace("changes_since", "changes-since"): text for name, text in query.items()}
    answer = await gate.ask("GET", "/v1/images", headers=who, params=params)
    assert answer.status == 400
    return answer.message


# what is in them


async def test_the_short_list_has_six_keys_and_the_full_one_all(shared_gate: Gateway) -> None:
    image_id = await made(shared_gate, b"hello", name="x", property_distro="none")
    for path, keys in (("/v1/images", SHORT), ("/v1/", SHORT), ("/v1/images/detail", FULL)):
        body = (await shared_gate.ask("GET", path, headers=OWNER)).json
        assert body.keys() == {"images"}
        (image,) = body["images"]
        assert image.keys() == keys
        assert (image["id"], image["size"]) == (image_id, 5)


async def test_the_full_list_shows_an_image_as_it_was_answered_when_made(
    shared_gate: Gateway,
) -> None:
    answer = await put(shared_gate, await made(shared_gate, name="x"), property_a="1")
    (image,) = (await shared_gate.ask("GET", "/v1/images/detail", headers=OWNER)).json["images"]
    assert image == answer.json["image"]


# who is shown what


async def everything(catalog: SqlCatalog) -> None:
    """An image of each kind, named for what it is to p1."""
    for name, owner, visibility in (
        ("own private", "p1", Visibility.PRIVATE),
        ("own shared", "p1", Visibility.SHARED),
        ("own community", "p1", Visibility.COMMUNITY),
        ("own public", "p1", Visibility.PUBLIC),
        ("their private", "p2", Visibility.PRIVATE),
        ("their shared", "p2", Visibility.SHARED),
        ("their community", "p2", Visibility.COMMUNITY),
        ("their public", "p2", Visibility.PUBLIC),
    ):
        await catalog.create_image(
            Image(id=str(uuid4()), name=name, owner=owner, visibility=visibility)
        )
    for status in MemberStatus:
        image = Image(id=str(uuid4()), name=f"invited, {status}", owner="p2")
        await catalog.create_image(image)
        await catalog.put_member(image.id, "p1")
        await catalog.set_member_status(image.id, "p1", status)
    cut = Image(id=str(uuid4()), name="private again", owner="p2", visibility=Visibility.PRIVATE)
    await catalog.create_image(cut)
    await catalog.put_member(cut.id, "p1")
    await catalog.create_image(Image(id=str(uuid4()), name="hidden", owner="p1", hidden=True))


OWN = {"own private", "own shared", "own community", "own public"}
INVITED = {"invited, pending", "invited, accepted", "invited, rejected"}
USERS = OWN | INVITED | {"their public"}
ADMINS = {"X-Auth-Token": "p1:admin,member,reader"}


@pytest.mark.parametrize(
    ("who", "is_public", "seen"),
    [
        (OWNER, None, USERS),
        (OWNER, "true", USERS),
        (OWNER, "false", USERS),
        (OWNER, "None", USERS),
        (ADMINS, None, USERS),
        (ADMINS, "1", USERS),
        (ADMINS, "0", OWN - {"own public"} | INVITED
         | {"their private", "their shared", "private again"}),
        (ADMINS, "none", USERS | {"their private", "their shared", "private again"}),
    ],
)  # fmt: skip
async def test_who_is_shown_what(
    shared_gate: Gateway,
    catalog: SqlCatalog,
    who: Mapping[str, str],
    is_public: str | None,
    seen: set[str],
) -> None:
    await everything(catalog)
    query = {} if is_public is None else {"is_public": is_public}
    assert set(await listed(shared_gate, who, **query)) == seen


async def test_a_list_is_a_projects(shared_gate: Gateway) -> None:
    answer = await shared_gate.ask("GET", "/v1/images", headers=NOBODY)
    assert answer.status == 403


async def test_without_projects_what_has_no_owner_is_ones_own(gate: Gateway) -> None:
    await made(gate, name="x")
    for query in ({}, {"is_public": "none"}, {"is_public": "false"}):
        assert await listed(gate, {}, **query) == ["x"]


@pytest.mark.parametrize("who", [OWNER, ADMIN])
@pytest.mark.parametrize("value", ["", "maybe", "2"])
async def test_a_wrong_is_public_is_400_for_everybody(
    shared_gate: Gateway, who: Mapping[str, str], value: str
) -> None:
    assert "is_public" in await refused(shared_gate, who, is_public=value)


# filters


@pytest.fixture
async def three(shared_gate: Gateway) -> Gateway:
    """With images of three kinds."""
    await made(shared_gate, b"12345", name="full", min_ram=64, min_disk=2, protected="true",
               property_distro="debian", property_arch="arm")  # fmt: skip
    await made(shared_gate, name="iso", disk_format="iso", container_format="ovf", size=9,
               property_distro="debian")  # fmt: skip
    await made(shared_gate, name="in:full,iso")
    return shared_gate


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"name": "full"}, ["full"]),
        ({"name": "in:full,iso"}, ["in:full,iso"]),
        ({"name": "eq:full"}, []),
        ({"name": "ful"}, []),
        ({"status": "active"}, ["full"]),
        ({"status": "queued"}, ["in:full,iso", "iso"]),
        ({"status": "nonsense"}, []),
        ({"disk_format": "iso"}, ["iso"]),
        ({"container_format": "ovf"}, ["iso"]),
        ({"container_format": "nonsense"}, []),
        ({"size_min": "5"}, ["full", "iso"]),
        ({"size_min": "6"}, ["iso"]),
        ({"size_max": "5"}, ["full", "in:full,iso"]),
        ({"size_max": "4"}, ["in:full,iso"]),
        ({"size_min": "0"}, ["full", "in:full,iso", "iso"]),
        ({"size_min": "1", "size_max": "8"}, ["full"]),
        ({"min_ram": "64"}, ["full"]),
        ({"min_ram": "63"}, []),
        ({"min_disk": "2"}, ["full"]),
        ({"min_disk": "1"}, []),
        ({"min_disk": "two"}, []),
        ({"min_disk": "-1"}, []),
        ({"protected": "true"}, ["full"]),
        ({"protected": "1"}, ["full"]),
        ({"protected": "FALSE"}, ["in:full,iso", "iso"]),
        ({"property-distro": "debian"}, ["full", "iso"]),
        ({"property-distro": "debian", "property-arch": "arm"}, ["full"]),
        ({"property-distro": "Debian"}, []),
        ({"property-os_glance_x": "1"}, []),
        ({"deleted": "true"}, ["full", "in:full,iso", "iso"]),
        ({"owner": "p2", "checksum": "x", "colour": "red"}, ["full", "in:full,iso", "iso"]),
    ],
)
async def test_filters(three: Gateway, query: dict[str, str], found: list[str]) -> None:
    for path in ("/v1/images", "/v1/images/detail"):
        assert sorted(await listed(three, path=path, **query)) == found


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"size_min": "-1"}, "Bad value passed to filter size_min got -1"),
        ({"size_max": "x"}, "Bad value passed to filter size_max got x"),
        ({"size_min": ""}, "size_min"),
        ({"size_min": "9" * 19}, "size_min"),
        ({"min_ram": "-1"}, "min_ram"),
        ({"min_ram": "x"}, "min_ram"),
        ({"protected": "maybe"}, "protected must be True, or False"),
        ({"protected": "none"}, "protected must be True, or False"),
        ({"changes_since": "yesterday"}, "Unrecognized changes-since value"),
        ({"changes_since": ""}, "Unrecognized changes-since value"),
        ({"changes_since": "0001-01-01T00:00:00+99:00"}, "Unrecognized changes-since value"),
        ({"sort_key": "owner"}, "sort_key"),
        ({"sort_dir": "up"}, "sort_dir"),
        ({"limit": "many"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"marker": "nope"}, "marker"),
        ({"marker": ""}, "marker"),
        ({"marker": str(uuid4())}, "marker"),
    ],
)
async def test_wrong_values_are_400(three: Gateway, query: dict[str, str], told: str) -> None:
    assert told in await refused(three, **query)


# what changed


async def at(catalog: SqlCatalog, gate: Gateway, name: str) -> datetime:
    """When the image of this name was changed last, to the microsecond."""
    (image,) = (
        await gate.ask("GET", "/v1/images/detail", headers=OWNER, params={"name": name})
    ).json["images"]
    return datetime.fromisoformat(image["updated_at"]).replace(tzinfo=UTC)


async def test_changes_since_is_strictly_later_and_heeds_the_zone(
    shared_gate: Gateway, catalog: SqlCatalog
) -> None:
    await made(shared_gate, name="x")
    moment = await at(catalog, shared_gate, "x")
    before = moment - timedelta(microseconds=1)
    elsewhere = timezone(timedelta(hours=5, minutes=30))
    for time, found in (
        (moment.isoformat(), []),
        (before.isoformat(), ["x"]),
        (before.replace(tzinfo=None).isoformat(), ["x"]),
        (before.astimezone(elsewhere).isoformat(), ["x"]),
        (moment.astimezone(elsewhere).isoformat(), []),
        (before.isoformat().replace("+00:00", "Z"), ["x"]),
    ):
        assert await listed(shared_gate, changes_since=time) == found, time


async def test_changes_since_shows_who_may_see_an_image_that_it_was_deleted(
    shared_gate: Gateway, catalog: SqlCatalog
) -> None:
    image_id = await made(shared_gate, name="x")
    await catalog.put_member(image_id, "p2")
    moment = await at(catalog, shared_gate, "x")
    await shared_gate.ask("DELETE", f"/v1/images/{image_id}", headers=OWNER)
    for who, found in ((OWNER, ["x"]), (of("p2"), ["x"]), (of("p3"), [])):
        assert await listed(shared_gate, who, changes_since=moment.isoformat()) == found
        assert await listed(shared_gate, who) == []


async def test_pages_of_changes_go_on_behind_a_deleted_image(shared_gate: Gateway) -> None:
    ids = [await made(shared_gate, name=name) for name in "abc"]
    await shared_gate.ask("DELETE", f"/v1/images/{ids[1]}", headers=OWNER)
    query = {"changes_since": "2001-01-01", "sort_dir": "asc"}
    assert await listed(shared_gate, **query, marker=ids[1]) == ["c"]


# order and pages


async def test_newest_come_first(shared_gate: Gateway) -> None:
    for name in "abc":
        await made(shared_gate, name=name)
    assert await listed(shared_gate) == ["c", "b", "a"]
    assert await listed(shared_gate, sort_dir="asc") == ["a", "b", "c"]


@pytest.mark.parametrize("key", ["name", "status", "container_format", "disk_format", "size", "id",
                                 "created_at", "updated_at"])  # fmt: skip
async def test_every_sort_key_in_both_directions(three: Gateway, key: str) -> None:
    upwards = await listed(three, sort_key=key, sort_dir="asc")
    assert len(upwards) == 3
    assert await listed(three, sort_key=key, sort_dir="desc") == upwards[::-1]
    assert await listed(three, sort_key=key) == upwards[::-1]
    if key == "name":
        assert upwards == sorted(upwards)


async def test_pages_by_marker_join_to_the_whole(shared_gate: Gateway) -> None:
    ids = {name: await made(shared_gate, name=name, size=len(name)) for name in ("a", "b", "cc")}
    for query in ({}, {"sort_key": "size"}, {"sort_key": "name", "sort_dir": "asc"}):
        found: list[str] = []
        while page := await listed(
            shared_gate, limit="1", **query, **({"marker": ids[found[-1]]} if found else {})
        ):
            found += page
        assert found == await listed(shared_gate, **query)


async def test_limits(shared_gate: Gateway, catalog: SqlCatalog) -> None:
    for number in range(30):
        await catalog.create_image(Image(id=str(uuid4()), name=str(number), owner="p1"))
    for limit, count in ((None, 25), ("0", 0), ("7", 7), ("1000", 30), ("99999", 30)):
        query: dict[str, Any] = {} if limit is None else {"limit": limit}
        assert len(await listed(shared_gate, **query)) == count


async def test_a_marker_that_one_may_not_see_is_400(shared_gate: Gateway) -> None:
    image_id = await made(shared_gate, name="x")
    assert "marker" in await refused(shared_gate, of("p2"), marker=image_id)


async def test_a_hidden_image_is_not_listed_but_known(
    shared_gate: Gateway, catalog: SqlCatalog
) -> None:
    image_id = await made(shared_gate, name="x")
    await catalog.change_image(image_id, ImageChange(fields={"hidden": True}))
    assert await listed(shared_gate) == []
    assert await listed(shared_gate, changes_since="2001-01-01") == []
    answer = await shared_gate.ask("HEAD", f"/v1/images/{image_id}", headers=OWNER)
    assert answer.status == 200


# other methods and paths


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/images", {"GET", "POST"}),
        ("DELETE", "/v1/images", {"GET", "POST"}),
        ("HEAD", "/v1/images/detail", {"GET"}),
        ("DELETE", "/v1/images/detail", {"GET"}),
        ("PUT", "/v1/images/detail", {"GET"}),
        ("POST", "/v1/images/x", {"GET", "HEAD", "PUT", "DELETE"}),
        ("PATCH", "/v1/images/x", {"GET", "HEAD", "PUT", "DELETE"}),
        ("POST", "/v1/images/x/members", {"GET", "PUT"}),
        ("GET", "/v1/images/x/members/p2", {"PUT", "DELETE"}),
        ("POST", "/v1/images/x/members/p2", {"PUT", "DELETE"}),
        ("POST", "/v1/", {"GET"}),
        ("POST", "/v1/shared-images/p2", {"GET"}),
    ],
)
async def test_other_methods_are_405(
    shared_gate: Gateway, method: str, path: str, allowed: set[str]
) -> None:
    answer = await shared_gate.ask(method, path)
    assert answer.status == 405
    assert {name.strip() for name in answer.headers["Allow"].split(",")} == allowed
    if method != "HEAD":
        assert answer.message


@pytest.mark.parametrize(
    "path",
    ["/v1/images.json", "/v1/images/detail.json", "/v1/images/x/members.json", "/v1/nope",
     "/v1/images/" + "x" * 300, "/v1/images/x/locations"],
)  # fmt: skip
async def test_other_paths_are_404(shared_gate: Gateway, path: str) -> None:
    answer = await shared_gate.ask("GET", path)
    assert answer.status == 404
    assert answer.message


@pytest.mark.parametrize("path", ["/v1.0/images", "/v1.1/images"])
async def test_minor_versions_are_the_same(shared_gate: Gateway, path: str) -> None:
    await made(shared_gate, name="x")
    assert await listed(shared_gate, path=path) == ["x"]


async def test_the_version_may_stand_in_accept(shared_gate: Gateway) -> None:
    headers = {**OWNER, "Accept": "application/vnd.openstack.images-v1"}
    answer = await shared_gate.ask("GET", "/images/detail", headers=headers)
    assert answer.json == {"images": []}
