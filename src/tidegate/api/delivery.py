"""An image's bytes as an answer: conditions, ranges, and the body itself (RFC 9110 §13, §14).

A body that cannot be sent whole ends in a cut connection, never in a short regular end.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import web

from tidegate import telemetry
from tidegate.api.head import send_head
from tidegate.api.keys import CALLER, PREPARED
from tidegate.domain.errors import Invalid, RangeRefused, StoreError
from tidegate.domain.image import Image
from tidegate.killpoints import kill_point
from tidegate.services.downloads import Downloads
from tidegate.services.watching import Cut
from tidegate.stores.base import Descriptor
from tidegate.telemetry import log
from tidegate.wire import PlainSocket, reset

SEND_TIMEOUT = 60.0
"""Seconds for which a client may take no byte of a download."""

_RANGE = re.compile(r"bytes=(\d{0,30})-(\d{0,30})")
_LEGACY_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\*|\d{1,19})")


async def deliver(
    request: web.Request,
    downloads: Downloads,
    image: Image,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Answer with the image's bytes, which the caller was found to be allowed.

    200, 206 or 304; ``HEAD`` like ``GET`` without the body. RangeRefused, Invalid; StoreError while
    nothing was sent, and what a new request would be told if it is cut before that.
    """
    try:
        async with downloads.watch.over(image, request[CALLER]):
            return await _deliver(request, downloads, image, headers or {})
    except Cut as cut:
        if PREPARED not in request:
            raise cut.reason from None
        log.info("download cut", image=image.id, reason=cut.reason.message)
        if request.transport is not None:
            reset(request.transport)
        return request[PREPARED]


async def _deliver(
    request: web.Request, downloads: Downloads, image: Image, headers: Mapping[str, str]
) -> web.StreamResponse:
    etag = downloads.etag(image)
    answer = _headers(image, etag)
    answer.update(headers)
    if etag is not None and _matches(request.headers.get("If-None-Match"), etag):
        return web.Response(status=304, headers=answer)
    size = await downloads.size(image)
    span = _range(request, size, etag)
    start, stop = span or (0, size)
    response = web.StreamResponse(status=206 if span else 200, headers=answer)
    if span:
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    response.content_length = stop - start
    if request.method == "HEAD":
        await send_head(request, response)
        return response
    async with downloads.near(image, start, stop) as near:
        direct = downloads.direct(image, start, stop, near)
        if direct is not None:
            async with direct as reading:
                descriptor = reading.descriptor if reading.stored.size in (None, size) else None
                if descriptor is not None:
                    await send_head(request, response)
                    async with _cutting(request, image):
                        await _relay(request, descriptor, stop - start)
                    return response
        async with downloads.blocks(image, start, stop, size, near) as blocks:
            await send_head(request, response)
            async with _cutting(request, image):
                await _stream(request, response, blocks)
    return response


@asynccontextmanager
async def _cutting(request: web.Request, image: Image) -> AsyncIterator[None]:
    """Cut the connection when a body that was begun cannot be ended."""
    try:
        yield
    except (StoreError, EOFError) as error:
        log.error("download broke", image=image.id, reason="store", error=str(error))
    except (OSError, TimeoutError) as error:
        log.info("download broke", image=image.id, reason="client_gone", error=str(error))
    else:
        return
    if request.transport is not None:
        request.transport.abort()


async def _stream(
    request: web.Request, response: web.StreamResponse, blocks: AsyncIterator[memoryview]
) -> None:
    plain = await _plain_socket(request)
    try:
        async for block in blocks:
            kill_point("answer_half_sent")
            telemetry.BYTES_OUT.inc(len(block))
            await asyncio.sleep(0)  # both ends may always be ready: the others have their turn
            if plain is not None:
                await plain.send(block, SEND_TIMEOUT)
            else:
                # the transport keeps what it is given; blocks are used again at once
                await asyncio.wait_for(response.write(bytes(block)), SEND_TIMEOUT)
    finally:
        if plain is not None:
            plain.close()


async def _relay(request: web.Request, source: Descriptor, count: int) -> None:
    plain = await _plain_socket(request)
    if plain is None:
        raise EOFError("the connection cannot take a descriptor")
    try:
        if source.offset is not None:
            await plain.send_file(source.fd, source.offset, count, SEND_TIMEOUT)
        else:
            await plain.send(memoryview(source.early), SEND_TIMEOUT)
            await plain.splice_from(source.fd, count - len(source.early), SEND_TIMEOUT)
    finally:
        plain.close()
    telemetry.BYTES_OUT.inc(count)


async def _plain_socket(request: web.Request) -> PlainSocket | None:
    """The client's socket once the head of the answer has left; None: not a plain one."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client has gone")
    transport.set_write_buffer_limits(high=0)  # drained then means: handed to the kernel
    await request.writer.drain()
    transport.set_write_buffer_limits()
    return PlainSocket.under(transport)


def _headers(image: Image, etag: str | None) -> dict[str, str]:
    suffix = image.disk_format or "bin"
    headers = {
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{image.id}.{suffix}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "private, no-cache",
    }
    if etag is not None:
        headers["ETag"] = etag
    if image.checksum is not None:
        headers["Content-MD5"] = image.checksum
    return headers


def _matches(condition: str | None, etag: str) -> bool:
    """If-None-Match uses the weak comparison (RFC 9110 §13.1.2)."""
    if condition is None:
        return False
    tags = (tag.strip().removeprefix("W/") for tag in condition.split(","))
    return any(tag in ("*", etag) for tag in tags)


def _range(request: web.Request, size: int, etag: str | None) -> tuple[int, int] | None:
    """The bytes [start, stop) asked for; None: the whole. RangeRefused; Invalid: several ranges."""
    text = request.headers.get("Range")
    if text is None:
        return _legacy_range(request.headers.get("Content-Range"), size)
    condition = request.headers.get("If-Range")
    if condition is not None and condition.strip() != etag:
        return None
    if "," in text:
        raise Invalid("Several ranges are not supported; ask for one range at a time.")
    match = _RANGE.fullmatch(text.replace(" ", ""))
    if match is None or not (match[1] or match[2]):
        raise RangeRefused("Invalid Range header.", size)
    if not match[1]:
        start, stop = max(0, size - (int(match[2]) or size)), size
    else:
        start = int(match[1])
        stop = min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < start:
            raise RangeRefused("Invalid Range header.", size)
    if start >= size:
        raise RangeRefused(
            "Invalid start position in Range header. Start position MUST be in the inclusive "
            f"range [0, {size - 1}].",
            size,
        )
    return start, stop


def _legacy_range(text: str | None, size: int) -> tuple[int, int] | None:
    """Old clients ask by a ``Content-Range`` request header."""
    if text is None:
        return None
    match = _LEGACY_RANGE.fullmatch(text.strip())
    if match is None or not int(match[1]) <= int(match[2]) < size:
        raise RangeRefused("Invalid Content-Range header.", size)
    return int(match[1]), int(match[2]) + 1
