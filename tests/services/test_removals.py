"""Taking bytes out of stores that refuse, or do not answer."""

from dataclasses import replace
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from tests.kit.stores import FaultyStore, objects, part_of
from tests.services.conftest import World

from tidegate.domain.errors import StoreBroke, StoreDown
from tidegate.domain.image import Image, Location
from tidegate.domain.status import Status
from tidegate.domain.upload import Removal
from tidegate.services import removals as subject
from tidegate.services.removals import RETRY_AT_MOST, STUCK
from tidegate.stores.memory import MemoryStore


@pytest.fixture
def waits(world: World, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds until the next try, of each failure; the next try comes at once all the same."""
    found: list[float] = []
    failed = world.catalog.removal_failed

    async def tell(removal_id: int, message: str, *, retry_in: float) -> None:
        found.append(retry_in)
        await failed(removal_id, message, retry_in=-1)

    monkeypatch.setattr(world.catalog, "removal_failed", tell)
    return found


async def owed(world: World, count: int = 1) -> list[Removal]:
    """Removals of objects that are there."""
    found = []
    for _ in range(count):
        key = f"{uuid4()}/{uuid4().hex}"
        await world.store.put(key, part_of(b"x"))
        image = Image(
            id=key[:36], status=Status.ACTIVE, size=1, locations=(Location(world.store.id, key),)
        )
        await world.catalog.create_image(image)
        found += await world.catalog.delete_image(image.id)
    return found


async def test_who_refuses_is_asked_again_ever_more_rarely(
    world: World, waits: list[float]
) -> None:
    await owed(world)
    world.store.fail("delete", StoreBroke("memory", "it answered 403"))
    for _ in range(14):
        assert await world.removals.carry_out_due() == 0
    for failures, wait in enumerate(waits):
        whole = min(2.0**failures, RETRY_AT_MOST)
        assert whole / 2 <= wait <= whole
    assert len(set(waits)) == len(waits)  # spread
    world.store.before.clear()
    assert await world.removals.carry_out_due() == 1
    assert await objects(world.store) == {}


async def test_a_refusal_is_told_once_and_once_more_when_it_is_stuck(
    world: World, waits: list[float]
) -> None:
    await owed(world)
    world.store.fail("delete", StoreBroke("memory", "it answered 403"))
    with capture_logs() as lines:
        for _ in range(STUCK + 3):
            await world.removals.carry_out_due()
        world.store.before.clear()
        await world.removals.carry_out_due()
    told = [(line["event"], line["log_level"], line.get("attempts")) for line in lines]
    assert told == [
        ("removal failed", "warning", 1),
        ("removal failed", "error", STUCK),
        ("removal done after failures", "info", None),
    ]


async def test_refusals_and_what_waits_are_in_the_metrics(world: World, waits: list[float]) -> None:
    labels = {"store": world.store.id}
    before = REGISTRY.get_sample_value("tidegate_removal_failures_total", labels) or 0
    await owed(world, 2)
    world.store.fail("delete", StoreBroke("memory", "it answered 403"), times=1)
    await world.removals.count_waiting()
    assert REGISTRY.get_sample_value("tidegate_removals_waiting", labels) == 2
    await world.removals.carry_out_due()
    await world.removals.carry_out_due()
    await world.removals.count_waiting()
    assert REGISTRY.get_sample_value("tidegate_removals_waiting", labels) == 0
    failures = REGISTRY.get_sample_value("tidegate_removal_failures_total", labels)
    assert failures == before + 1


async def test_a_store_that_does_not_answer_is_asked_once_a_look(world: World) -> None:
    removals = await owed(world, 3)
    world.store.fail("delete", StoreDown("memory", "no answer"))
    assert await world.removals.carry_out(removals) == 0
    assert world.store.calls.count("delete") == 1
    world.store.before.clear()
    assert await world.removals.carry_out_due() == 2  # the one that failed comes later


async def test_a_store_that_is_configured_no_more_keeps_its_removals(world: World) -> None:
    removals = await owed(world)
    without = subject.Removals(world.catalog, {})
    assert await without.carry_out(removals, retry_in=-1) == 0
    assert await world.removals.carry_out_due() == 1


async def test_however_long_a_store_refuses_it_is_asked_again(world: World) -> None:
    (removal,) = await owed(world)
    world.store.fail("delete", StoreBroke("memory", "it answered 403"), times=1)
    assert await world.removals.carry_out([replace(removal, attempts=5000)]) == 0
    assert await world.removals.carry_out([removal]) == 1


async def test_what_was_refused_comes_after_what_was_never_tried(
    world: World, waits: list[float]
) -> None:
    (locked, _), calls = await owed(world, 2), []

    async def refuse(key: str) -> None:
        calls.append(key)
        if key == locked.key:
            raise StoreDown("memory", "it answered 403 AccessDenied")

    world.store.before["delete"] = refuse
    assert await world.removals.carry_out([locked]) == 0
    assert await world.removals.carry_out_due() == 1
    assert calls[-1] == locked.key


async def test_a_store_that_is_down_holds_up_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_PAGE", 2)
    down = FaultyStore(MemoryStore("down"))
    down.fail("delete", StoreDown("down", "no answer"))
    for number in range(7):
        image = Image(
            id=str(uuid4()),
            status=Status.ACTIVE,
            size=1,
            locations=(Location("down", f"{number}"),),
        )
        await world.catalog.create_image(image)
        await world.catalog.delete_image(image.id)
    await owed(world)
    both = subject.Removals(world.catalog, {"down": down, world.store.id: world.store})
    assert await both.carry_out_due() == 1
    assert down.calls == ["delete"]
