"""What an S3 server remembers: buckets, objects, and uploads that were begun."""

import itertools
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from tidegate.bench.blobs import Blob

_PART = re.compile(rb"<Part>(.*?)</Part>", re.DOTALL)
_NUMBER = re.compile(rb"<PartNumber>\s*(\d+)\s*</PartNumber>")
_ETAG = re.compile(rb"<ETag>(?:\"|&quot;|&#34;)?([^<&\"]+)")
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_SPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


class Refused(Exception):
    """The status and S3's code of an error answer."""

    def __init__(self, status: int, code: str) -> None:
        self.status = status
        self.code = code

    def xml(self) -> bytes:
        return f"{_XML}<Error><Code>{self.code}</Code><Message/></Error>".encode()


@dataclass(frozen=True, slots=True)
class Stored:
    """An object: its bytes in order, and what its sender said of them."""

    blobs: tuple[Blob, ...]
    size: int
    etag: str
    crc64nvme: str | None
    made: float


@dataclass(slots=True)
class Begun:
    key: str
    at: float
    parts: dict[int, tuple[str, Blob]] = field(default_factory=dict)


@dataclass(slots=True)
class Bucket:
    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: dict[str, Begun] = field(default_factory=dict)


class Buckets:
    """All calls may be made by many threads. Refused: what S3 would refuse."""

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)

    def make(self, name: str) -> None:
        self._buckets.setdefault(name, Bucket())

    def see(self, name: str) -> Bucket:
        try:
            return self._buckets[name]
        except KeyError:
            raise Refused(404, "NoSuchBucket") from None

    def put(self, bucket: str, key: str, blob: Blob, crc64nvme: str | None) -> Stored:
        stored = Stored((blob,), blob.size, self._etag(), crc64nvme, time.time())
        self.see(bucket).objects[key] = stored
        return stored

    def look(self, bucket: str, key: str) -> Stored:
        try:
            return self.see(bucket).objects[key]
        except KeyError:
            raise Refused(404, "NoSuchKey") from None

    def delete(self, bucket: str, key: str) -> None:
        self.see(bucket).objects.pop(key, None)

    # uploads of several parts

    def begin(self, bucket: str, key: str) -> bytes:
        upload_id = f"upload-{next(self._numbers)}"
        self.see(bucket).uploads[upload_id] = Begun(key, time.time())
        return _document(
            "InitiateMultipartUploadResult",
            f"<Bucket>{escape(bucket)}</Bucket><Key>{escape(key)}</Key>"
            f"<UploadId>{upload_id}</UploadId>",
        )

    def put_part(self, bucket: str, key: str, upload_id: str, number: int, blob: Blob) -> str:
        etag = self._etag()
        with self._lock:
            self._begun(bucket, key, upload_id).parts[number] = (etag, blob)
        return etag

    def complete(
        self, bucket: str, key: str, upload_id: str, listed: bytes, crc64nvme: str | None
    ) -> bytes:
        with self._lock:
            begun = self._begun(bucket, key, upload_id)
            blobs = [_listed_part(begun, entry) for entry in _PART.findall(listed)]
            if not blobs:
                raise Refused(400, "MalformedXML")
            size = sum(blob.size for blob in blobs)
            etag = f"{self._etag()}-{len(blobs)}"
            self.see(bucket).objects[key] = Stored(tuple(blobs), size, etag, crc64nvme, time.time())
            del self.see(bucket).uploads[upload_id]
        return _document(
            "CompleteMultipartUploadResult",
            f"<Bucket>{escape(bucket)}</Bucket><Key>{escape(key)}</Key>"
            f"<ETag>&quot;{etag}&quot;</ETag>",
        )

    def abort(self, bucket: str, key: str, upload_id: str) -> None:
        with self._lock:
            self._begun(bucket, key, upload_id)
            del self.see(bucket).uploads[upload_id]

    # lists, all of them on one page

    def list_uploads(self, bucket: str, prefix: str) -> bytes:
        entries = [
            f"<Upload><Key>{escape(begun.key)}</Key><UploadId>{upload_id}</UploadId>"
            f"<Initiated>{_time(begun.at)}</Initiated></Upload>"
            for upload_id, begun in sorted(self.see(bucket).uploads.items())
            if begun.key.startswith(prefix)
        ]
        return _page("ListMultipartUploadsResult", bucket, prefix, entries)

    def list_objects(self, bucket: str, prefix: str) -> bytes:
        entries = [
            f"<Contents><Key>{escape(key)}</Key><Size>{stored.size}</Size>"
            f"<ETag>&quot;{stored.etag}&quot;</ETag>"
            f"<LastModified>{_time(stored.made)}</LastModified></Contents>"
            for key, stored in sorted(self.see(bucket).objects.items())
            if key.startswith(prefix)
        ]
        return _page("ListBucketResult", bucket, prefix, entries)

    def _begun(self, bucket: str, key: str, upload_id: str) -> Begun:
        begun = self.see(bucket).uploads.get(upload_id)
        if begun is None or begun.key != key:
            raise Refused(404, "NoSuchUpload")
        return begun

    def _etag(self) -> str:
        # names a version; what is hashed here would be paid by whatever is measured
        return f"{next(self._numbers):032x}"


def _listed_part(begun: Begun, entry: bytes) -> Blob:
    number, etag = _NUMBER.search(entry), _ETAG.search(entry)
    if number is None or etag is None:
        raise Refused(400, "MalformedXML")
    known, blob = begun.parts.get(int(number[1]), ("", None))
    if blob is None or known != etag[1].decode():
        raise Refused(400, "InvalidPart")
    return blob


def _document(name: str, content: str) -> bytes:
    return f"{_XML}<{name} {_SPACE}>{content}</{name}>".encode()


def _page(name: str, bucket: str, prefix: str, entries: Sequence[str]) -> bytes:
    return _document(
        name,
        f"<Bucket>{escape(bucket)}</Bucket><Name>{escape(bucket)}</Name>"
        f"<Prefix>{escape(prefix)}</Prefix><KeyCount>{len(entries)}</KeyCount>"
        f"<IsTruncated>false</IsTruncated>{''.join(entries)}",
    )


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))
