"""Objects in any S3-compatible store.

Control calls go through aiobotocore, bytes through ``s3_http``; the libraries' own retries and
checksums are off.
"""

import asyncio
import base64
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import botocore.exceptions
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from tidegate.domain.errors import (
    BadPart,
    CallMissing,
    NotCopied,
    ObjectMissing,
    StoreBroke,
    StoreDown,
    StoreError,
    StoreReadOnly,
    UploadMissing,
)
from tidegate.killpoints import kill_point
from tidegate.private_files import PrivateFileError, read_private
from tidegate.settings import S3Store as S3Settings
from tidegate.stores.base import Can, Limits, Listed, Part, Stored, Unfinished
from tidegate.stores.s3_http import (
    NETWORK,
    Again,
    S3Http,
    S3Reading,
    encoded,
    insist,
    judge,
    words,
)
from tidegate.telemetry import log

MIB = 2**20
_LIMITS = Limits(min_part=5 * MIB, max_part=5 * 1024 * MIB, max_object=5 * 2**40)
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")

_MD5 = re.compile(r'"?([0-9a-f]{32})"?')
"""An ETag that may be the MD5 of the bytes; with a number of parts it never is."""


class S3Store:
    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self.id = settings.id
        self.limits = replace(_LIMITS, settles=settings.timeout * settings.attempts)
        self.can = Can(
            part_checksum=None if settings.part_checksum == "none" else settings.part_checksum,
            zero_copy=settings.endpoint.startswith("http://"),
            copy=settings.copy_parts,
        )
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._http: S3Http

    async def open(self) -> None:
        """Connect and see the bucket; make it if ``create_bucket``. StoreDown in one line."""
        settings = self._settings
        secret = settings.secret_key.get_secret_value()
        if settings.secret_key_file is not None:
            try:
                secret = read_private(settings.secret_key_file).strip()
            except PrivateFileError as error:
                raise StoreDown(self.id, f"secret_key_file: {error}") from error
        trusted = await asyncio.to_thread(self._trusted)
        url = urlsplit(settings.endpoint)
        if url.scheme == "http" and url.hostname not in _LOOPBACK:
            log.warning("image data goes to the store without TLS", store=self.id)
        session = get_session()
        if settings.access_key:
            session.set_credentials(settings.access_key, secret)
        credentials = await session.get_credentials()
        if credentials is None:
            raise StoreDown(self.id, "no credentials: set access_key and secret_key")
        client = session.create_client(
            "s3",
            endpoint_url=settings.endpoint or None,
            region_name=settings.region,
            verify=None if settings.ca_file is None else str(settings.ca_file),
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
        try:
            self._client = await self._stack.enter_async_context(client)
        except ValueError as error:
            raise StoreDown(
                self.id, "endpoint is no URL; write it like http://host:8333"
            ) from error
        self._http = S3Http(settings, self._base_url(), credentials, trusted)
        self._stack.push_async_callback(self._http.close)
        await self._see_bucket()

    def _trusted(self) -> ssl.SSLContext:
        path = self._settings.ca_file
        try:
            return ssl.create_default_context(cafile=path)
        except OSError as error:
            raise StoreDown(self.id, f"ca_file: cannot use {path}") from error

    async def close(self) -> None:
        await self._stack.aclose()

    async def ping(self) -> None:
        await self._call("head_bucket", attempts=1)

    def url(self, key: str) -> str:
        return f"s3://{self._settings.bucket}/{self._settings.prefix}{key}"

    # bytes in

    async def put(self, key: str, part: Part) -> Stored:
        kill_point("before_complete")
        headers = await self._http.put("put", key, part, {})
        kill_point("after_complete")
        return Stored(part.size, headers.get("ETag"), part.crc64nvme)

    async def begin(self, key: str) -> "_S3Writing":
        algorithm: dict[str, Any] = {}
        if self.can.part_checksum in ("crc64nvme", "crc32c"):
            algorithm = {
                "ChecksumAlgorithm": self.can.part_checksum.upper(),
                "ChecksumType": "FULL_OBJECT",
            }
        # a lost answer leaves an upload open that nobody knows; the janitor sweeps what the store
        # lists under the key beside the one that is written down
        answer = await self._call("create_multipart_upload", key, **algorithm)
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
            answer["LastModified"].timestamp() if "LastModified" in answer else None,
        )

    def read(
        self, key: str, start: int = 0, stop: int | None = None, *, etag: str | None = None
    ) -> AbstractAsyncContextManager[S3Reading]:
        return self._http.get(key, start, stop, etag)

    async def delete(self, key: str) -> None:
        with suppress(ObjectMissing):
            await self._call("delete_object", key)

    async def unfinished(self, prefix: str = "") -> AsyncIterator[Unfinished]:
        marks = {"NextKeyMarker": "KeyMarker", "NextUploadIdMarker": "UploadIdMarker"}
        async for page in self._pages("list_multipart_uploads", prefix, marks):
            for entry in page.get("Uploads", ()):
                yield Unfinished(
                    entry["Key"].removeprefix(self._settings.prefix),
                    entry["UploadId"],
                    entry["Initiated"].timestamp(),
                )

    async def keys(self, prefix: str = "") -> AsyncIterator[Listed]:
        marks = {"NextContinuationToken": "ContinuationToken"}
        async for page in self._pages("list_objects_v2", prefix, marks):
            for entry in page.get("Contents", ()):
                key = entry["Key"].removeprefix(self._settings.prefix)
                md5 = _MD5.fullmatch(entry.get("ETag", ""))
                yield Listed(key, entry["Size"], None if md5 is None else md5[1])

    async def _pages(
        self, operation: str, prefix: str, marks: Mapping[str, str]
    ) -> AsyncIterator[dict[str, Any]]:
        """``marks`` says which parameter of the next call is which value of an answer. StoreBroke
        when an answer says that there is more, and not where."""
        at: dict[str, Any] = {}
        while True:
            page = await self._call(operation, Prefix=self._settings.prefix + prefix, **at)
            yield page
            if not page.get("IsTruncated"):
                return
            before = at
            at = {there: page[here] for here, there in marks.items() if page.get(here)}
            if at in ({}, before):
                raise StoreBroke(self.id, "its list breaks off")

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
                raise judge(
                    self.id, status, error.response.get("Error", {}).get("Code", "")
                ) from error
            except NETWORK as error:
                raise Again(StoreDown(self.id, f"no answer: {words(error)}")) from error
            except (botocore.exceptions.BotoCoreError, ValueError) as error:
                raise StoreDown(self.id, f"cannot be used: {words(error)}") from error
            return answer

        return await insist(self.id, operation, once, attempts or self._settings.attempts)

    def _base_url(self) -> str:
        endpoint = self._client.meta.endpoint_url.rstrip("/")
        if self._settings.addressing == "path":
            return f"{endpoint}/{self._settings.bucket}"
        parts = urlsplit(endpoint)
        return f"{parts.scheme}://{self._settings.bucket}.{parts.netloc}{parts.path}"


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
            headers = await self._store._http.put("put_part", self._key, part, query)
        except ObjectMissing as error:
            raise StoreBroke(self._store.id, "it no longer knows the upload") from error
        entry: dict[str, Any] = {"PartNumber": part.number, "ETag": headers["ETag"]}
        if self._store.can.part_checksum == "crc64nvme":
            entry["ChecksumCRC64NVME"] = encoded(part.crc64nvme, 8)
        self._parts[part.number] = entry

    async def copy_part(
        self, number: int, source: str, start: int, stop: int, *, etag: str | None
    ) -> int | None:
        store, settings = self._store, self._store._settings
        pinned: dict[str, Any] = {} if etag is None else {"CopySourceIfMatch": etag}
        try:
            answer = await store._call(
                "upload_part_copy",
                self._key,
                UploadId=self.upload_id,
                PartNumber=number,
                CopySource={"Bucket": settings.bucket, "Key": settings.prefix + source},
                CopySourceRange=f"bytes={start}-{stop - 1}",
                **pinned,
            )
        except UploadMissing as error:
            raise StoreBroke(store.id, "it no longer knows the upload") from error
        except (CallMissing, StoreReadOnly) as error:
            raise NotCopied(store.id, f"it does not copy: {error.reason}") from error
        made = answer.get("CopyPartResult", {})
        if "ETag" not in made:  # it took a part of no bytes, and did not look at the source
            raise NotCopied(store.id, "it does not copy: its answer says nothing of a copy")
        entry: dict[str, Any] = {"PartNumber": number, "ETag": made["ETag"]}
        crc: str | None = made.get("ChecksumCRC64NVME")
        if crc is not None:
            entry["ChecksumCRC64NVME"] = crc
        self._parts[number] = entry
        return None if crc is None else int.from_bytes(base64.b64decode(crc), "big")

    async def complete(self, size: int, crc64nvme: int | None) -> Stored:
        kill_point("before_complete")
        parts = [self._parts[number] for number in sorted(self._parts)]
        whole: dict[str, str] = {}
        if self._store.can.part_checksum == "crc64nvme" and crc64nvme is not None:
            whole = {"ChecksumCRC64NVME": encoded(crc64nvme, 8), "ChecksumType": "FULL_OBJECT"}
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
