"""Bytes at registered http and https locations: read, never written, never removed.

The key of an object is its URL.
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from copy import copy

import aiohttp

from tidegate import telemetry
from tidegate.domain.errors import ObjectChanged, StoreBroke, StoreDown, StoreReadOnly
from tidegate.settings import HttpStore as HttpSettings
from tidegate.stores.base import Can, Descriptor, Limits, Listed, Part, Stored, Unfinished, Writing
from tidegate.stores.fetch import Fetcher
from tidegate.wire import BodyReader

_LIMITS = Limits(min_part=1, max_part=1, max_object=0, parts=0)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/(\d{1,19}|\*)")
_BROKEN = (aiohttp.ClientError, TimeoutError, OSError, ValueError)


class HttpStore:
    def __init__(self, settings: HttpSettings, fetcher: Fetcher) -> None:
        self.id = settings.id
        self.can = Can(write=False, multipart=False, unfinished=False)
        self.limits = _LIMITS
        self._timeout = settings.timeout
        self._fetcher = fetcher
        self._secret: Mapping[str, str] = {}

    def with_secret(self, headers: Mapping[str, str]) -> "HttpStore":
        """The same store, for who has to say who asks."""
        other = copy(self)
        other._secret = headers
        return other

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def ping(self) -> None: ...

    def url(self, key: str) -> str:
        return key

    def check(self, key: str) -> None:
        """What can be said of a URL without a connection. LocationRefused."""
        self._fetcher.check(key)

    async def put(self, key: str, part: Part) -> Stored:
        raise StoreReadOnly(self.id, "it takes no data")

    async def begin(self, key: str) -> Writing:
        raise StoreReadOnly(self.id, "it takes no data")

    async def look(self, key: str) -> Stored:
        try:
            async with self._fetcher.request(self.id, "HEAD", key, secret=self._secret) as response:
                return _stored(response)
        except StoreDown:  # some sources answer GET only
            headers = {"Range": "bytes=0-0"}
            async with self._fetcher.request(
                self.id, "GET", key, headers, self._secret
            ) as response:
                return _stored(response)

    @asynccontextmanager
    async def read(
        self, key: str, start: int = 0, stop: int | None = None, *, etag: str | None = None
    ) -> AsyncIterator["_HttpReading"]:
        headers = {}
        if start or stop is not None:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        async with self._fetcher.request(self.id, "GET", key, headers, self._secret) as response:
            stored = _stored(response)
            if etag is not None and stored.etag != etag:
                raise ObjectChanged(self.id, "the source changed meanwhile")
            telemetry.STORE_CALLS.labels(self.id, "read", "ok").inc()
            reading = _HttpReading(self.id, response, stored, self._timeout)
            try:
                await reading.go_to(start, stop)
                yield reading
            finally:
                reading.body.close()
                # what was not read is not waited for
                response.close()

    async def delete(self, key: str) -> None:
        """Not ours: never removed."""

    async def abort(self, key: str, upload_id: str) -> None: ...

    async def unfinished(self, prefix: str = "") -> AsyncIterator[Unfinished]:
        return
        yield

    async def keys(self, prefix: str = "") -> AsyncIterator[Listed]:
        return
        yield


class _HttpReading:
    descriptor: Descriptor | None = None

    def __init__(
        self, store: str, response: aiohttp.ClientResponse, stored: Stored, timeout: float
    ) -> None:
        self._store = store
        self._partial = response.headers.get("Content-Range") if response.status == 206 else None
        self._left: int | None = None
        self.stored = stored
        length = response.headers.get("Content-Length", "")
        connection = response.connection
        self.body = BodyReader(
            response.content,
            None if connection is None else connection.transport,
            int(length) if length.isdigit() else None,
            timeout=timeout,
        )

    async def go_to(self, start: int, stop: int | None) -> None:
        """Come to the first byte asked for, also where the source knows no ranges."""
        self._left = None if stop is None else stop - start
        if self._partial is None:
            scrap = memoryview(bytearray(64 * 1024))
            while start > 0:
                count = await self._read(scrap[:start])
                if count == 0:
                    raise StoreBroke(self._store, "the object ended early")
                start -= count
            return
        match = _CONTENT_RANGE.fullmatch(self._partial)
        if match is None or int(match[1]) != start:
            raise StoreBroke(self._store, "the source answered with another range")

    async def readinto(self, block: memoryview) -> int:
        if self._left is not None:
            block = block[: self._left]
        if not block:
            return 0
        count = await self._read(block)
        if self._left is not None:
            self._left -= count
        return count

    async def _read(self, block: memoryview) -> int:
        try:
            return await self.body.readinto(block)
        except _BROKEN as error:
            raise StoreBroke(
                self._store, f"the connection broke: {type(error).__name__}"
            ) from error


def _stored(response: aiohttp.ClientResponse) -> Stored:
    if response.status == 206:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        size = int(match[2]) if match is not None and match[2].isdigit() else None
    else:
        length = response.headers.get("Content-Length", "")
        size = int(length) if length.isdigit() else None
    etag = response.headers.get("ETag")
    strong = etag if etag and not etag.startswith("W/") else None
    return Stored(size, strong, last_modified=response.headers.get("Last-Modified"))
