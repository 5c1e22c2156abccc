"""The memory of all transfers of a worker: one arena of a fixed number of blocks.

What is on the move lies in these blocks and nowhere else, so the arena's size is the worker's
byte budget. Who cannot get a reservation waits in line, which stops the reading of a socket.
"""

import asyncio
import mmap
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tidegate import telemetry

BLOCK = 2**20
"""Bytes of a block: what is read, hashed and written in one step."""


_NORESERVE = 0x4000 if sys.platform == "linux" else 0  # linux/mman.h; the mmap module lacks it


class Reservation:
    """``blocks`` are the caller's until ``release``, which may be called again."""

    def __init__(self, arena: "Arena", blocks: list[memoryview]) -> None:
        self._arena = arena
        self.blocks = blocks

    def release(self) -> None:
        blocks, self.blocks = self.blocks, []
        self._arena.take_back(blocks)


class Arena:
    """``budget`` is bytes, rounded down to whole blocks. First come, first served: a large
    reservation is never passed by, so none can starve."""

    def __init__(self, budget: int) -> None:
        self.blocks = max(1, budget // BLOCK)
        self._memory = mmap.mmap(-1, self.blocks * BLOCK, flags=mmap.MAP_PRIVATE | _NORESERVE)
        whole = memoryview(self._memory)
        # the last one freed is the first one used again: it is still in the processor's cache
        self._free = [whole[at * BLOCK : (at + 1) * BLOCK] for at in range(self.blocks)]
        self._line: deque[tuple[int, asyncio.Future[list[memoryview]]]] = deque()

    @property
    def in_use(self) -> int:
        """Bytes reserved now."""
        return (self.blocks - len(self._free)) * BLOCK

    @property
    def waiting(self) -> int:
        """Reservations in line."""
        return len(self._line)

    async def reserve(self, size: int) -> Reservation:
        """Blocks for ``size`` bytes (at most the whole arena), as soon as it is their turn."""
        count = max(1, -(-size // BLOCK))
        if count > self.blocks:
            raise ValueError(f"{size} bytes can never be reserved of {self.blocks * BLOCK}")
        if not self._line and count <= len(self._free):
            return Reservation(self, self._take(count))
        turn: asyncio.Future[list[memoryview]] = asyncio.get_running_loop().create_future()
        self._line.append((count, turn))
        telemetry.UPLOADS_WAITING.inc()
        try:
            return Reservation(self, await turn)
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.take_back(turn.result())
            else:
                self._line = deque(entry for entry in self._line if entry[1] is not turn)
                self._serve()
            raise
        finally:
            telemetry.UPLOADS_WAITING.dec()

    @asynccontextmanager
    async def reserved(self, size: int) -> AsyncIterator[list[memoryview]]:
        reservation = await self.reserve(size)
        try:
            yield reservation.blocks
        finally:
            reservation.release()

    def take_back(self, blocks: list[memoryview]) -> None:
        if blocks:
            self._free.extend(blocks)
            telemetry.BUFFER_BYTES.dec(len(blocks) * BLOCK)
            self._serve()

    def trim(self) -> None:
        """Give the memory of an idle arena back to the system."""
        if len(self._free) == self.blocks and hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED)

    def _take(self, count: int) -> list[memoryview]:
        taken = self._free[-count:]
        del self._free[-count:]
        telemetry.BUFFER_BYTES.inc(count * BLOCK)
        return taken

    def _serve(self) -> None:
        while self._line:
            count, turn = self._line[0]
            if turn.done():
                self._line.popleft()
                continue
            if count > len(self._free):
                return
            self._line.popleft()
            turn.set_result(self._take(count))
