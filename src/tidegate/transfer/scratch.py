"""A folder for what is converted: one conversion of a node at a time has all of it.

Whoever holds the lock may remove whatever lies there, since it is of the dead: the kernel takes
the lock from a process that dies, and from nobody else.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from tidegate.stores.threads import run_through

LOOK_EVERY = 0.5
"""Seconds between two tries to get the folder."""

_LOCK = "lock"


class Scratch:
    """``max_size`` is bytes of all files together."""

    def __init__(self, path: Path, max_size: int) -> None:
        self.path = path.absolute()
        self.max_size = max_size

    async def open(self) -> None:
        """Make it, and remove what dead processes left. OSError."""
        await asyncio.to_thread(self._make)
        await self.clean()

    async def clean(self) -> None:
        """Remove what dead processes left, unless the folder is in use."""
        lock = self._take()
        if lock is not None:
            await self._leave(lock)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[Path]:
        """The folder, empty, as soon as nobody else has it; empty again afterwards. OSError."""
        while (lock := self._take()) is None:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY)
        try:
            await run_through(None, self._empty)
            yield self.path
        finally:
            await self._leave(lock)

    async def _leave(self, lock: int) -> None:
        try:
            await run_through(None, self._empty)
        finally:
            os.close(lock)

    def _make(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _take(self) -> int | None:
        lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        return lock

    def _empty(self) -> None:
        for suffix in ("source", "raw"):
            for path in self.path.glob(f"*.{suffix}"):
                path.unlink(missing_ok=True)


class SparseFile:
    """A file as a source of bytes, open while its context is; its holes cost no reading."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._file = -1
        self.size = size
        self.received = 0

    async def __aenter__(self) -> Self:
        self._file = await asyncio.to_thread(os.open, self._path, os.O_RDONLY | os.O_CLOEXEC)
        return self

    async def __aexit__(self, *_: object) -> None:
        os.close(self._file)

    async def readinto(self, block: memoryview) -> int:
        room = block[: self.size - self.received]
        if not room:
            return 0
        count = await run_through(None, self._fill, room, self.received)
        self.received += count
        return count

    def _fill(self, room: memoryview, at: int) -> int:
        try:
            data = os.lseek(self._file, at, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole up to the end
            data = self.size
        if data > at:
            count = min(len(room), data - at)
            room[:count] = bytes(count)
            return count
        hole = os.lseek(self._file, at, os.SEEK_HOLE)
        return os.preadv(self._file, [room[: max(1, hole - at)]], at)
