"""A server elsewhere, whose bytes are copied, and that fails as told."""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

_RANGE = re.compile(r"bytes=(\d+)-")


@dataclass
class Origin:
    """Gives ``data`` under every path. Each entry of ``breaks`` is for one GET: it is cut after so
    many bytes of its body (None: not); those after the last are whole. ``pause`` is awaited after
    ``pause_at`` bytes of a body; ``seen`` are the requests' methods and ``Range`` headers."""

    data: bytes
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    length: int | None = None  # what it says instead of the truth
    most: int | None = None  # bytes it gives at a time, as a range that nobody asked for
    chunked: bool = False
    status: int = 200
    redirect: str | None = None
    breaks: list[int | None] = field(default_factory=list)
    pause: asyncio.Event | None = None
    pause_at: int = 0
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    paused: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/image.raw"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method = head.split(" ", 1)[0]
        asked = re.search(r"(?im)^range: (.*?)\r$", head)
        self.seen.append((method, asked[1] if asked else None))
        self.came.set()
        if self.status != 200 or self.redirect is not None:
            status = self.status if self.redirect is None else 302
            target = "" if self.redirect is None else f"Location: {self.redirect}\r\n"
            writer.write(f"HTTP/1.1 {status} X\r\n{target}Content-Length: 0\r\n\r\n".encode())
            await writer.drain()
            return
        start, stop = 0, None
        match = _RANGE.match(asked[1]) if asked and self.ranges else None
        if match is not None:
            start = int(match[1])
        total = len(self.data) if self.length is None else self.length
        if self.most is not None:
            stop = min(total, start + self.most)
        partial = match is not None or stop is not None
        lines = ["HTTP/1.1 206 X" if partial else "HTTP/1.1 200 X", "Connection: close"]
        lines.append("Transfer-Encoding: chunked" if self.chunked
                     else f"Content-Length: {(stop or total) - start}")  # fmt: skip
        if partial:
            lines.append(f"Content-Range: bytes {start}-{(stop or total) - 1}/{total}")
        if self.etag is not None:
            lines.append(f"ETag: {self.etag}")
        if self.modified is not None:
            lines.append(f"Last-Modified: {self.modified}")
        writer.write("\r\n".join([*lines, "", ""]).encode())
        if method == "GET":
            await self._body(writer, self.data[start:stop])
        await writer.drain()

    async def _body(self, writer: asyncio.StreamWriter, body: bytes) -> None:
        cut = self.breaks.pop(0) if self.breaks else None
        if self.pause is not None:
            await self._send(writer, body[: self.pause_at])
            self.paused.set()
            await self.pause.wait()
            body = body[self.pause_at :]
        await self._send(writer, body[:cut])
        if cut is None and self.chunked:
            writer.write(b"0\r\n\r\n")

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        for at in range(0, len(data), 2**16):
            piece = data[at : at + 2**16]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self.chunked else piece)
            await writer.drain()


@dataclass
class Service(Origin):
    """Another image service: one image, and who asked for it."""

    record: dict[str, Any] = field(default_factory=dict)
    data_at: str | None = None  # where its data is, if not here

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ", 2)[1]
        token = re.search(r"(?im)^x-auth-token: (.*?)\r$", head)
        self.seen.append((path, token[1] if token else None))
        if self.data_at is not None and path.endswith("/file"):
            writer.write(b"HTTP/1.1 302 X\r\nConnection: close\r\nContent-Length: 0\r\n"
                         b"Location: %b\r\n\r\n" % self.data_at.encode())  # fmt: skip
            return
        body = self.data if path.endswith("/file") else json.dumps(self.record).encode()
        writer.write(b"HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
                     % (len(body), body))  # fmt: skip
        await writer.drain()

    def describe(self, image_id: str) -> dict[str, Any]:
        """A record of an image that is what the data is."""
        return {
            "id": image_id, "status": "active", "size": len(self.data), "disk_format": "raw",
            "container_format": "bare", "checksum": hashlib.md5(self.data).hexdigest(),
            "os_hash_algo": "sha512", "os_hash_value": hashlib.sha512(self.data).hexdigest(),
            "hw_disk_bus": "scsi", "os_distro": "debian",
        }  # fmt: skip


@asynccontextmanager
async def serving(
    data: bytes, *, kind: type[Origin] = Origin, **options: Any
) -> AsyncIterator[Origin]:
    origin = kind(data, **options)
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await origin.answer(reader, writer)
        except asyncio.CancelledError:
            pass
        finally:
            connections.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", origin.port)
    origin.port = server.sockets[0].getsockname()[1]
    try:
        yield origin
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await server.wait_closed()
