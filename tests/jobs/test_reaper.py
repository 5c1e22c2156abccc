import asyncio
from pathlib import Path
from uuid import uuid4

import pytest
from tests.kit.gateway import running
from tests.kit.looks import Looks
from tests.kit.stores import objects, part_of, unfinished
from tests.services.conftest import World

from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import StoreDown
from tidegate.domain.status import Status
from tidegate.domain.upload import Upload
from tidegate.jobs.reaper import LOOK_AT_MOST_EVERY, Reaper


def reaper(world: World) -> Reaper:
    return Reaper(world.reaping(), world.removals, lease=30)


async def abandoned(world: World) -> Upload:
    """An attempt whose worker is dead and whose lease has run out."""
    dead = SqlCatalog(world.url)
    await dead.open()
    image_id, attempt = await world.queued(), uuid4().hex
    key = f"{image_id}/{attempt}"
    upload = Upload(id=attempt, image_id=image_id, store=world.store.id, key=key)
    await dead.start_upload(upload, lease=-1)
    await dead.close()
    return upload


@pytest.mark.parametrize(("lease", "every"), [(1, 0.5), (4, 2), (60, LOOK_AT_MOST_EVERY)])
def test_it_looks_twice_a_lease_and_at_least_every_few_seconds(
    lease: float, every: float, tmp_path: Path
) -> None:
    world = World("", SqlCatalog(f"sqlite:///{tmp_path / 'catalog.db'}"))
    assert Reaper(world.reaping(), world.removals, lease=lease).every == every
    world.digests.close()


async def test_where_all_is_well_nothing_is_mended(world: World) -> None:
    assert await reaper(world).once() == 0


async def test_one_look_settles_removes_and_sweeps(world: World) -> None:
    settled, unknown = await abandoned(world), await abandoned(world)
    await world.store.begin(unknown.key)
    await world.store.put(settled.key, part_of(b"x"))  # completed, and nobody wrote it down
    assert await reaper(world).once() >= 3
    assert (await world.image(settled.image_id)).status is Status.KILLED
    assert (await world.image(unknown.image_id)).status is Status.KILLED
    assert await unfinished(world.store) == []
    assert await objects(world.store) == {}


async def test_a_second_look_finds_nothing_more(world: World) -> None:
    upload = await abandoned(world)
    await world.store.begin(upload.key)
    await reaper(world).once()
    assert await reaper(world).once() == 0


async def test_a_store_that_is_down_stops_no_other_work(world: World) -> None:
    upload = await abandoned(world)
    await world.store.begin(upload.key)
    world.store.fail("abort", StoreDown(world.store.id, "it answered 503"))
    await reaper(world).once()
    assert (await world.image(upload.image_id)).status is Status.KILLED
    world.store.before.clear()
    assert await reaper(world).once() >= 1
    assert await unfinished(world.store) == []


async def test_of_two_at_once_each_thing_is_mended_by_one(world: World) -> None:
    for _ in range(5):
        await abandoned(world)
    other = SqlCatalog(world.url)
    await other.open()
    second = Reaper(world.reaping(other), world.removals, lease=30)
    mended = await asyncio.gather(reaper(world).once(), second.once())
    await other.close()
    assert sum(mended) == 5


async def test_a_running_gateway_mends_by_itself(world: World, tmp_path: Path) -> None:
    upload = await abandoned(world)
    await world.store.begin(upload.key)
    catalog = {"url": world.url}
    looked, uploads = Looks(), {"lease": "1s"}
    with looked.at(Reaper):
        async with running(world.store, tmp_path, catalog=catalog, uploads=uploads) as gate:
            await looked.next()
            assert (await gate.show(upload.image_id))["status"] == "killed"
            assert await unfinished(world.store) == []
            assert (await gate.failure(upload.image_id))["reason"] == "node_died"
    assert await objects(world.store) == {}
