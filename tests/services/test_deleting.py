"""When the time has come the data goes, and then the record."""

import pytest
from tests.kit.sources import Bytes, pattern
from tests.kit.stores import objects
from tests.services.conftest import World

from tidegate.catalog.base import Viewer
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import StoreBroke, StoreDown
from tidegate.domain.status import Status
from tidegate.services import deleting as subject
from tidegate.services import removals
from tidegate.services.deleting import Deleting
from tidegate.settings import Deletion


def deleting(world: World, **changes: object) -> Deleting:
    settings = Deletion.model_validate({"delay": 0, "purge_after": 0, **changes})
    return Deleting(world.catalog, world.removals, settings=settings, lease=30)


async def waiting(world: World, data: bytes = b"data") -> str:
    """An image that was deleted and whose data is still there."""
    image_id = await world.queued()
    await world.upload(image_id, Bytes(data))
    await world.catalog.delete_image(image_id, delayed=True)
    return image_id


async def test_data_goes_after_its_delay_and_not_before(world: World) -> None:
    await waiting(world)
    assert await deleting(world, delay=60).scrub() == 0
    assert len(await objects(world.store)) == 1
    assert await deleting(world).scrub() == 1
    assert await objects(world.store) == {}
    assert await deleting(world).scrub() == 0


async def test_data_that_is_not_there_counts_as_removed(world: World) -> None:
    image_id = await waiting(world)
    (key,) = await objects(world.store)
    await world.store.inner.delete(key)
    assert await deleting(world).scrub() == 1
    assert await deleting(world).purge() == 1
    assert await world.catalog.uploads_of(image_id) == []


async def test_while_a_store_refuses_the_image_is_not_deleted_yet(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removals, "RETRY_AT_MOST", 0.0)
    await waiting(world)
    world.store.fail("delete", StoreBroke("memory", "it answered 403"), times=1)
    assert await deleting(world).scrub() == 0
    assert await deleting(world).purge() == 0
    assert await world.removals.carry_out_due() == 1
    assert await deleting(world).scrub() == 1
    assert await deleting(world).purge() == 1


async def test_a_store_that_is_down_is_not_asked_for_every_image(world: World) -> None:
    for _ in range(3):
        await waiting(world)
    world.store.calls.clear()
    world.store.fail("delete", StoreDown("memory", "no answer"))
    assert await deleting(world).scrub() == 0
    assert world.store.calls == ["delete"]


async def test_what_a_dead_scrubber_began_another_one_ends(world: World) -> None:
    await waiting(world)
    dead = SqlCatalog(world.url)
    await dead.open()
    assert (await dead.begin_scrubs(delay=0, lease=-1))[0] == 1
    await dead.close()
    assert await deleting(world).scrub() == 0
    assert await world.removals.carry_out_due() == 1
    assert await deleting(world).scrub() == 1
    assert await objects(world.store) == {}


async def test_more_than_a_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_PAGE", 2)
    for _ in range(5):
        await waiting(world)
    assert await deleting(world).scrub() == 5
    assert await deleting(world).purge() == 5
    assert await objects(world.store) == {}


async def test_other_images_are_not_touched(world: World) -> None:
    kept = await world.queued()
    data = pattern(1000)
    await world.upload(kept, Bytes(data))
    await waiting(world)
    await deleting(world).scrub()
    await deleting(world).purge()
    image = await world.catalog.get_image(kept, Viewer(admin=True))
    assert image.status is Status.ACTIVE
    assert await objects(world.store) == {image.locations[0].key: len(data)}
