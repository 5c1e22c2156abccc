"""A task is done by one at a time, ends once, and is never left behind."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.services.conftest import ADMIN, World

from tidegate.catalog.base import TaskQuery, Viewer
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import Busy, CatalogDown, Conflict, Draining, Forbidden, NotFound
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.task import Task, TaskStatus, TaskType
from tidegate.services import tasks as module
from tidegate.services.tasks import Holding, Tasks

MEMBER = Caller(project="p1", roles=frozenset({"member", "reader"}), user="u1")


def tasks(world: World, catalog: SqlCatalog | None = None, *, lease: float = 30) -> Tasks:
    return Tasks(catalog or world.catalog, Policy(), keep=60, lease=lease, node="node")


async def taken(of: Tasks) -> Task:
    await of.add(MEMBER, TaskType.IMPORT, {"a": 1}, request_id="req-1")
    (task,) = await of.take(1)
    return task


async def found(world: World, task: Task) -> Task:
    return await world.catalog.get_task(task.id, Viewer(admin=True))


async def succeed(_: Holding) -> Mapping[str, object]:
    return {"image_id": "i"}


def failing(error: BaseException) -> Any:
    async def work(_: Holding) -> Mapping[str, object]:
        raise error

    return work


async def test_it_is_done_for_whom_it_was_made(world: World) -> None:
    of = tasks(world)
    task = await taken(of)
    assert task.caller == MEMBER
    assert (task.status, task.input, task.request_id) == (
        TaskStatus.PROCESSING, {"a": 1}, "req-1",
    )  # fmt: skip


async def test_what_is_made_wakes_and_what_is_drained_takes_nothing(world: World) -> None:
    of = tasks(world)
    assert not of.wake.is_set()
    await of.add(MEMBER, TaskType.IMPORT, {})
    assert of.wake.is_set()
    of.wake.clear()
    of.drain()
    assert of.wake.is_set()
    assert await of.take(5) == []


async def test_a_result_is_a_success(world: World) -> None:
    of = tasks(world)
    task = await taken(of)
    await of.perform(task, succeed)
    ended = await found(world, task)
    assert (ended.status, ended.result) == (TaskStatus.SUCCESS, {"image_id": "i"})


async def test_a_refusal_is_a_failure_in_its_own_words(world: World) -> None:
    of = tasks(world)
    task = await taken(of)
    await of.perform(task, failing(Conflict("for the person who asked")))
    ended = await found(world, task)
    assert (ended.status, ended.message) == (TaskStatus.FAILURE, "for the person who asked")


async def test_a_defect_is_a_failure_whose_words_are_for_the_log(world: World) -> None:
    of = tasks(world)
    task = await taken(of)
    with capture_logs() as logs:
        await of.perform(task, failing(RuntimeError("secret")))
    ended = await found(world, task)
    assert (ended.status, ended.message) == (TaskStatus.FAILURE, "An internal error.")
    assert "secret" in str([entry for entry in logs if entry["event"] == "task failed"])


@pytest.mark.parametrize("error", [Draining("stopping"), Busy("full", retry_after=0)])
async def test_what_cannot_be_done_now_is_put_back(world: World, error: Exception) -> None:
    of = tasks(world)
    task = await taken(of)
    await of.perform(task, failing(error))
    (again,) = await of.take(1)
    assert (again.id, again.fence) == (task.id, task.fence + 1)


async def test_what_is_busy_is_tried_later(world: World) -> None:
    of = tasks(world)
    await of.perform(await taken(of), failing(Busy("full")))
    assert await of.take(1) == []


async def test_a_task_that_is_cancelled_is_put_back_at_once(world: World) -> None:
    of, begun = tasks(world), asyncio.Event()

    async def stall(_: Holding) -> Mapping[str, object]:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    task = await taken(of)
    running = asyncio.ensure_future(of.perform(task, stall))
    await begun.wait()
    running.cancel()
    await asyncio.wait({running})
    assert (await found(world, task)).status is TaskStatus.PROCESSING
    assert [one.id for one in await tasks(world).take(1)] == [task.id]


async def test_its_lease_is_kept_while_it_is_done_and_progress_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT", 0.01)
    other = SqlCatalog(world.url)
    await other.open()
    of, second = tasks(world, lease=0.3), tasks(world, other, lease=0.3)
    seen: list[str] = []

    async def work(holding: Holding) -> Mapping[str, object]:
        holding.progress = lambda: "Copied 7 MiB"
        async with asyncio.timeout(10):
            while not seen or seen[-1] != "Copied 7 MiB":
                seen.append((await found(world, holding.task)).message)
        (row,) = await other.list_tasks(TaskQuery(viewer=Viewer(admin=True)))
        since = row.updated_at
        async with asyncio.timeout(10):  # for longer than a lease
            while (await found(world, holding.task)).updated_at < since + 600_000:
                assert await second.take(1) == []
        return {}

    task = await taken(of)
    await of.perform(task, work)
    assert (await found(world, task)).status is TaskStatus.SUCCESS
    await other.close()


async def test_who_lost_a_task_is_stopped_and_ends_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT", 0.01)
    of = tasks(world, lease=-1)
    task = await taken(of)
    (holder,) = await tasks(world).take(1)
    stopped = asyncio.Event()

    async def stall(_: Holding) -> Mapping[str, object]:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        raise AssertionError

    async with asyncio.timeout(10):
        await of.perform(task, stall)
    assert stopped.is_set()
    assert await found(world, task) == holder
    await of.perform(task, succeed)
    assert await found(world, task) == holder


async def test_an_end_that_was_not_confirmed_is_said_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    of, end = tasks(world), world.catalog.end_task
    task, calls = await taken(of), []

    async def lose_first_answer(*given: Any, **more: Any) -> Task:
        ended = await end(*given, **more)
        calls.append(ended)
        if len(calls) == 1:
            raise CatalogDown("The catalog is locked by another process; try again.")
        return ended

    monkeypatch.setattr(world.catalog, "end_task", lose_first_answer)
    await of.perform(task, succeed)
    assert len(calls) == 2
    assert (await found(world, task)).status is TaskStatus.SUCCESS


async def test_a_catalog_that_is_down_leaves_the_task_to_its_lease(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = tasks(world, lease=0.001)
    task = await taken(of)
    await of.perform(task, failing(CatalogDown("The catalog's disk failed.")))
    assert (await found(world, task)).status is TaskStatus.PROCESSING
    async with asyncio.timeout(5):
        while not (again := await of.take(1)):
            pass
    assert again[0].id == task.id


async def test_who_may_see_what(world: World) -> None:
    of = tasks(world)
    task = await of.add(MEMBER, TaskType.IMPORT, {})
    of.require_access(ADMIN)
    with pytest.raises(Forbidden):
        of.require_access(MEMBER)
    assert (await of.show(MEMBER, task.id)).id == task.id
    assert (await of.show(ADMIN, task.id)).id == task.id
    with pytest.raises(NotFound):
        await of.show(Caller(project="p2", roles=frozenset({"member", "reader"})), task.id)


async def test_of_an_images_tasks_each_project_sees_its_own(world: World) -> None:
    of, image_id = tasks(world), await world.queued()  # owned by nobody: everybody sees it
    mine = await of.add(MEMBER, TaskType.COPY_FROM, {}, image_id=image_id)
    await of.add(Caller(project="p2"), TaskType.COPY_FROM, {}, image_id=image_id)
    assert [task.id for task in await of.of_image(MEMBER, image_id)] == [mine.id]
    assert len(await of.of_image(ADMIN, image_id)) == 2


async def test_the_expired_are_purged(world: World) -> None:
    of = Tasks(world.catalog, Policy(), keep=0, lease=30, node="node")
    await of.perform(await taken(of), succeed)
    assert await of.purge() == 1
