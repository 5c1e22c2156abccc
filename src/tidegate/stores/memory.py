"""A store in memory, honest to the contract; for tests and for measuring what is above it."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from awscrt.checksums import crc64nvme

from tidegate.domain.errors import BadPart, ObjectChanged, ObjectMissing, StoreBroke
from tidegate.stores.base import Can, Descriptor, Limits, Listed, Part, Stored, Unfinished

_LIMITS = Limits(min_part=1, max_part=2**30, max_object=2**40)


class MemoryStore:
    def __init__(self, id: str = "memory") -> None:
        self.id = id
        self.can = Can(part_checksum="crc64nvme", copy=True)
        self.limits = _LIMITS
        self._objects: dict[str, tuple[bytes, Stored]] = {}
        self._writings: dict[tuple[str, str], _MemoryWriting] = {}

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def ping(self) -> None: ...

    def url(self, key: str) -> str:
        return f"memory://{self.id}/{key}"

    async def put(self, key: str, part: Part) -> Stored:
        return self.publish(key, self.take(part))

    async def begin(self, key: str) -> "_MemoryWriting":
        writing = _MemoryWriting(self, key, uuid4().hex)
        self._writings[key, writing.upload_id] = writing
        return writing

    async def look(self, key: str) -> Stored:
        return self._object(key)[1]

    @asynccontextmanager
    async def read(
        self, key: str, start: int = 0, stop: int | None = None, *, etag: str | None = None
    ) -> AsyncIterator["_MemoryReading"]:
        data, stored = self.version(key, etag)
        yield _MemoryReading(stored, memoryview(data)[start:stop])

    async def delete(self, key: str) -> None:
        self._objects.pop(key, None)

    async def abort(self, key: str, upload_id: str) -> None:
        self._writings.pop((key, upload_id), None)

    async def unfinished(self, prefix: str = "") -> AsyncIterator[Unfinished]:
        for (key, upload_id), writing in list(self._writings.items()):
            if key.startswith(prefix):
                yield Unfinished(key, upload_id, writing.begun)

    async def keys(self, prefix: str = "") -> AsyncIterator[Listed]:
        for key, (data, _) in list(self._objects.items()):
            if key.startswith(prefix):
                yield Listed(key, len(data))

    def version(self, key: str, etag: str | None) -> tuple[bytes, Stored]:
        data, stored = self._object(key)
        if etag not in (None, stored.etag):
            raise ObjectChanged(self.id, "the object is not the one that was written")
        return data, stored

    def take(self, part: Part) -> bytes:
        data = b"".join(part.blocks)
        if crc64nvme(data) != part.crc64nvme:
            raise BadPart(self.id, "other bytes arrived than were sent")
        return data

    def publish(self, key: str, data: bytes) -> Stored:
        stored = Stored(len(data), uuid4().hex, crc64nvme(data), time.time())
        self._objects[key] = (data, stored)
        return stored

    def end(self, key: str, upload_id: str) -> None:
        if self._writings.pop((key, upload_id), None) is None:
            raise StoreBroke(self.id, "it no longer knows the upload")

    def knows(self, key: str, upload_id: str) -> bool:
        return (key, upload_id) in self._writings

    def _object(self, key: str) -> tuple[bytes, Stored]:
        found = self._objects.get(key)
        if found is None:
            raise ObjectMissing(self.id, "no such object")
        return found


class _MemoryWriting:
    def __init__(self, store: MemoryStore, key: str, upload_id: str) -> None:
        self._store = store
        self._key = key
        self._parts: dict[int, bytes] = {}
        self.upload_id = upload_id
        self.begun = time.time()

    async def put_part(self, part: Part) -> None:
        self._see()
        self._parts[part.number] = self._store.take(part)

    async def copy_part(
        self, number: int, source: str, start: int, stop: int, *, etag: str | None
    ) -> int | None:
        self._see()
        data = self._store.version(source, etag)[0][start:stop]
        if len(data) != stop - start:
            raise ObjectChanged(self._store.id, "the object is shorter than it was")
        self._parts[number] = data
        crc: int = crc64nvme(data)
        return crc

    def _see(self) -> None:
        if not self._store.knows(self._key, self.upload_id):
            raise StoreBroke(self._store.id, "it no longer knows the upload")

    async def complete(self, size: int, crc64nvme: int | None) -> Stored:
        data = b"".join(self._parts[number] for number in sorted(self._parts))
        if len(data) != size:
            raise StoreBroke(self._store.id, f"it has {len(data)} bytes of {size}")
        self._store.end(self._key, self.upload_id)
        return self._store.publish(self._key, data)


class _MemoryReading:
    def __init__(self, stored: Stored, data: memoryview) -> None:
        self.stored = stored
        self.descriptor: Descriptor | None = None
        self._data = data

    async def readinto(self, block: memoryview) -> int:
        count = min(len(block), len(self._data))
        block[:count] = self._data[:count]
        self._data = self._data[count:]
        return count
