"""Copies of objects in a folder of the local disk, which all workers of a node share.

Nothing else knows what is in it, so that nothing can disagree with it. A copy is made under
``filling``, locked by who makes it, and gets its place in ``entries`` by one rename when it is
whole, right and on the disk. What a death leaves under ``filling`` is not locked any more, which is
how it is told from what is being made. Behind the bytes of a copy lies a trailer: when it was made,
how often and when it was used. Of several workers one makes a copy, and one removes at a time.
"""

import asyncio
import errno
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from tidegate import telemetry
from tidegate.domain.errors import ObjectChanged, StoreDown
from tidegate.killpoints import kill_point
from tidegate.stores.base import Can, Descriptor, Stored
from tidegate.stores.cache_files import (
    CHANGE,
    IMAGE,
    OLD,
    TRAILER,
    USE,
    USE_AT,
    Entry,
    image_of,
    names,
    opened,
    read,
    same_file,
    sizes,
)
from tidegate.stores.cache_filling import Check, Filling, NoRoomError
from tidegate.stores.threads import run_through
from tidegate.telemetry import log

T = TypeVar("T")

ID = "cache"
"""What it is called where a store is named; not in the catalog."""

FILLS = 4
"""Copies that one worker makes at a time; what is downloaded beside them is not copied."""

_THREADS = 2 * FILLS  # as many are left for reading while all copies wait for the disk

_BAD = frozenset({errno.EIO, errno.ELOOP})


class CacheFolder:
    """``max_size`` bounds the bytes of all files in it, those that are being made as well."""

    def __init__(self, path: Path, max_size: int) -> None:
        self._path = path.absolute()
        self._entries = str(self._path / "entries")
        self._parts = str(self._path / "filling")
        self._queue = str(self._path / "queue")
        self._max_size = max_size
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="cache")
        self._filling: set[str] = set()
        self._uses: dict[str, tuple[int, float]] = {}

    async def open(self) -> None:
        """StoreDown: the folder cannot be used."""
        try:
            await self._run(self._sweep)
        except OSError as error:
            raise StoreDown(
                ID, f"the folder {self._path} cannot be used: {error.strerror}"
            ) from error

    async def close(self) -> None:
        await self.note_uses()
        await asyncio.to_thread(self._threads.shutdown)

    # reading

    @asynccontextmanager
    async def held(self, name: str, size: int) -> AsyncIterator["Held | None"]:
        """The copy, open: nothing takes it away in here. None: there is none of that size."""
        held = Held(self, name, size)
        try:
            if await self._run(held.open):
                hits, _ = self._uses.get(name, (0, 0.0))
                self._uses[name] = (hits + 1, time.time())
                yield held
            else:
                yield None
        finally:
            held.close()

    async def read_at(self, fd: int, block: memoryview, at: int) -> int:
        return await self._run(os.preadv, fd, [block], at)

    async def note_uses(self) -> None:
        """Write down what was used since the last time, for all workers to know."""
        uses, self._uses = self._uses, {}
        if uses:
            await self._run(self._note, uses)

    def _note(self, uses: dict[str, tuple[int, float]]) -> None:
        with suppress(OSError), self._alone():
            for name, (hits, used) in uses.items():
                with suppress(OSError), opened(self.entry(name), CHANGE) as fd:
                    found = read(fd, name)
                    if found is not None:
                        noted = USE.pack(max(found.used, used), found.hits + hits)
                        os.pwrite(fd, noted, found.size + USE_AT)

    # making

    async def begin(self, name: str, size: int, check: Check) -> "Filling | None":
        """A new copy; None: there is one, it is being made here or elsewhere, or it cannot be.
        Owed: ``finish`` or ``leave``."""
        if name in self._filling or len(self._filling) >= FILLS or not self.fits(size):
            return None
        filling = Filling(self, name, size, check)
        self._filling.add(name)
        try:
            begun = await self._run(filling.open)
        except asyncio.CancelledError:
            filling.leave()
            raise
        return filling if begun else None

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        return self._threads.submit(work)

    def part(self, name: str) -> str:
        return f"{self._parts}/{name}"

    def entry(self, name: str) -> str:
        return f"{self._entries}/{name}"

    def ended(self, name: str) -> None:
        self._filling.discard(name)

    def fits(self, size: int) -> bool:
        return size + TRAILER <= self._max_size

    def has(self, name: str) -> bool:
        return os.path.lexists(self.entry(name))

    def grow(self, fd: int, size: int) -> None:
        """Make a file ``size`` bytes long, and the room for them by removing the copies that were
        used least lately. In a thread. NoRoomError, OSError."""
        with self._alone():
            self._make_room(size - os.fstat(fd).st_size)
            os.ftruncate(fd, size)

    def publish(self, name: str) -> None:
        """Give a whole file its place, and drop the image's other copies. In a thread."""
        os.rename(self.part(name), self.entry(name))
        kill_point("cache_published")
        with opened(self._entries, OLD) as folder:
            os.fsync(folder)
        prefix = f"{image_of(name)}+"
        for other in names(self._entries):
            if other.startswith(prefix) and other != name:
                self._remove(other)

    def _make_room(self, size: int) -> None:
        total = sum(sizes(self._entries)) + sum(sizes(self._parts))
        if total + size <= self._max_size:
            return
        for entry in sorted(self._look(), key=self._last_use):
            self._remove(entry.name)
            telemetry.CACHE_EVICTED.inc()
            kill_point("cache_evicting")
            total -= entry.size + TRAILER
            if total + size <= self._max_size:
                return
        raise NoRoomError("all that is left is being made just now")

    def _last_use(self, entry: Entry) -> float:
        return max(entry.used, self._uses.get(entry.name, (0, 0.0))[1])

    # what is in it

    async def entries(self) -> list[Entry]:
        """The whole copies, with what this worker has not yet written down."""
        await self.note_uses()
        return await self._run(lambda: list(self._look()))

    async def drop(self, names: Iterable[str]) -> int:
        """How many were there; whoever reads one goes on."""
        return await self._run(lambda: sum(self._remove(name) for name in names))

    async def sweep(self) -> int:
        """Remove what deaths left, what is damaged, and what is too much; how many."""
        return await self._run(self._sweep)

    def _sweep(self) -> int:
        for folder in (self._entries, self._parts, self._queue):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        count = sum(self._remove_dead(name) for name in names(self._parts))
        with self._alone():
            before = len(names(self._entries))
            kept = sum(1 for _ in self._look())
            with suppress(NoRoomError):
                self._make_room(0)
            telemetry.CACHE_BYTES.set(sum(sizes(self._entries)))
        return count + before - kept

    def _remove_dead(self, name: str) -> bool:
        with suppress(OSError), opened(self.part(name), CHANGE) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held as long as its maker lives
            if same_file(fd, self.part(name)):
                os.unlink(self.part(name))
                return True
        return False

    def _look(self) -> Iterator[Entry]:
        for name in names(self._entries):
            with suppress(OSError), opened(self.entry(name), OLD) as fd:
                entry = read(fd, name)
                if entry is None:
                    self.damaged(name)
                else:
                    yield entry

    def damaged(self, name: str) -> None:
        """Tell it, and remove the copy. In a thread."""
        log.error("cached copy damaged", image=image_of(name))
        telemetry.CACHE_DAMAGED.inc()
        self._remove(name)

    async def found_damaged(self, name: str) -> None:
        await self._run(self.damaged, name)

    def _remove(self, name: str) -> bool:
        try:
            os.unlink(self.entry(name))
        except OSError:
            return False
        return True

    # what is to be copied

    async def enqueue(self, image_id: str) -> None:
        """It stays so when all workers die. OSError."""

        def create() -> None:
            os.close(os.open(f"{self._queue}/{image_id}", os.O_CREAT | CHANGE, 0o600))

        if IMAGE.fullmatch(image_id):
            await self._run(create)

    async def dequeue(self, image_ids: Iterable[str]) -> int:
        """How many were there."""

        def remove() -> int:
            count = 0
            for image_id in filter(IMAGE.fullmatch, image_ids):
                with suppress(OSError):
                    os.unlink(f"{self._queue}/{image_id}")
                    count += 1
            return count

        return await self._run(remove)

    async def queued(self) -> list[str]:
        """Ids of images, the one that waits longest first."""

        def look() -> list[str]:
            found = []
            with suppress(OSError), os.scandir(self._queue) as entries:
                for entry in entries:
                    with suppress(OSError):
                        if IMAGE.fullmatch(entry.name):
                            found.append((entry.stat(follow_symlinks=False).st_mtime, entry.name))
            return [name for _, name in sorted(found)]

        return await self._run(look)

    async def take_turn(self, every: float) -> bool:
        """Whether nobody had one for ``every`` seconds; of several workers one is told so."""

        def take() -> bool:
            with self._alone() as lock:
                if 0 <= time.time() - os.fstat(lock).st_mtime < every:
                    return False
                os.utime(lock)
                return True

        return await self._run(take)

    # what the rest stands on

    @contextmanager
    def _alone(self) -> Iterator[int]:
        """Of all threads of all workers."""
        with opened(str(self._path / "lock"), CHANGE | os.O_CREAT) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        return await run_through(self._threads, work, *args)


class Held:
    """A copy that is open, to be read like an object of a store."""

    id = ID
    can = Can(write=False, zero_copy=True)

    def __init__(self, folder: CacheFolder, name: str, size: int) -> None:
        self._folder = folder
        self.name = name
        self.size = size
        self._fd = -1

    def open(self) -> bool:
        """In a thread."""
        try:
            self._fd = os.open(self._folder.entry(self.name), OLD)
            found = read(self._fd, self.name)
        except FileNotFoundError:
            return False
        except OSError as error:
            log.error("cached copy not readable", error=str(error))
            if error.errno in _BAD:
                self._folder.damaged(self.name)
            return False
        if found is None or found.size != self.size:
            self._folder.damaged(self.name)
            return False
        return True

    @asynccontextmanager
    async def read(
        self, key: str, start: int = 0, stop: int | None = None, *, etag: str | None = None
    ) -> AsyncIterator["HeldReading"]:
        yield HeldReading(self._folder, self._fd, self.size, start, stop)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    async def damaged(self) -> None:
        await self._folder.found_damaged(self.name)


class HeldReading:
    def __init__(
        self, folder: CacheFolder, fd: int, size: int, start: int, stop: int | None
    ) -> None:
        self._folder = folder
        self._fd = fd
        self._at = start
        self._stop = size if stop is None else stop
        self.stored = Stored(size)

    @property
    def descriptor(self) -> Descriptor | None:
        return Descriptor(self._fd, self._at)

    async def readinto(self, block: memoryview) -> int:
        block = block[: max(0, self._stop - self._at)]
        if not block:
            return 0
        try:
            count = await self._folder.read_at(self._fd, block, self._at)
        except OSError as error:
            # not worth trying again: the store has the bytes
            raise ObjectChanged(ID, f"the file cannot be read: {error.strerror}") from error
        if count == 0:
            raise ObjectChanged(ID, "the file ended early")
        self._at += count
        return count
