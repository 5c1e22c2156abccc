"""A place that takes what is sent to it by PUT."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web


@dataclass
class Target:
    """Keeps whole bodies under their paths (``keep``; else nothing of them). ``answers`` are the
    statuses of the next requests, each given after its body was read (0: the connection is cut
    ``after`` so many bytes instead); those after the last are 201. ``early``: answer before the
    body was read. ``pause`` is awaited once ``after`` bytes were read; ``requests`` are their
    methods, paths and headers, ``received`` the bytes of each so far."""

    answers: list[int] = field(default_factory=list)
    after: int = 0
    early: bool = False
    location: str = ""
    pause: asyncio.Event | None = None
    paused: asyncio.Event = field(default_factory=asyncio.Event)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    keep: bool = True
    scheme: str = "http"
    port: int = 0

    @property
    def url(self) -> str:
        """Below which everything is taken."""
        return f"{self.scheme}://127.0.0.1:{self.port}/images/"

    async def take(self, request: web.Request) -> web.Response:
        status = self.answers.pop(0) if self.answers else 201
        number = len(self.received)
        self.received.append(0)
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.method, request.raw_path, headers))
        self.came.set()
        found, length = bytearray(), 0
        while not self.early and (data := await self._some(request)):
            found += data if self.keep else b""
            self.received[number] = length = length + len(data)
            if status == 0 and length >= self.after:
                break
            if self.pause is not None and length >= self.after:
                self.paused.set()
                await self.pause.wait()
        if status == 0:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if not self.early and length != request.content_length:
            return web.Response(status=400)
        if 200 <= status < 300:
            self.files[request.path] = bytes(found)
        return web.Response(status=status, headers={"Location": self.location or "/elsewhere"})

    async def _some(self, request: web.Request) -> bytes:
        try:
            return await request.content.readany()
        except ConnectionError:
            return b""


@asynccontextmanager
async def taking(
    target: Target | None = None, *, port: int = 0, certificate: Path | None = None
) -> AsyncIterator[Target]:
    """``certificate``: with its key; it speaks TLS then."""
    target, tls = target or Target(), None
    if certificate is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
        target.scheme = "https"
    app = web.Application(client_max_size=2**40)
    app.router.add_route("*", "/{path:.*}", target.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True, ssl_context=tls)
    await site.start()
    target.port = runner.addresses[0][1]
    try:
        yield target
    finally:
        await runner.cleanup()
