"""Bytes between a connection and memory of ours, without the copies in between.

An HTTP library parses the head of a message; the body is then taken over from the plain socket
under the connection, where there is one: received straight into blocks, sent straight from them.
Over TLS, for chunked bodies and for small ones the library's own stream is used. Such a connection
is not used again after its body was taken over.
"""

import asyncio
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from typing import Any, Self

import aiohttp

TAKE_OVER_FROM = 4 * 2**20
"""Bytes of a body from which giving up the connection costs less than the copies."""

_WAKE_AT = 2**20
"""Bytes in the kernel's buffer worth waking up for."""

_SPLICE_WAKE_AT = 2**18

_SENDFILE_STEP = 4 * 2**20
_PIPE_SIZE = 2**20
_SPLICE_FLAGS = getattr(os, "SPLICE_F_MOVE", 0) | getattr(os, "SPLICE_F_NONBLOCK", 0)


class PlainSocket:
    """A second descriptor of the socket under a transport, non-blocking; ours to close."""

    def __init__(self, inner: socket.socket) -> None:
        self._socket = inner
        self._loop = asyncio.get_running_loop()

    @classmethod
    def under(cls, transport: asyncio.BaseTransport | None) -> Self | None:
        """None where the connection is closed, encrypted or no TCP connection."""
        if transport is None or transport.get_extra_info("sslcontext") is not None:
            return None
        inner = transport.get_extra_info("socket")
        if inner is None or inner.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        copy = socket.socket(fileno=os.dup(inner.fileno()))
        copy.setblocking(False)
        return cls(copy)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    async def receive_into(self, block: memoryview, timeout: float) -> int:
        """Some bytes, at least one; 0 when the peer has ended. TimeoutError, OSError."""
        while True:
            try:
                return self._socket.recv_into(block)
            except BlockingIOError:
                self._socket.setsockopt(
                    socket.SOL_SOCKET, socket.SO_RCVLOWAT, min(len(block), _WAKE_AT)
                )
                try:
                    await self.wait_for_readable(timeout)
                except TimeoutError:
                    # a trickle stays below the low-water mark, but it is a sign of life
                    try:
                        return self._socket.recv_into(block)
                    except BlockingIOError:
                        raise TimeoutError("the peer sent nothing") from None

    async def send(self, block: memoryview, timeout: float) -> None:
        """All of ``block``; it may be reused afterwards. TimeoutError when the peer takes
        nothing for so long, OSError when it is gone."""
        at = 0
        while at < len(block):
            try:
                at += self._socket.send(block[at:])
            except BlockingIOError:
                await self.wait_for_writable(timeout)

    async def send_file(self, fd: int, offset: int, count: int, timeout: float) -> None:
        """``count`` bytes of a regular file from ``offset`` on, without passing through here.
        EOFError: the file is shorter."""
        stop = offset + count
        while offset < stop:
            try:
                # reading from a disk may block, so it is not done on the loop
                sent = await _to_its_end(
                    os.sendfile, self.fileno(), fd, offset, min(stop - offset, _SENDFILE_STEP)
                )
            except BlockingIOError:
                await self.wait_for_writable(timeout)
                continue
            if sent == 0:
                raise EOFError("the file ended early")
            offset += sent

    async def splice_from(self, fd: int, count: int, timeout: float) -> None:
        """``count`` bytes of another socket, through a pipe that never leaves the kernel.
        EOFError: the other socket ended, or gave nothing for ``timeout``."""
        out, into = os.pipe2(os.O_NONBLOCK)
        try:
            fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
            wake_at, silent = 1, False
            while count > 0:
                try:
                    moved = os.splice(fd, into, min(count, _PIPE_SIZE), flags=_SPLICE_FLAGS)
                except BlockingIOError:
                    if silent:
                        raise EOFError("the source gave nothing") from None
                    if wake_at != min(count, _SPLICE_WAKE_AT):
                        wake_at = min(count, _SPLICE_WAKE_AT)
                        _wake_at(fd, wake_at)
                    try:
                        await self._wait(fd, timeout, write=False)
                    except TimeoutError:
                        silent = True  # unless a trickle stayed below the low-water mark
                    continue
                silent = False
                if moved == 0:
                    raise EOFError("the source ended early")
                count -= moved
                await asyncio.sleep(0)  # both ends may always be ready: the others have their turn
                while moved:
                    try:
                        moved -= os.splice(out, self.fileno(), moved, flags=_SPLICE_FLAGS)
                    except BlockingIOError:
                        await self.wait_for_writable(timeout)
        finally:
            os.close(out)
            os.close(into)

    async def wait_for_readable(self, timeout: float) -> None:
        await self._wait(self.fileno(), timeout, write=False)

    async def wait_for_writable(self, timeout: float) -> None:
        await self._wait(self.fileno(), timeout, write=True)

    async def _wait(self, fd: int, timeout: float, *, write: bool) -> None:
        ready = self._loop.create_future()
        if write:
            self._loop.add_writer(fd, _resolve, ready)
        else:
            self._loop.add_reader(fd, _resolve, ready)
        try:
            async with asyncio.timeout(timeout):
                await ready
        finally:
            if write:
                self._loop.remove_writer(fd)
            else:
                self._loop.remove_reader(fd)


class BodyReader:
    """A message's body, read into memory of ours. ``length`` is what its framing says (bytes;
    None: chunked, or until the end of the connection)."""

    def __init__(
        self,
        content: aiohttp.StreamReader,
        transport: asyncio.Transport | None,
        length: int | None,
        *,
        timeout: float,
    ) -> None:
        self._content = content
        self._transport = transport
        self._left = length
        self._timeout = timeout
        self._chunk = memoryview(b"")
        self._plain: PlainSocket | None = None
        self._begun = False

    @property
    def taken_over(self) -> bool:
        """True: the connection cannot carry another message."""
        return self._plain is not None

    def take_over(self) -> tuple[PlainSocket, bytes] | None:
        """The plain socket and the bytes that had arrived before, where taking over pays."""
        self._begun = True
        if self._left is None or self._left < TAKE_OVER_FROM or self._transport is None:
            return None
        self._plain = PlainSocket.under(self._transport)
        if self._plain is None:
            return None
        # nothing can arrive between these lines: no await
        early = bytearray()
        while chunk := self._content.read_nowait():
            early += chunk
        self._transport.pause_reading()
        self._left -= len(early)
        return self._plain, bytes(early)

    async def readinto(self, block: memoryview) -> int:
        """Some bytes, at least one; 0 only at the regular end. TimeoutError, ConnectionError,
        aiohttp.ClientError or ValueError (bad framing): the body broke off."""
        if not self._begun:
            taken = self.take_over()
            if taken is not None:
                self._chunk = memoryview(taken[1])
        if not self._chunk and self._plain is not None:
            return await self._receive(self._plain, block)
        if not self._chunk:
            async with asyncio.timeout(self._timeout):
                self._chunk = memoryview(await self._content.readany())
            if self._left is not None:
                self._left -= len(self._chunk)
                if not self._chunk and self._left > 0:
                    raise ConnectionResetError("the body ended early")
        count = min(len(block), len(self._chunk))
        block[:count] = self._chunk[:count]
        self._chunk = self._chunk[count:]
        return count

    async def _receive(self, plain: PlainSocket, block: memoryview) -> int:
        assert self._left is not None
        if self._left == 0:
            return 0
        count = await plain.receive_into(block[: self._left], self._timeout)
        if count == 0:
            raise ConnectionResetError("the connection ended within the body")
        self._left -= count
        return count

    def close(self) -> None:
        """Let go of the socket; a connection that was taken over must then be closed, too."""
        if self._plain is not None:
            self._plain.close()

    def hand_back(self) -> None:
        """Let go of the socket, and give what is left of the body back to the connection, which
        reads and drops it while the answer goes out."""
        self.close()
        if self._plain is None:
            return
        if self._left == 0:
            self._content.feed_eof()
        elif self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


def reset(transport: asyncio.Transport) -> None:
    """Close a connection at once; what the kernel still holds for the peer is dropped, as soon as
    no other descriptor of the socket is open."""
    inner = transport.get_extra_info("socket")
    if inner is not None and inner.fileno() >= 0:
        with socket.socket(fileno=os.dup(inner.fileno())) as copy:
            copy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _to_its_end(call: Callable[..., int], *arguments: int) -> int:
    """Call in a thread; when cancelled, return after it all the same: its descriptors must not be
    closed under it, since their numbers may then be another connection's."""
    calling = asyncio.get_running_loop().run_in_executor(None, call, *arguments)
    try:
        return await asyncio.shield(calling)
    except asyncio.CancelledError:
        await asyncio.wait([calling])
        raise


def _wake_at(fd: int, count: int) -> None:
    """Call a socket readable only when so many bytes have come (or its end)."""
    with socket.socket(fileno=os.dup(fd)) as copy:
        copy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)


def _resolve(ready: "asyncio.Future[Any]") -> None:
    if not ready.done():
        ready.set_result(None)
