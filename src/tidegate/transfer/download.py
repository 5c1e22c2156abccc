"""Bytes out: a range of an object, block by block, out of a store.

It begins as one stream through one block, which stays in the processor's cache: the cheapest way
while the store is as fast as the client. Where the client waits for the store, windows of the
range are read ahead side by side. A store's connection that breaks is reopened at the offset,
under the same version of the object. What cannot be had ends in an exception, so that nobody
takes a short body for a whole one.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
)
from typing import Protocol, Self

from tidegate.domain.errors import (
    ObjectChanged,
    StoreBroke,
    StoreDown,
    TidegateError,
    first_failure,
)
from tidegate.stores.base import Reading, Stored
from tidegate.transfer.memory import BLOCK, Arena, Reservation

WINDOW = 8 * BLOCK
"""Bytes of one ranged read when reading ahead."""

WINDOWS_AHEAD = 3
"""Windows of one download that are read or waiting to be sent at a time."""

JUDGE_EVERY = 16 * BLOCK
"""Bytes after which a single stream asks itself whether reading ahead would pay."""

STORE_BOUND = 0.8
"""Share of the time spent waiting for the store from which it does."""

REOPENINGS = 4
"""How often a broken read is begun again without one byte of progress."""


class Readable(Protocol):
    """As much of a store as reading takes."""

    @property
    def id(self) -> str: ...

    def read(
        self, key: str, start: int = 0, stop: int | None = None, *, etag: str | None = None
    ) -> AbstractAsyncContextManager[Reading]: ...


class _Window:
    """Bytes [start, stop) on their way: ``blocks`` gives them in order, then None or the error."""

    def __init__(self, start: int, stop: int, reservation: Reservation) -> None:
        self.start = start
        self.stop = stop
        self.reservation = reservation
        self.blocks: asyncio.Queue[memoryview | TidegateError | None] = asyncio.Queue()


class Receiving:
    """The range [start, stop) of an object of ``size`` bytes on its way out. All reads are of the
    version that answered first."""

    def __init__(
        self, store: Readable, key: str, start: int, stop: int, *, size: int, arena: Arena
    ) -> None:
        self._store = store
        self._key = key
        self._at = start
        self._stop = stop
        self._size = size
        self._arena = arena
        self._etag: str | None = None

    @asynccontextmanager
    async def blocks(self) -> AsyncIterator[AsyncIterator[memoryview]]:
        """The blocks in order; each is valid until the next one is asked for. StoreError."""
        try:
            async with asyncio.TaskGroup() as group, aclosing(self._drain(group)) as blocks:
                yield blocks
        except BaseExceptionGroup as failures:
            # readers hand their errors to who waits for a block, so this is one alone
            raise first_failure(failures) from None

    def stream(self) -> "_Stream":
        """The bytes into memory of the caller's (``fill``), as an asynchronous context."""
        return _Stream(self, self._at, self._stop)

    async def _drain(self, group: asyncio.TaskGroup) -> AsyncGenerator[memoryview, None]:
        async with aclosing(self._one_stream()) as stream:
            async for block in stream:
                yield block
        async with aclosing(self._side_by_side(group)) as ahead:
            async for block in ahead:
                yield block

    async def _one_stream(self) -> AsyncGenerator[memoryview, None]:
        """To the end, or until reading ahead pays."""
        async with self.stream() as stream:
            begun, waited, judge_at = time.monotonic(), 0.0, self._at + JUDGE_EVERY
            while self._at < self._stop:
                async with self._arena.reserved(BLOCK) as blocks:
                    block = blocks[0][: self._stop - self._at]
                    asked = time.monotonic()
                    await stream.fill(block)
                    now = time.monotonic()
                    waited += now - asked
                    self._at += len(block)
                    yield block
                if self._at >= judge_at:
                    if waited > STORE_BOUND * (now - begun) and self._roomy():
                        return
                    begun, waited, judge_at = now, 0.0, self._at + JUDGE_EVERY

    async def _side_by_side(self, group: asyncio.TaskGroup) -> AsyncGenerator[memoryview, None]:
        windows: deque[_Window] = deque()
        readers: set[asyncio.Task[None]] = set()
        try:
            while self._at < self._stop or windows:
                while self._at < self._stop and (
                    not windows or (len(windows) < WINDOWS_AHEAD and self._roomy())
                ):
                    size = min(WINDOW if self._roomy() else BLOCK, self._stop - self._at)
                    reservation = await self._arena.reserve(size)
                    window = _Window(self._at, self._at + size, reservation)
                    windows.append(window)
                    reader = group.create_task(self._read(window))
                    readers.add(reader)
                    reader.add_done_callback(readers.discard)
                    self._at += size
                item = await windows[0].blocks.get()
                if isinstance(item, TidegateError):
                    raise item
                if item is None:
                    windows.popleft().reservation.release()
                else:
                    yield item
        finally:
            for reader in readers:
                reader.cancel()
            for window in windows:
                window.reservation.release()

    def _roomy(self) -> bool:
        """Reading ahead leaves half of the memory, and all of it while others wait, alone."""
        return not self._arena.waiting and self._arena.in_use * 2 < self._arena.blocks * BLOCK

    async def _read(self, window: _Window) -> None:
        at = window.start
        try:
            async with _Stream(self, window.start, window.stop) as stream:
                for block in window.reservation.blocks:
                    part = block[: window.stop - at]
                    await stream.fill(part)
                    at += len(part)
                    window.blocks.put_nowait(part)
            window.blocks.put_nowait(None)
        except TidegateError as error:  # for the one who waits for the block
            window.blocks.put_nowait(error)

    @asynccontextmanager
    async def open(self, at: int, stop: int) -> AsyncIterator[Reading]:
        """Read [at, stop) of the version that answered first."""
        async with self._store.read(self._key, at, stop, etag=self._etag) as reading:
            self._check(reading.stored)
            yield reading

    def _check(self, stored: Stored) -> None:
        if stored.size is not None and stored.size != self._size:
            raise ObjectChanged(
                self._store.id, f"the object has {stored.size} bytes, not {self._size}"
            )
        self._etag = self._etag or stored.etag

    def ended_early(self) -> StoreBroke:
        return StoreBroke(self._store.id, "the object ended early")


class _Stream:
    """The bytes from ``at`` to ``stop``, over as many connections as it takes."""

    def __init__(self, receiving: Receiving, at: int, stop: int) -> None:
        self._receiving = receiving
        self._at = at
        self._stop = stop
        self._connection = AsyncExitStack()
        self._reading: Reading | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._connection.aclose()

    async def fill(self, block: memoryview) -> None:
        """All of ``block``, with the next bytes. StoreError when they cannot be had."""
        filled, failures = 0, 0
        while filled < len(block):
            try:
                count = await self._some(block[filled:])
            except ObjectChanged:
                raise
            except (StoreBroke, StoreDown):
                failures += 1
                self._reading = None
                await self._connection.aclose()
                if failures > REOPENINGS:
                    raise
                await asyncio.sleep(0.1 * 2**failures)
            else:
                failures = 0
                filled += count
                self._at += count

    async def _some(self, block: memoryview) -> int:
        if self._reading is None:
            self._reading = await self._connection.enter_async_context(
                self._receiving.open(self._at, self._stop)
            )
        count = await self._reading.readinto(block)
        if count == 0:
            raise self._receiving.ended_early()
        return count
