"""Objects as files under one folder.

A file is written under a temporary name and gets its own when it is whole and on the disk. No path
comes from outside: keys are checked piece by piece, the folder is opened once, and links are never
followed.
"""

import asyncio
import errno
import os
import stat
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar
from uuid import uuid4

from tidegate import telemetry
from tidegate.domain.errors import (
    ObjectChanged,
    ObjectMissing,
    StoreBroke,
    StoreDown,
    StoreError,
    StoreFull,
    StoreReadOnly,
)
from tidegate.domain.export import KEY_PIECE
from tidegate.killpoints import kill_point
from tidegate.settings import FilesystemStore as FilesystemSettings
from tidegate.stores.base import Can, Descriptor, Limits, Listed, Part, Stored, Unfinished
from tidegate.stores.threads import FULL, copy_at, run_through, write_at

T = TypeVar("T")

_LIMITS = Limits(min_part=1, max_part=2**40, max_object=2**62, parts=2**31)
_UNFINISHED = ".unfinished"
_THREADS = 8
_PAGE = 1000
_SLICE = 8 * 2**20
_PROBE = "probe-"
_PROBE_LIVES = 3600.0
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = _OLD | os.O_DIRECTORY
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True, slots=True)
class _Key:
    """``folder/name``, both of harmless characters only."""

    folder: str
    name: str

    def temporary(self, upload_id: str) -> str:
        return f"{self.folder}+{self.name}+{upload_id}"


class FilesystemStore:
    def __init__(self, settings: FilesystemSettings) -> None:
        self.id = settings.id
        self.can = Can(zero_copy=True, copy=True)
        self.limits = _LIMITS
        self._path = settings.path
        self._url = f"file://{settings.path.absolute()}"
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"files-{settings.id}")
        self._root = -1
        self._temporary = -1

    async def open(self) -> None:
        def make() -> None:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root = os.open(self._path, _FOLDER)
            with suppress(FileExistsError):
                os.mkdir(_UNFINISHED, 0o700, dir_fd=self._root)
            self._temporary = os.open(_UNFINISHED, _FOLDER, dir_fd=self._root)
            # a folder that cannot be written to is better known now than at the first upload
            self._probe()
            self._clear_probes()

        try:
            await asyncio.to_thread(make)
        except OSError as error:
            raise StoreDown(
                self.id, f"the folder {self._path} cannot be used: {error.strerror}"
            ) from error

    async def close(self) -> None:
        for fd in (self._temporary, self._root):
            if fd >= 0:
                os.close(fd)
        self._root = self._temporary = -1
        self._threads.shutdown(wait=False)

    async def ping(self) -> None:
        try:
            await self._run(self._probe)
        except StoreError as error:
            raise StoreDown(self.id, error.reason) from error

    def _probe(self) -> None:
        name = f"{_PROBE}{uuid4().hex}"
        fd = os.open(name, _NEW, 0o600, dir_fd=self._temporary)
        try:
            os.write(fd, b"x" * 4096)
        finally:
            os.close(fd)
            os.unlink(name, dir_fd=self._temporary)

    def _clear_probes(self) -> None:
        """Those of processes that were killed in the middle of one."""
        for name in os.listdir(self._temporary):
            if name.startswith(_PROBE):
                with suppress(FileNotFoundError):
                    if self._modified(name) < time.time() - _PROBE_LIVES:
                        os.unlink(name, dir_fd=self._temporary)

    def url(self, key: str) -> str:
        return f"{self._url}/{key}"

    # bytes in

    async def put(self, key: str, part: Part) -> Stored:
        writing = await self.begin(key)
        try:
            await writing.put_part(part)
            return await writing.complete(part.size, part.crc64nvme)
        except StoreError:
            await self.abort(key, writing.upload_id)
            raise

    async def begin(self, key: str) -> "_FileWriting":
        place, upload_id = self._key(key), uuid4().hex

        def create() -> int:
            return os.open(place.temporary(upload_id), _NEW, 0o600, dir_fd=self._temporary)

        os.close(await self._run(create))
        return _FileWriting(self, place, upload_id)

    async def abort(self, key: str, upload_id: str) -> None:
        if not KEY_PIECE.fullmatch(upload_id):
            return
        place = self._key(key)
        with suppress(ObjectMissing):
            await self._run(partial(os.unlink, place.temporary(upload_id), dir_fd=self._temporary))

    async def write(self, place: _Key, upload_id: str, part: Part) -> None:
        def put() -> None:
            with self._open_temporary(place, upload_id) as fd:
                at = part.offset
                for block in part.blocks:
                    at = write_at(fd, block, at)

        await self._run(put)

    async def copy(
        self, place: _Key, upload_id: str, source: str, start: int, stop: int, etag: str | None
    ) -> None:
        """To the same offset. In slices, since whoever is cancelled waits for the thread."""
        there = self._key(source)

        def copy(at: int) -> None:
            end = min(at + _SLICE, stop)
            with (
                self._open_temporary(place, upload_id) as target,
                self._open_version(there, etag) as source,
            ):
                if copy_at(source, target, at, end) < end:
                    raise ObjectChanged(self.id, "the object is shorter than it was")

        for at in range(start, stop, _SLICE):
            await self._run(copy, at)

    async def publish(self, place: _Key, upload_id: str, size: int) -> Stored:
        def link() -> Stored:
            with self._open_temporary(place, upload_id) as fd:
                found = os.fstat(fd)
                if found.st_size != size:
                    raise StoreBroke(self.id, f"the file has {found.st_size} bytes, not {size}")
                os.fsync(fd)
                kill_point("before_complete")
                self._link(place, upload_id)
                kill_point("after_complete")
                return _stored(found)

        return await self._run(link)

    def _link(self, place: _Key, upload_id: str) -> None:
        temporary = place.temporary(upload_id)
        while True:
            with suppress(FileExistsError):
                os.mkdir(place.folder, 0o700, dir_fd=self._root)
                os.fsync(self._root)
            try:
                folder = os.open(place.folder, _FOLDER, dir_fd=self._root)
            except FileNotFoundError:  # removed by a delete of its last object: make it again
                continue
            try:
                os.link(temporary, place.name, src_dir_fd=self._temporary, dst_dir_fd=folder)
                os.fsync(folder)
            except FileNotFoundError:
                os.stat(temporary, dir_fd=self._temporary)  # gone: that is the error
                continue
            finally:
                os.close(folder)
            os.unlink(temporary, dir_fd=self._temporary)
            return

    @contextmanager
    def _open_temporary(self, place: _Key, upload_id: str) -> Iterator[int]:
        try:
            fd = os.open(
                place.temporary(upload_id),
                os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC,
                dir_fd=self._temporary,
            )
        except FileNotFoundError:
            raise StoreBroke(self.id, "it no longer knows the upload") from None
        try:
            yield fd
        finally:
            os.close(fd)

    # bytes out

    async def look(self, key: str) -> Stored:
        place = self._key(key)

        def look() -> Stored:
            fd = self._open(place)
            try:
                return _stored(os.fstat(fd))
            finally:
                os.close(fd)

        return await self._run(look)

    @asynccontextmanager
    async def read(
        self, key: str, start: int = 0, stop: int | None = None, *, etag: str | None = None
    ) -> AsyncIterator["_FileReading"]:
        fd = await self._run(self._open, self._key(key))
        try:
            stored = self._see_version(fd, etag)
            telemetry.STORE_CALLS.labels(self.id, "read", "ok").inc()
            yield _FileReading(self, fd, stored, start, stop)
        finally:
            os.close(fd)

    async def read_at(self, fd: int, block: memoryview, at: int) -> int:
        return await self._run(os.preadv, fd, [block], at)

    async def delete(self, key: str) -> None:
        place = self._key(key)

        def remove() -> None:
            folder = os.open(place.folder, _FOLDER, dir_fd=self._root)
            try:
                with suppress(FileNotFoundError):  # the folder may be left of a delete that died
                    os.unlink(place.name, dir_fd=folder)
                    os.fsync(folder)
            finally:
                os.close(folder)
            with suppress(OSError):  # another attempt's object may lie beside it
                os.rmdir(place.folder, dir_fd=self._root)

        with suppress(ObjectMissing):
            await self._run(remove)

    async def unfinished(self, prefix: str = "") -> AsyncIterator[Unfinished]:
        async for name in self._names(self._temporary):
            pieces = name.split("+")
            if len(pieces) == 3 and f"{pieces[0]}/{pieces[1]}".startswith(prefix):
                with suppress(ObjectMissing):
                    begun = await self._run(self._modified, name)
                    yield Unfinished(f"{pieces[0]}/{pieces[1]}", pieces[2], begun)

    async def keys(self, prefix: str = "") -> AsyncIterator[Listed]:
        def files(folder: str) -> list[Listed]:
            found: list[Listed] = []
            with suppress(FileNotFoundError, NotADirectoryError):
                fd = os.open(folder, _FOLDER, dir_fd=self._root)
                try:
                    for entry in os.scandir(fd):
                        with suppress(FileNotFoundError):  # removed meanwhile, and the others not
                            if entry.is_file(follow_symlinks=False):
                                size = entry.stat(follow_symlinks=False).st_size
                                found.append(Listed(f"{folder}/{entry.name}", size))
                finally:
                    os.close(fd)
            return found

        async for folder in self._names(self._root):
            if folder == _UNFINISHED or not _may_begin(f"{folder}/", prefix):
                continue
            for entry in await self._run(files, folder):
                if entry.key.startswith(prefix):
                    yield entry

    async def _names(self, folder: int) -> AsyncIterator[str]:
        """What a folder holds, a page at a time."""

        def begin() -> Iterator[os.DirEntry[str]]:
            # a descriptor of its own: the place in a folder is shared by all copies of one
            fd = os.open(".", _FOLDER, dir_fd=folder)
            try:
                return os.scandir(fd)
            finally:
                os.close(fd)

        entries = await self._run(begin)
        while page := await self._run(lambda: [entry.name for entry in islice(entries, _PAGE)]):
            for name in page:
                yield name

    def _modified(self, name: str) -> float:
        return os.stat(name, dir_fd=self._temporary, follow_symlinks=False).st_mtime

    # what the rest stands on

    def _key(self, key: str) -> _Key:
        pieces = key.split("/")
        if len(pieces) != 2 or not all(map(KEY_PIECE.fullmatch, pieces)):
            raise ObjectMissing(self.id, "no such object")
        return _Key(*pieces)

    def _open(self, place: _Key) -> int:
        folder = os.open(place.folder, _FOLDER, dir_fd=self._root)
        try:
            fd = os.open(place.name, _OLD | os.O_NONBLOCK, dir_fd=folder)
        finally:
            os.close(folder)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise StoreBroke(self.id, "it is not a regular file")
        return fd

    @contextmanager
    def _open_version(self, place: _Key, etag: str | None) -> Iterator[int]:
        fd = self._open(place)
        try:
            self._see_version(fd, etag)
            yield fd
        finally:
            os.close(fd)

    def _see_version(self, fd: int, etag: str | None) -> Stored:
        stored = _stored(os.fstat(fd))
        if etag not in (None, stored.etag):
            raise ObjectChanged(self.id, "the object is not the one that was written")
        return stored

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        return await run_through(self._threads, self._translated, work, *args)

    def _translated(self, work: Callable[..., T], *args: object) -> T:
        try:
            return work(*args)
        except FileNotFoundError:
            raise ObjectMissing(self.id, "no such object") from None
        except OSError as error:
            said = error.strerror or type(error).__name__
            if error.errno in FULL:
                raise StoreFull(self.id, f"no room: {said}") from error
            if error.errno in _READ_ONLY:
                raise StoreReadOnly(self.id, f"it takes no data: {said}") from error
            raise StoreBroke(self.id, f"the file cannot be used: {said}") from error


class _FileWriting:
    def __init__(self, store: FilesystemStore, place: _Key, upload_id: str) -> None:
        self._store = store
        self._place = place
        self.upload_id = upload_id

    async def put_part(self, part: Part) -> None:
        await self._store.write(self._place, self.upload_id, part)

    async def copy_part(
        self, number: int, source: str, start: int, stop: int, *, etag: str | None
    ) -> int | None:
        await self._store.copy(self._place, self.upload_id, source, start, stop, etag)
        return None

    async def complete(self, size: int, crc64nvme: int | None) -> Stored:
        return await self._store.publish(self._place, self.upload_id, size)


class _FileReading:
    def __init__(
        self, store: FilesystemStore, fd: int, stored: Stored, start: int, stop: int | None
    ) -> None:
        self._store = store
        self._fd = fd
        self._at = start
        self._stop = stop
        self.stored = stored

    @property
    def descriptor(self) -> Descriptor | None:
        return Descriptor(self._fd, self._at)

    async def readinto(self, block: memoryview) -> int:
        if self._stop is not None:
            block = block[: max(0, self._stop - self._at)]
        if not block:
            return 0
        count = await self._store.read_at(self._fd, block, self._at)
        self._at += count
        return count


def _stored(found: os.stat_result) -> Stored:
    etag = f"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"
    return Stored(found.st_size, etag, modified=found.st_mtime)


def _may_begin(folder: str, prefix: str) -> bool:
    return folder.startswith(prefix) or prefix.startswith(folder)
