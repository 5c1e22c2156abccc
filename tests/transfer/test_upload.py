import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest
from awscrt.checksums import crc64nvme
from tests.kit.sources import Bytes
from tests.kit.sources import pattern as data
from tests.kit.stores import FaultyStore, objects, read_all

from tidegate.domain.errors import ClientGone, SizeMismatch, StoreBroke, TooLarge
from tidegate.stores.base import Part
from tidegate.stores.memory import MemoryStore
from tidegate.transfer.digest import DigestPool
from tidegate.transfer.memory import BLOCK, Arena
from tidegate.transfer.parts import plan
from tidegate.transfer.upload import Sending

MIB = 2**20
KEY = "image/attempt"


class Bench:
    def __init__(self) -> None:
        self.arena = Arena(32 * BLOCK)
        self.pool = DigestPool(2)
        self.store = FaultyStore(MemoryStore())
        self.began: list[str] = []

    def sending(
        self, source: Bytes, *, known: bool = True, in_parts: bool = False, **changes: int
    ) -> Sending:
        async def began(upload_id: str) -> None:
            self.began.append(upload_id)

        length = len(source.data) if known else None
        cut = plan(length, framed=known, start=4 * MIB, budget=32 * MIB, limits=self.store.limits)
        return Sending(
            source,
            self.store,
            KEY,
            plan=cut,
            arena=self.arena,
            digests=self.pool.open(["md5", "sha512"]),
            in_flight=2,
            max_size=changes.get("max_size", 2**40),
            expected_size=changes.get("expected_size"),
            began=began,
            in_parts=in_parts,
        )


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    bench.pool.close()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "size", [0, 1, BLOCK, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 12 * MIB, 13 * MIB + 7]
)
async def test_what_comes_in_is_what_is_stored(bench: Bench, size: int, known: bool) -> None:
    body = data(size)
    async with bench.sending(Bytes(body), known=known) as sending:
        sent = await sending.run()
        await sending.finish()
    assert await read_all(bench.store, KEY) == body
    assert sent.size == size
    assert sent.digests["md5"] == hashlib.md5(body).hexdigest()
    assert sent.digests["sha512"] == hashlib.sha512(body).hexdigest()
    assert sent.crc64nvme == crc64nvme(body)


async def test_a_body_of_one_part_is_not_begun_at_the_store(bench: Bench) -> None:
    async with bench.sending(Bytes(data(4 * MIB))) as sending:
        await sending.run()
        assert sending.upload_id is None
        assert await objects(bench.store) == {}
        await sending.finish()
    assert bench.began == []


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [0, 1, 4 * MIB, 4 * MIB + 1])
async def test_where_it_is_to_be_in_parts_a_body_of_one_is_begun_as_well(
    bench: Bench, size: int, known: bool
) -> None:
    body = data(size)
    async with bench.sending(Bytes(body), known=known, in_parts=True) as sending:
        sent = await sending.run()
        assert bench.began == [sending.upload_id]
        assert await objects(bench.store) == {}
        await sending.finish()
    assert sent.size == size
    assert await read_all(bench.store, KEY) == body
    assert "put" not in bench.store.calls
    assert bench.arena.in_use == 0


async def test_the_stores_upload_id_is_told_before_the_first_part(bench: Bench) -> None:
    told_at_part: list[int] = []

    async def look(part: Part) -> None:
        told_at_part.append(len(bench.began))

    bench.store.before["put_part"] = look
    async with bench.sending(Bytes(data(12 * MIB))) as sending:
        await sending.run()
        assert bench.began == [sending.upload_id]
    assert told_at_part == [1, 1, 1]


async def test_memory_is_given_back_whatever_happens(bench: Bench) -> None:
    async with bench.sending(Bytes(data(9 * MIB))) as sending:
        await sending.run()
        await sending.finish()
    assert bench.arena.in_use == 0
    with pytest.raises(ClientGone):
        async with bench.sending(Bytes(data(9 * MIB), breaks_at=5 * MIB)) as sending:
            await sending.run()
    assert bench.arena.in_use == 0


async def test_a_client_that_goes_is_told_as_such(bench: Bench) -> None:
    async with bench.sending(Bytes(data(9 * MIB), breaks_at=6 * MIB)) as sending:
        with pytest.raises(ClientGone):
            await sending.run()
        assert sending.step == "reading"
        assert 6 * MIB <= sending.received < 7 * MIB


async def test_more_than_announced_stops_the_reading(bench: Bench) -> None:
    source = Bytes(data(9 * MIB))
    async with bench.sending(source, known=False, expected_size=5 * MIB) as sending:
        with pytest.raises(SizeMismatch):
            await sending.run()
    assert source.at < 6 * MIB


async def test_more_than_allowed_stops_the_reading(bench: Bench) -> None:
    source = Bytes(data(9 * MIB))
    async with bench.sending(source, known=False, max_size=5 * MIB) as sending:
        with pytest.raises(TooLarge):
            await sending.run()
    assert source.at < 6 * MIB


async def test_the_first_part_that_fails_stops_the_reading(bench: Bench) -> None:
    bench.store.fail("put_part", StoreBroke("memory", "broken"))
    source = Bytes(data(64 * MIB))
    async with bench.sending(source) as sending:
        with pytest.raises(StoreBroke):
            await sending.run()
        assert sending.step.startswith("part ")
    assert source.at < 32 * MIB


async def test_a_store_that_is_slow_stops_the_reading(bench: Bench) -> None:
    release, full = asyncio.Event(), asyncio.Event()

    async def filled() -> None:
        full.set()

    async def wait(part: Part) -> None:
        await release.wait()

    bench.store.before["put_part"] = wait
    # two parts in flight and one being filled; its last bytes are the last that are read
    source = Bytes(data(48 * MIB), at_byte=(12 * MIB - 70_001, filled))
    async with bench.sending(source) as sending, asyncio.TaskGroup() as group:
        running = group.create_task(sending.run())
        await full.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        assert source.at == 12 * MIB
        release.set()
        assert (await running).size == 48 * MIB
