"""Where the images' bytes come from when they come from elsewhere, as well or badly as told."""

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from uuid import uuid4


@dataclass
class Given:
    """What is at a path. ``breaks`` of its first answers are cut half way; ``status`` replaces the
    answer; ``names_itself``: it has an ETag, by which a reader can go on where it was cut."""

    data: bytes
    status: int = 200
    breaks: int = 0
    names_itself: bool = True
    holds_at: int | None = None
    reached: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    """An answer stops after ``holds_at`` bytes, sets ``reached``, and waits for ``go_on``."""


class Source(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.given: dict[str, Given] = {}
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)

    def give(self, given: Given) -> str:
        """The URL at which it is from now on."""
        path = f"/{uuid4().hex}"
        self.given[path] = given
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def forget(self) -> None:
        """All that was given."""
        for given in self.given.values():
            given.go_on.set()
        self.given.clear()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A gateway that is killed breaks its connections off."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.forget()
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Source

    def do_GET(self) -> None:
        given = self.server.given.get(self.path, Given(b"", status=404))
        if given.status != 200:
            self._head(given.status, 0)
            return
        first, last = 0, len(given.data) - 1
        span = self.headers.get("Range")
        if span:
            first_text, _, last_text = span.removeprefix("bytes=").partition("-")
            first, last = int(first_text), min(int(last_text or last), last)
        more = {"ETag": f'"{len(given.data)}"'} if given.names_itself else {}
        if span:
            more["Content-Range"] = f"bytes {first}-{last}/{len(given.data)}"
        self._head(206 if span else 200, last + 1 - first, more)
        if self.command == "GET":
            with suppress(OSError):
                self._body(given, given.data[first : last + 1])

    do_HEAD = do_GET  # noqa: N815

    def _head(self, status: int, length: int, more: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        for name, value in {**(more or {}), "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, given: Given, body: bytes) -> None:
        if given.breaks > 0:
            given.breaks -= 1
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        at = given.holds_at
        if at is not None and not given.go_on.is_set():
            self.wfile.write(body[:at])
            given.reached.set()
            given.go_on.wait(60)
            body = body[at:]
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None: ...
