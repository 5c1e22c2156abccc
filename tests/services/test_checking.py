"""Catalog and stores compared while others work on them, and stores fail."""

import hashlib
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
from sqlalchemy import delete
from tests.kit.sources import Bytes, pattern
from tests.kit.stores import FaultyStore, objects, part_of
from tests.services.conftest import World

from tidegate.catalog import tables
from tidegate.catalog.base import AddLocation, ImageChange
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import StoreBroke, StoreDown
from tidegate.domain.image import Image, Location
from tidegate.domain.status import Event, Status
from tidegate.domain.upload import Upload
from tidegate.services import checking as module
from tidegate.services.checking import Checking, Finding
from tidegate.services.reaping import Reaping
from tidegate.services.removals import Removals
from tidegate.stores.base import Store
from tidegate.stores.memory import MemoryStore

DATA = pattern(1000)


class Checks:
    """A world with a second store, and the checking of both."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.mirror = FaultyStore(MemoryStore("mirror"))
        self.stores: dict[str, Store] = {world.store.id: world.store, "mirror": self.mirror}
        self.broken = Event.BREAK

    def checking(self, catalog: SqlCatalog | None = None, *, unknown: bool = False) -> Checking:
        used = catalog or self.world.catalog
        removals = Removals(used, self.stores)
        reaping = Reaping(used, self.stores, removals, broken=self.broken, lease=30, node="checker")
        return Checking(used, self.stores, removals, reaping, grace=0, remove_unknown=unknown)

    async def run(self, *, repair: bool = False, unknown: bool = False) -> list[Finding]:
        checking = self.checking(unknown=unknown)
        return [finding async for finding in checking.check(repair=repair)]

    async def active(self) -> Image:
        return await self.world.upload(await self.world.queued(), Bytes(DATA))

    async def mirrored(self, *, own: bool = True) -> Image:
        """An image that lies in the mirror as well."""
        image = await self.active()
        key = f"{image.id}/{uuid4().hex}"
        await self.mirror.put(key, part_of(DATA))
        step = AddLocation(location=Location("mirror", key, own=own))
        changed, _ = await self.world.catalog.change_image(image.id, ImageChange(locations=[step]))
        return changed

    async def lose(self, image: Image) -> None:
        await self.world.store.inner.delete(image.locations[0].key)

    async def orphan(self) -> str:
        image = await self.active()
        for removal in await self.world.catalog.delete_image(image.id):
            await self.world.catalog.removal_done(removal.id)
        return image.locations[0].key


@pytest.fixture
def checks(world: World, monkeypatch: pytest.MonkeyPatch) -> Checks:
    monkeypatch.setattr(module, "_PAGE", 2)
    return Checks(world)


# stores that fail


async def test_a_store_that_does_not_answer_is_asked_once_and_is_one_finding(
    checks: Checks,
) -> None:
    for _ in range(40):
        await checks.active()
    lost = await checks.mirrored()
    await checks.mirror.inner.delete(lost.locations[1].key)
    checks.world.store.fail("keys", StoreBroke("memory", "its list breaks off"))
    checks.world.store.fail("look", StoreDown("memory", "no answer"))
    checks.world.store.calls.clear()
    found = await checks.run(repair=True)
    assert [(one.what, one.store, one.done) for one in found] == [
        ("store", "memory", ""), ("missing", "mirror", ""), ("store", "memory", ""),
    ]  # fmt: skip
    assert "41 objects" in found[2].detail
    assert checks.world.store.calls.count("look") <= 16  # those that were asked at the same time
    assert (await checks.world.image(lost.id)).status is Status.ACTIVE


async def test_a_store_without_a_list_is_not_looked_at_object_by_object(checks: Checks) -> None:
    await checks.active()
    checks.world.store.fail("keys", StoreDown("memory", "no answer"))
    found = await checks.run(repair=True)
    assert [finding.what for finding in found] == ["store", "store"]
    assert "look" not in checks.world.store.calls


async def test_half_a_list_costs_no_image_its_data(checks: Checks) -> None:
    images = [await checks.active() for _ in range(7)]

    async def break_off(*args: object) -> None:
        if checks.world.store.calls.count("keys") == 4:
            raise StoreBroke("memory", "its list breaks off")

    checks.world.store.before["keys"] = break_off
    before = await objects(checks.world.store.inner)
    found = await checks.run(repair=True, unknown=True)
    assert [finding.what for finding in found] == ["store"]
    assert await objects(checks.world.store.inner) == before
    for image in images:
        assert (await checks.world.image(image.id)).status is Status.ACTIVE


async def test_what_the_list_leaves_out_is_looked_for(
    checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await checks.active()

    async def nothing(prefix: str = "") -> object:
        for entry in ():
            yield entry

    monkeypatch.setattr(checks.world.store, "keys", nothing)
    assert await checks.run(repair=True) == []
    assert (await checks.world.image(image.id)).status is Status.ACTIVE


async def test_while_another_copy_cannot_be_looked_at_nothing_is_decided(checks: Checks) -> None:
    image = await checks.mirrored()
    await checks.lose(image)
    checks.mirror.fail("look", StoreDown("mirror", "no answer"))
    found = await checks.run(repair=True)
    assert [(finding.what, finding.done) for finding in found] == [("missing", ""), ("store", "")]
    assert (await checks.world.image(image.id)) == image
    checks.mirror.before.clear()
    (finding,) = await checks.run(repair=True)
    assert finding.done == "location dropped"
    assert await checks.run() == []


async def test_a_copy_that_is_not_ours_is_left_for_a_scrub_to_copy(checks: Checks) -> None:
    image = await checks.mirrored(own=False)
    await checks.lose(image)
    (finding,) = await checks.run(repair=True)
    assert (finding.what, finding.done) == ("missing", "")
    assert (await checks.world.image(image.id)) == image


# others at work


async def test_what_begins_meanwhile_is_left_alone(checks: Checks) -> None:
    key = await checks.orphan()
    begun: list[Upload] = []

    async def begin(*args: object) -> None:
        image_id, attempt = await checks.world.queued(), uuid4().hex
        upload = Upload(id=attempt, image_id=image_id, store="memory", key=f"{image_id}/{attempt}")
        await checks.world.catalog.start_upload(upload, lease=30)
        await checks.world.store.inner.put(upload.key, part_of(DATA))
        await checks.world.store.inner.begin(upload.key)
        begun.append(upload)

    for call in ("keys", "look", "delete"):
        checks.world.store.before[call] = begin
    (finding,) = await checks.run(repair=True, unknown=True)
    assert (finding.subject, finding.done) == (key, "removed")
    assert await objects(checks.world.store.inner) == {one.key: len(DATA) for one in begun}
    assert len(begun) == 3


Act = Callable[[Checks, Image], Awaitable[object]]


async def _delete(checks: Checks, image: Image) -> None:
    await checks.world.removals.carry_out(await checks.world.catalog.delete_image(image.id))


async def _delete_later(checks: Checks, image: Image) -> None:
    await checks.world.catalog.delete_image(image.id, delayed=True)
    await checks.lose(image)


@pytest.mark.parametrize("act", [_delete, _delete_later])
async def test_an_image_deleted_between_two_looks_is_not_damaged(checks: Checks, act: Act) -> None:
    image = await checks.active()

    async def delete(*args: object) -> None:
        checks.world.store.before.clear()
        await act(checks, image)

    checks.world.store.before["look"] = delete
    checks.world.store.fail("keys", StoreBroke("memory", "no list"), times=1)
    assert [finding.what for finding in await checks.run(repair=True)] == ["store"]


@pytest.mark.parametrize("act", [_delete, _delete_later])
async def test_an_image_deleted_before_its_repair_is_left_alone(checks: Checks, act: Act) -> None:
    image = await checks.active()
    await checks.lose(image)
    condemn = checks.world.catalog.condemn

    async def late(*args: object) -> None:
        await act(checks, image)
        await condemn(*args)  # type: ignore[arg-type]

    checks.world.catalog.condemn = late  # type: ignore[method-assign,assignment]
    assert await checks.run(repair=True) == []
    assert len(await checks.world.catalog.uploads_of(image.id)) == 1


async def test_of_two_who_repair_at_once_nobody_has_anything_left(checks: Checks) -> None:
    lost, copied = await checks.active(), await checks.mirrored()
    for image in (lost, copied):
        await checks.lose(image)
    await checks.orphan()
    other = SqlCatalog(checks.world.url)
    await other.open()
    second = checks.checking(other)
    found: list[list[Finding]] = []

    async def meanwhile(*args: object) -> None:
        checks.world.store.before.clear()
        found.append([finding async for finding in second.check(repair=True)])

    checks.world.store.before["look"] = meanwhile
    found.append(await checks.run(repair=True))
    await other.close()
    for findings in found:
        assert all(finding.done for finding in findings)
    assert await checks.run() == []
    assert (await checks.world.image(copied.id)).locations == copied.locations[1:]
    assert len(await checks.world.catalog.uploads_of(lost.id)) == 2  # the upload, the finding


async def test_an_orphan_that_another_removes_at_this_moment_is_not_left(checks: Checks) -> None:
    await checks.orphan()
    remove = checks.world.catalog.remove_orphan
    second = checks.checking()

    async def late(*args: object, **more: object) -> None:
        checks.world.catalog.remove_orphan = remove  # type: ignore[method-assign]
        assert [finding.done async for finding in second.check(repair=True)] == ["removed"]
        # nothing is said: the other's removal was written down before

    checks.world.catalog.remove_orphan = late  # type: ignore[method-assign,assignment]
    assert await checks.run(repair=True) == []


# what is asked


async def test_what_the_list_tells_is_not_asked_again(
    checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        await checks.active()
    assert await checks.run() == []
    assert checks.world.store.calls.count("look") == 5  # this store's list knows no digests
    checks.world.store.calls.clear()
    known = module.Listed
    monkeypatch.setattr(
        "tidegate.stores.memory.Listed",
        lambda key, size: known(key, size, hashlib.md5(DATA).hexdigest()),
    )
    assert await checks.run() == []
    assert "look" not in checks.world.store.calls


async def test_a_list_with_another_digest_is_asked_again(
    checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await checks.active()
    await checks.world.store.inner.put(image.locations[0].key, part_of(pattern(1000, seed=1)))
    known = module.Listed
    monkeypatch.setattr(
        "tidegate.stores.memory.Listed", lambda key, size: known(key, size, "0" * 32)
    )
    assert [finding.what for finding in await checks.run()] == ["checksum"]


# what ends an attempt that nobody knows


@pytest.mark.parametrize(
    ("broken", "status"), [(Event.BREAK, Status.KILLED), (Event.RELEASE, Status.QUEUED)]
)
async def test_an_image_that_nobody_fills_ends_as_broken_uploads_do(
    checks: Checks, broken: Event, status: Status
) -> None:
    image_id, attempt = await checks.world.queued(), uuid4().hex
    upload = Upload(id=attempt, image_id=image_id, store="memory", key=f"{image_id}/{attempt}")
    await checks.world.catalog.start_upload(upload, lease=30)
    async with checks.world.catalog._database.transaction() as connection:
        await connection.execute(delete(tables.uploads))
    checks.broken = broken
    assert [finding.done for finding in await checks.run(repair=True)] == ["mended"]
    assert (await checks.world.image(image_id)).status is status
