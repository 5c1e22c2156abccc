"""The jobs that come after a delete: which process looks, and how often."""

import asyncio
from uuid import uuid4

import pytest
from structlog.testing import capture_logs
from tests.kit.sources import Bytes
from tests.kit.stores import objects, part_of
from tests.services.conftest import World
from tests.services.test_deleting import deleting, waiting

from tidegate.catalog.sql import SqlCatalog
from tidegate.jobs.orphans import Orphans
from tidegate.jobs.purger import Purger
from tidegate.jobs.scrubber import Scrubber
from tidegate.services.checking import Checking
from tidegate.services.deleting import Deleting


class Counting(Deleting):
    looks = 0

    async def scrub(self) -> int:
        self.looks += 1
        return 0

    purge = scrub


@pytest.mark.parametrize(
    ("days", "scrubber", "purger"), [(0, 0.5, 0.5), (20 / 86400, 10, 10), (7, 60, 300)]
)
async def test_they_look_often_enough_for_their_times(
    world: World, days: float, scrubber: float, purger: float
) -> None:
    seconds = days * 86400
    service = deleting(world)
    assert Scrubber(service, world.catalog, delay=seconds).every == scrubber
    assert Purger(service, world.catalog, after=seconds).every == purger


async def test_of_many_processes_one_looks(world: World) -> None:
    other = SqlCatalog(world.url)
    await other.open()
    service = Counting(world.catalog, world.removals, settings=None, lease=1)
    jobs = [Scrubber(service, turns, delay=60) for turns in (world.catalog, other)]
    jobs += [Purger(service, turns, after=60) for turns in (world.catalog, other)]
    await asyncio.gather(*(job.once() for job in jobs))
    assert service.looks == 2  # one of each kind
    await other.close()


async def test_a_look_scrubs_and_a_look_purges(world: World) -> None:
    await waiting(world)
    assert await Scrubber(deleting(world), world.catalog, delay=0).once() == 1
    assert await objects(world.store) == {}
    assert await Purger(deleting(world), world.catalog, after=0).once() == 1


def orphans(world: World, *, grace: float = 0) -> Orphans:
    checking = Checking(
        world.catalog,
        {world.store.id: world.store},
        world.removals,
        world.reaping(),
        grace=grace,
    )
    return Orphans(checking, world.catalog)


async def lost(world: World) -> None:
    """An object whose image was purged."""
    image_id = await world.queued()
    await world.upload(image_id, Bytes(b"data"))
    (removal,) = await world.catalog.delete_image(image_id)
    await world.catalog.removal_done(removal.id)
    assert await world.catalog.purge(after=0) == 1


async def test_orphans_go_once_a_day(world: World) -> None:
    await lost(world)
    assert await orphans(world).once() == 1
    assert await objects(world.store) == {}
    await lost(world)
    assert await orphans(world).once() == 0
    assert len(await objects(world.store)) == 1


async def test_young_orphans_stay(world: World) -> None:
    await lost(world)
    assert await orphans(world, grace=60).once() == 0


async def test_what_the_catalog_never_knew_is_told_and_stays(world: World) -> None:
    await world.store.put(f"{uuid4()}/{uuid4().hex}", part_of(b"x"))
    with capture_logs() as lines:
        assert await orphans(world).once() == 0
    assert [line["event"] for line in lines] == ["objects that this catalog never wrote down"]
    assert len(await objects(world.store)) == 1
