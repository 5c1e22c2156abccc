"""A proxy before an S3 server that fails as told: what networks and stores do to a gateway.

It runs in a thread of its own, so that tests may wait in theirs. A request passes whole, then its
answer, unless a fault stands for it; the head passes as it came, since clients sign the ``Host``.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

_XML = '<?xml version="1.0"?>\n<Error><Code>{}</Code><Message>so told</Message></Error>'
_CHUNK = 64 * 1024
_NO_BODY = (204, 304)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to a request. ``done``: the store does it all the same, before the answer is
    replaced; ``lost``: the answer never comes, only the end of the connection. Those with a number
    happen after that share of the body: a reset, a flipped bit, a regular end, or that nothing
    more is taken (``stall_request``) for ``late`` seconds. ``late`` alone: the request goes on to
    the store only then, whether its sender still waits or not. ``rate``: bytes per second at
    which its body is taken."""

    status: int | None = None
    code: str = ""
    error_in_200: str = ""
    done: bool = False
    lost: bool = False
    reset_request: float | None = None
    stall_request: float | None = None
    flip_request: float | None = None
    flip_answer: float | None = None
    truncate_answer: float | None = None
    reset_answer: float | None = None
    late: float = 0.0
    rate: float | None = None


@dataclass
class _Rule:
    operation: str
    fault: Fault
    skip: int
    left: int | None

    def applies(self, operation: str) -> bool:
        if self.operation not in (operation, "everything") or self.left == 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.left = None if self.left is None else self.left - 1
        return True


class FaultProxy:
    """Listens while the context is entered. Operations: put, part, copy, create, complete, abort,
    get, head, delete, list (of objects or of open uploads), bucket, and everything."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 80)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._rules: list[_Rule] = []
        self._seen: list[str] = []
        self._failed: list[str] = []
        self.port = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def on(self, operation: str, fault: Fault, *, nth: int = 1, times: int | None = None) -> None:
        """From the ``nth`` such request on, ``times`` of them (None: all) meet the fault."""
        self._within(lambda: self._rules.append(_Rule(operation, fault, nth - 1, times)))

    def clear(self) -> None:
        """No faults any more, and nothing seen yet."""

        def forget() -> None:
            self._rules.clear()
            self._seen.clear()
            self._failed.clear()

        self._within(forget)

    def seen(self, operation: str) -> int:
        """How many such requests came since the last ``clear``."""
        return self._within(lambda: self._seen.count(operation))

    def failed(self, operation: str) -> int:
        """How many of them met a fault."""
        return self._within(lambda: self._failed.count(operation))

    def down(self) -> None:
        """Refuse connections, and cut those there are."""
        self._run(self._close())

    def up(self) -> None:
        self._run(self._listen())

    def __enter__(self) -> Self:
        self._thread.start()
        self.up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def _within(self, do: Callable[[], T]) -> T:
        async def done() -> T:
            return do()

        return self._run(done())

    async def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # small, so that a body which is not taken is felt by who sends it
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _CHUNK)
        listener.bind(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self._server = await asyncio.start_server(self._accept, sock=listener, limit=_CHUNK)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer. True: the connection goes on."""
        head = await reader.readuntil(b"\r\n\r\n")
        method, path = head.split(b" ", 2)[:2]
        operation = operation_of(method.decode(), path.decode())
        if _header(head, b"x-amz-copy-source") is not None:
            operation = "copy"
        fault = self._fault_for(operation)
        length = int(_header(head, b"content-length") or 0)
        if fault.reset_request is not None:
            await reader.readexactly(int(length * fault.reset_request))
            return _reset(writer)
        body = bytearray()
        if fault.stall_request is not None:
            body += await reader.readexactly(int(length * fault.stall_request))
            await asyncio.sleep(fault.late)
        body += await _body(reader, length - len(body), fault.rate)
        if fault.flip_request is not None and body:
            _flip(body, fault.flip_request)
        if fault.late and fault.stall_request is None:
            await asyncio.sleep(fault.late)
        answer = await self._answer(fault, method, head + body)
        if fault.lost:
            return False
        return await _send(writer, answer, fault)

    def _fault_for(self, operation: str) -> Fault:
        self._seen.append(operation)
        for rule in self._rules:
            if rule.applies(operation):
                self._failed.append(operation)
                return rule.fault
        return Fault()

    async def _answer(self, fault: Fault, method: bytes, request: bytes) -> bytes:
        replaced = fault.status is not None or fault.error_in_200
        real = await self._forward(method, request) if fault.done or not replaced else b""
        if fault.status is not None:
            return _made(fault.status, fault.code or "InternalError", method)
        return _made(200, fault.error_in_200, method) if fault.error_in_200 else real

    async def _forward(self, method: bytes, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*self._target, limit=2**20)
        try:
            writer.write(request)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            if method == b"HEAD" or status in _NO_BODY:
                return head
            if _header(head, b"transfer-encoding") == b"chunked":
                return head + await _chunked(reader)
            length = _header(head, b"content-length")
            return head + (await reader.readexactly(int(length)) if length else b"")
        finally:
            writer.transport.abort()


def operation_of(method: str, path: str) -> str:
    parts = urlsplit(path)
    query = parts.query
    if not parts.path.strip("/").partition("/")[2]:
        return "list" if method == "GET" else "bucket"
    if method == "POST":
        return "create" if query.startswith("uploads") else "complete"
    if method == "PUT":
        return "part" if "partNumber=" in query else "put"
    if method == "DELETE":
        return "abort" if "uploadId=" in query else "delete"
    return method.lower()


def _header(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return None


async def _body(reader: asyncio.StreamReader, length: int, rate: float | None) -> bytearray:
    body = bytearray()
    while len(body) < length:
        step = min(_CHUNK, length - len(body))
        body += await reader.readexactly(step)
        if rate is not None:
            await asyncio.sleep(step / rate)
    return body


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    """A chunked body as it is framed."""
    whole = bytearray()
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        whole += line + await reader.readexactly(size + 2)
        if size == 0:
            return bytes(whole)


async def _send(writer: asyncio.StreamWriter, answer: bytes, fault: Fault) -> bool:
    head, mark, rest = answer.partition(b"\r\n\r\n")
    body = bytearray(rest)
    if fault.flip_answer is not None and body:
        _flip(body, fault.flip_answer)
    cut = fault.truncate_answer if fault.reset_answer is None else fault.reset_answer
    if cut is not None:
        del body[int(len(body) * cut) :]
    writer.write(head + mark + body)
    await writer.drain()
    if fault.reset_answer is not None:
        return _reset(writer)
    if fault.truncate_answer is not None:
        writer.write_eof()
        await writer.drain()
        return False
    return True


def _flip(body: bytearray, at: float) -> None:
    body[min(int(len(body) * at), len(body) - 1)] ^= 1


def _made(status: int, code: str, method: bytes) -> bytes:
    text = b"" if method == b"HEAD" else _XML.format(code).encode()
    head = f"HTTP/1.1 {status} Told\r\nContent-Type: application/xml\r\nContent-Length: {len(text)}"
    return head.encode() + b"\r\n\r\n" + text


def _reset(writer: asyncio.StreamWriter) -> bool:
    inner: socket.socket = writer.get_extra_info("socket")
    inner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False
