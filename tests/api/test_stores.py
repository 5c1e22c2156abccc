"""Several stores: what callers are told of them, and one copy of an image taken out of one."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit.gateway import Gateway, running
from tests.kit.identity import ADMIN, Named, of
from tests.kit.stores import FaultyStore, objects, part_of

from tidegate.catalog.base import AddLocation, ImageChange
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import StoreDown
from tidegate.domain.image import Location
from tidegate.domain.status import Event
from tidegate.stores.memory import MemoryStore

OWNER, STRANGER = of("p"), of("q")
MANAGER = {"X-Auth-Token": "p:reader,service"}
BYTES = b"the same bytes twice"
SECRET = "a very secret key"


class World:
    """A gateway on two stores, ``memory`` and ``cold``, and another worker's catalog."""

    def __init__(self, gate: Gateway, catalog: SqlCatalog, cold: FaultyStore) -> None:
        self.gate = gate
        self.catalog = catalog
        self.cold = cold

    async def image(self, **fields: Any) -> str:
        """An active image of project p in both stores."""
        image_id = await self.in_one(**fields)
        where = Location("cold", f"{image_id}/copy")
        await self.cold.put(where.key, part_of(BYTES))
        change = ImageChange(locations=[AddLocation(location=where)])
        await self.catalog.change_image(image_id, change)
        return image_id

    async def in_one(self, **fields: Any) -> str:
        return await self.gate.active(BYTES, owner="p", **fields)

    async def drop(
        self, store: str, image_id: str, caller: dict[str, str] = ADMIN, **options: Any
    ) -> tuple[int, str]:
        """Status and message."""
        path = f"/v2/stores/{store}/{image_id}"
        answer = await self.gate.ask("DELETE", path, headers=caller, **options)
        return answer.status, answer.message if answer.body else ""


@pytest.fixture
async def world(store: FaultyStore, tmp_path: Path) -> AsyncIterator[World]:
    cold = FaultyStore(MemoryStore("cold"))
    catalog = SqlCatalog(f"sqlite:///{tmp_path / 'tidegate.db'}")
    stores = [
        {"type": "filesystem", "id": "memory", "path": "/srv/images", "description": "fast disks"},
        {"type": "s3", "id": "cold", "bucket": "images", "access_key": "AKSECRET",
         "secret_key": SECRET, "endpoint": "http://storage.example"},
    ]  # fmt: skip
    async with running(store, tmp_path, identity=Named(), others=[cold], stores=stores) as gate:
        await catalog.open()
        yield World(gate, catalog, cold)
        await catalog.close()


async def test_the_stores_are_told_to_everybody(world: World) -> None:
    answer = await world.gate.ask("GET", "/v2/info/stores", headers=STRANGER)
    assert answer.status == 200
    assert answer.json == {
        "stores": [
            {"id": "memory", "description": "fast disks", "default": "true"},
            {"id": "cold"},
            {"id": "http", "read-only": "true"},
        ]
    }


@pytest.mark.parametrize("caller", [ADMIN, MANAGER])
async def test_their_details_are_for_administrators_and_services(
    world: World, caller: dict[str, str]
) -> None:
    answer = await world.gate.ask("GET", "/v2/info/stores/detail", headers=caller)
    assert answer.status == 200
    part = 16 * 2**20
    assert answer.json == {
        "stores": [
            {
                "id": "memory", "description": "fast disks", "default": "true", "type": "file",
                "weight": 0,
                "properties": {
                    "data_dir": "/srv/images", "chunk_size": part, "thin_provisioning": False
                },
            },
            {
                "id": "cold", "type": "s3", "weight": 0,
                "properties": {
                    "s3_store_large_object_size": part,
                    "s3_store_large_object_chunk_size": part,
                    "s3_store_thread_pools": 4,
                },
            },
            {"id": "http", "read-only": "true", "type": "http", "weight": 0, "properties": {}},
        ]
    }  # fmt: skip


async def test_the_details_are_not_for_others(world: World) -> None:
    answer = await world.gate.ask("GET", "/v2/info/stores/detail", headers=OWNER)
    assert answer.status == 403
    assert "stores_info_detail" in answer.message


async def test_nothing_that_is_told_of_a_store_would_open_it(world: World) -> None:
    for path in ("/v2/info/stores", "/v2/info/stores/detail"):
        body = (await world.gate.ask("GET", path, headers=ADMIN)).body.decode()
        for secret in ("AKSECRET", SECRET, "storage.example"):
            assert secret not in body


@pytest.mark.parametrize("path", ["/v2/info/stores", "/v2/info/stores/detail"])
async def test_a_body_is_not_expected(world: World, path: str) -> None:
    assert (await world.gate.ask("GET", path, data=b"{}", headers=ADMIN)).status == 400
    answer = await world.gate.ask("POST", path, headers=ADMIN)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET")


async def test_a_new_image_comes_with_the_ids_of_the_stores(world: World) -> None:
    answer = await world.gate.ask("POST", "/v2/images", json={}, headers=OWNER)
    assert answer.headers["OpenStack-image-store-ids"] == "memory,cold,http"


async def test_an_upload_goes_into_the_store_it_names(world: World) -> None:
    image_id = await world.gate.create()
    assert "stores" not in await world.gate.show(image_id)
    answer = await world.gate.put(image_id, BYTES, {"x-image-meta-store": "cold"})
    assert answer.status == 204
    image = await world.gate.show(image_id)
    assert image["stores"] == "cold"
    assert image["locations"][0]["metadata"] == {"store": "cold"}
    assert list((await objects(world.cold)).values()) == [len(BYTES)]
    assert await objects(world.gate.store) == {}


async def test_an_upload_into_an_unknown_store_is_refused_and_loses_nothing(world: World) -> None:
    image_id = await world.gate.create()
    answer = await world.gate.put(image_id, BYTES, {"x-image-meta-store": "nope"})
    assert (answer.status, answer.message) == (400, "Store for identifier nope not found")
    assert (await world.gate.show(image_id))["status"] == "queued"


async def test_the_stores_of_an_image_are_in_the_order_of_its_locations(world: World) -> None:
    image_id = await world.image()
    assert (await world.gate.show(image_id))["stores"] == "memory,cold"
    listed = (await world.gate.ask("GET", "/v2/images?owner=p")).json["images"]
    assert [image["stores"] for image in listed] == ["memory,cold"]


async def test_the_stores_of_an_image_cannot_be_set(world: World) -> None:
    answer = await world.gate.ask("POST", "/v2/images", json={"stores": "cold"})
    assert answer.status == 403


class TestDeleteFromAStore:
    """The rows of the table of checks, in their order."""

    async def test_done_is_204_and_bytes_and_location_are_gone(self, world: World) -> None:
        image_id = await world.image()
        assert await world.drop("memory", image_id) == (204, "")
        image = await world.gate.show(image_id)
        assert (image["status"], image["stores"]) == ("active", "cold")
        assert await objects(world.gate.store) == {}
        got = await world.gate.ask("GET", f"/v2/images/{image_id}/file")
        assert got.body == BYTES

    async def test_a_body_is_400_before_all_else(self, world: World) -> None:
        status, _ = await world.drop("nope", "nope", STRANGER, data=b"{}")
        assert status == 400

    async def test_a_store_that_is_not_here_is_409_before_the_image_is_looked_for(
        self, world: World
    ) -> None:
        status, message = await world.drop("nope", "nope", STRANGER)
        assert (status, message) == (409, "The selected store nope is not available on this node.")

    async def test_an_invisible_image_is_404_before_the_policies(self, world: World) -> None:
        image_id = await world.image(visibility="private")
        assert (await world.drop("memory", image_id, STRANGER))[0] == 404
        assert (await world.drop("memory", "nope", OWNER))[0] == 404

    async def test_only_an_administrator_may_and_that_is_asked_before_the_status(
        self, world: World
    ) -> None:
        image_id = await world.gate.create(owner="p")
        status, message = await world.drop("memory", image_id, OWNER)
        assert (status, "delete_image_location" in message) == (403, True)

    async def test_who_may_not_read_locations_may_not_drop_one_either(self, world: World) -> None:
        image_id = await world.image(visibility="public")
        status, message = await world.drop("memory", image_id, STRANGER)
        assert (status, "get_image_location" in message) == (403, True)

    async def test_a_queued_image_is_409(self, world: World) -> None:
        image_id = await world.gate.create(owner="p", protected=True)
        status, message = await world.drop("memory", image_id)
        assert status == 409
        assert message.endswith("if image status is not 'active'")

    async def test_a_deactivated_image_is_409(self, world: World) -> None:
        image_id = await world.image()
        await world.catalog.advance(image_id, Event.DEACTIVATE)
        assert (await world.drop("memory", image_id))[0] == 409
        assert len(await objects(world.gate.store)) == 1

    async def test_a_protected_image_is_403_before_where_it_lies(self, world: World) -> None:
        image_id = await world.image(protected=True)
        for store in ("memory", "http"):
            status, message = await world.drop(store, image_id)
            assert (status, "protected" in message) == (403, True)
        assert (await world.gate.show(image_id))["stores"] == "memory,cold"

    @pytest.mark.parametrize("asked", ["memory", "cold"])
    async def test_the_only_location_is_403_before_where_it_lies(
        self, world: World, asked: str
    ) -> None:
        image_id = await world.in_one()
        status, message = await world.drop(asked, image_id)
        assert status == 403
        assert message.startswith("Cannot delete image data from the only store containing it.")
        assert (await world.gate.show(image_id))["stores"] == "memory"

    async def test_a_store_that_does_not_hold_it_is_404(self, world: World) -> None:
        image_id = await world.image()
        status, message = await world.drop("http", image_id)
        assert (status, message) == (404, f"Image {image_id} is not stored in store http.")

    async def test_an_image_without_any_data_is_404(self, world: World) -> None:
        answer = await world.gate.ask(
            "POST",
            "/v1/images",
            headers={"x-image-meta-name": "empty", "x-image-meta-size": "0",
                     "x-image-meta-disk_format": "raw", "x-image-meta-container_format": "bare"},
        )  # fmt: skip
        assert (await world.drop("memory", answer.json["image"]["id"]))[0] == 404

    async def test_data_that_is_gone_already_is_204(self, world: World) -> None:
        image_id = await world.image()
        (key,) = await objects(world.gate.store)
        await world.gate.store.delete(key)
        assert await world.drop("memory", image_id) == (204, "")

    async def test_a_store_that_does_not_answer_is_204_and_the_janitors(self, world: World) -> None:
        image_id = await world.image()
        world.cold.fail("delete", StoreDown("cold", "it is down"))
        assert await world.drop("cold", image_id) == (204, "")
        assert (await world.gate.show(image_id))["stores"] == "memory"
        assert await world.catalog.removals_waiting() == {"cold": 1}

    async def test_dropping_it_again_is_403_and_takes_no_other_copy(self, world: World) -> None:
        image_id = await world.image()
        assert (await world.drop("memory", image_id))[0] == 204
        assert (await world.drop("memory", image_id))[0] == 403
        assert (await world.gate.show(image_id))["stores"] == "cold"

    async def test_bytes_that_another_image_points_to_stay(self, world: World) -> None:
        image_id, another = await world.image(), await world.in_one()
        where = Location("cold", f"{image_id}/copy")
        change = ImageChange(locations=[AddLocation(location=where)])
        await world.catalog.change_image(another, change)
        assert await world.drop("cold", image_id) == (204, "")
        assert len(await objects(world.cold)) == 1


async def test_a_project_is_told_what_it_holds(world: World) -> None:
    for size in (3 * 2**20, 2**20 + 2**19):
        image_id = await world.gate.create(owner="p")
        assert (await world.gate.put(image_id, bytes(size))).status == 204
    await world.gate.create(owner="p")
    importing = await world.gate.create(owner="p")
    await world.catalog.advance(importing, Event.STAGE)
    gone = await world.in_one()
    await world.gate.ask("DELETE", f"/v2/images/{gone}")
    await world.gate.create(owner="another")
    answer = await world.gate.ask("GET", "/v2/info/usage", headers=OWNER)
    assert answer.status == 200
    assert answer.json == {
        "usage": {
            "image_size_total": {"usage": 4, "limit": -1},
            "image_stage_total": {"usage": 0, "limit": -1},
            "image_count_total": {"usage": 4, "limit": -1},
            "image_count_uploading": {"usage": 1, "limit": -1},
        }
    }


async def test_a_second_copy_is_held_as_well(world: World) -> None:
    async def held() -> int:
        return (await world.catalog.usage_of("p")).stored

    image_id = await world.image()
    with_both = await held()
    assert (await world.drop("memory", image_id))[0] == 204
    assert (with_both, await held()) == (2 * len(BYTES), len(BYTES))


# which of several copies is downloaded


def reads(store: FaultyStore) -> int:
    return store.calls.count("read")


@pytest.mark.parametrize(
    ("prefer", "from_cold"),
    [("", False), ("cold", True), (",cold,", True), ("cold,memory", True), ("memory,cold", False),
     ("http", False)],
)  # fmt: skip
async def test_a_download_prefers_the_stores_that_it_names(
    world: World, store: FaultyStore, prefer: str, from_cold: bool
) -> None:
    path = f"/v2/images/{await world.image()}/file?prefer={prefer}"
    read_before = reads(store), reads(world.cold)
    answer = await world.gate.ask("GET", path, headers=OWNER)
    assert (answer.status, answer.body) == (200, BYTES)
    read = reads(store) - read_before[0], reads(world.cold) - read_before[1]
    assert read == ((0, 1) if from_cold else (1, 0))


async def test_where_a_preferred_store_fails_the_others_serve(world: World) -> None:
    path = f"/v2/images/{await world.image()}/file?prefer=cold"
    world.cold.fail("read", StoreDown("cold", "it answered 503"))
    answer = await world.gate.ask("GET", path, headers=OWNER)
    assert (answer.status, answer.body) == (200, BYTES)


async def test_to_prefer_an_unknown_store_is_400(world: World) -> None:
    image_id = await world.image()
    for name in ("nope", "os_glance_staging"):
        path = f"/v2/images/{image_id}/file?prefer=cold,{name}"
        answer = await world.gate.ask("GET", path, headers=OWNER)
        assert (answer.status, answer.message) == (400, f"Store '{name}' is not configured.")
        assert (await world.gate.ask("GET", path, headers=STRANGER)).status == 404


async def test_who_may_not_choose_the_store_is_403(store: FaultyStore, tmp_path: Path) -> None:
    rules = tmp_path / "policy.yaml"
    rules.write_text('"download_from_store": "role:admin"\n')
    policy = {"file": str(rules)}
    async with running(store, tmp_path, identity=Named(), policy=policy) as gate:
        path = f"/v2/images/{await gate.active(BYTES, owner='p')}/file"
        for caller, query, status in (
            (OWNER, "?prefer=memory", 403),
            (OWNER, "?prefer=", 200),
            (ADMIN, "?prefer=memory", 200),
        ):
            assert (await gate.ask("GET", path + query, headers=caller)).status == status
