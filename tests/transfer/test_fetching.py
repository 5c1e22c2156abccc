"""Bytes from elsewhere: whole, or not at all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.kit.origins import Origin, serving
from tests.kit.sources import pattern

from tidegate.domain.errors import LocationRefused, SourceBroke
from tidegate.settings import Fetch
from tidegate.settings import HttpStore as HttpSettings
from tidegate.stores.fetch import Fetcher
from tidegate.stores.http import HttpStore
from tidegate.transfer import fetching
from tidegate.transfer.fetching import CHANGED, TRIES, UNREACHABLE, Fetching

BODY = pattern(6 * 2**20)
SMALL = pattern(300_000)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PAUSE", 0)


@asynccontextmanager
async def remote(*allow: str, timeout: float = 5) -> AsyncIterator[HttpStore]:
    fetcher = Fetcher(Fetch(allow=allow), timeout=timeout)
    await fetcher.open()
    try:
        yield HttpStore(HttpSettings(type="http", timeout=timeout), fetcher)
    finally:
        await fetcher.close()


async def fetched(url: str, *, timeout: float = 5, patience: float = 30) -> bytes:
    found, block = bytearray(), memoryview(bytearray(2**18))
    async with (
        remote("127.0.0.1", timeout=timeout) as store,
        Fetching(store, url, patience=patience) as source,
    ):
        while count := await source.readinto(block):
            found += block[:count]
        assert source.received == len(found)
    return bytes(found)


async def why(url: str, **options: Any) -> str:
    """Why it was not fetched."""
    with pytest.raises(SourceBroke) as broke:
        await fetched(url, **options)
    return broke.value.message


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("data", [b"", SMALL, BODY])
async def test_what_comes_whole_is_whole(data: bytes, chunked: bool) -> None:
    async with serving(data, chunked=chunked) as origin:
        assert await fetched(origin.url) == data
    assert origin.seen == [("GET", None)]


async def test_it_says_what_the_source_says_of_its_size() -> None:
    async with serving(SMALL) as origin, remote("127.0.0.1") as store:
        async with Fetching(store, origin.url, patience=30) as source:
            assert source.size == len(SMALL)
        origin.chunked = True
        async with Fetching(store, origin.url, patience=30) as source:
            assert source.size is None


@pytest.mark.parametrize("data", [SMALL, BODY])
@pytest.mark.parametrize("of", [{}, {"etag": None, "modified": "Tue, 01 Sep 2026 10:00:00 GMT"}])
async def test_a_broken_connection_goes_on_where_it_broke(data: bytes, of: dict[str, Any]) -> None:
    async with serving(data, breaks=[70_000, 30_000], **of) as origin:
        assert await fetched(origin.url) == data
    assert origin.seen == [("GET", None), ("GET", "bytes=70000-"), ("GET", "bytes=100000-")]


async def test_a_source_without_ranges_is_read_anew() -> None:
    async with serving(SMALL, breaks=[70_000], ranges=False) as origin:
        assert await fetched(origin.url) == SMALL


@pytest.mark.parametrize(
    "change",
    [
        {"etag": '"two"'},
        {"etag": None},
        {"modified": "Tue, 01 Sep 2026 10:00:01 GMT"},
        {"data": SMALL + b"x"},
        {"status": 404},
    ],
)
async def test_a_source_that_changed_meanwhile_is_not_gone_on_with(change: dict[str, Any]) -> None:
    class Changing(Origin):
        async def _body(self, writer: asyncio.StreamWriter, body: bytes) -> None:
            await super()._body(writer, body)
            for name, value in change.items():
                setattr(self, name, value)

    async with serving(SMALL, breaks=[70_000], kind=Changing) as origin:
        assert await why(origin.url) == CHANGED


async def test_a_source_that_cannot_be_told_from_another_is_not_gone_on_with() -> None:
    async with serving(SMALL, breaks=[70_000], etag=None) as origin:
        assert "says too little of itself" in await why(origin.url)
    async with serving(SMALL, breaks=[70_000], chunked=True) as origin:
        assert "says too little of itself" in await why(origin.url)
    async with serving(SMALL, breaks=[70_000], etag='W/"weak"') as origin:
        assert "says too little of itself" in await why(origin.url)


async def test_a_source_that_breaks_off_for_ever_is_given_up() -> None:
    async with serving(SMALL, breaks=[1] * 100) as origin:
        assert await why(origin.url) == (
            f"The source broke off after {TRIES + 1} of {len(SMALL)} bytes, again and again."
        )
    assert len(origin.seen) == TRIES + 1


async def test_a_source_that_says_more_than_it_has_does_not_end_well() -> None:
    async with serving(SMALL, length=len(SMALL) + 5) as origin:
        assert "again and again" in await why(origin.url)


async def test_a_part_that_nobody_asked_for_is_not_taken_for_the_whole() -> None:
    async with serving(SMALL, most=100_000) as origin:
        assert await fetched(origin.url) == SMALL
    assert [asked for _, asked in origin.seen] == [None, "bytes=100000-", "bytes=200000-"]
    async with serving(SMALL, most=100_000, etag=None) as origin:
        assert "says too little of itself" in await why(origin.url)


async def test_of_a_source_that_has_more_than_it_says_no_more_is_taken() -> None:
    async with serving(SMALL, length=len(SMALL) - 5) as origin:
        assert await fetched(origin.url) == SMALL[:-5]


async def test_a_silent_source_is_left_and_opened_again() -> None:
    async with serving(SMALL, pause=asyncio.Event(), pause_at=70_000) as origin:

        async def go_on() -> None:
            await origin.paused.wait()
            while len(origin.seen) < 2:
                await asyncio.sleep(0)
            origin.pause = None

        async with asyncio.TaskGroup() as group:
            group.create_task(go_on())
            assert await fetched(origin.url, timeout=0.3) == SMALL


async def test_a_source_that_gives_next_to_nothing_is_given_up() -> None:
    class Dribbling(Origin):
        async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
            for at in range(len(data)):
                await super()._send(writer, data[at : at + 1])
                await asyncio.sleep(0.005)  # 200 bytes per second: its fault, not our waiting

    async with serving(b"x" * 400, kind=Dribbling) as origin:
        assert "bytes per second" in await why(origin.url, patience=0.05)


@pytest.mark.parametrize("status", [403, 404, 410, 500])
async def test_what_cannot_be_read_is_told_in_the_same_words(status: int) -> None:
    async with serving(SMALL, status=status) as origin:
        assert await why(origin.url) == UNREACHABLE
    assert await why(f"http://127.0.0.1:{origin.port}/") == UNREACHABLE  # nobody listens any more


async def test_a_redirect_is_followed_where_it_may_lead() -> None:
    async with serving(SMALL) as target, serving(b"", redirect=target.url) as origin:
        assert await fetched(origin.url) == SMALL


async def test_a_redirect_to_this_machine_is_refused_and_nobody_is_asked() -> None:
    async with serving(SMALL) as inner, serving(b"") as origin:
        origin.redirect = f"http://127.0.0.2:{inner.port}/"
        assert await why(origin.url) == UNREACHABLE
    assert inner.seen == []


async def test_a_forbidden_address_is_refused_and_nobody_is_asked() -> None:
    async with serving(SMALL) as inner, remote() as store:
        with pytest.raises(LocationRefused):
            await Fetching(store, inner.url, patience=1).__aenter__()
    assert inner.seen == []
