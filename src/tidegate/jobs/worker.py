"""Does tasks in this process: at once when they are made here, else at the next look around.

It is one engine among possible others: all it decides is when a task is taken up, and how many are
done at a time.
"""

import asyncio
import random
from collections.abc import Mapping

from tidegate.domain.task import Task, TaskType
from tidegate.services.tasks import Tasks, Work
from tidegate.services.waiting import set_within
from tidegate.telemetry import log

PURGE_EVERY = 300.0
"""Seconds between two removals of expired tasks, which nobody sees any more."""


class Worker:
    """``works`` says how each type of task is done, ``concurrency`` how many at a time, ``every``
    how many seconds pass, at most, between two looks for tasks made elsewhere or left behind; for
    these it may ``look_at_once``."""

    def __init__(
        self,
        tasks: Tasks,
        works: Mapping[TaskType, Work],
        *,
        concurrency: int,
        every: float,
        look_at_once: bool = True,
    ) -> None:
        self._tasks = tasks
        self._works = works
        self._concurrency = concurrency
        self._every = every
        self._look_at_once = look_at_once
        self._running: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until the tasks are drained; what is being done then is put back."""
        async with asyncio.TaskGroup() as group:
            if not self._look_at_once:
                await self._wait()
            while not self._tasks.draining:
                self._tasks.wake.clear()
                for task in await self._take():
                    self._begin(group, task)
                await self._wait()
            await asyncio.sleep(0)  # what was begun just now puts itself back only once it runs
            for running in list(self._running.values()):
                running.cancel()

    async def _wait(self) -> None:
        # several workers look for the same things: spread them
        await set_within(self._tasks.wake, self._every * random.uniform(0.8, 1.0))

    async def _take(self) -> list[Task]:
        room = self._concurrency - len(self._running)
        try:
            return await self._tasks.take(room, list(self._running), kinds=list(self._works))
        except Exception as error:  # whatever it was, there is a next look
            log.error("no tasks taken", error=f"{type(error).__name__}: {error}")
            return []

    def _begin(self, group: asyncio.TaskGroup, task: Task) -> None:
        running = group.create_task(self._tasks.perform(task, self._works[task.type]))
        self._running[task.id] = running

        def ended(_: asyncio.Task[None]) -> None:
            del self._running[task.id]
            self._tasks.wake.set()

        running.add_done_callback(ended)


class Purge:
    name = "purge"
    every = PURGE_EVERY

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    async def once(self) -> int:
        return await self._tasks.purge()
