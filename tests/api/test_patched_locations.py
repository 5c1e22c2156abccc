"""PATCH of /locations: the rows of its table of checks, in their order."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit.gateway import V20, Answer, Gateway, running
from tests.kit.identity import ADMIN, Named, of
from tests.kit.origins import Origin, serving
from tests.kit.stores import FaultyStore

from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.status import Event

OWNER, STRANGER = of("p"), of("q")
BYTES = b"external bytes"
SHA512 = hashlib.sha512(BYTES).hexdigest()
MD5 = hashlib.md5(BYTES, usedforsecurity=False).hexdigest()
VOUCHED = {"checksum": MD5, "os_hash_algo": "sha512", "os_hash_value": SHA512}
EMPTY = {"op": "replace", "path": "/locations", "value": []}


class World:
    def __init__(self, gate: Gateway, catalog: SqlCatalog, origin: Origin) -> None:
        self.gate = gate
        self.catalog = catalog
        self.origin = origin

    async def queued(self, **fields: Any) -> str:
        return await self.gate.create(owner="p", **fields)

    async def located(self, **fields: Any) -> str:
        """An active image at the origin."""
        image_id = await self.queued(**fields)
        answer = await self.patch(image_id, self.add())
        assert answer.status == 200, answer.body
        return image_id

    async def patch(
        self, image_id: str, step: dict[str, Any], caller: dict[str, str] = OWNER
    ) -> Answer:
        self.gate.session.headers.update(caller)
        return await self.gate.patch(image_id, step)

    def add(self, query: str = "", path: str = "/locations/-", **more: Any) -> dict[str, Any]:
        return {"op": "add", "path": path, "value": self.at(query, **more)}

    def replace(self, *values: dict[str, Any]) -> dict[str, Any]:
        return {"op": "replace", "path": "/locations", "value": list(values)}

    def at(self, query: str = "", **more: Any) -> dict[str, Any]:
        return {"url": self.origin.url + query, "metadata": {}, **more}


@pytest.fixture
async def world(store: FaultyStore, tmp_path: Path) -> AsyncIterator[World]:
    catalog = SqlCatalog(f"sqlite:///{tmp_path / 'tidegate.db'}")
    async with (
        running(store, tmp_path, identity=Named(), quotas={"locations": 3}) as gate,
        serving(BYTES) as origin,
    ):
        await catalog.open()
        yield World(gate, catalog, origin)
        await catalog.close()


@pytest.mark.parametrize(
    ("op", "path"),
    [("add", "/locations"), ("add", "/locations/0/url"), ("remove", "/locations"),
     ("replace", "/locations/0"), ("replace", "/locations/-")],
)  # fmt: skip
async def test_another_depth_is_400(world: World, op: str, path: str) -> None:
    answer = await world.patch("nope", {"op": op, "path": path, "value": world.at()})
    assert answer.status == 400
    assert answer.message == f"Invalid JSON pointer for this resource: '{path}'"


@pytest.mark.parametrize(
    "value",
    [
        {"url": "http://example.org/"},
        {"metadata": {}},
        {"url": "http://example.org/" + "x" * 255, "metadata": {}},
        {"url": "http://example.org/", "metadata": []},
        {"url": "http://example.org/", "metadata": {}, "validation_data": {"checksum": MD5}},
        {"url": "http://example.org/", "metadata": {}, "validation_data": {**VOUCHED, "x": "y"}},
        {"url": "http://example.org/", "metadata": {},
         "validation_data": {**VOUCHED, "checksum": "0" * 31}},
        {"url": "http://example.org/", "metadata": {},
         "validation_data": {**VOUCHED, "os_hash_value": "0" * 129}},
    ],
)  # fmt: skip
async def test_a_value_of_another_form_is_400_before_the_image_is_looked_for(
    world: World, value: dict[str, Any]
) -> None:
    for step in ({"op": "add", "path": "/locations/-", "value": value}, world.replace(value)):
        assert (await world.patch("nope", step)).status == 400


async def test_an_invisible_image_is_404_before_the_policy(world: World) -> None:
    image_id = await world.queued(visibility="private")
    for step in (world.add(), world.replace(world.at()), EMPTY):
        assert (await world.patch(image_id, step, STRANGER)).status == 404


async def test_an_empty_list_is_403_before_the_policy(world: World) -> None:
    image_id = await world.queued(visibility="public")
    answer = await world.patch(image_id, EMPTY, STRANGER)
    assert (answer.status, answer.message) == (403, "Cannot set locations to empty list.")


async def test_the_policy_is_asked_before_the_status(world: World) -> None:
    image_id = await world.located(visibility="community")
    await world.catalog.advance(image_id, Event.DEACTIVATE)
    for step in (world.add(), world.replace(world.at())):
        answer = await world.patch(image_id, step, STRANGER)
        assert (answer.status, "set_image_location" in answer.message) == (403, True)
    answer = await world.patch(image_id, {"op": "remove", "path": "/locations/0"})
    assert (answer.status, "delete_image_location" in answer.message) == (403, True)


async def test_where_locations_are_hidden_it_is_403_before_the_status(
    store: FaultyStore, tmp_path: Path
) -> None:
    hidden = {"show": False}
    async with running(store, tmp_path, locations=hidden) as gate, serving(BYTES) as origin:
        image_id = await gate.create()
        value = {"url": origin.url, "metadata": {}}
        for op, path, word in (
            ("add", "/locations/x", "add"),
            ("replace", "/locations", "update"),
            ("remove", "/locations/0", "remove"),
        ):
            step = {"op": op, "path": path, "value": [value] if op == "replace" else value}
            answer = await gate.patch(image_id, step)
            said = f"It's not allowed to {word} locations if locations are invisible."
            assert (answer.status, answer.message) == (403, said)


async def test_the_status_is_asked_before_what_is_vouched_for_and_the_position(
    world: World,
) -> None:
    image_id = await world.queued()
    await world.catalog.advance(image_id, Event.IMPORT)
    bad = {"validation_data": {**VOUCHED, "os_hash_value": "x"}}
    for word, step in (
        ("add", world.add(path="/locations/x", **bad)),
        ("replace", world.replace(world.at(**bad))),
        ("remove", {"op": "remove", "path": "/locations/x"}),
    ):
        answer = await world.patch(image_id, step, ADMIN)
        said = f"It's not allowed to {word} locations if image status is importing."
        assert (answer.status, answer.message) == (409, said)


@pytest.mark.parametrize(
    ("vouched", "said"),
    [
        ({"os_hash_value": "x" * 128}, "is not a valid hexadecimal value"),
        ({"os_hash_value": "0" * 64}, "is not the correct size for sha512 (should be 64 bytes)"),
        ({"checksum": "x" * 32}, "is not a valid hexadecimal value"),
        ({"os_hash_algo": "sha256"}, "os_hash_algo must be sha512, not sha256"),
    ],
)
async def test_what_is_no_digest_is_409_before_the_position(
    world: World, vouched: dict[str, str], said: str
) -> None:
    image_id = await world.queued()
    data = {**VOUCHED, **vouched}
    answer = await world.patch(image_id, world.add(path="/locations/x", validation_data=data))
    assert (answer.status, said in answer.message) == (409, True)
    assert (await world.gate.show(image_id))["status"] == "queued"


async def test_two_locations_that_disagree_are_409(world: World) -> None:
    image_id = await world.queued()
    other = {**VOUCHED, "checksum": "0" * 32}
    values = (world.at(validation_data=VOUCHED), world.at("?2", validation_data=other))
    answer = await world.patch(image_id, world.replace(*values))
    assert (answer.status, answer.message) == (409, "Conflicting values for checksum")


async def test_new_digests_of_an_active_image_are_409(world: World) -> None:
    image_id = await world.located()
    for step in (
        world.add("?2", validation_data=VOUCHED),
        world.replace(world.at(validation_data=VOUCHED)),
    ):
        answer = await world.patch(image_id, step)
        assert answer.status == 409
        assert answer.message.startswith("New value(s) for checksum, os_hash_algo")


async def test_the_same_digests_are_taken_in_any_status_and_others_are_409(world: World) -> None:
    image_id = await world.queued()
    assert (await world.patch(image_id, world.add(validation_data=VOUCHED))).status == 200
    again = world.add("?2", validation_data={**VOUCHED, "os_hash_value": SHA512.upper()})
    assert (await world.patch(image_id, again)).status == 200
    other = {**VOUCHED, "checksum": "0" * 32}
    answer = await world.patch(image_id, world.add("?3", validation_data=other))
    assert (answer.status, answer.message) == (
        409,
        "checksum is already set with a different value",
    )


@pytest.mark.parametrize("place", ["x", "-1", "01x", "1.0", "", " "])
async def test_a_place_that_is_none_is_400_before_the_url(world: World, place: str) -> None:
    image_id = await world.located()
    step = world.add(path=f"/locations/{place}")
    step["value"]["url"] = "file:///etc/passwd"
    answer = await world.patch(image_id, step)
    assert answer.status == 400
    if place.strip():
        assert answer.message == "Invalid position for adding a location."
    answer = await world.patch(image_id, {"op": "remove", "path": f"/locations/{place}"}, ADMIN)
    assert answer.status == 400


async def test_removing_beyond_the_end_is_400(world: World) -> None:
    image_id = await world.located()
    for place in ("1", "7000000"):
        step = {"op": "remove", "path": f"/locations/{place}"}
        answer = await world.patch(image_id, step, ADMIN)
        assert (answer.status, answer.message) == (
            400,
            "Invalid position for removing a location.",
        )


async def test_adding_beyond_the_end_appends_and_within_inserts(world: World) -> None:
    image_id = await world.located()
    answer = await world.patch(image_id, world.add("?last", path=f"/locations/{10**30}"))
    answer = await world.patch(image_id, world.add("?first", path="/locations/0"))
    urls = [one["url"].partition("?")[2] for one in answer.json["locations"]]
    assert urls == ["first", "", "last"]


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "filesystem:///x", "swift+config://x", "s3://a:b@h/b/k", "cinder://x/y",
     "http://10.0.0.1/", "http://u:p@example.org/", "http://", ""],
)  # fmt: skip
@pytest.mark.parametrize("status", ["queued", "active"])
async def test_a_url_that_may_not_be_is_400(world: World, url: str, status: str) -> None:
    image_id = await (world.queued() if status == "queued" else world.located())
    step = world.add()
    step["value"]["url"] = url
    assert (await world.patch(image_id, step)).status == 400
    assert (await world.gate.show(image_id))["status"] == status


@pytest.mark.parametrize("status", ["queued", "active"])
@pytest.mark.parametrize("wrong", [{"status": 404}, {"status": 500}, {"data": b""}, {"chunked": 1}])
async def test_a_source_that_is_not_there_or_has_nothing_is_400(
    world: World, wrong: dict[str, Any], status: str
) -> None:
    image_id = await (world.queued() if status == "queued" else world.located())
    async with serving(**{"data": BYTES, **wrong}) as origin:
        step = {"op": "add", "path": "/locations/-", "value": {"url": origin.url, "metadata": {}}}
        answer = await world.patch(image_id, step)
        assert (answer.status, answer.message.startswith("Invalid location")) == (400, True)
    assert (await world.gate.show(image_id))["status"] == status


async def test_a_source_of_another_size_is_no_location_of_the_image(world: World) -> None:
    image_id = await world.located()
    async with serving(BYTES + b"more") as origin:
        step = {"op": "add", "path": "/locations/-", "value": {"url": origin.url, "metadata": {}}}
        assert (await world.patch(image_id, step)).status == 400


async def test_the_same_url_again_is_400(world: World) -> None:
    image_id = await world.located()
    for metadata in ({}, {"rack": "7"}):
        answer = await world.patch(image_id, world.add(metadata=metadata))
        assert answer.status == 400
        assert answer.message == f"The location {world.origin.url} already exists"


async def test_other_urls_instead_of_those_that_are_there_are_400(world: World) -> None:
    image_id = await world.located()
    answer = await world.patch(image_id, world.replace(world.at("?2")))
    assert (answer.status, answer.message.startswith("Original locations is not empty: ")) == (
        400,
        True,
    )


async def test_the_same_urls_describe_the_locations_and_are_not_asked_again(
    world: World,
) -> None:
    image_id = await world.located()
    world.origin.seen.clear()
    answer = await world.patch(image_id, world.replace(world.at(metadata={"rack": "7"})))
    assert answer.json["locations"] == [
        {"url": world.origin.url, "metadata": {"rack": "7", "store": "http"}}
    ]
    assert world.origin.seen == []


async def test_more_than_the_quota_are_413(world: World) -> None:
    image_id = await world.located()
    for query in ("?2", "?3"):
        assert (await world.patch(image_id, world.add(query))).status == 200
    answer = await world.patch(image_id, world.add("?4"))
    assert (answer.status, "Attempted: 4, Maximum: 3" in answer.message) == (413, True)


async def test_a_queued_image_without_formats_is_400(world: World) -> None:
    made = await world.gate.ask("POST", "/v2/images", json={"owner": "p"})
    answer = await world.patch(made.json["id"], world.add())
    assert answer.status == 400
    assert answer.message.startswith("Properties disk_format, container_format must be set")


async def test_the_last_one_goes_but_of_a_protected_image(world: World) -> None:
    remove = {"op": "remove", "path": "/locations/-"}
    kept, emptied = await world.located(protected=True), await world.located()
    assert (await world.patch(kept, remove, ADMIN)).status == 403
    assert (await world.patch(emptied, remove, ADMIN)).json["status"] == "queued"


async def test_the_older_media_type_knows_locations_too(world: World) -> None:
    image_id = await world.queued()
    world.gate.session.headers.update(OWNER)
    step = {"add": "/locations/-", "value": world.at()}
    assert (await world.gate.patch(image_id, step, media_type=V20)).json["status"] == "active"
