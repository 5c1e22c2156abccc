"""Bytes kept in memory as cheaply as a kernel allows: straight from a socket, straight to one.

All of them lie in one memory file whose pages are used again and again, so that the price of a
fresh page is paid once. What discards its bytes keeps their number alone.
"""

import mmap
import os
import select
import socket
import threading
import time
from collections.abc import Iterator

CHUNK = 2**20
"""Bytes that are handed out together."""

STEP = 64 * 2**10
"""Bytes received at a time under a throttle."""

WAKE_AT = 256 * 2**10
"""Bytes worth waking up for."""

TIMEOUT = 600
"""Seconds of silence that are taken for the end: a slow gateway is a result, a hung one is not."""

_NORESERVE = 0x4000  # linux/mman.h; the mmap module lacks it
_SCRATCH = 0  # the chunk that stands for all discarded bytes


class NoRoom(Exception):
    """The machine's memory is not meant to hold more."""


class Throttle:
    """All who take share ``rate`` bytes per second, first come, first served."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def take(self, count: int) -> None:
        """Return when it is these bytes' turn."""
        with self._lock:
            now = time.monotonic()
            begin = max(now, self._free_at)
            self._free_at = begin + count / self._rate
        if begin > now:
            time.sleep(begin - now)


class Receiver:
    """Bytes of a connection in large steps. Whoever sends over loopback pays for each time the
    receiver is woken, so it sleeps until there is enough."""

    def __init__(self, connection: socket.socket, *, keep: bool) -> None:
        self._socket = connection
        # without ``keep`` the kernel itself drops the bytes
        self._flags = socket.MSG_DONTWAIT | (0 if keep else socket.MSG_TRUNC)
        self._wake_at = 1
        self._readable = select.poll()
        self._readable.register(connection, select.POLLIN)

    def receive_into(self, room: memoryview) -> int:
        """Some bytes, at least one. ConnectionError: the other side has ended, or was silent."""
        while True:
            try:
                count = self._socket.recv_into(room, len(room), self._flags)
            except BlockingIOError:
                self._wake(min(len(room), WAKE_AT))
                if not self._readable.poll(TIMEOUT * 1000):
                    raise ConnectionResetError("the other side was silent") from None
                continue
            if count == 0:
                raise ConnectionResetError("the other side ended early")
            return count

    def close(self) -> None:
        """Be woken by every byte again."""
        self._wake(1)

    def _wake(self, count: int) -> None:
        if count != self._wake_at:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
            self._wake_at = count


class Pool:
    """Chunks of one memory file, at most ``capacity`` bytes of them in use."""

    def __init__(
        self, capacity: int, *, discard: bool = False, throttle: Throttle | None = None
    ) -> None:
        self.discard = discard
        self.throttle = throttle
        self._count = max(2, capacity // CHUNK)
        self.fd = os.memfd_create("blobs")
        os.ftruncate(self.fd, self._count * CHUNK)
        self._memory = memoryview(
            mmap.mmap(self.fd, self._count * CHUNK, flags=mmap.MAP_SHARED | _NORESERVE)
        )
        # list operations are atomic, so neither of these needs a lock
        self._fresh = iter(range(_SCRATCH + 1, self._count))
        self._free: list[int] = []

    def take(self) -> int:
        """A chunk's number. NoRoom."""
        try:
            return self._free.pop()
        except IndexError:
            number = next(self._fresh, None)
        if number is None:
            raise NoRoom
        return number

    def give_back(self, chunks: list[int]) -> None:
        self._free.extend(chunks)

    def view(self, chunk: int) -> memoryview:
        return self._memory[chunk * CHUNK : (chunk + 1) * CHUNK]


class Blob:
    """Some bytes in a pool, given back when nobody holds the blob any more. Without ``keep`` their
    number is right, and nothing else."""

    def __init__(self, pool: Pool, *, keep: bool) -> None:
        self._pool = pool
        self._keep = keep
        self._chunks: list[int] = []
        self.size = 0

    def __del__(self) -> None:
        self._pool.give_back(self._chunks)

    def append(self, data: bytes) -> None:
        for room in self._rooms(len(data)):
            if self._keep:
                room[:] = data[: len(room)]
            data = data[len(room) :]

    def receive(self, connection: socket.socket, count: int) -> None:
        """The next ``count`` bytes of a connection. ConnectionError, NoRoom."""
        throttle = self._pool.throttle
        receiving = Receiver(connection, keep=self._keep)
        for room in self._rooms(count):
            while room:
                step = len(room)
                if throttle is not None:
                    step = min(step, STEP)
                    throttle.take(step)
                got = receiving.receive_into(room[:step])
                room = room[got:]
        receiving.close()

    def read(self) -> bytes:
        views = (self._pool.view(chunk) for chunk in self._chunks)
        return b"".join(views)[: self.size]

    def send(self, connection: socket.socket, start: int, stop: int) -> None:
        """Bytes [start, stop), which never pass through this process."""
        while start < stop:
            number, offset = divmod(start, CHUNK)
            chunk = self._chunks[number] if self._keep else _SCRATCH
            count = min(CHUNK - offset, stop - start)
            start += os.sendfile(connection.fileno(), self._pool.fd, chunk * CHUNK + offset, count)

    def _rooms(self, count: int) -> Iterator[memoryview]:
        """Memory for the next ``count`` bytes, piece by piece."""
        while count > 0:
            offset = self.size % CHUNK
            if self._keep and offset == 0:
                self._chunks.append(self._pool.take())
            room = self._pool.view(self._chunks[-1] if self._keep else _SCRATCH)[offset:]
            room = room[:count]
            yield room
            self.size += len(room)
            count -= len(room)
