"""Bytes out as one body whose last block waits until all are known to be right: whoever takes them
has never all of something wrong."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from tidegate.domain.errors import SizeMismatch, first_failure
from tidegate.domain.upload import Sent
from tidegate.transfer.digest import Digests
from tidegate.transfer.memory import BLOCK, Arena
from tidegate.transfer.upload import Source

_HELD = 4
"""Blocks of one body in memory: being filled, held back, next, and with the transport, which may
keep what it said it took, so that each goes out as a copy."""


class Outgoing:
    """``size`` is bytes, of which no more leave; ``judge`` is told what was read before the last
    block leaves, and raises if that must not."""

    def __init__(
        self,
        source: Source,
        *,
        size: int,
        arena: Arena,
        digests: Digests,
        judge: Callable[[Sent], Awaitable[None]],
    ) -> None:
        self._source = source
        self._size = size
        self._arena = arena
        self._digests = digests
        self._judge = judge
        self._next: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=1)

    async def send(self, put: Callable[[AsyncIterator[bytes]], Awaitable[None]]) -> Sent:
        """Read the source to its end, through ``put``. SizeMismatch: there is more; what source,
        ``judge`` and ``put`` raise."""
        try:
            async with (
                self._arena.reserved(_HELD * BLOCK) as blocks,
                asyncio.TaskGroup() as group,
            ):
                # what is cancelled here has ended before its block is another's
                reading = group.create_task(self._read(blocks[0]))
                await put(self._blocks())
                return await reading
        except BaseExceptionGroup as failures:
            raise first_failure(failures) from failures
        finally:
            self._digests.drop()

    async def _blocks(self) -> AsyncIterator[bytes]:
        while (block := await self._next.get()) is not None:
            yield block

    async def _read(self, block: memoryview) -> Sent:
        held, size = b"", 0
        while count := await self._fill(block):
            size += count
            if size > self._size:
                raise SizeMismatch(self._size, size)
            if held:
                await self._next.put(held)
            held = bytes(block[:count])
            self._digests.feed(memoryview(held))
            await self._digests.mark()
        sent = Sent(size, self._digests.hexdigests())
        await self._judge(sent)
        if held:
            await self._next.put(held)
        await self._next.put(None)
        return sent

    async def _fill(self, block: memoryview) -> int:
        at = 0
        while at < len(block) and (count := await self._source.readinto(block[at:])):
            at += count
        await asyncio.sleep(0)  # a source that is never behind must not have the loop alone
        return at
