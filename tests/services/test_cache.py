"""The read cache: whose copy is whose, and by what a copy is found right."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from awscrt.checksums import crc64nvme
from tests.kit.sources import Bytes
from tests.services.conftest import World

from tidegate.domain.errors import ObjectChanged, StoreDown
from tidegate.domain.image import Image
from tidegate.domain.policy import Policy
from tidegate.domain.status import Status
from tidegate.services.cache import Cache, name_of
from tidegate.stores.cache import CacheFolder, Held
from tidegate.stores.cache_filling import Filling

DATA = bytes(range(256)) * 100
OTHER = DATA[::-1]
SHA = hashlib.sha256(DATA).hexdigest()
IMAGE = Image(id=str(uuid4()), status=Status.ACTIVE, size=len(DATA), crc64nvme=crc64nvme(DATA))
REGISTERED = IMAGE._replace(crc64nvme=None, hash_algo="sha256", hash_value=SHA)


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[CacheFolder]:
    found = CacheFolder(tmp_path / "cache", 2**20)
    await found.open()
    yield found
    await found.close()


@pytest.fixture
def cache(world: World, folder: CacheFolder) -> Cache:
    return Cache(world.catalog, Policy(), folder)


async def filled(cache: Cache, image: Image, data: bytes = DATA) -> bool:
    async with cache.near(image, 0, len(data)) as near:
        assert isinstance(near, Filling)
        await asyncio.wrap_future(near.write(memoryview(data)))
        near.finish()
        assert near.finished is not None
        return await asyncio.wrap_future(near.finished)


async def is_there(cache: Cache, image: Image) -> bool:
    async with cache.near(image, 0, 1) as near:
        return isinstance(near, Held)


@pytest.mark.parametrize("image", [IMAGE, REGISTERED])
async def test_a_copy_is_of_the_right_bytes_or_none(cache: Cache, image: Image) -> None:
    assert not await filled(cache, image, OTHER)
    assert not await is_there(cache, image)
    assert await filled(cache, image)
    assert await is_there(cache, image)


async def test_a_copy_is_of_one_image_and_one_content(cache: Cache) -> None:
    await filled(cache, IMAGE)
    other = IMAGE._replace(crc64nvme=crc64nvme(OTHER))
    another = IMAGE._replace(id=str(uuid4()))
    for image in (other, another, IMAGE._replace(size=IMAGE.size + 1 if IMAGE.size else 1)):
        assert not await is_there(cache, image)
    moved = IMAGE._replace(name="other", visibility="public", updated_at=5)
    assert await is_there(cache, moved)


@pytest.mark.parametrize(
    "image",
    [
        IMAGE._replace(crc64nvme=None),
        IMAGE._replace(crc64nvme=None, checksum=hashlib.md5(DATA).hexdigest()),
        REGISTERED._replace(hash_algo="rot13"),
        REGISTERED._replace(hash_algo="shake_128"),
        REGISTERED._replace(hash_algo=None),
        IMAGE._replace(size=0),
        IMAGE._replace(size=None),
        IMAGE._replace(id="../x"),
    ],
)
async def test_what_cannot_be_compared_has_none(cache: Cache, image: Image) -> None:
    assert name_of(image) is None
    async with cache.near(image, 0, len(DATA)) as near:
        assert near is None


async def test_a_part_or_a_closed_image_makes_none(cache: Cache) -> None:
    for image, stop in ((IMAGE, 5), (IMAGE._replace(status=Status.DEACTIVATED), len(DATA))):
        async with cache.near(image, 0, stop) as near:
            assert near is None


async def test_what_is_not_active_any_more_is_not_wanted_any_more(
    cache: Cache, world: World, folder: CacheFolder
) -> None:
    for image_id in (await world.queued(), str(uuid4())):
        await folder.enqueue(image_id)
        assert await cache.fill_queued(never) == 0
        assert await folder.queued() == []


async def test_what_cannot_be_read_waits_and_is_not_tried_again_at_once(
    cache: Cache, world: World, folder: CacheFolder
) -> None:
    image_id = await world.queued()
    await world.upload(image_id, Bytes(DATA))
    tried = []

    async def read(image: Image, filling: Filling) -> None:
        tried.append(image.id)
        raise StoreDown("main", "it is off")

    await folder.enqueue(image_id)
    for _ in range(2):
        assert await cache.fill_queued(read) == 0
    assert (tried, await folder.queued()) == ([image_id], [image_id])


async def test_wrong_bytes_are_not_tried_again(
    cache: Cache, world: World, folder: CacheFolder
) -> None:
    image_id = await world.queued()
    await world.upload(image_id, Bytes(DATA))

    async def read(image: Image, filling: Filling) -> None:
        raise ObjectChanged("main", "the bytes are not the ones that were uploaded")

    await folder.enqueue(image_id)
    assert await cache.fill_queued(read) == 0
    assert await folder.queued() == []


async def never(image: Image, filling: Filling) -> None:
    raise AssertionError
