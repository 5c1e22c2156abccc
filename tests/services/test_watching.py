"""The watch over running downloads: what it asks, and what it cuts."""

import asyncio
from collections.abc import Collection
from uuid import uuid4

import pytest
from tests.services.conftest import World

from tidegate.domain.errors import Forbidden, NotFound
from tidegate.domain.image import Image
from tidegate.domain.policy import Caller
from tidegate.domain.status import Event, Status
from tidegate.services.watching import Cut, Watch

ADMIN = Caller(roles=frozenset({"admin"}))
MEMBER = Caller(project="p1", roles=frozenset({"member", "reader"}))


class Counting:
    """The world's catalog; counts the questions."""

    def __init__(self, world: World) -> None:
        self._catalog = world.catalog
        self.asked: list[set[str]] = []

    async def statuses(self, image_ids: Collection[str]) -> dict[str, Status]:
        self.asked.append(set(image_ids))
        return await self._catalog.statuses(image_ids)


class Sending:
    """A download that goes on until it is told to end."""

    def __init__(self, watch: Watch, image: Image, caller: Caller) -> None:
        self._end = asyncio.Event()
        self._begun = asyncio.Event()
        self.task = asyncio.ensure_future(self._send(watch, image, caller))

    async def _send(self, watch: Watch, image: Image, caller: Caller) -> str:
        async with watch.over(image, caller):
            self._begun.set()
            await self._end.wait()
        return "whole"

    async def begun(self) -> "Sending":
        await self._begun.wait()
        return self

    async def end(self) -> str:
        self._end.set()
        return await self.task

    async def reason(self) -> object:
        with pytest.raises(Cut) as cut:
            await self.task
        return cut.value.reason


@pytest.fixture
def catalog(world: World) -> Counting:
    return Counting(world)


@pytest.fixture
def watch(catalog: Counting) -> Watch:
    return Watch(catalog)  # type: ignore[arg-type]


async def active(world: World) -> Image:
    return await world.catalog.create_image(Image(id=str(uuid4()), status=Status.ACTIVE, size=0))


async def test_nothing_runs_nothing_is_asked(watch: Watch, catalog: Counting, world: World) -> None:
    assert await watch.look() == 0
    sending = await Sending(watch, await active(world), MEMBER).begun()
    assert await sending.end() == "whole"
    await watch.look()
    assert catalog.asked == []


async def test_many_downloads_are_one_question(
    watch: Watch, catalog: Counting, world: World
) -> None:
    first, second = await active(world), await active(world)
    running = [
        await Sending(watch, image, caller).begun()
        for image in (first, second)
        for caller in (ADMIN, MEMBER, MEMBER)
    ]
    assert await watch.look() == 0
    assert catalog.asked == [{first.id, second.id}]
    assert [await sending.end() for sending in running] == ["whole"] * 6


async def test_what_was_deactivated_goes_on_for_admins_alone(watch: Watch, world: World) -> None:
    closed, left = await active(world), await active(world)
    member, admin = (
        await Sending(watch, closed, MEMBER).begun(), await Sending(watch, closed, ADMIN).begun()
    )  # fmt: skip
    other = await Sending(watch, left, MEMBER).begun()
    await world.catalog.deactivate(closed.id, by_admin=False)
    assert await watch.look() == 1
    assert isinstance(await member.reason(), Forbidden)
    assert await watch.look() == 0
    assert (await admin.end(), await other.end()) == ("whole", "whole")


@pytest.mark.parametrize("event", [Event.DELETE_LATER, None])
async def test_what_is_gone_goes_on_for_nobody(
    watch: Watch, world: World, event: Event | None
) -> None:
    image = await active(world)
    running = [await Sending(watch, image, caller).begun() for caller in (MEMBER, ADMIN)]
    if event is None:
        await world.catalog.delete_image(image.id)
    else:
        await world.catalog.advance(image.id, event)
    assert await watch.look() == 2
    for sending in running:
        assert isinstance(await sending.reason(), NotFound)


async def test_a_record_that_was_purged_is_gone(watch: Watch) -> None:
    sending = await Sending(watch, Image(id="purged"), ADMIN).begun()
    assert await watch.look() == 1
    assert isinstance(await sending.reason(), NotFound)


async def test_a_download_that_ends_during_the_look_is_whole(
    world: World, catalog: Counting, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = await active(world)
    sending = await Sending(watch, image, MEMBER).begun()
    await world.catalog.deactivate(image.id, by_admin=True)
    asking = catalog.statuses

    async def slow(image_ids: Collection[str]) -> dict[str, Status]:
        found = await asking(image_ids)
        assert await sending.end() == "whole"
        return found

    monkeypatch.setattr(catalog, "statuses", slow)
    assert await watch.look() == 0


async def test_failures_of_the_download_are_its_own(watch: Watch, world: World) -> None:
    image = await active(world)
    with pytest.raises(TimeoutError):
        async with watch.over(image, MEMBER):
            raise TimeoutError
    with pytest.raises(ConnectionResetError):
        async with watch.over(image, MEMBER):
            raise ConnectionResetError
    sending = await Sending(watch, image, MEMBER).begun()
    sending.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending.task
    await world.catalog.deactivate(image.id, by_admin=True)
    assert await watch.look() == 0
