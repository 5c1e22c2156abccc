"""The sink is an S3 to the gateway's store, and it is no more than that."""

import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from tests.kit.sources import pattern
from tests.kit.stores import objects, part_of, read_all, unfinished

from tidegate.bench import processes
from tidegate.domain.errors import ObjectChanged, ObjectMissing, StoreError
from tidegate.settings import S3Store as S3Settings
from tidegate.stores.s3 import S3Store

MIB = 2**20
PART = 5 * MIB


def settings(endpoint: str) -> S3Settings:
    return S3Settings.model_validate(
        {**processes.s3_store(endpoint), "bucket": f"b-{uuid4().hex}", "prefix": "some/where/"}
    )


@pytest.fixture
async def store(sink: str) -> AsyncIterator[S3Store]:
    opened = S3Store(settings(sink))
    await opened.open()
    yield opened
    await opened.close()


def key() -> str:
    return f"{uuid4()}/{uuid4().hex}"


async def put_parts(store: S3Store, where: str, data: bytes, order: list[int]) -> None:
    writing = await store.begin(where)
    for number in order:
        offset = (number - 1) * PART
        await writing.put_part(part_of(data[offset : offset + PART], number=number, offset=offset))
    await writing.complete(len(data), part_of(data).crc64nvme)


@pytest.mark.parametrize("size", [0, 1, 5 * MIB + 3])
async def test_an_object_is_read_as_it_was_put(store: S3Store, size: int) -> None:
    data, where = pattern(size), key()
    await store.put(where, part_of(data))
    assert await read_all(store, where) == data
    assert (await store.look(where)).size == size


async def test_parts_come_in_any_order_and_again(store: S3Store) -> None:
    data, where = pattern(13 * MIB), key()
    await put_parts(store, where, data, [3, 1, 2, 1])
    assert await read_all(store, where) == data
    assert await unfinished(store) == []


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 1), (PART - 1, PART + 1), (3 * MIB, 12 * MIB), (12 * MIB, None)],
)
async def test_a_range_goes_across_parts(store: S3Store, start: int, stop: int | None) -> None:
    data, where = pattern(13 * MIB), key()
    await put_parts(store, where, data, [1, 2, 3])
    assert await read_all(store, where, start, stop) == data[start:stop]


async def test_a_checksum_is_known_where_it_was_declared(store: S3Store) -> None:
    data, where = pattern(6 * MIB), key()
    await put_parts(store, where, data, [1, 2])
    assert (await store.look(where)).crc64nvme == part_of(data).crc64nvme


async def test_another_version_is_refused(store: S3Store) -> None:
    where = key()
    await store.put(where, part_of(b"hello"))
    with pytest.raises(ObjectChanged):
        async with store.read(where, etag='"another"'):
            pass


async def test_an_upload_is_listed_until_it_is_aborted(store: S3Store) -> None:
    where = key()
    writing = await store.begin(where)
    await writing.put_part(part_of(pattern(PART)))
    assert await unfinished(store) == [(where, writing.upload_id)]
    assert await objects(store) == {}
    await store.abort(where, writing.upload_id)
    await store.abort(where, writing.upload_id)
    assert await unfinished(store) == []
    with pytest.raises(StoreError):
        await writing.complete(PART, None)


async def test_what_was_deleted_is_gone(store: S3Store) -> None:
    where = key()
    await store.put(where, part_of(b"hello"))
    assert await objects(store) == {where: 5}
    await store.delete(where)
    await store.delete(where)
    assert await objects(store) == {}
    with pytest.raises(ObjectMissing):
        await store.look(where)


async def test_a_bucket_that_was_not_made_is_missed(sink: str) -> None:
    store = S3Store(settings(sink).model_copy(update={"create_bucket": False}))
    with pytest.raises(StoreError, match="does not exist"):
        await store.open()
    await store.close()


async def test_bytes_can_be_discarded() -> None:
    with processes.sink(discard=True) as endpoint:
        store = S3Store(settings(endpoint))
        await store.open()
        where = key()
        await put_parts(store, where, pattern(13 * MIB), [1, 2, 3])
        assert (await store.look(where)).size == 13 * MIB
        assert await read_all(store, where) == bytes(13 * MIB)
        await store.close()


def test_a_chunked_body_is_taken_after_a_continue(sink: str) -> None:
    parts = urlsplit(sink)
    with socket.create_connection((parts.hostname, parts.port or 0)) as client:
        client.sendall(b"PUT /chunks HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        client.sendall(
            b"PUT /chunks/one HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert client.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        client.sendall(b"GET /chunks/one HTTP/1.1\r\nHost: x\r\nRange: bytes=-5\r\n\r\n")
        with client.makefile("rb") as answer:
            lines = iter(answer.readline, b"\r\n")
            assert next(lines).startswith(b"HTTP/1.1 206 ")
            assert b"Content-Range: bytes 6-10/11\r\n" in list(lines)
            assert answer.read(5) == b"world"


@pytest.mark.parametrize(
    "arguments", [["--rate", "fast"], ["--keep", "--discard"], ["--port", "x"]]
)
def test_bad_arguments_are_refused(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tidegate.bench.sink", *arguments],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert arguments[0] in done.stderr
