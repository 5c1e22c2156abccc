"""Objects in any S3-compatible store.

Control calls go through aiobotocore; the bytes of parts and objects go through a plain HTTP client
with the same signature (AWS Signature Version 4, UNSIGNED-PAYLOAD) and a checksum header that the
store verifies: hashing every part with SHA-256 for the signature costs more than all else we do.
This module is the one retry loop around S3: the libraries' own are off.
"""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

import aiohttp
import botocore.exceptions
import stamina
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from awscrt.checksums import crc32c
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from yarl import URL

from tidegate import telemetry
from tidegate.domain.errors import (
    BadPart,
    ObjectChanged,
    ObjectMissing,
    StoreBroke,
    StoreDown,
    StoreError,
    StoreFull,
    StoreReadOnly,
)
from tidegate.killpoints import kill_point
from tidegate.settings import S3Store as S3Settings
from tidegate.stores.base import Can, Descriptor, Limits, Part, Stored, Unfinished
from tidegate.wire import BodyReader

T = TypeVar("T")

MIB = 2**20
_LIMITS = Limits(min_part=5 * MIB, max_part=5 * 1024 * MIB, max_object=5 * 2**40)
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""

_MISSING = {"404", "NoSuchKey", "NotFound"}
_FULL = {"507", "QuotaExceeded", "EntityTooLarge", "XMinioStorageFull", "StorageFull"}
_CORRUPT = {"BadDigest", "XAmzContentChecksumMismatch", "InvalidDigest", "IncompleteBody"}
_REFUSED = {
    "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken",
    "RequestTimeTooSkewed", "NoSuchBucket",
}  # fmt: skip
_NETWORK = (
    aiohttp.ClientError,
    TimeoutError,
    ConnectionError,
    botocore.exceptions.HTTPClientError,
    botocore.exceptions.EndpointConnectionError,
    botocore.exceptions.ConnectionError,
)


class _Again(Exception):
    """A failure after which the same call may succeed; ``error`` is what to raise if it never
    does."""

    def __init__(self, error: StoreError) -> None:
        self.error = error


class _UnsignedPayload(S3SigV4Auth):  # type: ignore[misc]
    def payload(self, request: AWSRequest) -> str:
        return "UNSIGNED-PAYLOAD"


class S3Store:
    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self.id = settings.id
        self.limits = _LIMITS
        self.can = Can(
            part_checksum=None if settings.part_checksum == "none" else settings.part_checksum,
            zero_copy=settings.endpoint.startswith("http://"),
        )
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._credentials: Any = None
        self._http: aiohttp.ClientSession | None = None
        self._base = ""

    async def open(self) -> None:
        """Connect and see the bucket; make it if ``create_bucket``. StoreDown in one line."""
        settings = self._settings
        secret = settings.secret_key.get_secret_value()
        if settings.secret_key_file is not None:
            try:
                secret = settings.secret_key_file.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise StoreDown(self.id, f"cannot read secret_key_file: {error}") from error
        session = get_session()
        if settings.access_key:
            session.set_credentials(settings.access_key, secret)
        self._credentials = await session.get_credentials()
        if self._credentials is None:
            raise StoreDown(self.id, "no credentials: set access_key and secret_key")
        self._client = await self._stack.enter_async_context(
            session.create_client(
                "s3",
                endpoint_url=settings.endpoint or None,
                region_name=settings.region,
                config=AioConfig(
                    signature_version="s3v4",
                    s3={"addressing_style": settings.addressing},
                    connect_timeout=settings.connect_timeout,
                    read_timeout=settings.timeout,
                    retries={"total_max_attempts": 1, "mode": "standard"},
                    max_pool_connections=64,
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )
        )
        self._http = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=settings.connect_timeout, sock_read=settings.timeout
                ),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type"),
            )
        )
        self._base = self._base_url()
        await self._see_bucket()

    async def close(self) -> None:
        await self._stack.aclose()

    async def ping(self) -> None:
        await self._call("head_bucket", attempts=1)

    def url(self, key: str) -> str:
        return f"s3://{self._settings.bucket}/{self._settings.prefix}{key}"

    # bytes in

    async def put(self, key: str, part: Part) -> Stored:
        kill_point("before_complete")
        headers = await self._send("put", key, part, {})
        kill_point("after_complete")
        return Stored(part.size, headers.get("ETag"), part.crc64nvme)

    async def begin(self, key: str) -> "_S3Writing":
        algorithm: dict[str, str] = {}
        if self.can.part_checksum in ("crc64nvme", "crc32c"):
            algorithm = {
                "ChecksumAlgorithm": self.can.part_checksum.upper(),
                "ChecksumType": "FULL_OBJECT",
            }
        # never repeated here: a lost answer would leave a second upload open
        answer = await self._call("create_multipart_upload", key, attempts=1, **algorithm)
        return _S3Writing(self, key, answer["UploadId"])

    async def abort(self, key: str, upload_id: str) -> None:
        with suppress(ObjectMissing):
            await self._call("abort_multipart_upload", key, UploadId=upload_id)

    # bytes out

    async def look(self, key: str) -> Stored:
        answer = await self._call("head_object", key, ChecksumMode="ENABLED")
        crc = answer.get("ChecksumCRC64NVME")
        return Stored(
            answer["ContentLength"],
            answer.get("ETag"),
            int.from_bytes(base64.b64decode(crc), "big") if crc else None,
        )

    @asynccontextmanager
    async def read(
        self, key: str, start: int = 0, stop: int | None = None, *, etag: str | None = None
    ) -> AsyncIterator["_S3Reading"]:
        headers = {}
        if start or stop is not None:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        if etag is not None:
            headers["If-Match"] = etag
        url, signed = await self._sign("GET", key, {}, headers)
        assert self._http is not None
        try:
            async with self._http.get(url, headers=signed) as response:
                if response.status not in (200, 206):
                    raise await self._refusal(response)
                if response.status == 200 and start:
                    raise StoreBroke(self.id, "it does not serve ranges")
                telemetry.STORE_CALLS.labels(self.id, "read", "ok").inc()
                reading = _S3Reading(self, response)
                try:
                    yield reading
                finally:
                    reading.body.close()
                    if reading.body.taken_over:
                        response.close()
        except _Again as again:
            raise again.error from again
        except _NETWORK as error:
            telemetry.STORE_CALLS.labels(self.id, "read", "failed").inc()
            raise StoreBroke(self.id, f"the connection broke: {_words(error)}") from error

    async def delete(self, key: str) -> None:
        with suppress(ObjectMissing):
            await self._call("delete_object", key)

    async def unfinished(self, prefix: str = "") -> AsyncIterator[Unfinished]:
        marks: dict[str, Any] = {}
        while True:
            page = await self._call(
                "list_multipart_uploads", Prefix=self._settings.prefix + prefix, **marks
            )
            for entry in page.get("Uploads", ()):
                yield Unfinished(
                    entry["Key"].removeprefix(self._settings.prefix),
                    entry["UploadId"],
                    entry["Initiated"].timestamp(),
                )
            if not page.get("IsTruncated"):
                return
            marks = {
                "KeyMarker": page["NextKeyMarker"],
                "UploadIdMarker": page["NextUploadIdMarker"],
            }

    async def keys(self, prefix: str = "") -> AsyncIterator[tuple[str, int]]:
        token: dict[str, Any] = {}
        while True:
            page = await self._call(
                "list_objects_v2", Prefix=self._settings.prefix + prefix, **token
            )
            for entry in page.get("Contents", ()):
                yield entry["Key"].removeprefix(self._settings.prefix), entry["Size"]
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    # what the rest stands on

    async def _see_bucket(self) -> None:
        bucket = self._settings.bucket
        try:
            await self._call("head_bucket", attempts=2)
        except ObjectMissing:
            if not self._settings.create_bucket:
                raise StoreDown(
                    self.id, f"the bucket {bucket!r} does not exist; make it, or set create_bucket"
                ) from None
            where: dict[str, Any] = {}
            if self._settings.region != "us-east-1":
                where = {"CreateBucketConfiguration": {"LocationConstraint": self._settings.region}}
            await self._call("create_bucket", attempts=2, **where)

    async def _call(
        self, operation: str, key: str | None = None, *, attempts: int | None = None, **more: Any
    ) -> dict[str, Any]:
        """One control call, repeated while that may help."""
        parameters = {"Bucket": self._settings.bucket, **more}
        if key is not None:
            parameters["Key"] = self._settings.prefix + key

        async def once() -> dict[str, Any]:
            try:
                answer: dict[str, Any] = await getattr(self._client, operation)(**parameters)
            except botocore.exceptions.ClientError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
                raise self._judge(
                    status, error.response.get("Error", {}).get("Code", "")
                ) from error
            except _NETWORK as error:
                raise _Again(StoreDown(self.id, f"no answer: {_words(error)}")) from error
            except (botocore.exceptions.BotoCoreError, ValueError) as error:
                raise StoreDown(self.id, f"cannot be used: {_words(error)}") from error
            return answer

        return await self._insist(operation, once, attempts)

    async def _send(
        self, call: str, key: str, part: Part, query: Mapping[str, str]
    ) -> Mapping[str, str]:
        """PUT the bytes of a part, again while that may help; the answer's headers."""
        checksum = await self._checksum(part)

        async def once() -> Mapping[str, str]:
            url, headers = await self._sign("PUT", key, query, checksum)
            headers["Content-Length"] = str(part.size)
            assert self._http is not None
            try:
                async with self._http.put(url, data=_chunks(part), headers=headers) as response:
                    if response.status == 200:
                        return response.headers
                    raise await self._refusal(response)
            except _NETWORK as error:
                raise _Again(
                    StoreBroke(self.id, f"the connection broke: {_words(error)}")
                ) from error

        return await self._insist(call, once, None)

    async def _insist(self, call: str, once: Callable[[], Awaitable[T]], attempts: int | None) -> T:
        try:
            async for attempt in stamina.retry_context(
                on=_Again,
                attempts=attempts or self._settings.attempts,
                timeout=None,
                wait_initial=0.1,
                wait_max=3.0,
                wait_jitter=0.2,
            ):
                with attempt:
                    answer = await once()
        except _Again as again:
            telemetry.STORE_CALLS.labels(self.id, call, "failed").inc()
            raise again.error from again
        except StoreError:
            telemetry.STORE_CALLS.labels(self.id, call, "failed").inc()
            raise
        telemetry.STORE_CALLS.labels(self.id, call, "ok").inc()
        return answer

    async def _checksum(self, part: Part) -> dict[str, str]:
        match self.can.part_checksum:
            case "crc64nvme":
                return {"x-amz-checksum-crc64nvme": _encoded(part.crc64nvme, 8)}
            case "crc32c":
                crc = 0
                for block in part.blocks:
                    crc = crc32c(block, crc)
                return {"x-amz-checksum-crc32c": _encoded(crc, 4)}
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

    def _base_url(self) -> str:
        endpoint = self._client.meta.endpoint_url.rstrip("/")
        if self._settings.addressing == "path":
            return f"{endpoint}/{self._settings.bucket}"
        parts = urlsplit(endpoint)
        return f"{parts.scheme}://{self._settings.bucket}.{parts.netloc}{parts.path}"

    async def _refusal(self, response: aiohttp.ClientResponse) -> Exception:
        body = await response.content.read(65536)
        code = ""
        if b"<!DOCTYPE" not in body and b"<!ENTITY" not in body:
            with suppress(ElementTree.ParseError):
                code = ElementTree.fromstring(body).findtext("{*}Code") or ""  # noqa: S314
        return self._judge(response.status, code)

    def _judge(self, status: int, code: str) -> Exception:
        """What a refusal means; an ``_Again`` where the same call may succeed later."""
        said = f"it answered {status} {code}".rstrip()
        if code in _CORRUPT:
            return _Again(BadPart(self.id, f"other bytes arrived than were sent ({said})"))
        if status == 507 or code in _FULL:
            return StoreFull(self.id, f"no room ({said})")
        if code in _MISSING or (status == 404 and code not in ("NoSuchBucket", "NoSuchUpload")):
            return ObjectMissing(self.id, "no such object")
        if code == "NoSuchUpload":
            return ObjectMissing(self.id, "no such upload")
        if status == 412 or code == "PreconditionFailed":
            return ObjectChanged(self.id, "the object is not the one that was written")
        if status == 405:
            return StoreReadOnly(self.id, f"it takes no data ({said})")
        if status == 403 or code in _REFUSED:
            hint = "; check the clocks" if code == "RequestTimeTooSkewed" else ""
            return StoreDown(self.id, f"it refused our credentials or bucket ({said}){hint}")
        if status >= 500 or status in (408, 429) or code in ("SlowDown", "RequestTimeout"):
            return _Again(StoreDown(self.id, said))
        return StoreBroke(self.id, said)


class _S3Writing:
    """A multipart upload; keeps its own list of ETags, since ListParts may show a part twice."""

    def __init__(self, store: S3Store, key: str, upload_id: str) -> None:
        self._store = store
        self._key = key
        self.upload_id = upload_id
        self._parts: dict[int, dict[str, Any]] = {}

    async def put_part(self, part: Part) -> None:
        query = {"partNumber": str(part.number), "uploadId": self.upload_id}
        try:
            headers = await self._store._send("put_part", self._key, part, query)
        except ObjectMissing as error:
            raise StoreBroke(self._store.id, "it no longer knows the upload") from error
        entry: dict[str, Any] = {"PartNumber": part.number, "ETag": headers["ETag"]}
        if self._store.can.part_checksum == "crc64nvme":
            entry["ChecksumCRC64NVME"] = _encoded(part.crc64nvme, 8)
        self._parts[part.number] = entry

    async def complete(self, size: int, crc64nvme: int | None) -> Stored:
        kill_point("before_complete")
        parts = [self._parts[number] for number in sorted(self._parts)]
        whole: dict[str, str] = {}
        if self._store.can.part_checksum == "crc64nvme" and crc64nvme is not None:
            whole = {"ChecksumCRC64NVME": _encoded(crc64nvme, 8), "ChecksumType": "FULL_OBJECT"}
        failure: StoreError | None = None
        for attempt in range(self._store._settings.attempts):
            if attempt:
                await asyncio.sleep(min(0.1 * 2**attempt, 3.0))
            try:
                await self._store._call(
                    "complete_multipart_upload",
                    self._key,
                    attempts=1,
                    UploadId=self.upload_id,
                    MultipartUpload={"Parts": parts},
                    **whole,
                )
                failure = None
            except StoreError as error:
                failure = error
            kill_point("after_complete")
            # an error says nothing, and so does a success: look at what is there
            try:
                stored = await self._store.look(self._key)
            except ObjectMissing as error:
                if isinstance(failure, ObjectMissing | StoreBroke | BadPart):
                    break
                failure = failure or StoreBroke(self._store.id, error.message)
                continue
            if stored.size == size and stored.crc64nvme in (None, crc64nvme):
                return stored
            raise StoreBroke(
                self._store.id, f"it made an object of {stored.size} bytes out of {size}"
            )
        assert failure is not None
        if isinstance(failure, ObjectMissing):
            failure = StoreBroke(self._store.id, "it no longer knows the upload")
        raise failure


class _S3Reading:
    def __init__(self, store: S3Store, response: aiohttp.ClientResponse) -> None:
        self._store = store
        headers = response.headers
        length = headers.get("Content-Length", "")
        whole = headers.get("Content-Range", f"/{length}").rpartition("/")[2]
        self.stored = Stored(int(whole) if whole.isdigit() else None, headers.get("ETag"))
        connection = response.connection
        self.body = BodyReader(
            response.content,
            None if connection is None else connection.transport,
            int(length) if length.isdigit() else None,
            timeout=store._settings.timeout,
        )

    @property
    def descriptor(self) -> Descriptor | None:
        taken = self.body.take_over()
        return None if taken is None else Descriptor(taken[0].fileno(), None, taken[1])

    async def readinto(self, block: memoryview) -> int:
        try:
            return await self.body.readinto(block)
        except _NETWORK as error:
            raise StoreBroke(self._store.id, f"the connection broke: {_words(error)}") from error


async def _chunks(part: Part) -> AsyncIterator[memoryview]:
    for block in part.blocks:
        yield block


def _md5(part: Part) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for block in part.blocks:
        digest.update(block)
    return base64.b64encode(digest.digest()).decode()


def _encoded(number: int, width: int) -> str:
    return base64.b64encode(number.to_bytes(width, "big")).decode()


def _words(error: BaseException) -> str:
    """The kind of an error, without addresses or anything a peer wrote."""
    return type(error).__name__
