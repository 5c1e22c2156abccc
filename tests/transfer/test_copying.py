"""An object that its store makes of another one."""

import asyncio
from dataclasses import replace

import pytest
from awscrt.checksums import crc64nvme
from tests.kit.sources import pattern
from tests.kit.stores import FaultyStore, objects, part_of, read_all

from tidegate.domain.errors import NotCopied, ObjectChanged, ObjectMissing, SourceBroke, StoreBroke
from tidegate.domain.upload import Sent
from tidegate.stores.memory import MemoryStore
from tidegate.transfer import copying
from tidegate.transfer.copying import Copying, Original
from tidegate.transfer.memory import BLOCK

SOURCE, KEY = "image/source", "image/copy"
PART = 4 * BLOCK
FORMATS = ("raw", "bare")


class Bench:
    def __init__(self) -> None:
        self.store = FaultyStore(MemoryStore())
        self.began: list[str] = []

    async def copying(self, data: bytes, **changes: int) -> Copying:
        async def began(upload_id: str) -> None:
            self.began.append(upload_id)

        await self.store.put(SOURCE, part_of(data))
        stored = await self.store.look(SOURCE)
        sent = replace(Sent(len(data), {"md5": "m"}, crc64nvme(data), virtual_size=7), **changes)
        original = Original(key=SOURCE, etag=stored.etag, sent=sent, formats=FORMATS)
        return Copying(original, self.store, KEY, in_flight=2, began=began)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(copying, "PART", PART)
    return Bench()


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART, 5 * PART + 7])
async def test_a_copy_has_the_bytes_of_the_original_and_all_that_is_known_of_them(
    bench: Bench, size: int
) -> None:
    data = pattern(size)
    async with await bench.copying(data) as one:
        sent = await one.run()
        assert list(await objects(bench.store)) == [SOURCE]
        await one.finish()
    assert await read_all(bench.store, KEY) == data
    parts = max(1, -(-size // PART))
    assert sent == Sent(size, {"md5": "m"}, crc64nvme(data), parts=parts, virtual_size=7)
    assert (one.received, len(bench.began)) == (size, 1 if size else 0)


async def test_the_stores_upload_id_is_told_before_the_first_part(bench: Bench) -> None:
    told: list[int] = []

    async def look(*_: object) -> None:
        told.append(len(bench.began))

    bench.store.before["copy_part"] = look
    async with await bench.copying(pattern(2 * PART)) as one:
        await one.run()
        assert bench.began == [one.upload_id]
    assert told == [1, 1]


async def test_an_upload_whose_id_cannot_be_told_is_known_to_who_aborts_it(bench: Bench) -> None:
    one = await bench.copying(pattern(PART))

    async def fail(_: str) -> None:
        raise StoreBroke("memory", "broken")

    one._began = fail
    with pytest.raises(StoreBroke):
        await one.run()
    assert one.upload_id is not None
    assert one.step == "begin"


async def test_so_many_parts_are_asked_for_at_a_time(bench: Bench) -> None:
    at_once = most = 0

    async def enter(*_: object) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)

    async def leave(*_: object) -> None:
        nonlocal at_once
        at_once -= 1

    bench.store.before["copy_part"], bench.store.after["copy_part"] = enter, leave
    async with await bench.copying(pattern(6 * PART)) as one:
        await one.run()
    assert most == 2


@pytest.mark.parametrize("error", [ObjectMissing, ObjectChanged])
async def test_an_original_that_is_gone_or_another_is_a_source_that_broke(
    bench: Bench, error: type[ObjectMissing]
) -> None:
    async with await bench.copying(pattern(3 * PART)) as one:
        bench.store.fail("copy_part", error("memory", "no such object"))
        with pytest.raises(SourceBroke):
            await one.run()
        assert one.step.startswith("part ")


async def test_a_store_that_does_not_copy_is_told_as_such(bench: Bench) -> None:
    async with await bench.copying(pattern(3 * PART)) as one:
        bench.store.fail("copy_part", NotCopied("memory", "it does not copy"))
        with pytest.raises(NotCopied):
            await one.run()


async def test_other_bytes_than_are_known_are_not_made_an_object(bench: Bench) -> None:
    async with await bench.copying(pattern(3 * PART), crc64nvme=5) as one:
        with pytest.raises(StoreBroke, match="not what was uploaded"):
            await one.run()
        assert not one.finishing
    assert list(await objects(bench.store)) == [SOURCE]


async def test_who_is_cancelled_asks_for_no_more(bench: Bench) -> None:
    begun = asyncio.Event()

    async def hang(*_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    bench.store.before["copy_part"] = hang
    async with await bench.copying(pattern(6 * PART)) as one:
        running = asyncio.ensure_future(one.run())
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert bench.store.calls.count("copy_part") <= 2
