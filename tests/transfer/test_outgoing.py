"""A body whose last block waits until all of it is known to be right."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest
from tests.kit.sources import Bytes, pattern

from tidegate.domain.errors import ClientGone, Conflict, SizeMismatch, TargetRefused
from tidegate.domain.upload import Sent
from tidegate.transfer.digest import DigestPool
from tidegate.transfer.memory import BLOCK, Arena
from tidegate.transfer.outgoing import Outgoing


class Bench:
    def __init__(self) -> None:
        self.arena = Arena(8 * BLOCK)
        self.pool = DigestPool(2)
        self.got = bytearray()
        self.judged: list[tuple[int, Sent]] = []

    def outgoing(
        self, source: Bytes, *, wrong: Exception | None = None, size: int | None = None
    ) -> Outgoing:
        async def judge(sent: Sent) -> None:
            self.judged.append((len(self.got), sent))
            if wrong is not None:
                raise wrong

        digests = self.pool.open(["md5", "sha512"])
        return Outgoing(
            source,
            size=len(source.data) if size is None else size,
            arena=self.arena,
            digests=digests,
            judge=judge,
        )

    async def put(self, blocks: AsyncIterator[bytes]) -> None:
        async for block in blocks:
            await asyncio.sleep(0)
            self.got += block


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    bench.pool.close()


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK, 12 * BLOCK + 7])
async def test_what_is_read_goes_out_and_the_last_block_only_when_it_was_judged(
    bench: Bench, size: int
) -> None:
    body = pattern(size)
    sent = await bench.outgoing(Bytes(body)).send(bench.put)
    assert bytes(bench.got) == body
    ((before, judged),) = bench.judged
    assert judged == sent
    assert before < size or size == 0
    assert (sent.size, sent.digests["md5"]) == (size, hashlib.md5(body).hexdigest())
    assert sent.digests["sha512"] == hashlib.sha512(body).hexdigest()
    assert bench.arena.in_use == 0


@pytest.mark.parametrize("size", [1, BLOCK, 5 * BLOCK])
async def test_what_is_wrong_is_never_whole(bench: Bench, size: int) -> None:
    with pytest.raises(Conflict, match="wrong"):
        await bench.outgoing(Bytes(pattern(size)), wrong=Conflict("wrong")).send(bench.put)
    assert len(bench.got) < size
    assert bench.arena.in_use == 0


@pytest.mark.parametrize("size", [0, 1, BLOCK, BLOCK + 1, 3 * BLOCK])
async def test_a_source_that_gives_more_than_was_said_fills_no_request(
    bench: Bench, size: int
) -> None:
    with pytest.raises(SizeMismatch):
        await bench.outgoing(Bytes(pattern(4 * BLOCK)), size=size).send(bench.put)
    assert len(bench.got) < max(size, 1)
    assert bench.judged == []


async def test_a_source_that_breaks_off_ends_it(bench: Bench) -> None:
    source = Bytes(pattern(5 * BLOCK), breaks_at=3 * BLOCK)
    with pytest.raises(ClientGone):
        await bench.outgoing(source).send(bench.put)
    assert bench.judged == []
    assert bench.arena.in_use == 0


async def test_a_target_that_refuses_stops_the_reading(bench: Bench) -> None:
    async def refuse(blocks: AsyncIterator[bytes]) -> None:
        await anext(blocks)
        raise TargetRefused("no")

    source = Bytes(pattern(64 * BLOCK))
    with pytest.raises(TargetRefused):
        await bench.outgoing(source).send(refuse)
    assert source.at <= 4 * BLOCK
    assert bench.arena.in_use == 0


async def test_a_slow_target_stops_the_reading(bench: Bench) -> None:
    release = asyncio.Event()

    async def slowly(blocks: AsyncIterator[bytes]) -> None:
        bench.got += await anext(blocks)
        await release.wait()
        await bench.put(blocks)

    source = Bytes(pattern(64 * BLOCK))
    sending = asyncio.ensure_future(bench.outgoing(source).send(slowly))
    while source.at < 3 * BLOCK:
        await asyncio.sleep(0)
    for _ in range(200):
        await asyncio.sleep(0)
    assert source.at <= 4 * BLOCK
    release.set()
    assert (await sending).size == 64 * BLOCK
