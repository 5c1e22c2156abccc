"""An upload that is stopped while it claims its image: nobody may wait for a lease to run out."""

import asyncio

from tests.services.conftest import World

from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.status import Status
from tidegate.domain.upload import Upload

STOPPED = {Status.QUEUED, Status.KILLED}


class Silent:
    """A source from which nothing comes."""

    async def readinto(self, block: memoryview) -> int:
        return await asyncio.get_running_loop().create_future()


async def test_a_stop_at_any_moment_of_the_claim_leaves_nothing_open(world: World) -> None:
    for moment in range(0, 600, 5):
        image_id = await world.queued()
        running = asyncio.ensure_future(world.upload(image_id, Silent()))
        for _ in range(moment):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled()
        assert (await world.image(image_id)).status in STOPPED, moment
        assert all(upload.failure for upload in await world.catalog.uploads_of(image_id))


async def test_a_stop_when_the_claim_is_made_and_not_yet_told(world: World) -> None:
    image_id = await world.queued()
    claimed = asyncio.Event()

    class Slow(SqlCatalog):
        async def start_upload(self, upload: Upload, **options: object) -> None:  # type: ignore[override]
            await super().start_upload(upload, **options)  # type: ignore[arg-type]
            claimed.set()
            await asyncio.get_running_loop().create_future()

    world.catalog = Slow(world.url)
    await world.catalog.open()
    running = asyncio.ensure_future(world.upload(image_id, Silent()))
    await claimed.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    assert (await world.image(image_id)).status is Status.KILLED
    assert (await world.failure(image_id)).reason == "drained"
    await world.catalog.close()
