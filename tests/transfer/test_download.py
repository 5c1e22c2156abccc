import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from tests.kit.sources import pattern
from tests.kit.stores import part_of

from tidegate.domain.errors import (
    ObjectChanged,
    ObjectMissing,
    StoreBroke,
    StoreDown,
    StoreError,
    TidegateError,
)
from tidegate.stores.base import Reading, Stored
from tidegate.stores.memory import MemoryStore
from tidegate.transfer import download
from tidegate.transfer.download import JUDGE_EVERY, REOPENINGS, WINDOW, WINDOWS_AHEAD, Receiving
from tidegate.transfer.memory import BLOCK, Arena

KEY = "image/attempt"

Hook = Callable[[int], Awaitable[None]]
"""Awaited before bytes are given, with their offset; may raise, or wait."""


@dataclass
class Open:
    """A reading that was begun: what was asked for, and how far it came."""

    start: int
    stop: int | None
    etag: str | None
    ended: bool = False


@dataclass
class BrittleStore(MemoryStore):
    """Serves like memory, but for the hook; ``piece`` is the most that one call gives, and
    ``opens`` all readings so far."""

    piece: int = 700_001
    opens: list[Open] = field(default_factory=list)
    hook: Hook | None = None
    refusals: list[TidegateError] = field(default_factory=list)
    ends_at: int | None = None

    def __post_init__(self) -> None:
        MemoryStore.__init__(self)

    @asynccontextmanager
    async def read(
        self, key: str, start: int = 0, stop: int | None = None, *, etag: str | None = None
    ) -> AsyncIterator[Reading]:
        opened = Open(start, stop, etag)
        self.opens.append(opened)
        if self.refusals:
            raise self.refusals.pop(0)
        async with MemoryStore.read(self, key, start, stop, etag=etag) as reading:
            try:
                yield BrittleReading(self, reading, start)
            finally:
                opened.ended = True

    @property
    def running(self) -> int:
        return sum(not opened.ended for opened in self.opens)


class BrittleReading:
    descriptor = None

    def __init__(self, store: BrittleStore, inner: Reading, at: int) -> None:
        self._store = store
        self._inner = inner
        self._at = at

    @property
    def stored(self) -> Stored:
        return self._inner.stored

    async def readinto(self, block: memoryview) -> int:
        if self._store.hook is not None:
            await self._store.hook(self._at)
        if self._store.ends_at is not None and self._at >= self._store.ends_at:
            return 0
        count = await self._inner.readinto(block[: self._store.piece])
        self._at += count
        return count


class Bench:
    """A store with one object, and what is read of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = BrittleStore()
        self.arena = Arena(64 * BLOCK)
        self.waits: list[float] = []
        self.now = 0.0
        self.data = b""
        # the module's own view of time, not everybody's
        waiting = SimpleNamespace(**{**vars(asyncio), "sleep": self._sleep})
        monkeypatch.setattr(download, "asyncio", waiting)
        monkeypatch.setattr(download, "time", SimpleNamespace(monotonic=lambda: self.now))

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def holding(self, size: int) -> bytes:
        self.data = pattern(size)
        await self.store.put(KEY, part_of(self.data))
        return self.data

    def receiving(self, start: int = 0, stop: int | None = None) -> Receiving:
        size = len(self.data)
        return Receiving(
            self.store, KEY, start, size if stop is None else stop, size=size, arena=self.arena
        )

    async def read(self, start: int = 0, stop: int | None = None) -> bytes:
        found = bytearray()
        async with self.receiving(start, stop).blocks() as blocks:
            async for block in blocks:
                found += block
        return bytes(found)

    def slow(self, seconds: float = 1.0) -> None:
        """From now on all of the time goes by in the store."""

        async def wait(at: int) -> None:
            self.now += seconds

        self.store.hook = wait

    def breaking(self, at: int, times: int, error: StoreError | None = None) -> None:
        """The next ``times`` readings that come to byte ``at`` break there."""
        left = times

        async def broken(offset: int) -> None:
            nonlocal left
            if offset >= at and left > 0:
                left -= 1
                raise error or StoreBroke(self.store.id, "the connection broke")

        self.store.hook = broken


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


# one stream


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 3])
async def test_what_is_stored_is_what_comes(bench: Bench, size: int) -> None:
    data = await bench.holding(size)
    assert await bench.read() == data
    assert len(bench.store.opens) == 1
    assert bench.arena.in_use == 0


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (7, 8), (1, 2 * BLOCK), (BLOCK, 2 * BLOCK), (BLOCK - 1, BLOCK + 1)]
)
async def test_of_a_range_exactly_that_is_asked(bench: Bench, start: int, stop: int) -> None:
    data = await bench.holding(3 * BLOCK)
    assert await bench.read(start, stop) == data[start:stop]
    assert [(one.start, one.stop) for one in bench.store.opens] == [(start, stop)]


async def test_a_fast_store_is_read_as_one_stream_through_one_block(bench: Bench) -> None:
    data = await bench.holding(JUDGE_EVERY * 2 + 5)
    found = bytearray()
    async with bench.receiving().blocks() as blocks:
        async for block in blocks:
            bench.now += 1  # the time goes by at the client
            assert bench.arena.in_use == BLOCK
            found += block
    assert found == data
    assert len(bench.store.opens) == 1


# reading ahead


async def test_a_slow_store_is_read_ahead_side_by_side(bench: Bench) -> None:
    data = await bench.holding(JUDGE_EVERY + 4 * WINDOW + 5)
    bench.slow()
    assert await bench.read() == data
    first, *ahead = bench.store.opens
    assert (first.start, first.stop) == (0, len(data))
    starts = range(JUDGE_EVERY, len(data), WINDOW)
    assert [(one.start, one.stop) for one in ahead] == [
        (start, min(start + WINDOW, len(data))) for start in starts
    ]
    assert bench.arena.in_use == 0


async def test_no_more_is_read_ahead_than_agreed(bench: Bench) -> None:
    await bench.holding(JUDGE_EVERY + 6 * WINDOW)
    bench.slow()
    async with bench.receiving().blocks() as blocks:
        taken = 0
        while taken < JUDGE_EVERY:
            taken += len(await anext(blocks))
        await anext(blocks)
        for _ in range(200):  # more than enough for every reader that may run
            await asyncio.sleep(0)
        assert len(bench.store.opens) == 1 + WINDOWS_AHEAD
        assert bench.arena.in_use == WINDOWS_AHEAD * WINDOW


async def test_every_reading_is_of_the_version_that_answered_first(bench: Bench) -> None:
    await bench.holding(JUDGE_EVERY + 2 * WINDOW)
    bench.slow()
    await bench.read()
    stored = await bench.store.look(KEY)
    assert [one.etag for one in bench.store.opens] == [None, stored.etag, stored.etag]


async def test_who_leaves_memory_to_others_still_comes_to_the_end(bench: Bench) -> None:
    data = await bench.holding(JUDGE_EVERY + 3 * WINDOW)
    bench.arena = Arena(2 * WINDOW)
    bench.slow()
    assert await bench.read() == data
    assert bench.arena.in_use == 0


async def test_while_others_wait_for_memory_nothing_is_read_ahead(bench: Bench) -> None:
    data = await bench.holding(JUDGE_EVERY + 2 * WINDOW)
    bench.slow()
    held = await bench.arena.reserve((bench.arena.blocks - 1) * BLOCK)
    assert await bench.read() == data
    assert len(bench.store.opens) == 1
    held.release()


async def test_a_window_that_breaks_is_reopened_by_itself(bench: Bench) -> None:
    data = await bench.holding(JUDGE_EVERY + 3 * WINDOW)
    middle = JUDGE_EVERY + WINDOW + 3 * BLOCK
    broke = False

    async def hook(at: int) -> None:
        nonlocal broke
        bench.now += 1
        if middle <= at < middle + BLOCK and not broke:
            broke = True
            raise StoreBroke("memory", "the connection broke")

    bench.store.hook = hook
    assert await bench.read() == data
    assert broke
    (again,) = (one for one in bench.store.opens if middle <= one.start < middle + BLOCK)
    assert again.stop == JUDGE_EVERY + 2 * WINDOW
    assert bench.arena.in_use == 0


async def test_a_window_that_cannot_be_had_ends_the_download_in_its_place(bench: Bench) -> None:
    data = await bench.holding(JUDGE_EVERY + 4 * WINDOW)
    middle = JUDGE_EVERY + WINDOW + 3 * BLOCK

    async def hook(at: int) -> None:
        bench.now += 1
        if middle <= at < JUDGE_EVERY + 2 * WINDOW:
            raise StoreBroke("memory", "the connection broke")

    bench.store.hook = hook
    found = bytearray()

    async def reader() -> None:
        async with bench.receiving().blocks() as blocks:
            async for block in blocks:
                found.extend(block)

    with pytest.raises(StoreBroke):
        await reader()
    assert found == data[: len(found)]
    assert JUDGE_EVERY + WINDOW <= len(found) <= middle
    assert bench.arena.in_use == 0
    assert bench.store.running == 0


# connections that break


@pytest.mark.parametrize("at", [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 77])
async def test_a_broken_reading_goes_on_at_the_byte_under_the_same_version(
    bench: Bench, at: int
) -> None:
    data = await bench.holding(4 * BLOCK)
    bench.store.piece = 1000 if at == 1 else 70_001
    bench.breaking(at, 1)
    assert await bench.read() == data
    first, second = bench.store.opens
    stored = await bench.store.look(KEY)
    assert (first.etag, second.etag) == (None, stored.etag)
    assert at <= second.start < at + bench.store.piece
    assert first.ended
    assert bench.waits == [0.2]


@pytest.mark.parametrize("error", [StoreDown, StoreBroke])
async def test_a_store_that_does_not_answer_at_first_is_asked_again(
    bench: Bench, error: type[StoreError]
) -> None:
    data = await bench.holding(BLOCK)
    bench.store.refusals = [error("memory", "it answered 503")] * REOPENINGS
    assert await bench.read() == data
    assert len(bench.store.opens) == REOPENINGS + 1
    assert bench.waits == sorted(bench.waits)


async def test_it_gives_up_after_so_many_without_a_byte(bench: Bench) -> None:
    await bench.holding(2 * BLOCK)
    bench.breaking(BLOCK, REOPENINGS + 1)
    with pytest.raises(StoreBroke, match="connection broke"):
        await bench.read()
    assert len(bench.store.opens) == REOPENINGS + 1
    assert bench.store.running == 0
    assert bench.arena.in_use == 0


async def test_every_byte_that_comes_gives_new_patience(bench: Bench) -> None:
    data = await bench.holding(3 * BLOCK)
    given = 0

    async def hook(at: int) -> None:
        nonlocal given
        given += 1
        if given % 2 == 0:
            raise StoreBroke("memory", "the connection broke")

    bench.store.hook, bench.store.piece = hook, BLOCK // 4
    assert await bench.read() == data
    assert len(bench.waits) > REOPENINGS
    assert set(bench.waits) == {0.2}


async def test_another_version_than_at_first_is_never_gone_on_with(bench: Bench) -> None:
    await bench.holding(3 * BLOCK)

    async def replaced(at: int) -> None:
        if at >= BLOCK:
            bench.store.publish(KEY, pattern(3 * BLOCK, seed=1))
            raise StoreBroke("memory", "the connection broke")

    bench.store.hook = replaced
    with pytest.raises(ObjectChanged):
        await bench.read()
    assert len(bench.store.opens) == 2


async def test_an_object_of_another_size_is_refused_before_a_byte(bench: Bench) -> None:
    await bench.holding(3 * BLOCK)
    bench.store.publish(KEY, pattern(3 * BLOCK - 1))
    with pytest.raises(ObjectChanged, match="3145727"):
        await bench.read()
    assert bench.waits == []


async def test_an_object_that_is_not_there_is_not_asked_for_again(bench: Bench) -> None:
    await bench.holding(BLOCK)
    await bench.store.delete(KEY)
    with pytest.raises(ObjectMissing):
        await bench.read()
    assert len(bench.store.opens) == 1


@pytest.mark.parametrize("at", [0, BLOCK, 2 * BLOCK - 65_536])
async def test_an_early_end_is_never_the_end(bench: Bench, at: int) -> None:
    await bench.holding(2 * BLOCK)
    bench.store.ends_at, bench.store.piece = at, 65_536
    with pytest.raises(StoreBroke, match="ended early"):
        await bench.read()
    assert len(bench.store.opens) == REOPENINGS + 1


# leaving


@pytest.mark.parametrize("ahead", [False, True])
async def test_who_leaves_early_gives_everything_back(bench: Bench, ahead: bool) -> None:
    await bench.holding(JUDGE_EVERY + 4 * WINDOW)
    if ahead:
        bench.slow()
    async with bench.receiving().blocks() as blocks:
        taken = 0
        while taken < (JUDGE_EVERY + BLOCK if ahead else BLOCK):
            taken += len(await anext(blocks))
        assert (len(bench.store.opens) > 1) is ahead
    assert bench.arena.in_use == 0
    assert bench.store.running == 0


@pytest.mark.parametrize("ahead", [False, True])
async def test_a_cancelled_reader_gives_everything_back(bench: Bench, ahead: bool) -> None:
    await bench.holding(JUDGE_EVERY + 4 * WINDOW)
    stuck, forever = asyncio.Event(), asyncio.Event()
    hang_at = JUDGE_EVERY + BLOCK if ahead else BLOCK

    async def hang(at: int) -> None:
        bench.now += 1
        if at >= hang_at:
            stuck.set()
            await forever.wait()

    bench.store.hook = hang
    reading = asyncio.ensure_future(bench.read())
    await stuck.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert bench.arena.in_use == 0
    assert bench.store.running == 0


async def test_a_reader_that_fails_gives_everything_back_and_its_own_error(bench: Bench) -> None:
    await bench.holding(JUDGE_EVERY + 4 * WINDOW)
    bench.slow()

    async def reader() -> None:
        taken = 0
        async with bench.receiving().blocks() as blocks:
            async for block in blocks:
                taken += len(block)
                if taken > JUDGE_EVERY:
                    raise ConnectionResetError("the client has gone")

    with pytest.raises(ConnectionResetError):
        await reader()
    assert bench.arena.in_use == 0
    assert bench.store.running == 0


async def test_who_waits_for_memory_may_be_cancelled(bench: Bench) -> None:
    await bench.holding(BLOCK)
    held = await bench.arena.reserve(bench.arena.blocks * BLOCK)
    reading = asyncio.ensure_future(bench.read())
    while not bench.arena.waiting:
        await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert bench.arena.waiting == 0
    held.release()
    assert bench.arena.in_use == 0
