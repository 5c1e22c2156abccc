"""What the model drives: a gateway that can be killed at any moment, its store, and a source.

The gateway is forked from a process that has imported it already, so that a crash costs
milliseconds and many of them can be tried. Its listening socket outlives it, as a supervisor's
does: requests that come meanwhile wait for the next one.
"""

import asyncio
import json
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvloop
from tests.e2e.bucket import Bucket
from tests.kit.proxy import FaultProxy
from tests.kit.tokens import issue

from tidegate.app import run_worker
from tidegate.children import die_with_parent
from tidegate.seaweedfs import SeaweedFS
from tidegate.settings import Settings
from tidegate.telemetry import configure_logging

LEASE = 1.0
SETTLED_WITHIN = LEASE + 10
"""Seconds after a crash within which each image is in a final state."""

DATA = "application/octet-stream"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


CUT = Reply(0, {}, b"")
"""Of a request whose connection ended without a whole answer."""


class World:
    """Everything that lives longer than one run of the model."""

    def __init__(self, storage: SeaweedFS, folder: Path) -> None:
        self._storage = storage
        self._folder = folder
        self._stack = ExitStack()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tidegate.app", "uvloop", "tests.model.world"])
        self._process: Any = None
        self._connection: HTTPConnection | None = None

    def __enter__(self) -> Self:
        enter = self._stack.enter_context
        self.bucket = enter(Bucket(self._storage))
        self.proxy = enter(FaultProxy(self._storage.endpoint))
        self.source = enter(Source())
        tokens = self._folder / "tokens.toml"
        self.callers = {
            "owner": issue(tokens, "owner", "p1", "member"),
            "admin": issue(tokens, "admin", "p9", "admin"),
            "stranger": issue(tokens, "stranger", "p2", "member"),
        }
        """The headers of each."""
        self._listener = enter(socket.create_server(("127.0.0.1", 0), backlog=256))
        self.port: int = self._listener.getsockname()[1]
        self._stack.callback(self.kill)
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def start(self) -> None:
        log = self._folder / "server.log"
        self._process = self._context.Process(
            target=_serve, args=(self._listener, self._described(), str(log)), daemon=True
        )
        self._process.start()

    def kill(self) -> None:
        """As when its machine dies."""
        self._hang_up()
        self._process.kill()
        self._process.join()

    def restart(self) -> None:
        self.kill()
        self.start()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        caller: str = "owner",
    ) -> Reply:
        """The answer; CUT if there was none."""
        if self._connection is None:
            self._connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            self._connection.request(
                method, path, body, {**(headers or {}), **self.callers[caller]}
            )
            response = self._connection.getresponse()
            reply = Reply(response.status, dict(response.headers), response.read())
        except (OSError, HTTPException):
            self._hang_up()
            return CUT
        if response.will_close:
            self._hang_up()
        return reply

    def open_upload(self, head: bytes, sent: bytes) -> socket.socket:
        """A connection on which a request was begun, with these bytes of its body."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(head + sent)
        return connection

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _described(self) -> dict[str, Any]:
        storage = self._storage
        return {
            "catalog": {"url": f"sqlite:///{self._folder / 'tidegate.db'}"},
            "auth": {"mode": "tokens", "tokens_file": str(self._folder / "tokens.toml")},
            "uploads": {
                "lease": LEASE, "part_size": "5MiB", "part_concurrency": 2,
                "memory_budget": "64MiB", "idle_timeout": "20s",
            },
            "locations": {"show": True},
            "fetch": {"allow": ["127.0.0.1"]},
            "stores": [
                {
                    "id": "main", "type": "s3", "endpoint": self.proxy.endpoint,
                    "bucket": self.bucket.name, "access_key": storage.access_key,
                    "secret_key": storage.secret_key, "timeout": "5s", "attempts": 2,
                }
            ],
        }  # fmt: skip


def _serve(listener: socket.socket, tree: dict[str, Any], log: str) -> None:
    die_with_parent()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 2)
    configure_logging()
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    async def serve() -> None:
        started, stopping = asyncio.Event(), asyncio.Event()
        await run_worker(Settings.model_validate(tree), listener, started, stopping)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


class Source(ThreadingHTTPServer):
    """Serves the bytes it was given, by path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.data: dict[str, bytes] = {}
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)

    def give(self, path: str, data: bytes) -> str:
        """The URL of these bytes."""
        self.data[path] = data
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Source

    def do_GET(self) -> None:
        data = self.server.data[self.path]
        first, last = 0, len(data) - 1
        span = self.headers.get("Range")
        if span:
            first_text, _, last_text = span.removeprefix("bytes=").partition("-")
            first, last = int(first_text), min(int(last_text or last), last)
        self.send_response(206 if span else 200)
        if span:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("ETag", f'"{len(data)}"')
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        if self.command == "GET":
            with suppress(OSError):
                self.wfile.write(data[first : last + 1])

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None: ...
