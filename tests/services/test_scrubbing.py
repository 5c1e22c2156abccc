"""Stored bytes read again: what changed behind the gateway's back is found, and mended."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from structlog.testing import capture_logs
from tests.kit.gateway import Gateway, running
from tests.kit.looks import Looks
from tests.kit.origins import serving
from tests.kit.server import until
from tests.kit.sources import Bytes, pattern
from tests.kit.stores import FaultyStore, objects, part_of, read_all, unfinished
from tests.services.conftest import MIB, World
from tests.stores.test_contract import s3_settings

from tidegate.catalog.base import AddLocation, ImageChange
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import (
    CatalogDown,
    NotFound,
    ObjectChanged,
    StoreBroke,
    StoreDown,
    TooLarge,
)
from tidegate.domain.image import Image, Location
from tidegate.domain.scrub import Verdict
from tidegate.domain.status import Event, Status
from tidegate.domain.upload import UploadState
from tidegate.jobs.scrub import Scrub
from tidegate.seaweedfs import SeaweedFS
from tidegate.services import mending
from tidegate.services import scrubbing as module
from tidegate.services.removals import Removals
from tidegate.services.scrubbing import Finding, Report, Scrubbing
from tidegate.settings import FilesystemStore as FilesystemSettings
from tidegate.settings import Uploads as UploadSettings
from tidegate.stores.base import Store
from tidegate.stores.filesystem import FilesystemStore
from tidegate.stores.memory import MemoryStore
from tidegate.stores.s3 import S3Store

SIZE = 6 * MIB + 7
DATA = pattern(SIZE)
FLIPPED = DATA[:-3] + bytes([DATA[-3] ^ 1]) + DATA[-2:]
SETTINGS = UploadSettings(memory_budget=32 * MIB, part_size=5 * MIB, lease=30)


class Scrubs:
    """A world with a second store, and the scrubbing of both."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.mirror = FaultyStore(MemoryStore("mirror"))
        self.stores: dict[str, Store] = {world.store.id: world.store, "mirror": self.mirror}

    def scrubbing(self, catalog: SqlCatalog | None = None, *, rate: int = 0) -> Scrubbing:
        used = catalog or self.world.catalog
        return Scrubbing(
            used,
            self.stores,
            Removals(used, self.stores),
            rate=rate,
            uploads=SETTINGS,
            arena=self.world.arena,
            digests=self.world.digests,
            node="scrubber",
        )

    async def run(self, **options: object) -> Report:
        return await self.scrubbing().run(**options)  # type: ignore[arg-type]

    async def active(self, data: bytes = DATA) -> Image:
        return await self.world.upload(await self.world.queued(), Bytes(data))

    async def mirrored(self, data: bytes = DATA, *, own: bool = True) -> Image:
        """An image that lies in the mirror as well."""
        image = await self.active()
        key = f"{image.id}/{uuid4().hex}"
        await self.mirror.put(key, part_of(data))
        step = AddLocation(location=Location("mirror", key, own=own))
        changed, _ = await self.world.catalog.change_image(image.id, ImageChange(locations=[step]))
        return changed

    async def flip(self, image: Image, at: int = 0) -> None:
        await self.stores[image.locations[at].store].put(image.locations[at].key, part_of(FLIPPED))

    async def verdict(self, **options: object) -> Verdict:
        """Of the one location that there is."""
        ((verdict, count),) = (await self.run(**options)).verdicts.items()
        assert count == 1
        return verdict

    async def readable(self, image_id: str) -> list[bool]:
        """For each location: does it have the right bytes?"""
        image = await self.world.image(image_id)
        return [
            await read_all(self.stores[where.store], where.key) == DATA for where in image.locations
        ]


@pytest.fixture
def scrubs(world: World) -> Scrubs:
    return Scrubs(world)


# what is right


async def test_what_is_right_is_good_and_not_looked_at_again_for_a_while(scrubs: Scrubs) -> None:
    await scrubs.active()
    assert await scrubs.verdict() is Verdict.GOOD
    assert (await scrubs.run(older_than=3600)).verdicts == {}
    assert await scrubs.verdict() is Verdict.GOOD
    assert scrubs.world.arena.in_use == 0


@pytest.mark.parametrize("size", [0, 1, MIB, 40 * MIB])
async def test_images_of_every_size(scrubs: Scrubs, size: int) -> None:
    await scrubs.active(pattern(size))
    assert await scrubs.verdict() is Verdict.GOOD


async def test_the_longest_unseen_comes_first(scrubs: Scrubs) -> None:
    images = [await scrubs.active(b"abc") for _ in range(3)]
    await scrubs.run(image_id=images[0].id)
    seen: list[str] = []
    await scrubs.run(tell=lambda finding: seen.append(finding.copy.image_id))
    assert seen == [images[1].id, images[2].id, images[0].id]


async def test_one_image_alone_and_one_that_is_not_there(scrubs: Scrubs) -> None:
    image, other = await scrubs.active(), await scrubs.active()
    await scrubs.flip(other)
    assert await scrubs.verdict(image_id=image.id) is Verdict.GOOD
    with pytest.raises(NotFound):
        await scrubs.run(image_id=str(uuid4()))


async def test_more_images_than_a_page(scrubs: Scrubs) -> None:
    for _ in range(53):
        await scrubs.active(b"abc")
    assert (await scrubs.run()).verdicts == {Verdict.GOOD: 53}


async def test_what_is_not_ours_and_what_has_no_data_is_left_alone(scrubs: Scrubs) -> None:
    await scrubs.world.queued()
    image = await scrubs.mirrored(own=False)
    await scrubs.world.catalog.advance((await scrubs.active()).id, Event.DELETE_LATER)
    await scrubs.flip(image, 1)
    assert (await scrubs.run()).verdicts == {Verdict.GOOD: 1}


# what is wrong


@dataclass
class Tampered:
    """A store with a way into it that the gateway knows nothing of."""

    store: Store
    change: Callable[[str], Awaitable[None]]


@pytest.fixture(params=["filesystem", "seaweedfs"])
async def tampered(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Tampered]:
    store: Store
    if request.param == "filesystem":
        folder = tmp_path / "images"
        store = FilesystemStore(FilesystemSettings(id="memory", path=folder))

        async def change(key: str) -> None:
            with (folder / key).open("r+b") as file:
                file.seek(SIZE - 3)
                file.write(FLIPPED[-3:-2])

        await store.open()
        yield Tampered(store, change)
        await store.close()
        return
    server: SeaweedFS = request.getfixturevalue("seaweedfs")
    settings = s3_settings(server.endpoint, server.access_key, server.secret_key, id="memory")
    store, other = S3Store(settings), S3Store(settings)

    async def put(key: str) -> None:
        await other.put(key, part_of(FLIPPED))

    await store.open()
    await other.open()
    yield Tampered(store, put)
    await other.close()
    await store.close()


async def test_a_flipped_byte_is_found_in_real_stores(scrubs: Scrubs, tampered: Tampered) -> None:
    scrubs.world.store.inner = tampered.store
    image, sound = await scrubs.active(), await scrubs.active()
    assert (await scrubs.run()).verdicts == {Verdict.GOOD: 2}
    await tampered.change(image.locations[0].key)
    report = await scrubs.run()
    assert report.verdicts == {Verdict.WRONG: 1, Verdict.GOOD: 1}
    assert not report.sound
    assert (await scrubs.world.image(image.id)).status is Status.DEACTIVATED
    assert (await scrubs.world.image(sound.id)).status is Status.ACTIVE


async def test_a_flipped_byte_is_mended_in_real_stores(scrubs: Scrubs, tampered: Tampered) -> None:
    scrubs.world.store.inner = tampered.store
    image = await scrubs.mirrored()
    await tampered.change(image.locations[0].key)
    assert (await scrubs.run()).verdicts == {Verdict.REPAIRED: 1, Verdict.GOOD: 1}
    assert await scrubs.readable(image.id) == [True, True]
    assert len(await objects(tampered.store)) == 1
    assert await unfinished(tampered.store) == []
    assert (await scrubs.run()).verdicts == {Verdict.GOOD: 2}


async def test_wrong_bytes_without_another_copy_deactivate_and_the_owner_sees_why(
    scrubs: Scrubs,
) -> None:
    image = await scrubs.active()
    await scrubs.flip(image)
    with capture_logs() as logs:
        assert await scrubs.verdict() is Verdict.WRONG
    assert (await scrubs.world.image(image.id)).status is Status.DEACTIVATED
    failure = await scrubs.world.failure(image.id)
    assert (failure.reason, failure.where) == ("wrong_bytes", "scrub")
    assert "deactivated" in failure.message
    (line,) = (entry for entry in logs if entry["event"] == "stored bytes are not right")
    assert (line["log_level"], line["image"], line["verdict"]) == ("error", image.id, "wrong")


async def test_a_deactivated_image_is_found_again_and_not_told_twice(scrubs: Scrubs) -> None:
    image = await scrubs.active()
    await scrubs.flip(image)
    await scrubs.run()
    assert await scrubs.verdict() is Verdict.WRONG
    assert len(await scrubs.world.catalog.uploads_of(image.id)) == 2  # the upload, and the finding


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x", b""])
async def test_another_size_is_wrong(scrubs: Scrubs, data: bytes) -> None:
    image = await scrubs.active()
    await scrubs.world.store.put(image.locations[0].key, part_of(data))
    assert await scrubs.verdict() is Verdict.WRONG


async def test_wrong_bytes_are_mended_from_another_copy(scrubs: Scrubs) -> None:
    image = await scrubs.mirrored()
    bad, good = image.locations
    await scrubs.flip(image)
    with capture_logs() as logs:
        report = await scrubs.run()
    assert report.verdicts == {Verdict.REPAIRED: 1, Verdict.GOOD: 1}
    assert report.sound
    mended = await scrubs.world.image(image.id)
    assert mended.status is Status.ACTIVE
    assert [where.store for where in mended.locations] == [bad.store, good.store]
    assert mended.locations[0].key != bad.key
    assert mended.locations[1].key == good.key
    assert await scrubs.readable(image.id) == [True, True]
    assert bad.key not in await objects(scrubs.world.store)
    assert len(await objects(scrubs.world.store)) == 1
    assert [entry["verdict"] for entry in logs if entry["event"] == "scrubbed"] == ["repaired"]
    assert scrubs.world.arena.in_use == 0


async def test_a_copy_that_is_not_ours_mends_as_well(scrubs: Scrubs) -> None:
    image = await scrubs.mirrored(own=False)
    await scrubs.flip(image)
    assert await scrubs.verdict() is Verdict.REPAIRED


async def test_a_connection_that_breaks_while_mending_is_made_again(scrubs: Scrubs) -> None:
    image = await scrubs.mirrored(own=False)
    await scrubs.flip(image)
    scrubs.mirror.fail("read", StoreBroke("mirror", "it broke off"), times=2)
    assert await scrubs.verdict() is Verdict.REPAIRED
    assert await scrubs.readable(image.id) == [True, True]


async def test_a_copy_that_is_no_better_mends_nothing_and_leaves_nothing(scrubs: Scrubs) -> None:
    image = await scrubs.mirrored(own=False, data=FLIPPED)
    await scrubs.flip(image)
    assert await scrubs.verdict() is Verdict.WRONG
    assert list(await objects(scrubs.world.store)) == [image.locations[0].key]
    assert await unfinished(scrubs.world.store) == []
    assert (await scrubs.world.image(image.id)).status is Status.DEACTIVATED


async def test_while_the_other_copy_cannot_be_reached_nothing_is_decided(scrubs: Scrubs) -> None:
    image = await scrubs.mirrored(own=False)
    await scrubs.flip(image)
    scrubs.mirror.fail("read", StoreDown("mirror", "it answered 503"))
    assert await scrubs.verdict() is Verdict.UNDECIDED
    assert (await scrubs.world.image(image.id)).status is Status.ACTIVE
    scrubs.mirror.before.clear()
    assert await scrubs.verdict() is Verdict.REPAIRED


async def test_an_object_that_is_not_there_is_reported_and_nobody_is_locked_out(
    scrubs: Scrubs,
) -> None:
    image = await scrubs.active()
    await scrubs.world.store.delete(image.locations[0].key)
    assert await scrubs.verdict() is Verdict.MISSING
    assert (await scrubs.world.image(image.id)).status is Status.ACTIVE


async def test_an_object_that_is_not_there_is_made_again_from_another_copy(scrubs: Scrubs) -> None:
    image = await scrubs.mirrored()
    await scrubs.world.store.delete(image.locations[0].key)
    assert (await scrubs.run()).verdicts == {Verdict.REPAIRED: 1, Verdict.GOOD: 1}
    assert await scrubs.readable(image.id) == [True, True]


async def test_one_wrong_reading_alone_decides_nothing(scrubs: Scrubs) -> None:
    image = await scrubs.active()
    scrubs.world.store.fail("read", ObjectChanged("memory", "said the network"), times=1)
    assert await scrubs.verdict() is Verdict.GOOD
    assert (await scrubs.world.image(image.id)).status is Status.ACTIVE


# what is no fault of the bytes


@pytest.mark.parametrize("error", [StoreDown("memory", "down"), StoreBroke("memory", "broke")])
async def test_a_store_that_is_down_is_not_wrong_bytes(scrubs: Scrubs, error: Exception) -> None:
    image = await scrubs.active()
    scrubs.world.store.fail("look", error)
    assert await scrubs.verdict() is Verdict.UNREACHABLE
    assert (await scrubs.world.image(image.id)).status is Status.ACTIVE
    scrubs.world.store.before.clear()
    assert await scrubs.verdict(older_than=0) is Verdict.GOOD


async def test_a_store_that_is_down_is_asked_once_and_the_others_all_the_same(
    scrubs: Scrubs,
) -> None:
    images = [await scrubs.mirrored() for _ in range(3)]
    scrubs.world.store.fail("look", StoreDown("memory", "down"))
    scrubs.world.store.calls.clear()
    report = await scrubs.run()
    assert report.verdicts == {Verdict.UNREACHABLE: 1, Verdict.GOOD: len(images)}
    assert scrubs.world.store.calls == ["look"]


async def test_a_copy_too_large_for_the_memory_is_not_mended_and_the_rest_goes_on(
    scrubs: Scrubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scrubs.flip(await scrubs.mirrored(own=False))
    await scrubs.active()

    def plan(*args: object, **more: object) -> None:
        raise TooLarge("An image of so many bytes needs larger parts.")

    monkeypatch.setattr(mending, "plan", plan)
    assert (await scrubs.run()).verdicts == {Verdict.UNDECIDED: 1, Verdict.GOOD: 1}


async def test_an_image_deleted_meanwhile_is_skipped(scrubs: Scrubs) -> None:
    image = await scrubs.active()

    async def delete(*args: object) -> None:
        scrubs.world.store.before.clear()
        for removal in await scrubs.world.catalog.delete_image(image.id):
            await scrubs.world.store.delete(removal.key)

    scrubs.world.store.before["look"] = delete
    assert await scrubs.verdict() is Verdict.SKIPPED


async def test_an_image_deleted_while_it_is_mended_leaves_nothing(scrubs: Scrubs) -> None:
    image = await scrubs.mirrored(own=False)
    await scrubs.flip(image)

    async def delete(*args: object) -> None:
        removals = await scrubs.world.catalog.delete_image(image.id)
        await Removals(scrubs.world.catalog, scrubs.stores).carry_out(removals)

    scrubs.world.store.after["complete"] = delete
    assert await scrubs.verdict() is Verdict.SKIPPED
    assert await objects(scrubs.world.store) == {}


async def test_a_store_that_takes_no_copy_leaves_the_image_as_it_is(scrubs: Scrubs) -> None:
    image = await scrubs.mirrored(own=False)
    await scrubs.flip(image)
    scrubs.world.store.fail("put_part", StoreDown("memory", "down"))
    assert await scrubs.verdict() is Verdict.UNDECIDED
    assert list(await objects(scrubs.world.store)) == [image.locations[0].key]
    assert await unfinished(scrubs.world.store) == []
    assert (await scrubs.world.image(image.id)).status is Status.ACTIVE


# side by side, stopped, killed


async def test_of_two_at_once_each_copy_is_read_by_one(scrubs: Scrubs) -> None:
    for _ in range(6):
        await scrubs.active()
    other = SqlCatalog(scrubs.world.url)
    await other.open()
    reports = await asyncio.gather(scrubs.run(), scrubs.scrubbing(other).run())
    await other.close()
    assert sum(report.verdicts[Verdict.GOOD] for report in reports) == 6


async def test_stopped_it_goes_on_where_it_was(scrubs: Scrubs) -> None:
    images = [(await scrubs.active()).id for _ in range(3)]
    seen: list[str] = []
    for _ in range(4):
        scrubbing = scrubs.scrubbing()

        def tell(finding: Finding, scrubbing: Scrubbing = scrubbing) -> None:
            seen.append(finding.copy.image_id)
            scrubbing.stop()

        await scrubbing.run(tell=tell)
    assert seen == [*images, images[0]]


async def test_stopped_in_the_middle_of_an_image_it_reads_that_again(scrubs: Scrubs) -> None:
    await scrubs.active()
    scrubbing = scrubs.scrubbing(rate=1)  # a block lasts for days

    async def stop(*args: object) -> None:
        scrubbing.stop()

    scrubs.world.store.before["read"] = stop
    assert (await scrubbing.run()).verdicts == {}
    scrubs.world.store.before.clear()
    assert await scrubs.verdict(older_than=0) is Verdict.GOOD


async def test_the_rate_holds_the_reading_back(
    scrubs: Scrubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def wait(event: asyncio.Event, seconds: float) -> bool:
        if seconds != SETTINGS.lease / 3:
            waits.append(seconds)
            return event.is_set()
        await event.wait()
        return True

    monkeypatch.setattr(module, "set_within", wait)
    await scrubs.active()
    await scrubs.scrubbing(rate=2 * MIB).run()
    assert waits[-1] == pytest.approx(SIZE / (2 * MIB), abs=0.5)


class Died(BaseException):
    """The process, at a kill point."""


@pytest.mark.parametrize("point", ["repair_started", "repair_copied", "repair_swapped"])
async def test_killed_while_mending_the_janitor_leaves_one_good_object(
    scrubs: Scrubs, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await scrubs.mirrored(own=False)
    await scrubs.flip(image)
    dead = SqlCatalog(scrubs.world.url)
    await dead.open()
    scrubbing = scrubs.scrubbing(dead)

    def die(name: str) -> None:
        if name == point:
            raise Died

    async def nothing(*args: object, **more: object) -> None: ...

    with monkeypatch.context() as patched:
        patched.setattr(mending, "kill_point", die)
        patched.setattr(scrubbing._mending, "_give_up", nothing)  # the dead do nothing more
        patched.setattr(scrubbing._mending, "_lease", -1.0)
        patched.setattr(scrubbing, "_lease", -1.0)
        with pytest.raises(Died):
            await scrubbing.run()
    await dead.close()
    await scrubs.world.reaping().reap()
    await scrubs.world.removals.carry_out_due()
    mended = await scrubs.world.image(image.id)
    assert mended.status is Status.ACTIVE
    assert list(await objects(scrubs.world.store)) == [mended.locations[0].key]
    attempts = await scrubs.world.catalog.uploads_of(image.id)
    assert {attempt.state for attempt in attempts} <= {UploadState.DONE, UploadState.FAILED}
    report = await scrubs.run()
    wanted = Verdict.GOOD if point == "repair_swapped" else Verdict.REPAIRED
    assert report.verdicts == {wanted: 1}
    assert await scrubs.readable(image.id) == [True, True]


async def test_who_was_taken_over_while_mending_swaps_nothing(scrubs: Scrubs) -> None:
    image = await scrubs.mirrored(own=False)
    await scrubs.flip(image)
    other = SqlCatalog(scrubs.world.url)
    await other.open()
    scrubbing = scrubs.scrubbing()
    scrubbing._mending._lease = -1.0

    async def reap(*args: object) -> None:
        await scrubs.world.reaping(other).reap()

    scrubs.world.store.after["complete"] = reap
    report = await scrubbing.run()
    await other.close()
    assert report.verdicts == {Verdict.SKIPPED: 1}
    assert (await scrubs.world.image(image.id)).locations == image.locations
    await scrubs.world.removals.carry_out_due()
    assert list(await objects(scrubs.world.store)) == [image.locations[0].key]


async def test_a_swap_whose_answer_was_lost_may_be_said_again(scrubs: Scrubs) -> None:
    image = await scrubs.mirrored(own=False)
    await scrubs.flip(image)
    real = scrubs.world.catalog.finish_repair

    async def lose(*args: object) -> list[object]:
        await real(*args)  # type: ignore[arg-type]
        raise CatalogDown("The catalog is locked by another process; try again.")

    scrubs.world.catalog.finish_repair = lose  # type: ignore[method-assign,assignment]
    with pytest.raises(CatalogDown):
        await scrubs.run()
    scrubs.world.catalog.finish_repair = real  # type: ignore[method-assign]
    assert await scrubs.readable(image.id) == [True, True]
    await scrubs.world.removals.carry_out_due()
    assert len(await objects(scrubs.world.store)) == 1


# on the clock


async def test_the_job_leaves_alone_what_was_seen_lately(scrubs: Scrubs) -> None:
    image = await scrubs.mirrored()
    job = Scrub(scrubs.scrubbing(), older_than=0)
    assert await job.once() == 0
    await scrubs.flip(image)
    assert await Scrub(scrubs.scrubbing(), older_than=3600).once() == 0
    assert await Scrub(scrubs.scrubbing(), older_than=0).once() == 1


async def test_the_job_does_not_read_again_and_again_what_is_wrong(scrubs: Scrubs) -> None:
    image = await scrubs.active()
    await scrubs.flip(image)
    job = Scrub(scrubs.scrubbing(), older_than=0)
    await job.once()
    scrubs.world.store.calls.clear()
    await job.once()
    assert scrubs.world.store.calls == []
    await Scrub(scrubs.scrubbing(), older_than=0).once()  # another process
    assert scrubs.world.store.calls != []


async def test_a_gateway_scrubs_only_when_it_has_a_rate(tmp_path: Path) -> None:
    store = MemoryStore()
    async with running(store, tmp_path) as gate:
        image_id = await gate.active(DATA)
        ((key, _),) = (await objects(store)).items()
    await store.put(key, part_of(FLIPPED))
    async with running(store, tmp_path) as gate:
        assert (await gate.show(image_id))["status"] == "active"
    looked = Looks()
    every = {"rate": "1GiB", "every": "0s"}
    with looked.at(Scrub):
        async with running(store, tmp_path, scrub=every) as gate:
            await looked.next()
            await says_why(gate, image_id)


async def says_why(gate: Gateway, image_id: str) -> None:
    assert (await gate.show(image_id))["status"] == "deactivated"
    assert (await gate.failure(image_id))["reason"] == "wrong_bytes"
    assert b'tidegate_scrubbed_total{verdict="wrong"}' in (await gate.ask("GET", "/metrics")).body


# what clients registered


class Registered:
    """An image whose data lies at a source that is one of the stores."""

    def __init__(self, scrubs: Scrubs) -> None:
        self.scrubs = scrubs
        self.source = FaultyStore(MemoryStore("source"))
        scrubs.stores["source"] = self.source

    async def image(self, data: bytes = DATA) -> Image:
        image_id = await self.scrubs.world.queued()
        await self.source.put(image_id, part_of(data))
        step = AddLocation(
            location=Location("source", image_id, own=False), learnt={"size": len(data)}
        )
        catalog = self.scrubs.world.catalog
        changed, _ = await catalog.change_image(image_id, ImageChange(locations=[step]))
        return changed


@pytest.fixture
def registered(scrubs: Scrubs) -> Registered:
    return Registered(scrubs)


async def test_registered_data_is_read_once_and_by_one(registered: Registered) -> None:
    image = await registered.image()
    catalog = registered.scrubs.world.catalog
    (copy,) = await catalog.unverified_copies()
    assert await catalog.take_copy(copy, lease=30)
    assert (await registered.scrubs.scrubbing().verify()).verdicts == {}
    await catalog.leave_copy(copy, good=False)
    found = await registered.scrubs.scrubbing().verify(image_id=image.id)
    assert found.verdicts == {Verdict.GOOD: 1}
    assert (await registered.scrubs.scrubbing().verify()).verdicts == {}
    assert registered.scrubs.world.arena.in_use == 0


async def test_registered_data_is_no_matter_of_the_run_of_our_own(registered: Registered) -> None:
    await registered.image()
    assert (await registered.scrubs.run()).verdicts == {}


async def test_a_source_that_takes_its_time_is_given_up(
    registered: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLES", 0.05)
    await registered.image()
    registered.source.before["read"] = asyncio.Event().wait
    report = await registered.scrubs.scrubbing().verify()
    assert report.verdicts == {Verdict.UNREACHABLE: 1}
    assert report.findings[0].message == "it is too slow"


async def test_what_was_not_found_right_is_left_alone_for_a_while(registered: Registered) -> None:
    image = await registered.image()
    await registered.source.put(image.id, part_of(DATA[:-1]))
    scrubbing = registered.scrubs.scrubbing()
    assert (await scrubbing.verify()).verdicts == {Verdict.WRONG: 1}
    assert (await scrubbing.verify(patience=3600)).verdicts == {}
    assert (await scrubbing.verify()).verdicts == {Verdict.WRONG: 1}


async def test_the_clock_reads_registered_data_by_itself(tmp_path: Path) -> None:
    store = MemoryStore()
    async with serving(DATA) as origin:
        async with running(store, tmp_path) as gate:
            image_id = await gate.create()
            step = {
                "op": "add",
                "path": "/locations/-",
                "value": {"url": origin.url, "metadata": {}},
            }
            assert (await gate.patch(image_id, step)).status == 200
        async with running(store, tmp_path, look_at_once=True, scrub={"rate": "1GiB"}) as gate:

            async def read() -> bool:
                return (await gate.show(image_id))["checksum"] is not None

            await until(read, "it to be read")
