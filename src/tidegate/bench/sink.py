"""An S3 server in memory, as far as the gateway's S3 store uses one, for nothing but measuring.

It checks no signature and no checksum, and costs so little that what stands before it is what is
measured. Prints its port on standard output and serves until it is ended:

    python -m tidegate.bench.sink --port 0 [--rate 20MB] [--discard]
"""

import argparse
import os
import re
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

from tidegate.bench.blobs import Blob, NoRoom, Pool, Throttle
from tidegate.bench.buckets import Buckets, Refused, Stored
from tidegate.settings import parse_size

MAX_HEAD = 64 * 2**10
THROTTLED_BUFFER = 64 * 2**10
"""Bytes the kernel may take in for a connection ahead of a throttle."""

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


class Connection:
    """One client's requests, one after the other, on a thread of its own."""

    def __init__(self, connection: socket.socket, buckets: Buckets, pool: Pool) -> None:
        self._socket = connection
        self._buckets = buckets
        self._pool = pool
        self._early = b""

    def serve(self) -> None:
        with self._socket, suppress(ConnectionError):
            while (request := self._read_head()) is not None:
                try:
                    self._answer(request)
                except Refused as refused:
                    body = b"" if request.method == "HEAD" else refused.xml()
                    self._send(refused.status, body)
                except NoRoom:
                    self._send(507, Refused(507, "InsufficientStorage").xml(), close=True)
                    return

    def _answer(self, request: Request) -> None:
        blob = self._read_body(request)
        buckets, query = self._buckets, request.query
        upload_id = query.get("uploadId", "")
        where = (request.bucket, request.key)
        crc64nvme = request.headers.get("x-amz-checksum-crc64nvme")
        match request.method, bool(request.key):
            case "PUT", True if upload_id:
                etag = buckets.put_part(*where, upload_id, int(query["partNumber"]), blob)
                self._send(200, etag=etag)
            case "PUT", True:
                self._send(200, etag=buckets.put(*where, blob, crc64nvme).etag)
            case "POST", True if upload_id:
                self._send(200, buckets.complete(*where, upload_id, blob.read(), crc64nvme))
            case "POST", True if "uploads" in query:
                self._send(200, buckets.begin(*where))
            case "DELETE", True if upload_id:
                buckets.abort(*where, upload_id)
                self._send(204)
            case "DELETE", True:
                buckets.delete(*where)
                self._send(204)
            case "GET" | "HEAD", True:
                self._send_object(request, buckets.look(*where))
            case "PUT", False:
                buckets.make(request.bucket)
                self._send(200)
            case "HEAD", False:
                buckets.see(request.bucket)
                self._send(200)
            case "GET", False if "uploads" in query:
                self._send(200, buckets.list_uploads(request.bucket, query.get("prefix", "")))
            case "GET", False:
                self._send(200, buckets.list_objects(request.bucket, query.get("prefix", "")))
            case _:
                raise Refused(501, "NotImplemented")

    def _send_object(self, request: Request, stored: Stored) -> None:
        expected = request.headers.get("if-match")
        if expected is not None and expected.strip('"') != stored.etag:
            raise Refused(412, "PreconditionFailed")
        span = _span(request.headers.get("range"), stored.size)
        start, stop = span or (0, stored.size)
        more = "Accept-Ranges: bytes\r\nLast-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
        if span is not None:
            more += f"Content-Range: bytes {start}-{stop - 1}/{stored.size}\r\n"
        if stored.crc64nvme is not None and "x-amz-checksum-mode" in request.headers:
            more += f"x-amz-checksum-crc64nvme: {stored.crc64nvme}\r\n"
            more += "x-amz-checksum-type: FULL_OBJECT\r\n"
        self._send(200 if span is None else 206, etag=stored.etag, more=more, length=stop - start)
        if request.method == "GET":
            offset = 0
            for blob in stored.blobs:
                first, last = max(start - offset, 0), min(stop - offset, blob.size)
                blob.send(self._socket, first, last)
                offset += blob.size

    def _read_head(self) -> Request | None:
        """None: the client has gone."""
        data = self._early
        while (end := data.find(b"\r\n\r\n")) < 0:
            more = self._socket.recv(MAX_HEAD)
            if not more or len(data) > MAX_HEAD:
                return None
            data += more
        self._early = data[end + 4 :]
        first, *lines = data[:end].decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        path, _, query = target.partition("?")
        bucket, _, key = unquote(path).lstrip("/").partition("/")
        return Request(method, bucket, key, dict(parse_qsl(query, keep_blank_values=True)), headers)

    def _read_body(self, request: Request) -> Blob:
        """All of it, also of a request that is going to be refused."""
        headers = request.headers
        if headers.get("expect", "").lower() == "100-continue":
            self._socket.sendall(_CONTINUE)
        keeps = request.method == "POST" or not self._pool.discard
        blob = Blob(self._pool, keep=keeps)
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int(self._read_line().partition(b";")[0], 16):
                self._read_into(blob, size)
                self._read_line()
            while self._read_line():
                pass
        else:
            self._read_into(blob, int(headers.get("content-length", "0")))
        return blob

    def _read_into(self, blob: Blob, count: int) -> None:
        early, self._early = self._early[:count], self._early[count:]
        blob.append(early)
        blob.receive(self._socket, count - len(early))

    def _read_line(self) -> bytes:
        while b"\r\n" not in self._early:
            more = self._socket.recv(4096)
            if not more:
                raise ConnectionResetError("the body ended early")
            self._early += more
        line, _, self._early = self._early.partition(b"\r\n")
        return line

    def _send(
        self,
        status: int,
        body: bytes = b"",
        *,
        etag: str | None = None,
        more: str = "",
        length: int | None = None,
        close: bool = False,
    ) -> None:
        """A head, with a body or for one of ``length`` bytes that follows."""
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{more}"
        if etag is not None:
            head += f'ETag: "{etag}"\r\n'
        if body:
            head += "Content-Type: application/xml\r\n"
        if close:
            head += "Connection: close\r\n"
        if status != 204:
            head += f"Content-Length: {len(body) if length is None else length}\r\n"
        self._socket.sendall(f"{head}\r\n".encode() + body)


def _span(text: str | None, size: int) -> tuple[int, int] | None:
    """The bytes [start, stop) asked for; None: the whole."""
    match = _RANGE.fullmatch(text or "")
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return max(0, size - int(match[2])), size
    start, stop = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
    if start >= stop:
        raise Refused(416, "InvalidRange")
    return start, stop


def serve(listener: socket.socket, buckets: Buckets, pool: Pool) -> None:
    """Until the listener is closed."""
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            serving = Connection(connection, buckets, pool)
            threading.Thread(target=serving.serve, daemon=True).start()


def listen(port: int, *, throttled: bool) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if throttled:  # connections inherit it; otherwise megabytes pass before anybody waits
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, THROTTLED_BUFFER)
    listener.bind(("127.0.0.1", port))
    listener.listen(1024)
    return listener


def _size(text: str) -> int:
    size = parse_size(text.removesuffix("/s"))
    if not isinstance(size, int) or size <= 0:
        raise ValueError(text)
    return size


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tidegate.bench.sink", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--rate", type=_size, help="bytes per second, of all connections together")
    keeping = parser.add_mutually_exclusive_group()
    keeping.add_argument("--keep", action="store_true", help="keep the bytes (the default)")
    keeping.add_argument("--discard", action="store_true", help="keep nothing but sizes")
    arguments = parser.parse_args()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    throttle = None if arguments.rate is None else Throttle(arguments.rate)
    pool = Pool(memory // 2, discard=arguments.discard, throttle=throttle)
    try:
        listener = listen(arguments.port, throttled=throttle is not None)
    except OSError as error:
        parser.exit(1, f"cannot listen on port {arguments.port}: {error.strerror}\n")
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    with suppress(KeyboardInterrupt):
        serve(listener, Buckets(), pool)
    return 0


if __name__ == "__main__":
    sys.exit(main())
