"""What the model drives: a gateway that can be killed at any moment, its store, and a source.

The gateway is forked from a process that has imported it already, so that a crash costs
milliseconds and many of them can be tried. Its listening socket outlives it, as a supervisor's
does: requests that come meanwhile wait for the next one. What it waits for is left out where that
proves nothing: the pauses between two tries, and the disk under the catalog (who is killed loses
nothing of what the kernel has).
"""

import asyncio
import json
import multiprocessing
import os
import signal
import socket
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import uuid4
from xml.etree import ElementTree

import stamina
import uvloop
from tests.e2e.bucket import Bucket
from tests.kit.proxy import FaultProxy
from tests.kit.tokens import issue
from tests.model.source import Source

from tidegate.app import run_worker
from tidegate.catalog.engine import Clock
from tidegate.children import die_with_parent
from tidegate.jobs import reaper
from tidegate.seaweedfs import SeaweedFS
from tidegate.services import removals
from tidegate.settings import Settings
from tidegate.telemetry import configure_logging
from tidegate.transfer import fetching

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


@dataclass(frozen=True)
class Stored:
    size: int
    etag: str


class World:
    """Everything that lives longer than one run of the model."""

    def __init__(self, storage: SeaweedFS, folder: Path) -> None:
        self._storage = storage
        self._folder = folder
        self._stack = ExitStack()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tidegate.app", "uvloop", "tests.model.machine"])
        self._process: Any = None
        self._connection: HTTPConnection | None = None
        self.touched = True
        """Whether it was asked for anything but to show something, or killed; who looked at what
        came of it says False."""

    def __enter__(self) -> Self:
        enter = self._stack.enter_context
        memory = Path("/dev/shm")
        name = enter(tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else self._folder))
        self._catalog = Path(name) / "tidegate.db"
        self.bucket = enter(Bucket(self._storage))
        self._looking = HTTPConnection("127.0.0.1", self._storage.port, timeout=60)
        self._stack.callback(self._looking.close)
        self._objects = self._signed("list_objects_v2")
        self._multiparts = self._signed("list_multipart_uploads")
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
        self._host = "this boot"
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
            target=_serve,
            args=(self._listener, self._described(), str(log), self._host),
            daemon=True,
        )
        self._process.start()

    def kill(self) -> None:
        self._hang_up()
        self._process.kill()
        self._process.join()

    def restart(self, *, reboot: bool) -> None:
        """Kill it and start another. ``reboot``: as if the machine had died, by whose clock no
        lease of before is valid; else those of the dead one run out."""
        self.touched = True
        self.kill()
        if reboot:
            self._host = uuid4().hex
        self.start()

    def stored(self) -> dict[str, Stored]:
        """The objects in the bucket, by their keys."""
        return {
            _text(entry, "Key"): Stored(int(_text(entry, "Size")), _text(entry, "ETag").strip('"'))
            for entry in self._list(self._objects).iterfind("{*}Contents")
        }

    def unfinished(self) -> list[str]:
        """The keys of multipart uploads that are open there."""
        found = self._list(self._multiparts).iterfind("{*}Upload")
        return [_text(entry, "Key") for entry in found]

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        caller: str = "owner",
    ) -> Reply:
        """The answer; CUT if there was none."""
        self.touched |= method not in ("GET", "HEAD")
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
        self.touched = True
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(head + sent)
        return connection

    def _signed(self, operation: str) -> str:
        """The path of a call that lists the bucket, good for a week."""
        url = self.bucket.client.generate_presigned_url(
            operation, Params={"Bucket": self.bucket.name}, ExpiresIn=7 * 86400
        )
        parts = urlsplit(url)
        return f"{parts.path}?{parts.query}"

    def _list(self, path: str) -> ElementTree.Element:
        self._looking.request("GET", path)
        response = self._looking.getresponse()
        body = response.read()
        assert response.status == 200, body
        found = ElementTree.fromstring(body)
        assert _text(found, "IsTruncated") == "false"
        return found

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _described(self) -> dict[str, Any]:
        storage = self._storage
        return {
            "catalog": {"url": f"sqlite:///{self._catalog}"},
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


def _text(element: ElementTree.Element, name: str) -> str:
    return element.findtext(f"{{*}}{name}") or ""


def _serve(listener: socket.socket, tree: dict[str, Any], log: str, host: str) -> None:
    die_with_parent()
    stamina.set_testing(True, attempts=tree["stores"][0]["attempts"])  # no pauses
    fetching.PAUSE = 0.001
    removals.RETRY_FIRST = 0.02
    reaper.LOOK_AT_MOST_EVERY = 0.4
    Clock.of_this_host = classmethod(lambda cls: cls(host))  # type: ignore[method-assign, assignment]
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 2)
    configure_logging()
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    async def serve() -> None:
        started, stopping = asyncio.Event(), asyncio.Event()
        await run_worker(Settings.model_validate(tree), listener, started, stopping)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
