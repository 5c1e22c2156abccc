"""Images made of objects that lie in a store already."""

import asyncio
import hashlib
from uuid import uuid4

import pytest
from tests.kit.sources import Bytes, pattern
from tests.kit.stores import objects, part_of, read_all
from tests.services.conftest import MIB, World
from tests.stores.test_contract import s3_settings

from tidegate.catalog.base import ImageQuery, Viewer
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import Invalid, ObjectMissing, StoreBroke, TooLarge
from tidegate.domain.image import Image, Visibility
from tidegate.domain.status import Status
from tidegate.domain.upload import Upload
from tidegate.seaweedfs import SeaweedFS
from tidegate.services import adopting as module
from tidegate.services.adopting import Adopting, Terms
from tidegate.stores.s3 import S3Store

KEY = "old/debian.qcow2"
DATA = pattern(5 * MIB + 3)
TERMS = Terms(disk_format="qcow2", owner="p", visibility=Visibility.PRIVATE)


class Died(BaseException):
    """The process, at a kill point."""


def adopting(world: World, *, max_size: int = 2**40, exports: tuple[str, ...] = ()) -> Adopting:
    return Adopting(
        world.catalog,
        {world.store.id: world.store},
        exports=exports,
        algorithms=["md5", "sha512"],
        max_size=max_size,
        arena=world.arena,
        digests=world.digests,
    )


async def images(world: World) -> list[Image]:
    return await world.catalog.list_images(ImageQuery(viewer=Viewer(admin=True)))


@pytest.fixture
async def there(world: World) -> World:
    """A world in whose store an object lies that nobody knows."""
    await world.store.put(KEY, part_of(DATA))
    return world


async def test_an_object_becomes_an_active_image_with_its_digests(there: World) -> None:
    done = await adopting(there).adopt("memory", KEY, TERMS)
    assert (done.key, done.size) == (KEY, len(DATA))
    assert done.image_id is not None
    image = await there.image(done.image_id)
    assert (image.status, image.name, image.size) == (Status.ACTIVE, "debian.qcow2", len(DATA))
    assert (image.disk_format, image.container_format) == ("qcow2", "bare")
    assert (image.owner, image.visibility) == ("p", Visibility.PRIVATE)
    assert image.checksum == hashlib.md5(DATA).hexdigest()
    assert (image.hash_algo, image.hash_value) == ("sha512", hashlib.sha512(DATA).hexdigest())
    assert image.crc64nvme == (await there.store.look(KEY)).crc64nvme
    assert there.arena.in_use == 0


async def test_exports_are_adopted_only_where_they_are_named(there: World) -> None:
    await there.store.put("exports/a.raw", part_of(b"x"))
    await there.store.put("exports2/a.raw", part_of(b"x"))
    found = adopting(there, exports=("memory/exports", "other/old"))
    assert {key async for key in found.keys("memory", "")} == {KEY, "exports2/a.raw"}
    assert [key async for key in found.keys("memory", "exports/")] == []
    assert (await found.adopt("memory", "exports/a.raw", TERMS)).image_id is not None


async def test_an_empty_object_is_an_empty_image(world: World) -> None:
    await world.store.put(KEY, part_of(b""))
    done = await adopting(world).adopt("memory", KEY, TERMS)
    assert done.image_id is not None
    assert (await world.image(done.image_id)).checksum == hashlib.md5(b"").hexdigest()


@pytest.mark.parametrize("own", [False, True])
async def test_its_bytes_go_with_the_image_only_if_they_were_handed_over(
    there: World, own: bool
) -> None:
    done = await adopting(there).adopt("memory", KEY, Terms(own=own))
    assert done.image_id is not None
    await there.removals.carry_out(await there.catalog.delete_image(done.image_id))
    assert (KEY in await objects(there.store)) is not own


async def test_what_an_image_has_already_is_skipped_without_reading_it(there: World) -> None:
    first = await adopting(there).adopt("memory", KEY, TERMS)
    there.store.calls.clear()
    again = await adopting(there).adopt("memory", KEY, TERMS)
    assert again.image_id is None
    assert str(first.image_id) in again.message
    assert there.store.calls == []
    assert len(await images(there)) == 1


async def test_what_was_uploaded_here_is_skipped(world: World) -> None:
    image = await world.upload(await world.queued(), Bytes(DATA))
    done = await adopting(world).adopt("memory", image.locations[0].key, TERMS)
    assert done.image_id is None


async def test_after_its_image_is_deleted_an_object_may_be_adopted_again(there: World) -> None:
    first = await adopting(there).adopt("memory", KEY, TERMS)
    await there.catalog.delete_image(str(first.image_id))
    assert (await adopting(there).adopt("memory", KEY, TERMS)).image_id is not None


async def test_what_is_about_to_be_removed_is_not_adopted(there: World) -> None:
    first = await adopting(there).adopt("memory", KEY, Terms(own=True))
    await there.catalog.delete_image(str(first.image_id))  # and the removal is still due
    done = await adopting(there).adopt("memory", KEY, TERMS)
    assert (done.image_id, done.message) == (None, "it is about to be removed")
    assert await images(there) == []


async def test_what_an_upload_is_writing_is_not_adopted(world: World) -> None:
    image_id, attempt = await world.queued(), uuid4().hex
    key = f"{image_id}/{attempt}"
    upload = Upload(id=attempt, image_id=image_id, store="memory", key=key)
    await world.catalog.start_upload(upload, lease=60)
    await world.store.put(key, part_of(DATA))
    done = await adopting(world).adopt("memory", key, TERMS)
    assert (done.image_id, done.message) == (None, "an upload is writing it")


async def test_of_two_who_adopt_one_object_one_makes_an_image(there: World) -> None:
    other = SqlCatalog(there.url)
    await other.open()
    second = World(there.url, other, there.store, there.arena, there.digests)
    both = await asyncio.gather(
        adopting(there).adopt("memory", KEY, TERMS), adopting(second).adopt("memory", KEY, TERMS)
    )
    await other.close()
    assert sorted(done.image_id is None for done in both) == [False, True]
    assert len(await images(there)) == 1


async def test_what_is_removed_while_it_is_read_becomes_no_image(there: World) -> None:
    read = there.store.inner.read

    def remove(key: str, *args: object, **more: object) -> object:
        there.store.after["look"] = gone
        return read(key, *args, **more)  # type: ignore[arg-type]

    async def gone(key: str) -> None:
        await there.store.inner.delete(key)
        raise ObjectMissing("memory", "no such object")

    there.store.inner.read = remove  # type: ignore[method-assign,assignment]
    with pytest.raises(ObjectMissing):
        await adopting(there).adopt("memory", KEY, TERMS)
    assert await images(there) == []


async def test_a_dry_run_reads_and_makes_nothing(there: World) -> None:
    done = await adopting(there).adopt("memory", KEY, TERMS, dry_run=True)
    assert (done.size, done.image_id, done.message) == (len(DATA), None, "would be adopted")
    assert "read" not in there.store.calls
    assert await images(there) == []


@pytest.mark.parametrize("at", ["reading", "adopt_read"])
async def test_what_breaks_half_way_leaves_no_image_and_the_object_as_it_was(
    there: World, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(name: str) -> None:
        raise Died(name)

    if at == "reading":
        there.store.fail("read", StoreBroke("memory", "it broke off"), times=1)
    monkeypatch.setattr(module, "kill_point", die)
    monkeypatch.setattr("tidegate.transfer.download.REOPENINGS", 0)
    with pytest.raises((Died, StoreBroke)):
        await adopting(there).adopt("memory", KEY, TERMS)
    assert await images(there) == []
    assert await read_all(there.store, KEY) == DATA


async def test_what_cannot_be_adopted_says_so(there: World) -> None:
    with pytest.raises(ObjectMissing):
        await adopting(there).adopt("memory", "nothing/here", TERMS)
    with pytest.raises(Invalid, match="there are: memory"):
        await adopting(there).adopt("http", KEY, TERMS)
    with pytest.raises(TooLarge):
        await adopting(there, max_size=100).adopt("memory", KEY, TERMS)
    assert await images(there) == []


async def test_all_objects_under_a_prefix(there: World) -> None:
    await there.store.put("new/x", part_of(b"x"))
    found = [key async for key in adopting(there).keys("memory", "old/")]
    assert found == [KEY]


async def test_a_bucket_filled_by_somebody_else(world: World, seaweedfs: SeaweedFS) -> None:
    settings = s3_settings(
        seaweedfs.endpoint, seaweedfs.access_key, seaweedfs.secret_key, id="memory", prefix=""
    )
    keys = ["debian-12.qcow2", "old images/ä & b.raw"]
    somebody, store = S3Store(settings), S3Store(settings)
    await somebody.open()
    for key in keys:
        await somebody.put(key, part_of(DATA))
    await somebody.close()
    world.store.inner = store
    await store.open()
    found = [key async for key in adopting(world).keys("memory", "")]
    assert sorted(found) == keys
    for key in found:
        assert (await adopting(world).adopt("memory", key, TERMS)).image_id is not None
    await store.close()
    made = await images(world)
    assert {image.name for image in made} == {"debian-12.qcow2", "ä & b.raw"}
    assert {image.checksum for image in made} == {hashlib.md5(DATA).hexdigest()}


async def test_an_adopted_image_can_be_scrubbed_once_it_is_ours(there: World) -> None:
    done = await adopting(there).adopt("memory", KEY, Terms(own=True))
    (copy,) = await there.catalog.copies_to_scrub(["memory"], before=2**62)
    assert copy.image_id == done.image_id
