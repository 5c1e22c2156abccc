"""An attempt that is stopped while it claims its image: nobody may wait for a lease to run out."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.services.conftest import ADMIN, World

from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.expected import Expected
from tidegate.domain.image import Image
from tidegate.domain.policy import Policy
from tidegate.domain.status import Status
from tidegate.domain.upload import Upload
from tidegate.services.staging import Staging
from tidegate.settings import Import, Locations

STOPPED = {Status.QUEUED, Status.KILLED}


class Silent:
    """A source from which nothing comes."""

    async def readinto(self, block: memoryview) -> int:
        return await asyncio.get_running_loop().create_future()


Send = Callable[[World, str], Awaitable[Image]]


async def upload(world: World, image_id: str) -> Image:
    return await world.upload(image_id, Silent())


async def stage(world: World, image_id: str) -> Image:
    staging = Staging(
        world.catalog, Policy(), world.attempts(), settings=Import(), locations=Locations()
    )
    return await staging.stage(ADMIN, image_id, Silent(), Expected())


@pytest.mark.parametrize("send", [upload, stage])
async def test_a_stop_at_any_moment_of_the_claim_leaves_nothing_open(
    world: World, send: Send
) -> None:
    for moment in range(0, 600, 5):
        image_id = await world.queued()
        running = asyncio.ensure_future(send(world, image_id))
        for _ in range(moment):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled()
        assert (await world.image(image_id)).status in STOPPED, moment
        assert all(upload.failure for upload in await world.catalog.uploads_of(image_id))


@pytest.mark.parametrize(("send", "status"), [(upload, Status.KILLED), (stage, Status.QUEUED)])
async def test_a_stop_when_the_claim_is_made_and_not_yet_told(
    world: World, send: Send, status: Status
) -> None:
    image_id = await world.queued()
    claimed = asyncio.Event()

    class Slow(SqlCatalog):
        async def start_upload(self, upload: Upload, **options: object) -> None:  # type: ignore[override]
            await super().start_upload(upload, **options)  # type: ignore[arg-type]
            claimed.set()
            await asyncio.get_running_loop().create_future()

    world.catalog = Slow(world.url)
    await world.catalog.open()
    running = asyncio.ensure_future(send(world, image_id))
    await claimed.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    assert (await world.image(image_id)).status is status
    assert (await world.failure(image_id)).reason == "drained"
    await world.catalog.close()
