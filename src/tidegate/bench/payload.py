"""Bytes to send: incompressible, the same in every run, and out of memory straight to a socket."""

import hashlib
import mmap
import os
import random
import socket

PERIOD = 256 * 2**20
"""Bytes after which longer payloads repeat; far more than a processor's cache."""

_STEP = 2**20


class Payload:
    """An endless tape of bytes; a slice of it is an image's data."""

    def __init__(self, largest: int) -> None:
        """``largest``: no slice will be longer."""
        self._period = min(PERIOD, -(-max(1, largest) // _STEP) * _STEP)
        self._fd = os.memfd_create("payload")
        os.ftruncate(self._fd, self._period)
        self._memory = mmap.mmap(self._fd, self._period)
        source = random.Random(4711)
        for at in range(0, self._period, _STEP):
            block = bytearray(source.randbytes(_STEP))
            block[510::512] = b"\1" * (_STEP // 512)  # or some would begin like a boot sector
            self._memory[at : at + _STEP] = block
        self._digests: dict[tuple[int, int], str] = {}

    def offset(self, number: int, size: int) -> int:
        """Where the data of image ``number`` begins: neighbours' differ if the tape is longer."""
        return number * size % self._period

    def send(self, connection: socket.socket, offset: int, size: int) -> None:
        for at, count in self._pieces(offset, size):
            stop = at + count
            while at < stop:
                at += os.sendfile(connection.fileno(), self._fd, at, stop - at)

    def views(self, offset: int, size: int) -> list[memoryview]:
        whole = memoryview(self._memory)
        return [whole[at : at + count] for at, count in self._pieces(offset, size)]

    def md5(self, offset: int, size: int) -> str:
        """Hex; computed once."""
        known = self._digests.get((offset, size))
        if known is None:
            digest = hashlib.md5(usedforsecurity=False)
            for view in self.views(offset, size):
                digest.update(view)
            known = self._digests[offset, size] = digest.hexdigest()
        return known

    def _pieces(self, offset: int, size: int) -> list[tuple[int, int]]:
        """Offsets and lengths within one period."""
        pieces = []
        while size > 0:
            count = min(size, self._period - offset)
            pieces.append((offset, count))
            offset, size = 0, size - count
        return pieces
