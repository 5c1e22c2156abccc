"""What every store promises; those that only read pass the reading half."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer
from tests.kit.sources import pattern
from tests.kit.stores import objects, part_of, read_all, unfinished

from tidegate.domain.errors import (
    BadPart,
    ObjectChanged,
    ObjectMissing,
    StoreBroke,
    StoreError,
    StoreReadOnly,
)
from tidegate.seaweedfs import SeaweedFS
from tidegate.settings import Fetch, FilesystemStore, HttpStore, S3Store
from tidegate.stores import filesystem, http, s3
from tidegate.stores.base import Part, Store
from tidegate.stores.fetch import Fetcher
from tidegate.stores.memory import MemoryStore

MIB = 2**20


@dataclass
class Subject:
    store: Store
    fill: Callable[[bytes], Awaitable[str]]
    """Make an object of these bytes, by whatever way; its key."""


def key() -> str:
    return f"{uuid4()}/{uuid4().hex}"


def s3_settings(endpoint: str, access: str = "k", secret: str = "s", **more: object) -> S3Store:
    return S3Store.model_validate(
        {
            "type": "s3",
            "id": "main",
            "endpoint": endpoint,
            "bucket": f"b-{uuid4().hex}",
            "prefix": "some/where/",
            "access_key": access,
            "secret_key": secret,
            "create_bucket": True,
            **more,
        }
    )


async def by_put(store: Store, data: bytes) -> str:
    where = key()
    await store.put(where, part_of(data))
    return where


@pytest.fixture(params=["memory", "filesystem", "seaweedfs", "moto", "http"])
async def subject(
    request: pytest.FixtureRequest, tmp_path: Path, aiohttp_server: AiohttpServer
) -> AsyncIterator[Subject]:
    store: Store
    match request.param:
        case "memory":
            store = MemoryStore()
        case "filesystem":
            store = filesystem.FilesystemStore(FilesystemStore(path=tmp_path / "images"))
        case "seaweedfs":
            server: SeaweedFS = request.getfixturevalue("seaweedfs")
            store = s3.S3Store(s3_settings(server.endpoint, server.access_key, server.secret_key))
        case "moto":
            endpoint = request.getfixturevalue("moto")
            # it copies whatever the version is
            store = s3.S3Store(s3_settings(endpoint, part_checksum="none", copy_parts=False))
        case "http":
            site = Site()
            address = await aiohttp_server(site.app())
            fetcher = Fetcher(Fetch(allow=("127.0.0.1",)), timeout=5)
            await fetcher.open()
            reader = http.HttpStore(HttpStore(type="http"), fetcher)

            async def publish(data: bytes) -> str:
                return str(address.make_url(site.publish(data)))

            yield Subject(reader, publish)
            await fetcher.close()
            return
        case other:
            raise AssertionError(other)
    await store.open()
    yield Subject(store, lambda data: by_put(store, data))
    await store.close()


@pytest.fixture
def store(subject: Subject) -> Store:
    return subject.store


class Site:
    """A plain web server with ranges and validators."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/{name}", self.get)
        return app

    def publish(self, data: bytes) -> str:
        name = uuid4().hex
        self.files[name] = data
        return f"/{name}"

    async def get(self, request: web.Request) -> web.StreamResponse:
        data = self.files.get(request.match_info["name"])
        if data is None:
            raise web.HTTPNotFound
        headers = {"ETag": f'"{len(data)}"'}
        span = request.http_range
        if span.start is None:
            return web.Response(body=data, headers=headers)
        stop = len(data) if span.stop is None else min(span.stop, len(data))
        headers["Content-Range"] = f"bytes {span.start}-{stop - 1}/{len(data)}"
        return web.Response(status=206, body=data[span.start : stop], headers=headers)


# reading


@pytest.mark.parametrize("size", [0, 1, 5 * MIB + 3])
async def test_an_object_is_read_as_it_was_stored(subject: Subject, size: int) -> None:
    data = pattern(size)
    where = await subject.fill(data)
    assert await read_all(subject.store, where) == data


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (1, 5), (70_000, 70_001), (5 * MIB, None), (0, None)]
)
async def test_a_range_is_read_exactly(subject: Subject, start: int, stop: int | None) -> None:
    data = pattern(5 * MIB + 3)
    where = await subject.fill(data)
    assert await read_all(subject.store, where, start, stop) == data[start:stop]


async def test_a_look_says_how_large_an_object_is(subject: Subject) -> None:
    where = await subject.fill(pattern(70_001))
    assert (await subject.store.look(where)).size == 70_001


async def test_a_reading_says_how_large_the_whole_object_is(subject: Subject) -> None:
    where = await subject.fill(pattern(70_001))
    async with subject.store.read(where, 5, 10) as reading:
        assert reading.stored.size == 70_001


async def test_what_is_not_there_is_missing(subject: Subject) -> None:
    where = await subject.fill(b"x")
    other = where[:-4] + "0000"
    with pytest.raises(ObjectMissing):
        await subject.store.look(other)
    with pytest.raises(ObjectMissing):
        await read_all(subject.store, other)


async def test_a_reading_of_another_version_is_refused(subject: Subject) -> None:
    where = await subject.fill(b"hello")
    with pytest.raises(ObjectChanged):
        async with subject.store.read(where, etag='"another"'):
            pass


async def test_the_version_that_was_looked_at_is_the_one_that_is_read(subject: Subject) -> None:
    where = await subject.fill(b"hello")
    stored = await subject.store.look(where)
    async with subject.store.read(where, 1, 3, etag=stored.etag) as reading:
        block = bytearray(10)
        count = await reading.readinto(memoryview(block))
    assert block[:count] == b"el"


async def test_a_reading_may_be_left_early(subject: Subject) -> None:
    where = await subject.fill(pattern(9 * MIB))
    async with subject.store.read(where) as reading:
        assert await reading.readinto(memoryview(bytearray(10))) > 0
    assert await read_all(subject.store, where, 0, 4) == pattern(4)


async def test_many_read_at_once(subject: Subject) -> None:
    data = pattern(6 * MIB)
    where = await subject.fill(data)
    found = await asyncio.gather(
        *(read_all(subject.store, where, at * MIB, (at + 1) * MIB) for at in range(6))
    )
    assert b"".join(found) == data


async def test_a_ping_of_a_store_that_is_there_is_silent(store: Store) -> None:
    await store.ping()


async def test_a_location_shows_no_secret(subject: Subject) -> None:
    where = await subject.fill(b"x")
    shown = subject.store.url(where)
    assert "://" in shown
    assert "@" not in shown


async def test_removing_what_is_not_there_is_a_success(subject: Subject) -> None:
    where = await subject.fill(b"x")
    await subject.store.delete(where[:-4] + "0000")
    await subject.store.abort(where[:-4] + "0000", "0" * 32)


# writing


async def test_who_takes_no_data_says_so(store: Store) -> None:
    if store.can.write:
        await store.put(key(), part_of(b"x"))
        assert len(await objects(store)) == 1
    else:
        with pytest.raises(StoreReadOnly):
            await store.put(key(), part_of(b"x"))
        with pytest.raises(StoreReadOnly):
            await store.begin(key())


def writers(test: Callable[[Store], Awaitable[None]]) -> Callable[[Store], Awaitable[None]]:
    """A promise of stores that take data; the others have just said that they do not."""

    async def run(store: Store) -> None:
        if store.can.write:
            await test(store)
        else:
            assert not store.can.multipart

    run.__name__ = test.__name__
    return run


async def fill(store: Store, where: str, data: bytes, size: int, order: list[int]) -> str:
    """Put parts of ``size`` bytes in this order; the upload's id."""
    writing = await store.begin(where)
    for number in order:
        offset = (number - 1) * size
        await writing.put_part(part_of(data[offset : offset + size], number=number, offset=offset))
    await writing.complete(len(data), part_of(data).crc64nvme)
    return writing.upload_id


@writers
async def test_parts_come_in_any_order(store: Store) -> None:
    data, where = pattern(13 * MIB), key()
    await fill(store, where, data, 5 * MIB, [3, 1, 2])
    assert await read_all(store, where) == data
    assert await unfinished(store) == []


@writers
async def test_an_object_of_one_part_may_be_small_or_empty(store: Store) -> None:
    for size in (1, 0):
        data, where = pattern(size), key()
        await fill(store, where, data, 5 * MIB, [1])
        assert (await store.look(where)).size == size
        assert await read_all(store, where) == data
    assert await unfinished(store) == []


@writers
async def test_a_key_may_be_a_files_name(store: Store) -> None:
    where, data = "a.b/ubuntu-22.04_x.tar.gz", pattern(7)
    upload_id = (await store.begin(where)).upload_id
    assert await unfinished(store) == [(where, upload_id)]
    await store.abort(where, upload_id)
    await fill(store, where, data, 5 * MIB, [1])
    assert await objects(store) == {where: 7}
    assert await read_all(store, where) == data
    await store.delete(where)
    assert await objects(store) == {}


@writers
async def test_parts_come_at_once(store: Store) -> None:
    data, where = pattern(20 * MIB), key()
    writing = await store.begin(where)
    await asyncio.gather(
        *(
            writing.put_part(part_of(data[at : at + 5 * MIB], number=number, offset=at))
            for number, at in enumerate(range(0, 20 * MIB, 5 * MIB), 1)
        )
    )
    await writing.complete(len(data), part_of(data).crc64nvme)
    assert await read_all(store, where) == data


@writers
async def test_a_part_may_be_sent_again(store: Store) -> None:
    data, where = pattern(11 * MIB), key()
    await fill(store, where, data, 5 * MIB, [1, 1, 2, 3, 2])
    assert await read_all(store, where) == data


@writers
async def test_nothing_is_seen_before_it_is_complete(store: Store) -> None:
    where = key()
    writing = await store.begin(where)
    await writing.put_part(part_of(pattern(5 * MIB)))
    assert await objects(store) == {}
    with pytest.raises(ObjectMissing):
        await store.look(where)
    await store.abort(where, writing.upload_id)


@writers
async def test_an_upload_that_was_begun_is_listed_until_it_is_aborted(store: Store) -> None:
    where = key()
    writing = await store.begin(where)
    await writing.put_part(part_of(pattern(5 * MIB)))
    assert await unfinished(store) == [(where, writing.upload_id)]
    await store.abort(where, writing.upload_id)
    await store.abort(where, writing.upload_id)
    assert await unfinished(store) == []


@writers
async def test_a_completion_that_does_not_add_up_makes_no_object_of_that_size(
    store: Store,
) -> None:
    where = key()
    writing = await store.begin(where)
    await writing.put_part(part_of(pattern(5 * MIB)))
    with pytest.raises(StoreError):
        await writing.complete(6 * MIB, 0)
    await store.abort(where, writing.upload_id)
    await store.delete(where)
    assert await objects(store) == {}


@writers
async def test_completing_what_was_aborted_fails(store: Store) -> None:
    where = key()
    writing = await store.begin(where)
    await writing.put_part(part_of(pattern(5 * MIB)))
    await store.abort(where, writing.upload_id)
    with pytest.raises(StoreError):
        await writing.complete(5 * MIB, part_of(pattern(5 * MIB)).crc64nvme)
    assert await objects(store) == {}


@writers
async def test_other_bytes_than_were_sent_are_noticed(store: Store) -> None:
    data = pattern(1000)
    damaged = Part(1, 0, 1000, [memoryview(pattern(1000, seed=1))], part_of(data).crc64nvme)
    if store.can.part_checksum is None:
        return
    with pytest.raises(BadPart):
        await store.put(key(), damaged)
    assert await objects(store) == {}


@writers
async def test_two_attempts_at_one_image_do_not_meet(store: Store) -> None:
    image = uuid4()
    first, second = f"{image}/{uuid4().hex}", f"{image}/{uuid4().hex}"
    await store.put(first, part_of(b"first"))
    await store.put(second, part_of(b"second"))
    await store.delete(first)
    assert await read_all(store, second) == b"second"
    assert await objects(store) == {second: 6}


@writers
async def test_a_deleted_object_is_gone_and_may_be_deleted_again(store: Store) -> None:
    where = await by_put(store, b"hello")
    await store.delete(where)
    await store.delete(where)
    assert await objects(store) == {}


@writers
async def test_keys_are_listed_by_prefix(store: Store) -> None:
    where = await by_put(store, b"hello")
    await by_put(store, b"other")
    assert [(one.key, one.size) async for one in store.keys(where[:36])] == [(where, 5)]


@writers
async def test_a_look_says_when_an_object_was_made(store: Store) -> None:
    begun = time.time()
    where = await by_put(store, b"hello")
    modified = (await store.look(where)).modified
    assert modified is not None
    assert begun - 2 <= modified <= time.time() + 2  # some know whole seconds alone


@writers
async def test_many_keys_are_each_listed_once(store: Store) -> None:
    expected = {await by_put(store, b"x" * size): size for size in range(1, 8)}
    begun = {(where, (await store.begin(where)).upload_id) for where in expected}
    listed = [(entry.key, entry.size) async for entry in store.keys()]
    assert len(listed) == len(expected)
    assert dict(listed) == expected
    assert set(await unfinished(store)) == begun


@writers
async def test_several_may_list_at_once(store: Store) -> None:
    expected = {await by_put(store, b"x" * size): size for size in range(1, 6)}
    assert await asyncio.gather(*(objects(store) for _ in range(4))) == [expected] * 4


# copying


def copiers(test: Callable[[Store], Awaitable[None]]) -> Callable[[Store], Awaitable[None]]:
    """A promise of stores that copy; the others are not asked to."""

    async def run(store: Store) -> None:
        if store.can.copy:
            await test(store)

    run.__name__ = test.__name__
    return run


async def multipart(store: Store, data: bytes) -> str:
    """An object of several parts."""
    where = key()
    await fill(store, where, data, 6 * MIB, list(range(1, -(-len(data) // (6 * MIB)) + 1)))
    return where


async def copy(store: Store, source: str, data: bytes, cuts: list[int]) -> str:
    """A copy of the source in parts that end at ``cuts``; the parts' checksums, where the store
    tells them, are those of the bytes."""
    where, etag = key(), (await store.look(source)).etag
    writing = await store.begin(where)
    for number, (start, stop) in enumerate(pairwise([0, *cuts]), 1):
        crc = await writing.copy_part(number, source, start, stop, etag=etag)
        assert crc in (None, part_of(data[start:stop]).crc64nvme)
    await writing.complete(len(data), part_of(data).crc64nvme)
    return where


@copiers
async def test_a_copy_of_one_part_is_its_source(store: Store) -> None:
    data = pattern(70_001)
    where = await copy(store, await by_put(store, data), data, [len(data)])
    assert await read_all(store, where) == data
    assert await unfinished(store) == []


@copiers
async def test_parts_may_be_cut_anywhere(store: Store) -> None:
    """Also across the pieces in which the store keeps an object."""
    data = pattern(37 * MIB + 11)
    for source in (await multipart(store, data), await by_put(store, data)):
        for cuts in ([5 * MIB + 1, 17 * MIB + 3, 23 * MIB, len(data)], [len(data)]):
            where = await copy(store, source, data, cuts)
            assert await read_all(store, where) == data


@copiers
async def test_a_copy_of_a_copy_is_its_source(store: Store) -> None:
    data = pattern(17 * MIB + 11)
    first = await copy(store, await multipart(store, data), data, [7 * MIB, len(data)])
    second = await copy(store, first, data, [9 * MIB + 1, len(data)])
    assert await read_all(store, second) == data


@copiers
async def test_parts_are_copied_at_once_in_any_order_and_again(store: Store) -> None:
    data, where = pattern(20 * MIB), key()
    source = await multipart(store, data)
    writing = await store.begin(where)
    await asyncio.gather(
        *(
            writing.copy_part(number, source, at, at + 5 * MIB, etag=None)
            for number, at in ((3, 10 * MIB), (1, 0), (4, 15 * MIB), (2, 5 * MIB), (1, 0))
        )
    )
    await writing.complete(len(data), part_of(data).crc64nvme)
    assert await read_all(store, where) == data


@copiers
async def test_copied_and_sent_parts_make_one_object(store: Store) -> None:
    data, where = pattern(11 * MIB), key()
    source = await by_put(store, data)
    writing = await store.begin(where)
    await writing.put_part(part_of(data[5 * MIB :], number=2, offset=5 * MIB))
    await writing.copy_part(1, source, 0, 5 * MIB, etag=None)
    await writing.complete(len(data), part_of(data).crc64nvme)
    assert await read_all(store, where) == data


@copiers
async def test_a_copy_outlives_its_source(store: Store) -> None:
    data = pattern(17 * MIB + 11)
    source = await multipart(store, data)
    where = await copy(store, source, data, [7 * MIB, len(data)])
    await store.delete(source)
    assert await read_all(store, where) == data
    assert await objects(store) == {where: len(data)}


@copiers
async def test_a_source_outlives_a_copy_that_is_given_up(store: Store) -> None:
    data, where = pattern(17 * MIB + 11), key()
    source = await multipart(store, data)
    writing = await store.begin(where)
    await writing.copy_part(1, source, 0, 9 * MIB, etag=None)
    await store.abort(where, writing.upload_id)
    assert await read_all(store, source) == data
    assert await objects(store) == {source: len(data)}


@copiers
async def test_a_source_of_another_version_is_not_copied(store: Store) -> None:
    source, where = await by_put(store, pattern(1000)), key()
    writing = await store.begin(where)
    with pytest.raises(ObjectChanged):
        await writing.copy_part(1, source, 0, 1000, etag='"another"')
    await store.abort(where, writing.upload_id)


@copiers
async def test_a_source_that_is_gone_is_missing(store: Store) -> None:
    source, where = await by_put(store, pattern(1000)), key()
    etag = (await store.look(source)).etag
    await store.delete(source)
    writing = await store.begin(where)
    with pytest.raises(ObjectMissing):
        await writing.copy_part(1, source, 0, 1000, etag=etag)
    await store.abort(where, writing.upload_id)


@copiers
async def test_more_than_the_source_has_is_not_copied(store: Store) -> None:
    source, where = await by_put(store, pattern(1000)), key()
    writing = await store.begin(where)
    with pytest.raises(StoreError):
        await writing.copy_part(1, source, 0, 1001, etag=None)
    await store.abort(where, writing.upload_id)
    assert await objects(store) == {source: 1000}


@copiers
async def test_nothing_is_copied_into_what_was_aborted(store: Store) -> None:
    source, where = await by_put(store, pattern(1000)), key()
    writing = await store.begin(where)
    await store.abort(where, writing.upload_id)
    with pytest.raises(StoreBroke):
        await writing.copy_part(1, source, 0, 1000, etag=None)
    assert await objects(store) == {source: 1000}
