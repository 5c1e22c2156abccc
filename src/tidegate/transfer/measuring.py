"""A source read whole, and only measured: nothing of it is kept."""

from collections.abc import Awaitable, Callable, Sequence

from tidegate.domain.upload import Sent
from tidegate.transfer.digest import DigestPool
from tidegate.transfer.memory import BLOCK, Arena
from tidegate.transfer.upload import Source


async def measure(
    source: Source,
    *,
    algorithms: Sequence[str],
    arena: Arena,
    digests: DigestPool,
    went: Callable[[int], Awaitable[None]],
) -> Sent:
    """``went`` is told the bytes of each block, and may hold the reading back or end it. Raises
    what the source does."""
    digesting, size = digests.open(algorithms), 0
    try:
        async with arena.reserved(BLOCK) as (block, *_):
            while count := await source.readinto(block):
                digesting.feed(block[:count])
                await digesting.mark()
                size += count
                await went(count)
        return Sent(size, digesting.hexdigests())
    finally:
        digesting.drop()
