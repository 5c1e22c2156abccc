"""Answers of HTTP/1.1 read out of bytes: only what a measurement needs to know of them."""

import json
import re
from dataclasses import dataclass
from typing import Any

_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[^\r]*close", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)


class BenchError(Exception):
    """What is measured cannot be measured, or does not do what it should; one line."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``body`` is empty where it was counted and dropped; ``size`` is its length."""

    status: int
    body: bytes
    size: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Head:
    """``length`` is the body's (None: chunked, or to the end); ``size`` the head's own."""

    status: int
    size: int
    length: int | None
    chunked: bool
    closes: bool

    @classmethod
    def parse(cls, data: bytes) -> "Head | None":
        """None: there is more to come. BenchError: it is no HTTP."""
        end = data.find(_END)
        if end < 0:
            return None
        head = data[:end]
        if not head.startswith(b"HTTP/1.") or not head[9:12].isdigit():
            raise BenchError("the server does not speak HTTP/1.1")
        status = int(head[9:12])
        found = _LENGTH.search(head)
        length = int(found[1]) if found else 0 if status in (204, 304) else None
        chunked = length is None and _CHUNKED.search(head) is not None
        closes = _CLOSE.search(head) is not None or (length is None and not chunked)
        return cls(status, end + len(_END), length, chunked, closes)


def complete(head: Head, data: bytes, *, ended: bool) -> Answer | None:
    """The answer that begins with ``data``; None: there is more to come. BenchError: cut off."""
    rest = data[head.size :]
    if head.length is not None and len(rest) >= head.length:
        return Answer(head.status, rest[: head.length], head.length)
    body = _joined(rest) if head.chunked else None
    if head.length is None and not head.chunked and ended:
        body = rest
    if body is not None:
        return Answer(head.status, body, len(body))
    if ended:
        raise BenchError(f"the answer was cut after {len(rest)} bytes of its body")
    return None


def _joined(data: bytes) -> bytes | None:
    """The body that these chunks hold; None: the last one is not there yet."""
    body = b""
    while True:
        line, found, data = data.partition(b"\r\n")
        if not found:
            return None
        size = int(line.partition(b";")[0], 16)
        if size == 0:
            return body
        if len(data) < size + 2:
            return None
        body, data = body + data[:size], data[size + 2 :]
