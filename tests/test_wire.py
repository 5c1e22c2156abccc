"""Bodies between a connection and our memory, over real sockets."""

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from tests.kit.sources import pattern

from tidegate.wire import TAKE_OVER_FROM, BodyReader, PlainSocket, reset

MIB = 2**20
LARGE = TAKE_OVER_FROM + 3 * MIB + 7


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection: our end, not blocking, and the peer's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def received(peer: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size and (data := peer.recv(MIB)):
        found += data
    return bytes(found)


# a plain socket, receiving


async def test_what_has_come_is_received_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.sendall(b"hello")
    block = bytearray(10)
    plain = PlainSocket(ours)
    await plain.wait_for_readable(5)
    assert await plain.receive_into(memoryview(block), 5) == 5
    assert block[:5] == b"hello"


async def test_a_trickle_below_the_low_water_mark_is_received(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    plain = PlainSocket(ours)
    block = bytearray(4 * MIB)
    receiving = asyncio.ensure_future(plain.receive_into(memoryview(block), 0.2))
    await asyncio.sleep(0)  # it waits now, for more than this one byte
    theirs.sendall(b"x")
    assert await receiving == 1


async def test_a_peer_that_sends_nothing_is_given_up(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    with pytest.raises(TimeoutError):
        await PlainSocket(pair[0]).receive_into(memoryview(bytearray(10)), 0.05)


async def test_the_end_of_the_connection_is_zero(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    receiving = asyncio.ensure_future(PlainSocket(ours).receive_into(memoryview(bytearray(10)), 5))
    await asyncio.sleep(0)
    theirs.shutdown(socket.SHUT_WR)
    assert await receiving == 0


async def test_a_cancelled_wait_leaves_the_descriptor_alone(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    plain = PlainSocket(ours)
    waiting = asyncio.ensure_future(plain.wait_for_readable(5))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert asyncio.get_running_loop().remove_reader(plain.fileno()) is False
    theirs.sendall(b"x")
    assert await plain.receive_into(memoryview(bytearray(1)), 5) == 1


# a plain socket, sending


async def test_all_is_sent_also_to_a_slow_peer(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    data = pattern(9 * MIB)
    sending = asyncio.ensure_future(PlainSocket(ours).send(memoryview(data), 5))
    found = await asyncio.to_thread(received, theirs, len(data))
    await sending
    assert found == data


async def test_a_peer_that_takes_nothing_is_given_up(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    with pytest.raises(TimeoutError):
        await PlainSocket(pair[0]).send(memoryview(bytes(64 * MIB)), 0.1)


async def test_a_peer_that_is_gone_is_an_error(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.close()
    with pytest.raises(OSError):  # noqa: PT011 -- reset or broken pipe, as the kernel likes
        await PlainSocket(ours).send(memoryview(bytes(64 * MIB)), 5)


async def test_a_file_is_sent_from_its_middle(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    ours, theirs = pair
    data = pattern(11 * MIB)
    (tmp_path / "file").write_bytes(data)
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    sending = asyncio.ensure_future(PlainSocket(ours).send_file(fd, 5, 10 * MIB, 5))
    found = await asyncio.to_thread(received, theirs, 10 * MIB)
    await sending
    os.close(fd)
    assert found == data[5 : 10 * MIB + 5]


async def test_a_file_that_is_shorter_is_told(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"short")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    with pytest.raises(EOFError):
        await PlainSocket(pair[0]).send_file(fd, 0, 6, 5)
    os.close(fd)
    assert received(pair[1], 5) == b"short"


async def test_a_cancelled_send_returns_after_its_thread(
    pair: tuple[socket.socket, socket.socket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(bytes(100))
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    begun, go_on = threading.Event(), threading.Event()
    really, ended = os.sendfile, []

    def slow(*arguments: int) -> int:
        begun.set()
        go_on.wait(10)
        ended.append(really(*arguments))
        return ended[0]

    monkeypatch.setattr("tidegate.wire.os.sendfile", slow)
    sending = asyncio.ensure_future(PlainSocket(pair[0]).send_file(fd, 0, 100, 5))
    await asyncio.to_thread(begun.wait)
    sending.cancel()
    done, _ = await asyncio.wait([sending], timeout=0.1)
    assert not done
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert ended == [100]
    os.close(fd)


async def test_a_reset_drops_what_the_peer_has_not_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        connecting = asyncio.open_connection(*listener.getsockname())
        (inner, _), (_, writer) = await asyncio.gather(loop.sock_accept(listener), connecting)
    transport = writer.transport
    plain = PlainSocket.under(transport)
    assert plain is not None
    with suppress(TimeoutError):
        await plain.send(memoryview(bytes(64 * MIB)), 0.2)  # all that fits between the two
    plain.close()
    reset(transport)
    inner.setblocking(True)
    with inner, pytest.raises(ConnectionResetError):
        await asyncio.to_thread(received, inner, 64 * MIB)


@pytest.fixture
def source() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Another connection, to splice from: its end that is read, and its peer."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


async def test_bytes_are_spliced_from_another_socket(
    pair: tuple[socket.socket, socket.socket], source: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    data = pattern(5 * MIB + 1)
    feeding = asyncio.create_task(asyncio.to_thread(source[1].sendall, data + b"beyond"))
    splicing = asyncio.ensure_future(
        PlainSocket(ours).splice_from(source[0].fileno(), len(data), 5)
    )
    found = await asyncio.to_thread(received, theirs, len(data))
    await splicing
    await feeding
    assert found == data
    assert source[0].recv(100) == b"beyond"


@pytest.mark.parametrize("ends", [True, False])
async def test_a_source_that_ends_or_falls_silent_is_told(
    pair: tuple[socket.socket, socket.socket],
    source: tuple[socket.socket, socket.socket],
    ends: bool,
) -> None:
    source[1].sendall(b"12345")
    if ends:
        source[1].shutdown(socket.SHUT_WR)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(EOFError):
        await PlainSocket(pair[0]).splice_from(source[0].fileno(), 6, 0.1)
    assert len(os.listdir("/proc/self/fd")) == before
    assert received(pair[1], 5) == b"12345"


async def test_a_receiver_that_takes_nothing_ends_the_splice(
    pair: tuple[socket.socket, socket.socket], source: tuple[socket.socket, socket.socket]
) -> None:
    feeding = asyncio.create_task(asyncio.to_thread(_feed, source[1]))
    with pytest.raises(TimeoutError):
        await PlainSocket(pair[0]).splice_from(source[0].fileno(), 64 * MIB, 0.2)
    source[0].close()
    await feeding


def _feed(peer: socket.socket) -> None:
    try:
        peer.sendall(bytes(64 * MIB))
    except BrokenPipeError:
        return


# under which connections there is one


def transport(**extra: object) -> asyncio.Transport:
    return cast("asyncio.Transport", SimpleNamespace(get_extra_info=extra.get))


async def test_under_nothing_tls_and_unix_sockets_there_is_none(
    source: tuple[socket.socket, socket.socket], pair: tuple[socket.socket, socket.socket]
) -> None:
    assert PlainSocket.under(None) is None
    assert PlainSocket.under(transport()) is None
    assert PlainSocket.under(transport(socket=source[0])) is None
    context = ssl.create_default_context()
    assert PlainSocket.under(transport(socket=pair[0], sslcontext=context)) is None


async def test_the_copy_is_ours_to_close(pair: tuple[socket.socket, socket.socket]) -> None:
    plain = PlainSocket.under(transport(socket=pair[0]))
    assert plain is not None
    assert plain.fileno() != pair[0].fileno()
    plain.close()
    pair[0].send(b"still there")
    assert received(pair[1], 11) == b"still there"


# a request's body


Handle = Callable[[BodyReader], Awaitable[Any]]


@asynccontextmanager
async def reading(handle: Handle, timeout: float = 5.0) -> AsyncIterator[tuple[int, list[Any]]]:
    """A server whose handler reads bodies so; its port, and what the handler gave or raised."""
    results: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        reader = BodyReader(
            request.content, request.transport, request.content_length, timeout=timeout
        )
        try:
            results.append(await handle(reader))
        except (TimeoutError, OSError, aiohttp.ClientError, ValueError) as error:
            results.append(error)
        finally:
            reader.hand_back()
        response = web.Response(text=str(reader.taken_over))
        if reader.taken_over:
            response.force_close()
        return response

    app = web.Application(client_max_size=2**40)
    app.router.add_put("/", answer)
    runner = web.AppRunner(app, auto_decompress=False, lingering_time=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1], results
    await runner.cleanup()


async def whole(reader: BodyReader) -> bytes:
    found = bytearray()
    block = memoryview(bytearray(MIB))
    while count := await reader.readinto(block):
        found += block[:count]
    return bytes(found)


async def put(port: int, *pieces: bytes, head: str, end: bool = False) -> bytes:
    """The answer to a request of these pieces."""
    stream, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"PUT / HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode())
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if end:
            writer.write_eof()
        async with asyncio.timeout(10):
            return await stream.readuntil(b"\r\n\r\n")
    finally:
        await closed(writer)


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("size", "taken_over"),
    [(0, False), (1, False), (TAKE_OVER_FROM - 1, False), (TAKE_OVER_FROM, True), (LARGE, True)],
)
async def test_a_large_body_is_taken_over_and_a_small_one_is_not(
    size: int, taken_over: bool
) -> None:
    data = pattern(size)
    taken = []

    async def handle(reader: BodyReader) -> bytes:
        found = await whole(reader)
        taken.append(reader.taken_over)
        return found

    async with reading(handle) as (port, results):
        answer = await put(port, data, head=f"Content-Length: {size}")
    assert answer.startswith(b"HTTP/1.1 200")
    assert results == [data]
    assert taken == [taken_over]


async def test_a_chunked_body_is_not_taken_over() -> None:
    data = pattern(LARGE)
    async with reading(whole) as (port, results):
        body = f"{LARGE:x}\r\n".encode() + data + b"\r\n0\r\n\r\n"
        await put(port, body, head="Transfer-Encoding: chunked")
    assert results == [data]


async def test_no_byte_beyond_the_body_is_read() -> None:
    data = pattern(LARGE)
    async with reading(whole) as (port, results):
        await put(port, data + b"PUT / HTTP/1.1\r\n", head=f"Content-Length: {LARGE}")
    assert results == [data]


async def test_small_bodies_come_one_after_another_on_one_connection() -> None:
    async with reading(whole) as (port, results), aiohttp.ClientSession() as session:
        for text in (b"first", b"second"):
            async with session.put(f"http://127.0.0.1:{port}/", data=text) as response:
                assert response.headers.get("Connection") != "close"
    assert results == [b"first", b"second"]


@pytest.mark.parametrize("size", [100, LARGE])
async def test_a_body_that_ends_early_is_broken_and_no_end(size: int) -> None:
    async with reading(whole) as (port, results):
        with suppress(asyncio.IncompleteReadError):  # who broke off need not be answered
            await put(port, pattern(size - 1), head=f"Content-Length: {size}", end=True)
        async with asyncio.timeout(5):
            while not results:
                await asyncio.sleep(0.01)
    assert isinstance(results[0], ConnectionError | aiohttp.ClientError)


@pytest.mark.parametrize("size", [100, LARGE])
async def test_a_body_that_stops_coming_is_given_up(size: int) -> None:
    async with reading(whole, timeout=0.1) as (port, results):
        await put(port, pattern(size - 1), head=f"Content-Length: {size}")
    assert isinstance(results[0], TimeoutError)


async def test_a_trickling_body_is_not_given_up() -> None:
    sent = pattern(LARGE)

    async def trickle() -> bytes:
        stream, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGE}\r\n\r\n".encode())
        writer.write(sent[:-6])
        for at in range(6, 0, -1):
            await asyncio.sleep(0.05)  # the trickle itself: never as long as the timeout
            writer.write(sent[-at : len(sent) - at + 1])
        answer = await stream.readuntil(b"\r\n\r\n")
        await closed(writer)
        return answer

    async with reading(whole, timeout=0.15) as (port, results):
        assert (await trickle()).startswith(b"HTTP/1.1 200")
    assert results == [sent]


async def test_what_is_left_is_handed_back_and_the_answer_comes() -> None:
    async def some(reader: BodyReader) -> int:
        return await reader.readinto(memoryview(bytearray(1000)))

    async with reading(some) as (port, results):
        answer = await put(port, pattern(LARGE), head=f"Content-Length: {LARGE}")
    assert answer.startswith(b"HTTP/1.1 200")
    assert 0 < results[0] <= 1000


async def test_of_a_body_that_was_not_begun_nothing_is_taken() -> None:
    async def none(reader: BodyReader) -> bool:
        return reader.taken_over

    async with reading(none) as (port, results):
        answer = await put(port, b"hello", head="Content-Length: 5")
    assert answer.startswith(b"HTTP/1.1 200")
    assert results == [False]


async def test_what_came_before_the_taking_over_is_not_lost() -> None:
    data = pattern(LARGE)

    async def take(reader: BodyReader) -> bytes:
        await asyncio.sleep(0.05)  # so that the library reads ahead
        taken = reader.take_over()
        assert taken is not None
        plain, early = taken
        found = bytearray(early)
        block = memoryview(bytearray(MIB))
        while len(found) < LARGE:
            found += block[: await plain.receive_into(block, 5)]
        return bytes(found)

    async with reading(take) as (port, results):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGE}\r\n\r\n".encode() + data
        )
        async with asyncio.timeout(10):
            while not results:
                await asyncio.sleep(0.01)
        await closed(writer)
    assert results == [data]
