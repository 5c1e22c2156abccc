"""One call for many who wait for it."""

import asyncio

import pytest

from tidegate.identity.flights import Flights


class Asked:
    """Counts the calls; each waits until it is told to end."""

    def __init__(self) -> None:
        self.calls = 0
        self.end = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self) -> int:
        self.calls += 1
        call = self.calls
        await self.end.wait()
        if self.error is not None:
            raise self.error
        return call


async def started(flights: Flights[int], ask: Asked, count: int) -> list[asyncio.Task[int]]:
    tasks = [asyncio.ensure_future(flights.one("key", ask)) for _ in range(count)]
    while ask.calls == 0:
        await asyncio.sleep(0)
    return tasks


async def test_who_asks_at_once_gets_one_answer() -> None:
    flights, ask = Flights[int](), Asked()
    tasks = await started(flights, ask, 10)
    ask.end.set()
    assert await asyncio.gather(*tasks) == [1] * 10
    assert await flights.one("key", ask) == 2


async def test_who_asks_for_another_thing_does_not_wait() -> None:
    flights, ask = Flights[int](), Asked()
    (waiting,) = await started(flights, ask, 1)
    other = Asked()
    other.end.set()
    assert await flights.one("other", other) == 1
    waiting.cancel()


async def test_an_error_is_everybodys_and_is_not_kept() -> None:
    flights, ask = Flights[int](), Asked()
    ask.error = LookupError("no")
    tasks = await started(flights, ask, 3)
    ask.end.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in found] == [LookupError] * 3
    ask.error = None
    assert await flights.one("key", ask) == 2


@pytest.mark.parametrize("leaver", [0, 2])
async def test_who_leaves_takes_nothing_from_the_others(leaver: int) -> None:
    flights, ask = Flights[int](), Asked()
    tasks = await started(flights, ask, 4)
    tasks.pop(leaver).cancel()
    calls = 2 if leaver == 0 else 1
    while ask.calls < calls:
        await asyncio.sleep(0)
    ask.end.set()
    assert await asyncio.gather(*tasks) == [calls] * 3
    assert ask.calls == calls
