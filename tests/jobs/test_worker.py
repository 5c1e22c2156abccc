"""Tasks are done in this process: soon, a few at a time, and put back when it stops."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.services.conftest import ADMIN, World

from tidegate.catalog.base import Viewer
from tidegate.domain.errors import CatalogDown
from tidegate.domain.policy import Policy
from tidegate.domain.task import Task, TaskStatus, TaskType
from tidegate.jobs.worker import Purge, Worker
from tidegate.services.tasks import Holding, Tasks


class Works:
    """Work that goes on until it is let."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.most = 0
        self.let = asyncio.Event()

    async def work(self, holding: Holding) -> Mapping[str, object]:
        self.running.append(holding.task.id)
        self.most = max(self.most, len(self.running))
        try:
            await self.let.wait()
        finally:
            self.running.remove(holding.task.id)
        return {}


def tasks_of(world: World) -> Tasks:
    return Tasks(world.catalog, Policy(), keep=60, lease=30, node="node")


@asynccontextmanager
async def working(
    tasks: Tasks, works: Works, *, concurrency: int = 4, every: float = 3600
) -> AsyncIterator[None]:
    worker = Worker(tasks, {TaskType.IMPORT: works.work}, concurrency=concurrency, every=every)
    running = asyncio.ensure_future(worker.run())
    try:
        yield
    finally:
        tasks.drain()
        await running


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0)


async def statuses(world: World, made: list[Task]) -> list[TaskStatus]:
    viewer = Viewer(admin=True)
    return [(await world.catalog.get_task(task.id, viewer)).status for task in made]


async def test_what_is_made_here_is_done_at_once(world: World) -> None:
    tasks, works = tasks_of(world), Works()
    works.let.set()
    async with working(tasks, works):
        task = await tasks.add(ADMIN, TaskType.IMPORT, {})

        async def done() -> bool:
            return await statuses(world, [task]) == [TaskStatus.SUCCESS]

        await until(done)


async def test_what_was_made_elsewhere_is_found_at_the_next_look(world: World) -> None:
    works = Works()
    works.let.set()
    async with working(tasks_of(world), works, every=0.01):
        task = await tasks_of(world).add(ADMIN, TaskType.IMPORT, {})

        async def done() -> bool:
            return await statuses(world, [task]) == [TaskStatus.SUCCESS]

        await until(done)


async def test_no_more_than_so_many_are_done_at_a_time(world: World) -> None:
    tasks, works = tasks_of(world), Works()
    made = [await tasks.add(ADMIN, TaskType.IMPORT, {}) for _ in range(5)]
    async with working(tasks, works, concurrency=2):

        async def full() -> bool:
            return len(works.running) == 2

        await until(full)
        assert works.running == [task.id for task in made[:2]]
        works.let.set()

        async def done() -> bool:
            return set(await statuses(world, made)) == {TaskStatus.SUCCESS}

        await until(done)
    assert works.most == 2


async def test_what_is_being_done_at_a_stop_is_put_back(world: World) -> None:
    tasks, works = tasks_of(world), Works()
    made = [await tasks.add(ADMIN, TaskType.IMPORT, {}) for _ in range(2)]
    async with working(tasks, works, concurrency=1):

        async def begun() -> bool:
            return bool(works.running)

        await until(begun)
    assert works.running == []
    assert await statuses(world, made) == [TaskStatus.PROCESSING, TaskStatus.PENDING]
    again = await tasks_of(world).take(5)
    assert [task.id for task in again] == [task.id for task in made]


async def test_what_was_taken_in_the_moment_of_a_stop_is_put_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, tasks = world.catalog.take_tasks, tasks_of(world)
    taken = asyncio.Event()

    async def take_and_stop(*given: Any, **more: Any) -> list[Task]:
        found = await take(*given, **more)
        tasks.drain()
        taken.set()
        return found

    task = await tasks.add(ADMIN, TaskType.IMPORT, {})
    with monkeypatch.context() as patch:
        patch.setattr(world.catalog, "take_tasks", take_and_stop)
        async with working(tasks, Works()):
            await taken.wait()
    assert await statuses(world, [task]) == [TaskStatus.PROCESSING]
    assert [one.id for one in await tasks_of(world).take(5)] == [task.id]


@pytest.mark.parametrize("error", [CatalogDown("The catalog's disk failed."), RuntimeError("bug")])
async def test_a_look_that_failed_is_followed_by_another(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    take, calls = world.catalog.take_tasks, []

    async def fail_first(*given: Any, **more: Any) -> list[Task]:
        calls.append(given)
        if len(calls) == 1:
            raise error
        return await take(*given, **more)

    monkeypatch.setattr(world.catalog, "take_tasks", fail_first)
    works, tasks = Works(), tasks_of(world)
    works.let.set()
    task = await tasks.add(ADMIN, TaskType.IMPORT, {})
    async with working(tasks_of(world), works, every=0.01):

        async def done() -> bool:
            return await statuses(world, [task]) == [TaskStatus.SUCCESS]

        await until(done)


async def test_the_expired_are_purged(world: World) -> None:
    tasks = Tasks(world.catalog, Policy(), keep=-1, lease=30, node="node")
    works = Works()
    works.let.set()
    await tasks.add(ADMIN, TaskType.IMPORT, {})
    (task,) = await tasks.take(1)
    await tasks.perform(task, works.work)
    assert await Purge(tasks).once() == 1
