"""HTTP to any Image API at a price that does not disturb the measurement.

Blocking sockets, one a connection. Data to send never enters this process, data that comes is
counted and dropped by the kernel.
"""

import json
import mmap
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from tidegate.bench.answers import Answer, BenchError, Head, complete
from tidegate.bench.blobs import TIMEOUT, Receiver
from tidegate.bench.payload import Payload

_COUNT_STEP = 2**20
# the kernel drops what is "received" into it, so it costs no memory
_nowhere = memoryview(mmap.mmap(-1, _COUNT_STEP, flags=mmap.MAP_PRIVATE))


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to ask. ``prefix`` is the path before /v1 and /v2."""

    host: str
    port: int
    prefix: str
    token: str

    @classmethod
    def parse(cls, url: str, token: str = "") -> "Target":
        """BenchError: it is no http URL."""
        try:
            parts = urlsplit(url)
            port = parts.port or 80
        except ValueError:
            port = 0
        if not port or parts.scheme != "http" or not parts.hostname or parts.query:
            raise BenchError(f"{url!r} is no URL of a server; write it like http://127.0.0.1:9292")
        if not token.isascii() or not (token.isprintable() or not token):
            raise BenchError("the token cannot be sent in a header")
        return cls(parts.hostname, port, parts.path.rstrip("/"), token)

    def message(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """A whole request with a JSON body or none; other media types by ``headers``."""
        data = b"" if body is None else json.dumps(body).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        return self.head(method, path, {**kind, **(headers or {})}, len(data)) + data

    def head(self, method: str, path: str, headers: Mapping[str, str], length: int) -> bytes:
        lines = [f"{method} {self.prefix}{path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        if self.token:
            lines.append(f"X-Auth-Token: {self.token}")
        if length or method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {length}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def connect(self) -> socket.socket:
        """BenchError: nobody is there."""
        try:
            connection = socket.create_connection((self.host, self.port), TIMEOUT)
        except OSError as error:
            reason = error.strerror or str(error)
            raise BenchError(f"no server answers at {self.host}:{self.port}: {reason}") from error
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # a deadline of the kernel's, since Python's own costs a poll before each call
        connection.settimeout(None)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", TIMEOUT, 0))
        return connection


class Connection:
    """One connection, opened when needed and kept while the other side keeps it.

    BenchError: no answer, a part of one, or none within TIMEOUT."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """A small request with a JSON body or none."""
        connection = self._open()
        connection.sendall(self._target.message(method, path, body, headers))
        return self._answer(connection)

    def upload(self, path: str, payload: Payload, offset: int, size: int) -> Answer:
        """PUT a slice of the payload."""
        kind = {"Content-Type": "application/octet-stream"}
        connection = self._open()
        connection.sendall(self._target.head("PUT", path, kind, size))
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # refused midway: it says why
                payload.send(connection, offset, size)
        except BlockingIOError:
            raise _silent() from None
        return self._answer(connection)

    def download(self, path: str) -> Answer:
        """GET; the body of a success is counted, not kept."""
        connection = self._open()
        connection.sendall(self._target.head("GET", path, {}, 0))
        return self._answer(connection, count_only=True)

    def _open(self) -> socket.socket:
        if self._socket is None:
            self._socket = self._target.connect()
        return self._socket

    def _answer(self, connection: socket.socket, *, count_only: bool = False) -> Answer:
        data = b""
        while (head := Head.parse(data)) is None:
            data += _receive(connection)
        answer: Answer | None
        if count_only and head.status in (200, 206) and head.length is not None:
            _drop(connection, head.length - (len(data) - head.size))
            answer = Answer(head.status, b"", head.length)
        else:
            answer = complete(head, data, ended=False)
            while answer is None:
                more = _receive(connection, may_end=head.length is None)
                data += more
                answer = complete(head, data, ended=not more)
        if head.closes:
            self.close()
        return answer


def _receive(connection: socket.socket, *, may_end: bool = False) -> bytes:
    try:
        data = connection.recv(64 * 2**10)
    except BlockingIOError:
        raise _silent() from None
    except ConnectionResetError:
        data = b""
    if not data and not may_end:
        raise BenchError("the server closed the connection without a whole answer")
    return data


def _drop(connection: socket.socket, left: int) -> None:
    receiving = Receiver(connection, keep=False)
    try:
        while left > 0:
            left -= receiving.receive_into(_nowhere[:left])
        receiving.close()
    except ConnectionResetError as error:
        raise BenchError(f"{left} bytes before the end of the data, {error}") from None


def _silent() -> BenchError:
    return BenchError(f"the server was silent for {TIMEOUT} s")
