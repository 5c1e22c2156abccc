"""An image's bytes out of here: once, whole, right, and by nobody while it is deactivated."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import stamina
from tests.kit.sources import Bytes, pattern
from tests.kit.stores import FaultyStore, objects, part_of, read_all, unfinished
from tests.kit.targets import Target, taking
from tests.services.conftest import ADMIN, MIB, World

from tidegate.catalog.base import Viewer
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    StoreBroke,
    StoreDown,
    TidegateError,
)
from tidegate.domain.export import check_allowed, target_of
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.status import Event
from tidegate.domain.task import Task, TaskEvent, TaskStatus
from tidegate.domain.upload import Sent
from tidegate.services.checking import Checking
from tidegate.services.export_objects import ExportObjects
from tidegate.services.exporting import Exporting
from tidegate.services.reaping import OURS, Reaping
from tidegate.services.removals import Removals
from tidegate.services.sources import Sources
from tidegate.services.tasks import Tasks
from tidegate.services.watching import Watch
from tidegate.settings import Export as ExportSettings
from tidegate.settings import FilesystemStore as FilesystemSettings
from tidegate.settings import Uploads as UploadSettings
from tidegate.stores.filesystem import FilesystemStore
from tidegate.stores.http_put import HttpPut
from tidegate.stores.memory import MemoryStore

BODY = pattern(9 * MIB + 3)
"""Three parts, ten blocks."""

KEY = "exports/disk.raw"
THERE = "There is already an object; choose another key, or remove it."
DEACTIVATED = "The requested image has been deactivated. Image data download is forbidden."


@dataclass
class Exports:
    """A world whose one image is exported to ``other``, a second store, and to a target."""

    world: World
    sender: HttpPut
    target: Target
    image_id: str = ""
    other: FaultyStore = field(default_factory=lambda: FaultyStore(MemoryStore("other")))
    allowed: tuple[str, ...] = ("other/exports",)

    def __post_init__(self) -> None:
        self.watch = Watch(self.world.catalog)

    @property
    def tasks(self) -> Tasks:
        return Tasks(self.world.catalog, Policy(), keep=60, lease=30, node="node")

    @property
    def objects(self) -> ExportObjects:
        world, uploads = self.world, {"part_size": 4 * MIB, "memory_budget": 32 * MIB}
        return ExportObjects(
            world.catalog,
            {one.id: one for one in (world.store, self.other)},
            settings=UploadSettings.model_validate(uploads),
            arena=world.arena,
            digests=world.digests,
        )

    @property
    def exporting(self) -> Exporting:
        world = self.world
        stores = {one.id: one for one in (world.store, self.other)}
        sources = Sources(world.catalog, stores, Policy(), self.watch, patience=30)
        return Exporting(
            Policy(),
            self.tasks,
            sources,
            self.objects,
            self.sender,
            settings=ExportSettings(stores=self.allowed, urls=(self.target.url,)),
            algorithms=("md5", "sha512"),
            arena=world.arena,
            digests=world.digests,
        )

    async def asked(self, *, caller: Caller = ADMIN, to_url: bool = False, **given: Any) -> Task:
        where = {"url": self.target.url + "a.raw"} if to_url else {"store": "other", "key": KEY}
        given = {"image_id": self.image_id, **where, **given}
        return await self.exporting.add_export(caller, given, request_id="r")

    async def perform(self, task: Task) -> Task:
        """To its end, or until it is put back; as it is then."""
        async with asyncio.timeout(20):
            await self.tasks.perform(task, self.exporting.works[task.type])
        assert self.world.arena.in_use == 0
        return await self.world.catalog.get_task(task.id, Viewer(admin=True))

    async def exported(self, **given: Any) -> Task:
        """A task that was asked for, as it ended."""
        await self.asked(**given)
        return await self.perform(await self.world.take())

    async def done(self) -> Task:
        """A task that is there, when all goes well; and nothing is left but the object."""
        return await self.succeeded(await self.perform(await self.world.take()))

    async def succeeded(self, task: Task) -> Task:
        assert task.status is TaskStatus.SUCCESS, task.message
        assert await read_all(self.other, KEY) == BODY
        assert await unfinished(self.other) == []
        assert await self.forgotten()
        return task

    async def failed(self, task: Task, words: str, *, there: dict[str, int] | None = None) -> None:
        """The task failed, and left nothing."""
        assert (task.status, words in task.message) == (TaskStatus.FAILURE, True), task.message
        assert task.result is None
        assert await objects(self.other) == (there or {})
        assert await unfinished(self.other) == []
        assert await self.forgotten()
        assert self.target.files == {}

    async def forgotten(self) -> bool:
        """Whether the key is free."""
        async with self.world.catalog._database.transaction() as connection:
            found = await connection.exec_driver_sql("SELECT count(*) FROM exports")
            return found.scalar() == 0

    async def deactivate(self) -> None:
        await self.world.catalog.advance(self.image_id, Event.DEACTIVATE)


@pytest.fixture
async def exports(world: World) -> AsyncIterator[Exports]:
    sender = HttpPut(timeout=20)
    await sender.open()
    async with taking() as target:
        found = Exports(world, sender, target, await world.queued())
        await world.upload(found.image_id, Bytes(BODY))
        with stamina.set_testing(True, attempts=3):  # no pauses
            yield found
    await sender.close()


@pytest.fixture
async def files(tmp_path: Path) -> AsyncIterator[FaultyStore]:
    """Another second store, that knows no checksum of an object."""
    store = FilesystemStore(FilesystemSettings(id="other", path=tmp_path / "files"))
    await store.open()
    yield FaultyStore(store)
    await store.close()


def hanging(begun: asyncio.Event) -> Callable[..., Awaitable[None]]:
    async def hang(*_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    return hang


async def result_of(exports: Exports, location: str) -> dict[str, object]:
    return {
        "image_id": exports.image_id,
        "location": location,
        "size": len(BODY),
        "checksum": hashlib.md5(BODY).hexdigest(),
        "os_hash_algo": "sha512",
        "os_hash_value": hashlib.sha512(BODY).hexdigest(),
    }


# where all goes well


async def test_an_object_of_its_own_with_the_same_bytes(exports: Exports) -> None:
    task = await exports.succeeded(await exports.exported())
    assert task.result == await result_of(exports, f"memory://other/{KEY}")
    assert task.image_id == exports.image_id
    assert "put" not in exports.other.calls


async def test_a_url_takes_the_same_bytes(exports: Exports) -> None:
    task = await exports.exported(to_url=True)
    assert task.status is TaskStatus.SUCCESS, task.message
    assert task.result == await result_of(exports, exports.target.url + "a.raw")
    assert exports.target.files == {"/images/a.raw": BODY}


@pytest.mark.parametrize("size", [0, 1, 4 * MIB])
@pytest.mark.parametrize("to_url", [False, True], ids=["store", "url"])
async def test_small_and_empty_images_are_exported_alike(
    exports: Exports, size: int, to_url: bool
) -> None:
    exports.image_id, body = await exports.world.queued(), pattern(size)
    await exports.world.upload(exports.image_id, Bytes(body))
    task = await exports.exported(to_url=to_url)
    assert task.status is TaskStatus.SUCCESS, task.message
    found = exports.target.files["/images/a.raw"] if to_url else await read_all(exports.other, KEY)
    assert found == body
    assert "put" not in exports.other.calls


async def test_a_folder_of_files_is_a_store_to_export_to(
    exports: Exports, files: FaultyStore, tmp_path: Path
) -> None:
    exports.other = files
    await exports.succeeded(await exports.exported())
    assert (tmp_path / "files" / KEY).read_bytes() == BODY


# what is refused at once


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"key": "exports"}, Invalid, "<folder>/<name>"),
        ({"url": "https://h/a"}, Invalid, "not both"),
        ({"key": "images/a"}, Forbidden, "export.stores"),
        ({"store": "memory"}, Forbidden, "export.stores"),
        ({"image_id": "00000000-0000-4000-8000-000000000000"}, NotFound, "No image"),
    ],
    ids=["key", "both", "folder", "store", "no image"],
)
async def test_what_cannot_be_is_not_begun(
    exports: Exports, given: dict[str, Any], error: type[TidegateError], words: str
) -> None:
    with pytest.raises(error, match=words):
        await exports.asked(**given)


async def test_only_images_with_data(exports: Exports) -> None:
    exports.image_id = await exports.world.queued()
    with pytest.raises(Conflict, match="can be exported"):
        await exports.asked()


async def test_who_may_not_see_the_image_is_told_that_there_is_none(exports: Exports) -> None:
    with pytest.raises(NotFound):
        await exports.asked(caller=Caller(project="p", roles=frozenset({"member"})))


async def test_what_is_allowed_no_more_when_it_is_taken_up_is_not_done(exports: Exports) -> None:
    await exports.asked()
    exports.allowed = ("other/elsewhere",)
    await exports.failed(await exports.perform(await exports.world.take()), "export.stores")


# what lies there already


async def test_an_object_that_lies_there_is_not_replaced(exports: Exports) -> None:
    await exports.other.put(KEY, part_of(b"theirs"))
    await exports.failed(await exports.exported(), THERE, there={KEY: 6})
    assert await read_all(exports.other, KEY) == b"theirs"
    assert exports.other.calls.count("begin") == 0


async def test_nor_one_of_the_same_bytes(exports: Exports) -> None:
    await exports.exported()
    await exports.failed(await exports.exported(), THERE, there={KEY: len(BODY)})


async def test_of_two_exports_to_one_key_one_goes_there(exports: Exports) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def hold(*_: object) -> None:
        begun.set()
        await go_on.wait()

    exports.other.before["put_part"] = hold
    await exports.asked()
    first = asyncio.ensure_future(exports.tasks.perform(
        await exports.world.take(), exports.exporting.works[(await exports.asked()).type]
    ))  # fmt: skip
    await begun.wait()
    second = await exports.world.take()
    await exports.tasks.perform(second, exports.exporting.works[second.type])
    ended = await exports.world.catalog.get_task(second.id, Viewer(admin=True))
    assert (ended.status, ended.message) == (TaskStatus.FAILURE, "Another export writes there.")
    go_on.set()
    await first
    assert await read_all(exports.other, KEY) == BODY
    assert await exports.forgotten()


async def test_nor_one_that_appears_in_a_folder_meanwhile(
    exports: Exports, files: FaultyStore
) -> None:
    exports.other = files

    async def come_first(*_: object) -> None:
        exports.other.before.clear()
        await files.inner.put(KEY, part_of(b"theirs"))

    exports.other.before["complete"] = come_first
    await exports.failed(await exports.exported(), THERE, there={KEY: 6})
    assert await read_all(exports.other, KEY) == b"theirs"


async def test_other_uploads_below_the_key_are_left(exports: Exports) -> None:
    theirs = await exports.other.begin(KEY + "2")
    await exports.exported()
    assert await unfinished(exports.other) == [(KEY + "2", theirs.upload_id)]


# wrong bytes


@pytest.mark.parametrize("to_url", [False, True], ids=["store", "url"])
@pytest.mark.parametrize("wrong", [BODY[:-1] + b"x", BODY[:-1], BODY + b"x"],
                         ids=["other", "fewer", "more"])  # fmt: skip
async def test_wrong_bytes_in_the_store_are_not_exported(
    exports: Exports, wrong: bytes, to_url: bool
) -> None:
    (key,) = await objects(exports.world.store)
    await exports.world.store.put(key, part_of(wrong))
    await exports.failed(
        await exports.exported(to_url=to_url), "is not what it must be; it was not exported."
    )
    assert len(exports.target.requests) <= 1


# who died or stopped


async def in_the_middle(
    exports: Exports, *, to_url: bool
) -> tuple[asyncio.Future[Task], asyncio.Event]:
    """An export that has sent something, and hangs; what lets the target go on."""
    await exports.asked(to_url=to_url)
    begun, pause = asyncio.Event(), asyncio.Event()
    exports.other.before["put_part"] = hanging(begun)
    exports.target.pause, exports.target.after, exports.target.paused = pause, MIB, begun
    performing = asyncio.ensure_future(exports.perform(await exports.world.take()))
    await begun.wait()
    return performing, pause


async def stopped(exports: Exports, *, to_url: bool = False) -> None:
    """A server stops in the middle of the export."""
    performing, pause = await in_the_middle(exports, to_url=to_url)
    performing.cancel()
    await asyncio.wait({performing})
    exports.target.pause = None
    pause.set()
    exports.other.before.clear()


async def test_a_server_that_stops_hands_its_export_to_the_next(exports: Exports) -> None:
    await stopped(exports)
    assert await unfinished(exports.other) == []
    await exports.done()


async def test_so_it_does_with_one_to_a_url(exports: Exports) -> None:
    await stopped(exports, to_url=True)
    assert exports.target.files == {}
    ended = await exports.perform(await exports.world.take())
    assert ended.status is TaskStatus.SUCCESS, ended.message
    assert exports.target.files == {"/images/a.raw": BODY}


async def died(exports: Exports, dead: SqlCatalog, *, sent: Sent | None = None) -> str:
    """A server dies with an upload begun; the upload's id. ``sent``: it was being completed."""
    await exports.asked()
    task = await exports.world.take(dead=True)
    export = await dead.claim_export(task, "other", KEY)
    writing = await exports.other.begin(KEY)
    await dead.export_began(task, export, writing.upload_id)
    await writing.put_part(part_of(BODY))
    if sent is not None:
        await dead.export_completing(task, export, sent)
    return writing.upload_id


def sent_of(data: bytes) -> Sent:
    digests = {name: hashlib.new(name, data).hexdigest() for name in ("md5", "sha512")}
    return Sent(len(data), digests, part_of(data).crc64nvme)


async def test_what_a_dead_server_began_is_aborted(exports: Exports, dead: SqlCatalog) -> None:
    await died(exports, dead)
    await exports.done()
    assert exports.other.calls.count("complete") == 1


async def test_so_is_what_it_began_and_did_not_write_down(exports: Exports) -> None:
    await exports.asked()
    await exports.world.take(dead=True)
    await exports.other.begin(KEY)
    await exports.done()


async def test_what_it_did_not_come_to_complete_is_begun_again(
    exports: Exports, dead: SqlCatalog
) -> None:
    await died(exports, dead, sent=sent_of(BODY))
    await exports.done()
    assert exports.other.calls.count("begin") == 2


@pytest.mark.parametrize("tells", [True, False], ids=["crc", "no crc"])
async def test_what_it_completed_is_a_success_whatever_became_of_the_image(
    exports: Exports, dead: SqlCatalog, tells: bool, files: FaultyStore
) -> None:
    if not tells:
        exports.other = files
    await died(exports, dead, sent=sent_of(BODY))
    (upload_id,) = [one for _, one in await unfinished(exports.other)]
    await exports.other.abort(KEY, upload_id)
    await exports.other.put(KEY, part_of(BODY))
    await exports.deactivate()
    ended = await exports.done()
    assert ended.result == await result_of(exports, exports.other.url(KEY))
    assert exports.other.calls.count("begin") == 1


@pytest.mark.parametrize("theirs", [BODY[:-1] + b"x", b"x"], ids=["as long", "another"])
@pytest.mark.parametrize("tells", [True, False], ids=["crc", "no crc"])
async def test_what_somebody_else_put_there_meanwhile_is_theirs(
    exports: Exports, dead: SqlCatalog, theirs: bytes, tells: bool, files: FaultyStore
) -> None:
    if not tells:
        exports.other = files
    await died(exports, dead, sent=sent_of(BODY))
    await exports.other.put(KEY, part_of(theirs))
    ended = await exports.perform(await exports.world.take())
    await exports.failed(ended, THERE, there={KEY: len(theirs)})
    assert await read_all(exports.other, KEY) == theirs


async def test_a_dead_servers_late_requests_make_nothing(
    exports: Exports, dead: SqlCatalog
) -> None:
    await exports.asked()
    task = await exports.world.take(dead=True)
    export = await dead.claim_export(task, "other", KEY)
    late = await exports.other.begin(KEY)
    await dead.export_began(task, export, late.upload_id)
    await late.put_part(part_of(b"x"))
    await exports.done()
    with pytest.raises(StoreBroke):
        await late.put_part(part_of(b"x"))
    with pytest.raises(StoreBroke):
        await late.complete(1, part_of(b"x").crc64nvme)
    assert await read_all(exports.other, KEY) == BODY


# what a task left that ended


@pytest.mark.parametrize("purged", [False, True], ids=["failed", "purged"])
async def test_what_a_task_left_is_tidied_up(
    exports: Exports, dead: SqlCatalog, purged: bool
) -> None:
    await died(exports, dead)
    assert await exports.objects.tidy() == 0
    task = await exports.world.take()
    await exports.world.catalog.end_task(task, TaskEvent.FAIL, keep=-1 if purged else 60)
    await exports.world.catalog.purge_tasks()
    exports.other.fail("abort", StoreDown("other", "no answer"), times=1)
    assert await exports.objects.tidy() == 0
    assert await exports.objects.tidy() == 1
    assert await unfinished(exports.other) == []
    assert await exports.forgotten()


async def test_what_a_task_left_does_not_keep_the_next_from_the_key(
    exports: Exports, dead: SqlCatalog
) -> None:
    await died(exports, dead)
    task = await exports.world.take()
    await exports.world.catalog.end_task(task, TaskEvent.FAIL, keep=60)
    await exports.succeeded(await exports.exported())


async def test_what_a_store_does_not_abort_is_left_to_the_janitor(exports: Exports) -> None:
    exports.other.fail("put_part", StoreBroke("other", "it answered 500"))
    exports.other.fail("abort", StoreDown("other", "no answer"))
    task = await exports.exported()
    assert task.status is TaskStatus.FAILURE
    assert len(await unfinished(exports.other)) == 1
    exports.other.before.clear()
    assert await exports.objects.tidy() == 1
    await exports.failed(task, "no answer")


# those who remove what no image needs


async def test_nobody_who_removes_what_no_image_needs_touches_an_export(exports: Exports) -> None:
    await exports.exported()
    begun = await exports.other.begin("exports/running")
    world, stores = exports.world, {one.id: one for one in (exports.world.store, exports.other)}
    removals = Removals(world.catalog, stores)
    reaping = Reaping(world.catalog, stores, removals, broken=Event.BREAK, lease=30, node="janitor")
    checking = Checking(world.catalog, stores, removals, reaping, grace=0, remove_unknown=True)
    assert await reaping.sweep() == 0
    assert await checking.remove_orphans() == 0
    assert [finding async for finding in checking.check(repair=True)] == []
    assert await removals.carry_out_due() == 0
    assert await objects(exports.other) == {KEY: len(BODY)}
    assert await unfinished(exports.other) == [("exports/running", begun.upload_id)]


@pytest.mark.parametrize("folder", ["exports", "a" * 35, "A.b"])
def test_no_key_that_may_be_exported_to_could_be_an_images(folder: str) -> None:
    allowed = ExportSettings(stores=(f"other/{folder}",)).stores
    for name in ("a", "0" * 32, "f" * 32):
        target = target_of({"store": "other", "key": f"{folder}/{name}"})
        check_allowed(target, stores=allowed, urls=())
        assert OURS.fullmatch(f"{folder}/{name}") is None


# stores and targets that fail


async def test_a_store_that_breaks_off_is_tried_again(exports: Exports) -> None:
    exports.other.fail("put_part", StoreBroke("other", "it answered 500"), times=1)
    await exports.succeeded(await exports.exported())
    assert exports.other.calls.count("begin") == 2


async def test_a_store_that_always_does_so_fails_the_export(exports: Exports) -> None:
    exports.other.fail("put_part", StoreBroke("other", "it answered 500"))
    await exports.failed(await exports.exported(), "it answered 500")
    assert exports.other.calls.count("begin") == 3


async def test_a_completing_whose_answer_is_lost_is_looked_at(exports: Exports) -> None:
    exports.other.fail_after("complete", StoreDown("other", "no answer"))
    await exports.succeeded(await exports.exported())
    assert exports.other.calls.count("complete") == 1


async def test_while_nobody_can_tell_what_became_of_it_the_task_goes_on(exports: Exports) -> None:
    exports.other.fail_after("complete", StoreDown("other", "no answer"))

    async def down(*_: object) -> None:
        if "complete" in exports.other.calls:
            raise StoreDown("other", "no answer")

    exports.other.before["look"] = down
    task = await exports.exported()
    assert task.status is TaskStatus.PROCESSING
    exports.other.before.clear()
    await exports.world.catalog.take_tasks("node", [task.type], lease=-1, limit=1)
    async with exports.world.catalog._database.transaction() as connection:
        await connection.exec_driver_sql("UPDATE tasks SET lease_until = 0")
    await exports.done()
    assert exports.other.calls.count("complete") == 1


@pytest.mark.parametrize("answers", [[500], [0], [503, 0]], ids=["500", "drops", "both"])
async def test_a_target_that_breaks_off_is_tried_again(
    exports: Exports, answers: list[int]
) -> None:
    exports.target.answers, exports.target.after = list(answers), 2 * MIB
    task = await exports.exported(to_url=True)
    assert task.status is TaskStatus.SUCCESS, task.message
    assert exports.target.files == {"/images/a.raw": BODY}
    assert len(exports.target.requests) == len(answers) + 1


@pytest.mark.parametrize(
    ("answers", "words", "requests"),
    [
        ([500] * 5, "The target answered 500.", 3),
        ([0] * 5, "The target broke off.", 3),
        ([403], "The target answered 403.", 1),
        ([307], "redirects are not followed", 1),
    ],
    ids=["500", "drops", "403", "redirects"],
)
async def test_a_target_that_does_not_take_it_fails_the_export(
    exports: Exports, answers: list[int], words: str, requests: int
) -> None:
    exports.target.answers, exports.target.after = answers, 2 * MIB
    await exports.failed(await exports.exported(to_url=True), words)
    assert len(exports.target.requests) == requests


async def test_a_source_that_is_not_there_fails_the_export(exports: Exports) -> None:
    (key,) = await objects(exports.world.store)
    await exports.world.store.delete(key)
    await exports.failed(await exports.exported(), "The source is not reachable.")


# images that may be read no more


@pytest.mark.parametrize("to_url", [False, True], ids=["store", "url"])
async def test_a_deactivated_image_is_not_exported_when_it_is_asked_for(
    exports: Exports, to_url: bool
) -> None:
    await exports.deactivate()
    with pytest.raises(Forbidden, match="deactivated"):
        await exports.asked(to_url=to_url)


@pytest.mark.parametrize("to_url", [False, True], ids=["store", "url"])
async def test_nor_when_a_server_begins(exports: Exports, to_url: bool) -> None:
    await exports.asked(to_url=to_url)
    await exports.deactivate()
    await exports.failed(await exports.perform(await exports.world.take()), DEACTIVATED)
    assert exports.target.requests == []


@pytest.mark.parametrize("to_url", [False, True], ids=["store", "url"])
async def test_nor_when_another_takes_it_up(exports: Exports, to_url: bool) -> None:
    await stopped(exports, to_url=to_url)
    await exports.deactivate()
    await exports.failed(await exports.perform(await exports.world.take()), DEACTIVATED)


@pytest.mark.parametrize("deleted", [False, True], ids=["deactivated", "deleted"])
@pytest.mark.parametrize("to_url", [False, True], ids=["store", "url"])
async def test_what_runs_is_cut(exports: Exports, to_url: bool, deleted: bool) -> None:
    exports.image_id = await exports.world.queued()
    await exports.world.upload(exports.image_id, Bytes(pattern(24 * MIB)))  # more than sockets hold
    performing, pause = await in_the_middle(exports, to_url=to_url)
    if deleted:
        await exports.world.catalog.delete_image(exports.image_id)
    else:
        await exports.deactivate()
    assert await exports.watch.look() == 1
    pause.set()
    await exports.failed(await performing, "No image found" if deleted else DEACTIVATED)


async def test_what_is_all_sent_is_not_completed_once_the_image_is_deactivated(
    exports: Exports,
) -> None:
    async def deactivate(*_: object) -> None:
        if exports.other.calls.count("put_part") == 3:
            await exports.deactivate()

    exports.other.after["put_part"] = deactivate
    await exports.failed(await exports.exported(), "The image is deactivated meanwhile")
    assert "complete" not in exports.other.calls


async def test_the_last_block_does_not_leave_once_the_image_is_deactivated(
    exports: Exports,
) -> None:
    async def deactivate(*_: object) -> None:
        await exports.deactivate()

    exports.world.store.after["read"] = deactivate
    await exports.failed(await exports.exported(to_url=True), DEACTIVATED)
