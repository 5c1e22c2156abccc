"""The HTTP server itself: what happens before a request reaches the application, and beside it."""

import asyncio
import re
import socket
import time
from typing import Any

from aiohttp import web
from aiohttp.hdrs import EXPECT, HOST
from aiohttp.http import HttpProcessingError, HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from tidegate.api.errors import render
from tidegate.api.head import finish_head
from tidegate.api.journal import JOURNAL, Journal
from tidegate.api.keys import REFUSED, REQUEST_ID, RUNNING
from tidegate.api.middleware import frame, name_request
from tidegate.api.routes import add_routes
from tidegate.api.v2.discovery import ACCEPTED
from tidegate.telemetry import log

READ_BUFFER = 256 * 1024
KEEP_ALIVE = 75.0
BACKLOG = 1024

LINGER = 2.0
"""Seconds for which a refused body is still read, so that its sender sees the answer."""

CLOSE_WITHIN = 1.0
"""Seconds for connections to close once nothing runs on them."""

_CONTINUE = "100-continue"
_MINOR = re.compile(r"/((v[12])\.[0-9]{1,2})(?=/|$)")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(:[0-9]{1,5})?")
_PLAIN = ("/v2/", "/v1/")
_SLASHES = re.compile(r"//+")
_VENDOR = re.compile(r"application/vnd\.openstack\.images-((v[12])(\.[0-9]{1,2})?)$")


def make_application() -> web.Application:
    """Routes and frame; what they work on is set by ``app.py``."""
    app = web.Application(middlewares=[frame])
    app[RUNNING] = set()
    app[JOURNAL] = Journal()
    add_routes(app)
    return app


class HttpServer:
    """Serves an application on a socket that listens already."""

    def __init__(self, app: web.Application, *, drain_timeout: float) -> None:
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_WITHIN)
        self._running = app[RUNNING]
        self._journal = app[JOURNAL]
        self._drain_timeout = drain_timeout
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        make_request = server.request_factory

        def canonical(message: RawRequestMessage, *rest: Any) -> web.BaseRequest:
            refused = _refuse(message)
            if refused is not None:
                # an ``Expect`` would be answered by aiohttp before the frame is asked
                headers = CIMultiDict(message.headers)
                headers.popall(EXPECT, None)
                message = message._replace(
                    version=HttpVersion11, should_close=True, headers=CIMultiDictProxy(headers)
                )
            request = make_request(_canonical(message), *rest)
            if refused is not None:
                request[REFUSED] = refused
            return request

        server.request_factory = canonical
        loop = asyncio.get_running_loop()

        options: dict[str, Any] = {
            "access_log": None,  # the frame writes one line a request
            "auto_decompress": False,
            "keepalive_timeout": KEEP_ALIVE,
            "lingering_time": LINGER,
            "read_bufsize": READ_BUFFER,
        }

        def connection() -> web.RequestHandler:
            return _Connection(server, loop=loop, **options)

        self._server = await loop.create_server(connection, sock=listener, backlog=BACKLOG)

    async def stop(self) -> None:
        """Take no connection more; let running requests end within ``drain_timeout``, then
        cancel them, also those whose client has gone."""
        if self._server is not None:
            self._server.close()
        # aiohttp's own draining stops reading at once, and so starves running uploads
        deadline = time.monotonic() + self._drain_timeout
        while self._running and (left := deadline - time.monotonic()) > 0:
            await asyncio.wait(self._running, timeout=left)
        late = set(self._running)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        await self._runner.cleanup()
        self._journal.write()


class _Connection(web.RequestHandler):
    """Answers in our form also what cannot be parsed, without repeating any of it."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # aiohttp takes bad framing within a body for a next, unreadable request, and lets the
        # one that is being read wait for ever
        running = self._current_request
        if running is None or running.content.is_eof() or not self._messages:
            return
        error = getattr(self._messages[-1][0], "exc", None)
        if isinstance(error, HttpProcessingError):
            self._messages.pop()
            running.content.set_exception(error)
            self.close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer was sent already")
        name_request(request)
        text = "The request cannot be read as HTTP/1.1." if status < 500 else "The server failed."
        if (too_long := _too_long(exc)) is not None:
            status, text = too_long
        log.info("request refused", status=status, request_id=request[REQUEST_ID],
                 error=type(exc).__name__)  # fmt: skip
        response = render(request, status, text)
        finish_head(request, response)
        response.force_close()
        return response


def _too_long(error: BaseException | None) -> tuple[int, str] | None:
    """Status and message, where it is that."""
    if isinstance(error, LineTooLong):
        # aiohttp's parser collects the target, and nothing else, in a bytearray
        if isinstance(error.args[0], bytearray):
            return 414, "The request's target is too long."
        return 431, "A header of the request is too long."
    if isinstance(error, HttpProcessingError) and error.message == "Too many headers received":
        return 431, "The request has too many headers."
    return None


def _refuse(message: RawRequestMessage) -> tuple[int, str] | None:
    """Status and message for what aiohttp would serve, and what could mean another thing to a
    server before us (RFC 9112 §2.3, §3.2, §6.1)."""
    if message.version not in (HttpVersion11, HttpVersion10):
        return 505, "The server speaks HTTP/1.1."
    if message.chunked and message.version == HttpVersion10:
        return 400, "HTTP/1.0 has no chunked bodies."
    if not message.path.startswith(("/", "*")):
        return 400, "The request's target must be a path."
    # what stands for a request that cannot be parsed has an empty dict
    hosts = message.headers.getall(HOST, ()) if message.headers else ()
    if len(hosts) > 1 or (not hosts and message.version == HttpVersion11):
        return 400, "The request must have one Host header."
    if hosts and not _HOST.fullmatch(hosts[0]):
        return 400, "The Host header must be a name or an address, and perhaps a port."
    if message.headers and message.headers.get(EXPECT, _CONTINUE).lower() != _CONTINUE:
        return 417, "The server knows of no expectation but 100-continue."
    return None


def _canonical(message: RawRequestMessage) -> RawRequestMessage:
    """Minor versions and doubled slashes mean nothing; a version may stand in ``Accept``."""
    if message.path.startswith(_PLAIN) and "//" not in message.path:
        return message
    path, query_mark, query = message.path.partition("?")
    plain = _SLASHES.sub("/", path)
    minor = _MINOR.match(plain)
    if minor is not None and minor[1] in ACCEPTED:
        plain = f"/{minor[2]}{plain[minor.end() :]}"
    accept = message.headers.get("Accept", "")
    vendor = _VENDOR.match(accept) if accept.startswith("application/vnd.") else None
    if vendor is not None and vendor[1] in ACCEPTED and not plain.startswith(("/v1", "/v2")):
        plain = f"/{vendor[2]}{plain}"
    if plain == path:
        return message
    whole = f"{plain}{query_mark}{query}"
    return message._replace(path=whole, url=URL.build(path=plain, query_string=query, encoded=True))
