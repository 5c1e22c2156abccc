"""What becomes of a copy whose server died or stopped: it goes on, or ends and says why."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from tests.kit.origins import Origin, serving
from tests.kit.sources import Bytes, pattern
from tests.kit.stores import objects, unfinished
from tests.services.conftest import ADMIN, World

from tidegate.catalog.base import Viewer
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import Conflict, Forbidden, NotFound
from tidegate.domain.image import Image, Visibility
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.status import Event, Status
from tidegate.domain.task import Task, TaskStatus, TaskType
from tidegate.domain.upload import Failure, Upload
from tidegate.services import filling as module
from tidegate.services.filling import MAX_ATTEMPTS, Filling
from tidegate.services.images import Images
from tidegate.services.imports import Imports
from tidegate.services.locations import Locations
from tidegate.services.tasks import Tasks
from tidegate.settings import Fetch, Quotas
from tidegate.settings import HttpStore as HttpSettings
from tidegate.settings import Locations as LocationSettings
from tidegate.stores.fetch import Fetcher
from tidegate.stores.http import HttpStore

MIB = 2**20
BODY = pattern(300_000)
BIG = pattern(40 * MIB)
MEMBER = Caller(project="p1", roles=frozenset({"member", "reader"}))


@dataclass
class Copying:
    """A world whose images are filled from elsewhere."""

    world: World
    remote: HttpStore

    @property
    def tasks(self) -> Tasks:
        return Tasks(self.world.catalog, Policy(), keep=60, lease=30, node="node")

    def imports(self, tasks: Tasks | None = None) -> Imports:
        world = self.world
        locations = Locations(
            {world.store.id: world.store}, Policy(), remote=self.remote,
            settings=LocationSettings(), limit=-1, max_size=2**40,
        )  # fmt: skip
        images = Images(world.catalog, Policy(), locations, world.removals, quotas=Quotas())
        uploads = world.uploads()
        filling = Filling(world.catalog, Policy(), images, uploads, world.removals)
        return Imports(
            world.catalog, Policy(), uploads, filling, tasks or self.tasks,
            remote=self.remote, max_size=2**40, patience=30,
        )  # fmt: skip

    async def copying(self, origin: Origin) -> Task:
        image = Image(id=str(uuid4()), disk_format="raw", container_format="bare")
        made: list[Task] = []

        async def write(task: Task) -> Image:
            made.append(task)
            return await self.world.catalog.create_image(image, task=task)

        await self.imports().copy(ADMIN, image.id, origin.url, write, store_id=None, request_id="r")
        return made[0]

    async def importing(self, origin: Origin, **properties: Any) -> Task:
        given = {"import_from": origin.url, "import_from_format": "raw",
                 "image_properties": {"disk_format": "raw", **properties}}  # fmt: skip
        return await self.imports().add_import(ADMIN, given, request_id="r")

    async def perform(self, task: Task) -> Task:
        """To its end; as it is then."""
        async with asyncio.timeout(20):
            await self.tasks.perform(task, self.imports().works[task.type])
        return await self.world.catalog.get_task(task.id, Viewer(admin=True))

    async def clean(self) -> bool:
        store = self.world.store
        return await objects(store) == {} and await unfinished(store) == []


@pytest.fixture
async def copying(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Copying]:
    monkeypatch.setattr(module, "LOOK_EVERY", 0.01)
    fetcher = Fetcher(Fetch(allow=("127.0.0.1",)), timeout=5)
    await fetcher.open()
    yield Copying(world, HttpStore(HttpSettings(type="http"), fetcher))
    await fetcher.close()


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with serving(BODY) as found:
        yield found


async def begun(world: World, dead: SqlCatalog, task: Task, image_id: str) -> Upload:
    """An attempt of a holder that is dead by now."""
    upload = Upload(id=task.attempt, image_id=image_id, store=world.store.id,
                    key=f"{image_id}/{task.attempt}")  # fmt: skip
    await dead.start_upload(upload, lease=-1)
    return upload


async def test_a_holder_that_died_before_it_began_is_followed_by_one_that_begins(
    copying: Copying, origin: Origin
) -> None:
    made = await copying.copying(origin)
    await copying.world.take(dead=True)
    ended = await copying.perform(await copying.world.take())
    assert (ended.status, ended.result) == (TaskStatus.SUCCESS, {"image_id": made.image_id})
    assert (await copying.world.image(made.image_id or "")).status is Status.ACTIVE


async def test_a_holder_that_died_while_it_copied_ends_in_a_failure_that_says_so(
    copying: Copying, origin: Origin, dead: SqlCatalog
) -> None:
    image_id = (await copying.copying(origin)).image_id or ""
    await begun(copying.world, dead, await copying.world.take(dead=True), image_id)
    performing = asyncio.ensure_future(copying.perform(await copying.world.take()))
    await copying.world.reaping().reap()
    ended = await performing
    assert (ended.status, ended.message) == (
        TaskStatus.FAILURE, "The server that took the data died.",
    )  # fmt: skip
    assert (await copying.world.image(image_id)).status is Status.KILLED
    assert origin.seen == []
    assert await copying.clean()


async def test_a_holder_that_died_after_it_published_is_followed_by_a_success(
    copying: Copying, origin: Origin
) -> None:
    image_id = (await copying.copying(origin)).image_id or ""
    task = await copying.world.take(dead=True)
    await copying.world.uploads().upload(
        ADMIN, image_id, Bytes(BODY), module.Expected(), attempt=task.attempt
    )
    ended = await copying.perform(await copying.world.take())
    assert (ended.status, ended.result) == (TaskStatus.SUCCESS, {"image_id": image_id})
    assert origin.seen == []


async def test_a_server_that_stops_hands_its_copy_to_the_next(copying: Copying) -> None:
    async with serving(BIG, pause=asyncio.Event(), pause_at=20 * MIB) as origin:
        image_id = (await copying.copying(origin)).image_id or ""
        performing = asyncio.ensure_future(copying.perform(await copying.world.take()))
        await origin.paused.wait()
        assert (await copying.world.image(image_id)).status is Status.SAVING
        performing.cancel()
        await asyncio.wait({performing})
        assert (await copying.world.image(image_id)).status is Status.QUEUED
        assert await copying.clean()
        origin.pause = None
        ended = await copying.perform(await copying.world.take())
    assert ended.status is TaskStatus.SUCCESS
    image = await copying.world.image(image_id)
    assert (image.status, image.size) == (Status.ACTIVE, len(BIG))
    assert len(await objects(copying.world.store)) == 1


async def test_a_copy_whose_servers_die_again_and_again_is_given_up(
    copying: Copying, origin: Origin, dead: SqlCatalog
) -> None:
    image_id = (await copying.copying(origin)).image_id or ""
    for _ in range(MAX_ATTEMPTS):
        upload = await begun(copying.world, dead, await copying.world.take(dead=True), image_id)
        died = Failure("node_died", "writing", "The server that took the data died.")
        await dead.fail_upload(upload.id, died, Event.RELEASE, leftovers=[])
    ended = await copying.perform(await copying.world.take())
    assert ended.status is TaskStatus.FAILURE
    assert (await copying.world.image(image_id)).status is Status.KILLED
    assert origin.seen == []


async def test_an_image_that_was_deleted_before_is_not_copied_into(
    copying: Copying, origin: Origin
) -> None:
    image_id = (await copying.copying(origin)).image_id or ""
    await copying.world.catalog.delete_image(image_id)
    ended = await copying.perform(await copying.world.take())
    assert ended.status is TaskStatus.FAILURE
    assert "deleted" in ended.message
    assert origin.seen == []


async def test_an_image_that_was_filled_by_its_owner_before_is_left_alone(
    copying: Copying, origin: Origin
) -> None:
    image_id = (await copying.copying(origin)).image_id or ""
    await copying.world.upload(image_id, Bytes(b"mine"))
    ended = await copying.perform(await copying.world.take())
    assert ended.status is TaskStatus.FAILURE
    image = await copying.world.image(image_id)
    assert (image.status, image.size) == (Status.ACTIVE, 4)


# the import task


async def test_an_import_whose_holder_died_with_its_image_made_goes_on_with_that(
    copying: Copying, origin: Origin
) -> None:
    await copying.importing(origin)
    task = await copying.world.take(dead=True)
    image = Image(id=await copying.world.queued())
    await copying.world.catalog.renew_task(task, lease=-1, image_id=image.id)
    ended = await copying.perform(await copying.world.take())
    assert (ended.status, ended.result) == (TaskStatus.SUCCESS, {"image_id": image.id})
    assert (await copying.world.image(image.id)).status is Status.ACTIVE


async def test_an_import_whose_holder_died_while_it_copied_leaves_no_image(
    copying: Copying, origin: Origin, dead: SqlCatalog
) -> None:
    await copying.importing(origin)
    task, image_id = await copying.world.take(dead=True), await copying.world.queued()
    await copying.world.catalog.renew_task(task, lease=-1, image_id=image_id)
    await begun(copying.world, dead, task, image_id)
    performing = asyncio.ensure_future(copying.perform(await copying.world.take()))
    await copying.world.reaping().reap()
    ended = await performing
    assert (ended.status, ended.message) == (
        TaskStatus.FAILURE, "The server that took the data died.",
    )  # fmt: skip
    with pytest.raises(NotFound):
        await copying.world.image(image_id)
    assert await copying.clean()


async def test_a_protected_image_that_cannot_be_filled_is_removed_as_well(
    copying: Copying, origin: Origin
) -> None:
    await copying.importing(origin, protected=True, name="n", tags=["a"], visibility="public")
    origin.status = 500
    ended = await copying.perform(await copying.world.take())
    assert (ended.status, ended.message) == (TaskStatus.FAILURE, "The source is not reachable.")
    with pytest.raises(NotFound):
        await copying.world.image(ended.image_id or "")


async def test_an_imports_image_is_what_its_properties_say(
    copying: Copying, origin: Origin
) -> None:
    await copying.importing(
        origin, name="n", tags=["a"], visibility="public", owner="p9", min_ram=1, os_distro="x"
    )
    ended = await copying.perform(await copying.world.take())
    image = await copying.world.image(str((ended.result or {})["image_id"]))
    assert (image.name, image.tags, image.owner, image.min_ram) == ("n", ("a",), "p9", 1)
    assert image.visibility is Visibility.PUBLIC
    assert dict(image.properties) == {"os_distro": "x"}


async def test_an_import_is_done_with_its_callers_rights(copying: Copying, origin: Origin) -> None:
    given = {"import_from": origin.url, "import_from_format": "raw",
             "image_properties": {"visibility": "public"}}  # fmt: skip
    await copying.imports().add_import(MEMBER, given, request_id="r")
    ended = await copying.perform(await copying.world.take())
    assert ended.status is TaskStatus.FAILURE
    assert "publicize_image" in ended.message
    assert origin.seen == []


# what is checked before


async def test_who_may_copy(copying: Copying, origin: Origin) -> None:
    imports = copying.imports()
    image = Image(id="i", owner="p1")
    other = Caller(project="p2", roles=frozenset({"member", "reader"}))
    reader = Caller(project="p1", roles=frozenset({"reader"}))
    ask: dict[str, Any] = {"declared": None, "store_id": None}
    await imports.check_copy(MEMBER, origin.url, image=image, **ask)
    with pytest.raises(NotFound):
        await imports.check_copy(other, origin.url, image=image, **ask)
    with pytest.raises(Forbidden):
        await imports.check_copy(reader, origin.url, image=image, **ask)
    refilled = image._replace(was_active=True)
    with pytest.raises(Conflict):
        await imports.check_copy(MEMBER, origin.url, image=refilled, **ask)
    await imports.check_copy(ADMIN, origin.url, image=refilled, **ask)


async def test_a_source_is_asked_only_where_nobody_says_how_long_it_is(
    copying: Copying, origin: Origin
) -> None:
    imports = copying.imports()
    await imports.check_copy(ADMIN, origin.url, declared=5, store_id=None)
    assert origin.seen == []
    await imports.check_copy(ADMIN, origin.url, declared=None, store_id=None)
    assert [method for method, _ in origin.seen] == ["HEAD"]


def test_each_type_that_can_be_made_can_be_done(copying: Copying) -> None:
    assert set(copying.imports().works) == {TaskType.COPY_FROM, TaskType.IMPORT}
