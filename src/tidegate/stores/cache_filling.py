"""A copy in the making."""

import fcntl
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Protocol, TypeVar

from tidegate import telemetry
from tidegate.killpoints import kill_point
from tidegate.stores.cache_files import CHANGE, TRAILER, image_of, same_file, trailer
from tidegate.stores.threads import FULL
from tidegate.telemetry import log

T = TypeVar("T")

STEP = 64 * 2**20
"""Bytes for which room is made at a time while a copy grows."""


class Check(Protocol):
    """Whether the bytes of a copy are the right ones; told all of them in order."""

    def update(self, data: memoryview, /) -> object: ...

    def right(self) -> bool: ...


class NoRoomError(Exception):
    pass


class Folder(Protocol):
    """Where it is made; each call but ``submit`` and ``ended`` in a thread."""

    def part(self, name: str) -> str: ...

    def has(self, name: str) -> bool: ...

    def grow(self, fd: int, size: int) -> None: ...

    def publish(self, name: str) -> None: ...

    def submit(self, work: Callable[[], T]) -> "Future[T]": ...

    def ended(self, name: str) -> None: ...


class Filling:
    """A copy in the making. A disk that fails or is full ends it, and nothing else: what is
    written from then on goes nowhere. All that touches the file is done in threads, one at a
    time."""

    def __init__(self, folder: Folder, name: str, size: int, check: Check) -> None:
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
                self._fd = os.open(path, CHANGE | os.O_CREAT, 0o600)
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
                        whole = self._size + TRAILER
                        self._folder.grow(self._fd, min(whole, self._grown + STEP))
                        self._grown = min(whole, self._grown + STEP)
                    count = os.pwrite(self._fd, block[: self._grown - self._at], self._at)
                    self._at += count
                    block = block[count:]
                kill_point("cache_half_filled")
            except (OSError, NoRoomError) as error:
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
                if self._grown < self._size + TRAILER:
                    self._folder.grow(self._fd, self._size + TRAILER)
                os.pwrite(self._fd, trailer(self._size, time.time()), self._size)
                os.fsync(self._fd)
                kill_point("cache_whole")
                self._folder.publish(self._name)
            except (OSError, NoRoomError) as error:
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

    def _fail(self, error: OSError | NoRoomError, *, unlink: bool = True) -> None:
        outcome = "no_room"
        if isinstance(error, OSError):
            outcome = "disk_full" if error.errno in FULL else "disk"
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
        return image_of(self._name)
