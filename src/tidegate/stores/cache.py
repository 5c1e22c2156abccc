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
import re
import stat
import struct
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from tidegate import telemetry
from tidegate.domain.errors import ObjectChanged, StoreDown
from tidegate.killpoints import kill_point
from tidegate.stores.base import Can, Descriptor, Stored
from tidegate.stores.threads import run_through
from tidegate.telemetry import log

T = TypeVar("T")

ID = "cache"
"""What it is called where a store is named; not in the catalog."""

FILLS = 4
"""Copies that one worker makes at a time; what is downloaded beside them is not copied."""

STEP = 64 * 2**20
"""Bytes for which room is made at a time while a copy grows."""

_THREADS = 2 * FILLS  # as many are left for reading while all copies wait for the disk
_NAME = re.compile(r"([A-Za-z0-9-]{1,64})\+[0-9a-f]{32}")
_IMAGE = re.compile(r"[A-Za-z0-9-]{1,64}")
_MAGIC = b"tidecach"
_FIXED = struct.Struct("<8sQd")
_USE = struct.Struct("<dQ")  # alone changes, and may be read while it does
_USE_AT = _FIXED.size + 4
_TRAILER = _USE_AT + _USE.size
_OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CHANGE = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

_BAD = frozenset({errno.EIO, errno.ELOOP})


class Check(Protocol):
    """Whether the bytes of a copy are the right ones; told all of them in order."""

    def update(self, data: memoryview, /) -> object: ...

    def right(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A whole copy. ``size`` is the image's; times are seconds since 1970."""

    name: str
    size: int
    made: float
    used: float
    hits: int

    @property
    def image_id(self) -> str:
        return self.name.partition("+")[0]


class _NoRoomError(Exception):
    pass


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
                with suppress(OSError), _opened(self.entry(name), _CHANGE) as fd:
                    found = _read(fd, name)
                    if found is not None:
                        noted = _USE.pack(max(found.used, used), found.hits + hits)
                        os.pwrite(fd, noted, found.size + _USE_AT)

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
        return size + _TRAILER <= self._max_size

    def has(self, name: str) -> bool:
        return os.path.lexists(self.entry(name))

    def grow(self, fd: int, size: int) -> None:
        """Make a file ``size`` bytes long, and the room for them by removing the copies that were
        used least lately. In a thread. _NoRoomError, OSError."""
        with self._alone():
            self._make_room(size - os.fstat(fd).st_size)
            os.ftruncate(fd, size)

    def publish(self, name: str) -> None:
        """Give a whole file its place, and drop the image's other copies. In a thread."""
        os.rename(self.part(name), self.entry(name))
        kill_point("cache_published")
        with _opened(self._entries, _OLD) as folder:
            os.fsync(folder)
        prefix = name.partition("+")[0] + "+"
        for other in _names(self._entries):
            if other.startswith(prefix) and other != name:
                self._remove(other)

    def _make_room(self, size: int) -> None:
        total = sum(_sizes(self._entries)) + sum(_sizes(self._parts))
        if total + size <= self._max_size:
            return
        for entry in sorted(self._look(), key=self._last_use):
            self._remove(entry.name)
            telemetry.CACHE_EVICTED.inc()
            kill_point("cache_evicting")
            total -= entry.size + _TRAILER
            if total + size <= self._max_size:
                return
        raise _NoRoomError("all that is left is being made just now")

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
        count = sum(self._remove_dead(name) for name in _names(self._parts))
        with self._alone():
            before = len(_names(self._entries))
            kept = sum(1 for _ in self._look())
            with suppress(_NoRoomError):
                self._make_room(0)
            telemetry.CACHE_BYTES.set(sum(_sizes(self._entries)))
        return count + before - kept

    def _remove_dead(self, name: str) -> bool:
        with suppress(OSError), _opened(self.part(name), _CHANGE) as fd:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held as long as its maker lives
            if same_file(fd, self.part(name)):
                os.unlink(self.part(name))
                return True
        return False

    def _look(self) -> Iterator[Entry]:
        for name in _names(self._entries):
            with suppress(OSError), _opened(self.entry(name), _OLD) as fd:
                entry = _read(fd, name)
                if entry is None:
                    self.damaged(name)
                else:
                    yield entry

    def damaged(self, name: str) -> None:
        """Tell it, and remove the copy. In a thread."""
        log.error("cached copy damaged", image=name.partition("+")[0])
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
            os.close(os.open(f"{self._queue}/{image_id}", os.O_CREAT | _CHANGE, 0o600))

        if _IMAGE.fullmatch(image_id):
            await self._run(create)

    async def dequeue(self, image_ids: Iterable[str]) -> int:
        """How many were there."""

        def remove() -> int:
            count = 0
            for image_id in filter(_IMAGE.fullmatch, image_ids):
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
                        if _IMAGE.fullmatch(entry.name):
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
        with _opened(str(self._path / "lock"), _CHANGE | os.O_CREAT) as fd:
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
            self._fd = os.open(self._folder.entry(self.name), _OLD)
            found = _read(self._fd, self.name)
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


class Filling:
    """A copy in the making. A disk that fails or is full ends it, and nothing else: what is
    written from then on goes nowhere. All that touches the file is done in threads, one at a
    time."""

    def __init__(self, folder: CacheFolder, name: str, size: int, check: Check) -> None:
        self._folder = folder
        self._name = name
        self._size = size
        self._check = check
        self._fd = -1
        self._at = 0
        self._grown = 0
        self._lock = threading.Lock()
        self._over = False
        self._let_go = False
        self.finished: Future[bool] | None = None

    def open(self) -> bool:
        """False: there is nothing to do. In a thread."""
        path = self._folder.part(self._name)
        try:
            while True:
                self._fd = os.open(path, _CHANGE | os.O_CREAT, 0o600)
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if same_file(self._fd, path):
                    break
                os.close(self._fd)  # it was published or removed since it was opened
                self._fd = -1
            if not self._folder.has(self._name):
                os.ftruncate(self._fd, 0)  # what a death left
                return True
            self._end(None)
        except BlockingIOError:  # another worker makes it
            self._end(None, unlink=False)
        except OSError as error:
            self._fail(error, unlink=False)
        return False

    def write(self, block: memoryview) -> "Future[None]":
        """Done with ``block`` when the future is."""
        return self._folder.submit(lambda: self._write(block))

    def finish(self) -> None:
        """All was written: make it a copy, if it is right; ``finished`` then says so."""
        self._let_go = True
        self.finished = self._folder.submit(self._finish)

    def leave(self) -> None:
        """Unless ``finish`` was called: there will be no copy."""
        if not self._let_go:
            self._let_go = True
            self.finished = self._folder.submit(self._leave)

    def _write(self, block: memoryview) -> None:
        with self._lock:
            if self._over:
                return
            try:
                self._check.update(block)
                while block:
                    if self._at == self._grown:
                        whole = self._size + _TRAILER
                        self._folder.grow(self._fd, min(whole, self._grown + STEP))
                        self._grown = min(whole, self._grown + STEP)
                    count = os.pwrite(self._fd, block[: self._grown - self._at], self._at)
                    self._at += count
                    block = block[count:]
                kill_point("cache_half_filled")
            except (OSError, _NoRoomError) as error:
                self._fail(error)

    def _finish(self) -> bool:
        with self._lock:
            if self._over:
                return False
            if self._at != self._size or not self._check.right():
                log.error("cache not filled", image=self._image_id, reason="wrong_bytes")
                self._end("wrong_bytes")
                return False
            try:
                if self._grown < self._size + _TRAILER:
                    self._folder.grow(self._fd, self._size + _TRAILER)
                os.pwrite(self._fd, _trailer(self._size, time.time()), self._size)
                os.fsync(self._fd)
                kill_point("cache_whole")
                self._folder.publish(self._name)
            except (OSError, _NoRoomError) as error:
                self._fail(error)
            else:
                self._end("done", unlink=False)
                return True
            return False

    def _leave(self) -> bool:
        with self._lock:
            if not self._over:
                self._end("left")
            return False

    def _fail(self, error: OSError | _NoRoomError, *, unlink: bool = True) -> None:
        outcome = "no_room"
        if isinstance(error, OSError):
            outcome = "disk_full" if error.errno in _FULL else "disk"
        log.warning("cache not filled", image=self._image_id, reason=outcome, error=str(error))
        self._end(outcome, unlink=unlink)

    def _end(self, outcome: str | None, *, unlink: bool = True) -> None:
        self._over = True
        if outcome is not None:
            telemetry.CACHE_FILLS.labels(outcome).inc()
        if self._fd >= 0:
            if unlink:  # before the lock goes with the descriptor
                with suppress(OSError):
                    os.unlink(self._folder.part(self._name))
            os.close(self._fd)
            self._fd = -1
        self._folder.ended(self._name)

    @property
    def _image_id(self) -> str:
        return self._name.partition("+")[0]


def same_file(fd: int, path: str) -> bool:
    """Whether the open file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def _read(fd: int, name: str) -> Entry | None:
    """What the file's end says of it; None: it is damaged, by its size or its trailer. OSError."""
    found = os.fstat(fd)
    size = found.st_size - _TRAILER
    if not stat.S_ISREG(found.st_mode) or size < 0:
        return None
    trailer = os.pread(fd, _TRAILER, size)
    if len(trailer) < _TRAILER:
        return None
    magic, said, made = _FIXED.unpack_from(trailer)
    used, hits = _USE.unpack_from(trailer, _USE_AT)
    sound = (magic, said) == (_MAGIC, size) and trailer[:_USE_AT] == _fixed(size, made)
    return Entry(name, size, made, used, hits) if sound else None


def _trailer(size: int, now: float) -> bytes:
    return _fixed(size, now) + _USE.pack(now, 0)


def _fixed(size: int, made: float) -> bytes:
    fields = _FIXED.pack(_MAGIC, size, made)
    return fields + zlib.crc32(fields).to_bytes(4, "little")


@contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    fd = os.open(path, flags, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def _names(folder: str) -> list[str]:
    with suppress(FileNotFoundError):
        return [name for name in os.listdir(folder) if _NAME.fullmatch(name)]
    return []


def _sizes(folder: str) -> Iterator[int]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                yield entry.stat(follow_symlinks=False).st_size
