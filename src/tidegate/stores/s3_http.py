"""The bytes of parts and objects, by HTTP with S3's signature; and what an S3 server's refusals
mean.

Bytes are sent with AWS Signature Version 4 and UNSIGNED-PAYLOAD, and a checksum header that the
store verifies: hashing every part with SHA-256 for the signature costs more than all else we do.
``insist`` is the one retry loop around S3.
"""

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import quote
from xml.etree import ElementTree

import aiohttp
import botocore.exceptions
import stamina
from awscrt.checksums import crc32c
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from yarl import URL

from tidegate import telemetry
from tidegate.domain.errors import (
    BadPart,
    CallMissing,
    ObjectChanged,
    ObjectMissing,
    StoreBroke,
    StoreDown,
    StoreError,
    StoreFull,
    StoreReadOnly,
    UploadMissing,
)
from tidegate.settings import S3Store as S3Settings
from tidegate.stores.base import Descriptor, Part, Stored
from tidegate.wire import BodyReader

T = TypeVar("T")

NETWORK = (
    aiohttp.ClientError,
    TimeoutError,
    ConnectionError,
    botocore.exceptions.HTTPClientError,
    botocore.exceptions.EndpointConnectionError,
    botocore.exceptions.ConnectionError,
)
"""What the two clients raise when there is no answer, or only part of one."""

_MISSING = {"404", "NoSuchKey", "NotFound"}
_FULL = {"507", "QuotaExceeded", "EntityTooLarge", "XMinioStorageFull", "StorageFull"}
_CORRUPT = {"BadDigest", "XAmzContentChecksumMismatch", "InvalidDigest", "IncompleteBody"}
_REFUSED = {
    "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken",
    "RequestTimeTooSkewed", "NoSuchBucket",
}  # fmt: skip


class Again(Exception):
    """A failure after which the same call may succeed; ``error`` is what to raise if it never
    does."""

    def __init__(self, error: StoreError) -> None:
        self.error = error


async def insist(store: str, call: str, once: Callable[[], Awaitable[T]], attempts: int) -> T:
    """``once()``, repeated while it raises ``Again``, at most ``attempts`` times."""
    try:
        async for attempt in stamina.retry_context(
            on=Again,
            attempts=attempts,
            timeout=None,
            wait_initial=0.1,
            wait_max=3.0,
            wait_jitter=0.2,
        ):
            with attempt:
                answer = await once()
    except Again as again:
        telemetry.STORE_CALLS.labels(store, call, "failed").inc()
        raise again.error from again
    except StoreError:
        telemetry.STORE_CALLS.labels(store, call, "failed").inc()
        raise
    telemetry.STORE_CALLS.labels(store, call, "ok").inc()
    return answer


def judge(store: str, status: int, code: str) -> Exception:
    """What a refusal means; an ``Again`` where the same call may succeed later.

    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """
    said = f"it answered {status} {code}".rstrip()
    if code in _CORRUPT:
        return Again(BadPart(store, f"other bytes arrived than were sent ({said})"))
    if status == 507 or code in _FULL:
        return StoreFull(store, f"no room ({said})")
    if code in _MISSING or (status == 404 and code not in ("NoSuchBucket", "NoSuchUpload")):
        return ObjectMissing(store, "no such object")
    if code == "NoSuchUpload":
        return UploadMissing(store, "no such upload")
    if status == 412 or code == "PreconditionFailed":
        return ObjectChanged(store, "the object is not the one that was written")
    if status == 405:
        return StoreReadOnly(store, f"it takes no data ({said})")
    if status == 403 or code in _REFUSED:
        hint = "; check the clocks" if code == "RequestTimeTooSkewed" else ""
        return StoreDown(store, f"it refused our credentials or bucket ({said}){hint}")
    if status == 501 or code == "NotImplemented":
        return CallMissing(store, said)
    if status >= 500 or status in (408, 429) or code in ("SlowDown", "RequestTimeout"):
        return Again(StoreDown(store, said))
    return StoreBroke(store, said)


def encoded(number: int, width: int) -> str:
    """A checksum of ``width`` bytes as S3's headers have it."""
    return base64.b64encode(number.to_bytes(width, "big")).decode()


def words(error: BaseException) -> str:
    """The kind of an error, without addresses or anything a peer wrote."""
    if isinstance(error, aiohttp.ClientSSLError | botocore.exceptions.SSLError):
        return "its certificate is of no known authority, or TLS failed"
    if isinstance(
        error, aiohttp.ClientConnectorError | botocore.exceptions.EndpointConnectionError
    ):
        return "nobody accepts connections at its endpoint"
    if isinstance(error, TimeoutError | botocore.exceptions.ReadTimeoutError):
        return "it took too long"
    return type(error).__name__


class _UnsignedPayload(S3SigV4Auth):  # type: ignore[misc]
    def payload(self, request: AWSRequest) -> str:
        return "UNSIGNED-PAYLOAD"


class S3Http:
    """Puts and gets the bytes of one bucket. ``base`` is the bucket's URL, ``credentials``
    botocore's; ``trusted`` says whose certificates are."""

    def __init__(
        self, settings: S3Settings, base: str, credentials: Any, trusted: ssl.SSLContext
    ) -> None:
        self._settings = settings
        self._store = settings.id
        self._base = base
        self._credentials = credentials
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30, ssl=trusted),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=settings.connect_timeout, sock_read=settings.timeout
            ),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type"),
        )

    async def close(self) -> None:
        await self._session.close()

    async def put(
        self, call: str, key: str, part: Part, query: Mapping[str, str]
    ) -> Mapping[str, str]:
        """PUT the bytes of a part, again while that may help; the answer's headers."""
        checksum = await self._checksum(part)

        async def once() -> Mapping[str, str]:
            url, headers = await self._sign("PUT", key, query, checksum)
            headers["Content-Length"] = str(part.size)
            try:
                async with (
                    asyncio.timeout(self._settings.timeout) as deadline,
                    self._session.put(
                        url,
                        data=_chunks(part, deadline, self._settings.timeout),
                        headers=headers,
                    ) as response,
                ):
                    if response.status != 200:
                        raise await self._refusal(response)
                    if "ETag" in response.headers:
                        return response.headers
                    # a 200 of somebody in between, or with an error in its body
                    raise Again(StoreBroke(self._store, "its answer is none of an S3 server's"))
            except NETWORK as error:
                raise Again(
                    StoreBroke(self._store, f"the connection broke: {words(error)}")
                ) from error

        return await insist(self._store, call, once, self._settings.attempts)

    @asynccontextmanager
    async def get(
        self, key: str, start: int, stop: int | None, etag: str | None
    ) -> AsyncIterator["S3Reading"]:
        headers = {}
        if start or stop is not None:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        if etag is not None:
            headers["If-Match"] = etag
        url, signed = await self._sign("GET", key, {}, headers)
        try:
            async with self._session.get(url, headers=signed) as response:
                if response.status not in (200, 206):
                    raise await self._refusal(response)
                if response.status == 200 and start:
                    raise StoreBroke(self._store, "it does not serve ranges")
                telemetry.STORE_CALLS.labels(self._store, "read", "ok").inc()
                reading = S3Reading(self._settings, response)
                try:
                    yield reading
                finally:
                    reading.body.close()
                    if reading.body.taken_over:
                        response.close()
        except Again as again:
            raise again.error from again
        except NETWORK as error:
            telemetry.STORE_CALLS.labels(self._store, "read", "failed").inc()
            if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
                raise StoreDown(self._store, f"no answer: {words(error)}") from error
            raise StoreBroke(self._store, f"the connection broke: {words(error)}") from error

    async def _checksum(self, part: Part) -> dict[str, str]:
        match self._settings.part_checksum:
            case "crc64nvme":
                return {"x-amz-checksum-crc64nvme": encoded(part.crc64nvme, 8)}
            case "crc32c":
                crc = 0
                for block in part.blocks:
                    crc = crc32c(block, crc)
                return {"x-amz-checksum-crc32c": encoded(crc, 4)}
            case "md5":
                return {"Content-MD5": await asyncio.to_thread(_md5, part)}
        return {}

    async def _sign(
        self, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[URL, dict[str, str]]:
        path = quote(self._settings.prefix + key, safe="/~")
        url = f"{self._base}/{path}"
        if query:
            url += "?" + "&".join(f"{k}={quote(v, safe='~')}" for k, v in sorted(query.items()))
        request = AWSRequest(method=method, url=url, headers=dict(headers))
        credentials = await self._credentials.get_frozen_credentials()
        _UnsignedPayload(credentials, "s3", self._settings.region).add_auth(request)
        return URL(url, encoded=True), dict(request.headers.items())

    async def _refusal(self, response: aiohttp.ClientResponse) -> Exception:
        body = await response.content.read(65536)
        code = ""
        if b"<!DOCTYPE" not in body and b"<!ENTITY" not in body:
            with suppress(ElementTree.ParseError):
                code = ElementTree.fromstring(body).findtext("{*}Code") or ""  # noqa: S314
        return judge(self._store, response.status, code)


class S3Reading:
    def __init__(self, settings: S3Settings, response: aiohttp.ClientResponse) -> None:
        self._store = settings.id
        headers = response.headers
        length = headers.get("Content-Length", "")
        whole = headers.get("Content-Range", f"/{length}").rpartition("/")[2]
        self.stored = Stored(int(whole) if whole.isdigit() else None, headers.get("ETag"))
        connection = response.connection
        self.body = BodyReader(
            response.content,
            None if connection is None else connection.transport,
            int(length) if length.isdigit() else None,
            timeout=settings.timeout,
        )

    @property
    def descriptor(self) -> Descriptor | None:
        taken = self.body.take_over()
        return None if taken is None else Descriptor(taken[0].fileno(), None, taken[1])

    async def readinto(self, block: memoryview) -> int:
        try:
            return await self.body.readinto(block)
        except NETWORK as error:
            raise StoreBroke(self._store, f"the connection broke: {words(error)}") from error


async def _chunks(
    part: Part, deadline: asyncio.Timeout, seconds: float
) -> AsyncIterator[memoryview]:
    """The blocks; each one that the store took puts the deadline off, since the HTTP client has
    none for a peer that takes nothing."""
    loop = asyncio.get_running_loop()
    for block in part.blocks:
        yield block
        deadline.reschedule(loop.time() + seconds)


def _md5(part: Part) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for block in part.blocks:
        digest.update(block)
    return base64.b64encode(digest.digest()).decode()
