"""What becomes of an import whose server died: it goes on where that was, or is given up."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from tests.kit.origins import Origin, serving
from tests.kit.sources import Bytes, pattern
from tests.kit.stores import objects, unfinished
from tests.services.conftest import World

from tidegate.catalog.base import Viewer
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import AttemptLost
from tidegate.domain.image import Image
from tidegate.domain.importing import NEEDED, Method
from tidegate.domain.policy import Policy
from tidegate.domain.status import Event, Status
from tidegate.domain.task import LOCK, Task, TaskStatus, TaskType
from tidegate.domain.upload import Failure, Purpose, Sent, Upload
from tidegate.services import importing as module
from tidegate.services.elsewhere import Elsewhere
from tidegate.services.filling import MAX_ATTEMPTS
from tidegate.services.importing import Importing
from tidegate.services.tasks import Tasks
from tidegate.settings import Fetch, ImageFormat
from tidegate.settings import HttpStore as HttpSettings
from tidegate.stores.fetch import Fetcher
from tidegate.stores.http import HttpStore

BODY = pattern(300_000)


@dataclass
class Site:
    """A world with one store, into which images are imported from elsewhere."""

    world: World
    remote: HttpStore

    @property
    def importing(self) -> Importing:
        world = self.world
        return Importing(
            world.catalog,
            {world.store.id: world.store, self.remote.id: self.remote},
            world.attempts(),
            elsewhere=Elsewhere(self.remote, {}, ImageFormat()),
            remote=self.remote,
            arena=world.arena,
            max_properties=-1,
            patience=30,
        )

    async def asked(self, origin: Origin) -> str:
        """An image that is to be imported; its id."""
        image_id = await self.world.queued()
        request = {"method": {"name": Method.WEB, "uri": origin.url}}
        task = Task(
            id=str(uuid4()),
            type=TaskType.API_IMAGE_IMPORT,
            image_id=image_id,
            roles=frozenset({"admin"}),
            input={"import_req": request, "backend": [self.world.store.id]},
        )
        await self.world.catalog.ask_for_import(task, NEEDED[Method.WEB])
        return image_id

    async def died(self, reason: str = "node_died") -> None:
        """A holder, in the middle of its copy, which the janitor has settled."""
        task = await self.world.take(dead=True)
        assert task.image_id is not None
        stores = [self.world.store.id]
        catalog = self.world.catalog
        await catalog.begin_import(task, Status.QUEUED, stores)
        attempt = uuid4().hex
        copy = Upload(id=attempt, image_id=task.image_id, store=stores[0],
                      key=f"{task.image_id}/{attempt}", purpose=Purpose.COPY,
                      task_id=task.id)  # fmt: skip
        await catalog.start_copy(copy, task, deactivated=True, lease=60)
        why = Failure(reason, "writing", f"It broke: {reason}.")
        await catalog.fail_upload(copy.id, why, Event.BREAK, leftovers=[])

    async def perform(self) -> Task:
        """To its end; as it is then."""
        task = await self.world.take()
        tasks = Tasks(self.world.catalog, Policy(), keep=60, lease=30, node="node")
        async with asyncio.timeout(20):
            await tasks.perform(task, self.importing.works[task.type])
        return await self.world.catalog.get_task(task.id, Viewer(admin=True))

    async def clean(self) -> bool:
        store = self.world.store
        return await objects(store) == {} and await unfinished(store) == []


@pytest.fixture
async def site(world: World) -> AsyncIterator[Site]:
    fetcher = Fetcher(Fetch(allow=("127.0.0.1",)), timeout=5)
    await fetcher.open()
    yield Site(world, HttpStore(HttpSettings(type="http"), fetcher))
    await fetcher.close()


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with serving(BODY) as found:
        yield found


@pytest.mark.parametrize("reason", ["node_died", "drained"])
async def test_a_copy_that_broke_with_its_server_is_begun_again(
    site: Site, origin: Origin, reason: str
) -> None:
    image_id = await site.asked(origin)
    await site.died(reason)
    assert (await site.world.image(image_id)).status is Status.IMPORTING
    assert (await site.perform()).status is TaskStatus.SUCCESS
    image = await site.world.image(image_id)
    assert (image.status, image.size) == (Status.ACTIVE, len(BODY))


async def test_a_copy_that_is_stopped_when_its_claim_is_made_and_not_yet_told_is_begun_again(
    site: Site, origin: Origin
) -> None:
    image_id, world = await site.asked(origin), site.world
    claimed = asyncio.Event()

    class Slow(SqlCatalog):
        async def start_copy(self, upload: Upload, task: Task, **options: Any) -> Image:
            await super().start_copy(upload, task, **options)
            claimed.set()
            return await asyncio.get_running_loop().create_future()

    quick, world.catalog = world.catalog, Slow(world.url)
    await world.catalog.open()
    running = asyncio.ensure_future(site.perform())
    await claimed.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await world.catalog.close()
    world.catalog = quick
    (copy,) = await world.catalog.uploads_of(image_id)
    assert copy.failure is not None
    assert copy.failure.reason == "drained"
    assert (await world.image(image_id)).status is Status.IMPORTING
    assert (await site.perform()).status is TaskStatus.SUCCESS


@pytest.mark.parametrize("stopped", [True, False])
async def test_a_copy_that_is_published_and_not_told_is_there_for_the_next_holder(
    site: Site, origin: Origin, stopped: bool
) -> None:
    image_id, world = await site.asked(origin), site.world
    publish, published = world.catalog.publish_upload, asyncio.Event()

    async def lost(attempt: str, sent: Sent) -> Image:
        await publish(attempt, sent)
        published.set()
        if stopped:
            await asyncio.get_running_loop().create_future()
        raise AttemptLost("The janitor was quicker.")

    world.catalog.publish_upload = lost  # type: ignore[method-assign]
    running = asyncio.ensure_future(site.perform())
    await published.wait()
    if stopped:
        running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    world.catalog.publish_upload = publish  # type: ignore[method-assign]
    assert (await site.perform()).status is TaskStatus.SUCCESS
    assert (await world.image(image_id)).status is Status.ACTIVE
    assert len(await objects(world.store)) == 1


async def test_a_copy_that_broke_otherwise_is_the_tasks_failure(site: Site, origin: Origin) -> None:
    image_id = await site.asked(origin)
    await site.died("digest_mismatch")
    ended = await site.perform()
    assert (ended.status, ended.message) == (TaskStatus.FAILURE, "It broke: digest_mismatch.")
    assert (await site.world.image(image_id)).status is Status.QUEUED
    assert origin.seen == []


async def test_an_import_whose_servers_die_again_and_again_is_given_up(
    site: Site, origin: Origin
) -> None:
    image_id = await site.asked(origin)
    for _ in range(MAX_ATTEMPTS):
        await site.died()
    assert (await site.perform()).status is TaskStatus.FAILURE
    image = await site.world.image(image_id)
    assert (image.status, LOCK in image.properties) == (Status.QUEUED, False)
    assert origin.seen == []
    assert await site.clean()


async def test_whatever_goes_wrong_no_image_stays_importing(
    site: Site, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(module, "_expected", broken)
    image_id = await site.asked(origin)
    ended = await site.perform()
    assert (ended.status, ended.message) == (TaskStatus.FAILURE, "An internal error.")
    image = await site.world.image(image_id)
    assert (image.status, LOCK in image.properties) == (Status.QUEUED, False)


async def test_an_image_that_was_deleted_before_is_not_imported(site: Site, origin: Origin) -> None:
    await site.world.catalog.delete_image(await site.asked(origin))
    ended = await site.perform()
    assert ended.status is TaskStatus.FAILURE
    assert ended.message == "Image has been deleted, aborting import."
    assert origin.seen == []


async def test_an_image_that_was_filled_by_its_owner_before_is_left_alone(
    site: Site, origin: Origin
) -> None:
    image_id = await site.asked(origin)
    await site.world.upload(image_id, Bytes(b"mine"))
    assert (await site.perform()).status is TaskStatus.FAILURE
    image = await site.world.image(image_id)
    assert (image.status, image.size, len(image.locations)) == (Status.ACTIVE, 4, 1)
    assert LOCK not in image.properties
