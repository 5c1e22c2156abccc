"""The command line's client against a gateway in this process, and against servers that break."""

import asyncio
import errno
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from tests.api.conftest import gate, store
from tests.kit.gateway import Gateway
from tests.kit.sources import pattern
from tests.kit.stores import FaultyStore

from tidegate import client as module
from tidegate.client import TRIES, Client, ClientError
from tidegate.domain.errors import StoreBroke

__all__ = ["gate", "store"]

MIB = 2**20
DATA = pattern(3 * MIB + 5)


class Told(list[int]):
    """Progress: how many bytes moved, step by step."""

    def __call__(self, count: int) -> None:
        self.append(count)


@pytest.fixture
async def client(gate: Gateway) -> AsyncIterator[Client]:
    async with Client(gate.url) as found:
        yield found


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the client would have slept."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(module, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": sleep}))
    return slept


# up


@pytest.mark.parametrize("size", [0, 1, MIB, 3 * MIB + 5])
@pytest.mark.parametrize("known", [True, False])
async def test_what_is_sent_is_there(client: Client, gate: Gateway, size: int, known: bool) -> None:
    source, told = io.BytesIO(pattern(size)), Told()
    image_id = await gate.create()
    first = source.read(1000)
    image = await client.upload(image_id, source, size if known else None, told, first)
    assert image["status"] == "active"
    assert image["checksum"] == hashlib.md5(pattern(size)).hexdigest()
    assert sum(told) == size


async def test_a_refusal_is_told_in_the_servers_words(client: Client, gate: Gateway) -> None:
    image_id = await gate.active(b"x")
    with pytest.raises(ClientError, match="409"):
        await client.upload(image_id, io.BytesIO(), 1, Told(), b"y")


async def test_a_broken_upload_is_told_as_the_server_recorded_it(
    client: Client, gate: Gateway, store: FaultyStore
) -> None:
    store.fail("put", StoreBroke(store.id, "it answered 500"))
    with pytest.raises(ClientError, match=r"broke at complete after 1 bytes.*it answered 500"):
        await client.upload(await gate.create(), io.BytesIO(), 1, Told(), b"y")


async def test_a_source_that_is_shorter_than_it_said_is_an_error(
    client: Client, gate: Gateway
) -> None:
    image_id = await gate.create()
    with pytest.raises(ClientError):
        async with asyncio.timeout(5):  # long before the server loses patience
            await client.upload(image_id, io.BytesIO(b"c"), 5, Told(), b"ab")
    assert (await gate.show(image_id))["status"] != "active"


async def test_other_bytes_there_than_here_are_noticed(
    client: Client, gate: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def other(self: Client, image_id: str) -> dict[str, Any]:
        return {"id": image_id, "checksum": "0" * 32}

    monkeypatch.setattr(Client, "show", other)
    with pytest.raises(ClientError, match="md5 digests differ"):
        await client.upload(await gate.create(), io.BytesIO(), 1, Told(), b"y")


# by name


async def test_an_image_is_found_by_its_id_and_by_its_name(client: Client, gate: Gateway) -> None:
    image_id = await gate.create(name="a name, with: in:x")
    assert (await client.find(image_id))["id"] == image_id
    assert (await client.find("a name, with: in:x"))["id"] == image_id


async def test_a_name_of_two_is_not_guessed(client: Client, gate: Gateway) -> None:
    for _ in range(2):
        await gate.create(name="twin")
    with pytest.raises(ClientError, match="more than one"):
        await client.find("twin")


@pytest.mark.parametrize("name", ["nobody", "", "a/b", "../images", "?x", "%2e%2e", "é"])
async def test_a_name_of_none(client: Client, name: str) -> None:
    with pytest.raises(ClientError, match="no image"):
        await client.find(name)


async def test_the_id_wins_over_a_name_like_it(client: Client, gate: Gateway) -> None:
    image_id = await gate.create()
    await gate.create(name=image_id)
    assert (await client.find(image_id))["id"] == image_id


async def test_a_list_comes_over_as_many_pages_as_it_takes(client: Client, gate: Gateway) -> None:
    ids = [await gate.create(name=f"image {number}") for number in range(5)]
    found = await client.list({}, limit=3)
    assert [image["id"] for image in found] == ids[:1:-1]
    assert len(await client.list({}, limit=1000)) == 5


# down


async def test_what_is_there_comes_down(client: Client, gate: Gateway) -> None:
    image_id = await gate.active(DATA)
    target, told = io.BytesIO(), Told()
    await client.download(await client.show(image_id), target, told)
    assert target.getvalue() == DATA
    assert sum(told) == len(DATA)


async def test_an_image_without_data_is_told(client: Client, gate: Gateway) -> None:
    image = await client.show(await gate.create())
    with pytest.raises(ClientError, match="no data"):
        await client.download(image, io.BytesIO(), Told())


async def test_other_bytes_than_the_catalogs_are_noticed(client: Client, gate: Gateway) -> None:
    image = {**await client.show(await gate.active(DATA)), "os_hash_value": "0" * 128}
    with pytest.raises(ClientError, match="sha512 digests differ"):
        await client.download(image, io.BytesIO(), Told())


IMAGE = {
    "id": "some-image", "checksum": hashlib.md5(DATA).hexdigest(), "os_hash_algo": "sha512",
    "os_hash_value": hashlib.sha512(DATA).hexdigest(),
}  # fmt: skip


class Brittle:
    """A server of one file, that cuts each answer after ``gives`` bytes, ``times`` times."""

    def __init__(self, gives: int, times: int, etag: str | None = '"v1"') -> None:
        self.gives = gives
        self.times = times
        self.etag = etag
        self.ranges: list[str | None] = []
        self.changed: Callable[[int], bytes] = lambda call: DATA

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.ranges.append(request.headers.get("Range"))
        data = self.changed(len(self.ranges))
        etag = self.etag if data is DATA else '"v2"'
        start = int((self.ranges[-1] or "bytes=0-")[6:-1])
        whole = request.headers.get("If-Range") != etag
        body = data if whole else data[start:]
        response = web.StreamResponse(status=200 if whole else 206)
        response.content_length = len(body)
        if etag is not None:
            response.headers["ETag"] = etag
        await response.prepare(request)
        if self.times > 0:
            self.times -= 1
            await response.write(body[: self.gives])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(body)
        return response


@asynccontextmanager
async def served(brittle: Brittle) -> AsyncIterator[Client]:
    app = web.Application()
    app.router.add_get("/v2/images/some-image/file", brittle.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with Client(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
        yield client
    await runner.cleanup()


async def test_a_broken_download_is_taken_up_where_it_broke(waits: list[float]) -> None:
    brittle, target = Brittle(gives=MIB, times=2), io.BytesIO()
    async with served(brittle) as client:
        await client.download(IMAGE, target, Told())
    assert target.getvalue() == DATA
    assert brittle.ranges[0] is None
    assert all(found is not None for found in brittle.ranges[1:])
    assert len(brittle.ranges) == 3


async def test_every_byte_of_progress_gives_new_patience(waits: list[float]) -> None:
    brittle, target = Brittle(gives=200_000, times=TRIES * 2), io.BytesIO()
    async with served(brittle) as client:
        await client.download(IMAGE, target, Told())
    assert target.getvalue() == DATA


async def test_without_progress_it_gives_up(waits: list[float]) -> None:
    brittle = Brittle(gives=0, times=10**6)
    async with served(brittle) as client:
        with pytest.raises(ClientError, match="broke off"):
            await client.download(IMAGE, io.BytesIO(), Told())
    assert len(brittle.ranges) <= TRIES + 1


async def test_another_version_is_never_gone_on_with(waits: list[float]) -> None:
    brittle = Brittle(gives=MIB, times=1)
    brittle.changed = lambda call: DATA if call == 1 else pattern(len(DATA), seed=1)
    async with served(brittle) as client:
        with pytest.raises(ClientError, match="changed"):
            await client.download(IMAGE, io.BytesIO(), Told())


async def test_without_a_version_nothing_is_taken_up(waits: list[float]) -> None:
    brittle = Brittle(gives=MIB, times=1, etag=None)
    async with served(brittle) as client:
        with pytest.raises(ClientError, match="broke off"):
            await client.download(IMAGE, io.BytesIO(), Told())
    assert len(brittle.ranges) == 1


class Full(io.BytesIO):
    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_target_that_is_full_is_not_the_servers_fault(waits: list[float]) -> None:
    brittle = Brittle(gives=MIB, times=0)
    async with served(brittle) as client:
        with pytest.raises((OSError, ClientError), match="No space left"):
            await client.download(IMAGE, Full(), Told())
    assert len(brittle.ranges) == 1
    assert waits == []


# servers that are none


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
        b'HTTP/1.1 400 No\r\nContent-Length: 12\r\n\r\n{"error": []',
        b"HTTP/1.1 302 Found\r\nLocation: gopher://x\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ],
)
async def test_whatever_a_server_answers_is_one_line(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with Client(f"http://127.0.0.1:{port}") as client:
            with pytest.raises(ClientError) as refused:
                await client.list({}, limit=10)
    assert "\n" not in str(refused.value)


async def test_the_token_goes_to_the_server_and_nowhere_else() -> None:
    async with Client("http://127.0.0.1:1", "s3cr3t") as client:
        with pytest.raises(ClientError) as refused:
            await client.list({}, limit=1)
    assert "s3cr3t" not in str(refused.value)
    assert "s3cr3t" not in repr(client)
