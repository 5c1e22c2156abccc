import hashlib
from collections.abc import Iterator

import pytest
from tests.kit.sources import pattern

from tidegate.domain.errors import SourceBroke
from tidegate.transfer.digest import DigestPool
from tidegate.transfer.measuring import measure
from tidegate.transfer.memory import BLOCK, Arena

DATA = pattern(3 * BLOCK + 17)


class Bytes:
    """Gives them, some at a time; then breaks, if it shall."""

    def __init__(self, data: bytes, *, breaks: bool = False) -> None:
        self._left = memoryview(data)
        self._breaks = breaks

    async def readinto(self, block: memoryview) -> int:
        if not self._left and self._breaks:
            raise SourceBroke("It broke.")
        count = min(len(block), len(self._left), 700_000)
        block[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


@pytest.fixture
def pool() -> Iterator[DigestPool]:
    pool = DigestPool(2)
    yield pool
    pool.close()


async def test_a_source_is_measured_in_one_block_of_memory(pool: DigestPool) -> None:
    arena, told = Arena(4 * BLOCK), list[int]()

    async def went(count: int) -> None:
        assert arena.in_use == BLOCK
        told.append(count)

    sent = await measure(
        Bytes(DATA), algorithms=["md5", "sha512"], arena=arena, digests=pool, went=went
    )
    assert (sent.size, sum(told)) == (len(DATA), len(DATA))
    assert sent.digests == {
        "md5": hashlib.md5(DATA, usedforsecurity=False).hexdigest(),
        "sha512": hashlib.sha512(DATA).hexdigest(),
    }
    assert arena.in_use == 0


@pytest.mark.parametrize("who", ["source", "listener"])
async def test_whoever_ends_it_the_memory_comes_back(pool: DigestPool, who: str) -> None:
    arena = Arena(4 * BLOCK)

    async def went(count: int) -> None:
        if who == "listener":
            raise SourceBroke("No more.")

    source = Bytes(DATA, breaks=who == "source")
    with pytest.raises(SourceBroke):
        await measure(source, algorithms=["md5"], arena=arena, digests=pool, went=went)
    assert arena.in_use == 0
