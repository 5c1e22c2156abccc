"""A request's body as a source, with its own deadlines; blame is fixed here.

Whatever breaks while the body is read is the client's doing: ClientGone, or ClientStalled when
nothing, or next to nothing, came for too long. aiohttp itself has no deadline for a body.
"""

import base64
import re
import time
from collections.abc import Mapping

import aiohttp
import aiohttp.http_exceptions
from aiohttp import web
from multidict import MultiMapping

from tidegate.api.keys import LAST
from tidegate.domain.errors import ClientGone, ClientStalled, Invalid, Unsupported
from tidegate.domain.expected import Expected
from tidegate.wire import BodyReader

MIN_RATE = 1024
"""Bytes per second, averaged over ``idle_timeout``, below which a client is cut off."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# RFC 9530 §5; names of the IANA registry "Hash Algorithms for HTTP Digest Fields"
_DIGESTS = {"md5": "md5", "sha": "sha1", "sha-256": "sha256", "sha-512": "sha512"}
_FIELD = re.compile(r"\s*([a-z0-9-]+)=:([A-Za-z0-9+/=]*):\s*")
_BROKEN = (
    OSError,
    ValueError,
    aiohttp.ClientError,
    aiohttp.http_exceptions.HttpProcessingError,
    web.RequestPayloadError,
)
_HEX_MD5 = re.compile(r"[0-9a-fA-F]{32}")


async def continue_later(request: web.Request) -> None:
    """``expect_handler`` of data routes: ``100 Continue`` is sent when the body is first read,
    after all that can be refused without it was refused."""


def is_data(request: web.Request) -> bool:
    """Whether the client says that it sends image data. (The library takes a type that it cannot
    read for just that.)"""
    kind = request.headers.get("Content-Type", "").partition(";")[0]
    return kind.strip().lower() == "application/octet-stream"


class Body:
    """A request's body, from the socket. ``length`` is its framing's (None: chunked)."""

    def __init__(self, request: web.Request, idle_timeout: float) -> None:
        self._request = request
        self._idle = idle_timeout
        self._reader = BodyReader(
            request.content, request.transport, request.content_length, timeout=idle_timeout
        )
        self._expects = request.headers.get("Expect", "").lower() == "100-continue"
        self._waited = 0.0
        self._came = 0

    async def readinto(self, block: memoryview) -> int:
        if self._expects:
            self._expects = False
            if self._request.transport is not None:
                self._request.transport.write(_CONTINUE)
        begun = time.monotonic()
        try:
            count = await self._reader.readinto(block)
        except TimeoutError:
            raise ClientStalled(
                f"The client sent nothing for {self._idle:g} s; the upload was given up."
            ) from None
        except _BROKEN as error:
            raise ClientGone("The client broke off before it had sent all of the data.") from error
        self._judge_rate(count, time.monotonic() - begun)
        return count

    def close(self) -> None:
        self._reader.hand_back()
        self._request[LAST] = self._reader.taken_over

    def _judge_rate(self, count: int, seconds: float) -> None:
        # only time spent waiting for the client counts, never for our memory or the store
        self._came += count
        self._waited += seconds
        if self._waited >= self._idle:
            if self._came < MIN_RATE * self._idle and count:
                raise ClientStalled(
                    f"The client sent less than {MIN_RATE} bytes per second; "
                    "the upload was given up."
                )
            self._came, self._waited = 0, 0.0


def expected(request: web.Request) -> Expected:
    """What the request's headers say of its body.

    ``x-openstack-image-size`` (bytes), ``Content-MD5`` (RFC 1864: base64; hex is understood),
    ``Repr-Digest`` and ``Content-Digest`` (RFC 9530). Invalid: not readable, or an algorithm
    that we cannot compute, since a digest nobody checks must not look checked. Unsupported: a
    content coding, since bytes are kept as they are sent.
    """
    headers = request.headers
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Unsupported("Image data must be sent as it is, without a Content-Encoding.")
    digests: dict[str, str] = {}
    for name in ("Repr-Digest", "Content-Digest"):
        for value in headers.getall(name, ()):
            _add(digests, _digest_field(name, value))
    for value in headers.getall("Content-MD5", ()):
        _add(digests, {"md5": _content_md5(value)})
    return Expected(length=request.content_length, size=_size(headers), digests=digests)


def _size(headers: MultiMapping[str]) -> int | None:
    given = set(headers.getall("x-openstack-image-size", ()))
    if not given:
        return None
    text = given.pop()
    if given or not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Invalid("Invalid or missing image size in request headers.")
    return int(text)


def _content_md5(text: str) -> str:
    if _HEX_MD5.fullmatch(text):
        return text.lower()
    return _base64("Content-MD5", text, 16)


def _digest_field(name: str, value: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in value.split(","):
        match = _FIELD.fullmatch(item)
        if match is None:
            raise Invalid(f"{name} cannot be read; write it like sha-512=:BASE64:")
        algorithm = _DIGESTS.get(match[1])
        if algorithm is None:
            raise Invalid(
                f"{name}: the algorithm {match[1]} is not known here; "
                f"known are {', '.join(_DIGESTS)}."
            )
        width = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64}[algorithm]
        _add(found, {algorithm: _base64(name, match[2], width)})
    return found


def _base64(name: str, text: str, width: int) -> str:
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError:
        raise Invalid(f"{name} is not base64.") from None
    if len(value) != width:
        raise Invalid(f"{name} must hold {width} bytes, not {len(value)}.")
    return value.hex()


def _add(digests: dict[str, str], more: Mapping[str, str]) -> None:
    for algorithm, value in more.items():
        if digests.setdefault(algorithm, value) != value:
            raise Invalid(f"Two different {algorithm} digests were sent.")
