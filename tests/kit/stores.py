"""Stores that fail when told to, and helpers that look into any store."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from awscrt.checksums import crc64nvme

from tidegate.stores.base import (
    Can,
    Limits,
    Listed,
    Part,
    Reading,
    Store,
    Stored,
    Unfinished,
    Writing,
)

Hook = Callable[..., Awaitable[None]]


class FaultyStore:
    """Does as the inner store does, but for the hooks: ``before[call]`` and ``after[call]`` are
    awaited around a call and may raise, or hang. Calls: put, begin, put_part, copy_part, complete,
    look, read, delete, abort, keys (at each object). ``read_ranges`` are what was asked of it."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.before: dict[str, Hook] = {}
        self.after: dict[str, Hook] = {}
        self.calls: list[str] = []
        self.read_ranges: list[tuple[int, int | None]] = []

    def fail(self, call: str, error: Exception, *, times: int | None = None) -> None:
        """Raise ``error`` instead of doing ``call``, the next ``times`` times (None: always)."""
        self.before[call] = _raising(error, times)

    def fail_after(self, call: str, error: Exception, *, times: int | None = None) -> None:
        """Do ``call`` and then raise ``error``: the answer was lost."""
        self.after[call] = _raising(error, times)

    @property
    def id(self) -> str:
        return self.inner.id

    @property
    def can(self) -> Can:
        return self.inner.can

    @property
    def limits(self) -> Limits:
        return self.inner.limits

    async def open(self) -> None:
        await self.inner.open()

    async def close(self) -> None:
        await self.inner.close()

    async def ping(self) -> None:
        await self.around("ping", self.inner.ping)

    def url(self, key: str) -> str:
        return self.inner.url(key)

    async def put(self, key: str, part: Part) -> Stored:
        return await self.around("put", self.inner.put, key, part)

    async def begin(self, key: str) -> Writing:
        return FaultyWriting(self, await self.around("begin", self.inner.begin, key))

    async def look(self, key: str) -> Stored:
        return await self.around("look", self.inner.look, key)

    @asynccontextmanager
    async def read(
        self, key: str, start: int = 0, stop: int | None = None, *, etag: str | None = None
    ) -> AsyncIterator[Reading]:
        await self.around("read", _nothing)
        self.read_ranges.append((start, stop))
        async with self.inner.read(key, start, stop, etag=etag) as reading:
            yield reading

    async def delete(self, key: str) -> None:
        await self.around("delete", self.inner.delete, key)

    async def abort(self, key: str, upload_id: str) -> None:
        await self.around("abort", self.inner.abort, key, upload_id)

    def unfinished(self, prefix: str = "") -> AsyncIterator[Unfinished]:
        return self.inner.unfinished(prefix)

    async def keys(self, prefix: str = "") -> AsyncIterator[Listed]:
        async for entry in self.inner.keys(prefix):
            await self.around("keys", _nothing)
            yield entry

    async def around(self, call: str, do: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        self.calls.append(call)
        if call in self.before:
            await self.before[call](*args)
        answer = await do(*args)
        if call in self.after:
            await self.after[call](*args)
        return answer


class FaultyWriting:
    def __init__(self, store: FaultyStore, inner: Writing) -> None:
        self._store = store
        self._inner = inner
        self.upload_id = inner.upload_id

    async def put_part(self, part: Part) -> None:
        await self._store.around("put_part", self._inner.put_part, part)

    async def copy_part(
        self, number: int, source: str, start: int, stop: int, *, etag: str | None
    ) -> int | None:
        async def do(*_: object) -> int | None:
            return await self._inner.copy_part(number, source, start, stop, etag=etag)

        crc: int | None = await self._store.around("copy_part", do, number, source, start, stop)
        return crc

    async def complete(self, size: int, crc64nvme: int | None) -> Stored:
        stored: Stored = await self._store.around("complete", self._inner.complete, size, crc64nvme)
        return stored


def _raising(error: Exception, times: int | None) -> Hook:
    left = times

    async def hook(*args: Any) -> None:
        nonlocal left
        if left is None or left > 0:
            left = None if left is None else left - 1
            raise error

    return hook


async def _nothing() -> None: ...


def part_of(data: bytes, *, number: int = 1, offset: int = 0) -> Part:
    return Part(number, offset, len(data), [memoryview(data)], crc64nvme(data))


async def read_all(store: Store, key: str, start: int = 0, stop: int | None = None) -> bytes:
    found = bytearray()
    block = memoryview(bytearray(2**20))
    async with store.read(key, start, stop) as reading:
        while count := await reading.readinto(block):
            found += block[:count]
    return bytes(found)


async def objects(store: Store) -> dict[str, int]:
    """Keys and sizes of the finished objects."""
    return {entry.key: entry.size async for entry in store.keys()}


async def unfinished(store: Store) -> list[tuple[str, str]]:
    return [(entry.key, entry.upload_id) async for entry in store.unfinished()]
