"""Tasks: made for callers, shown to them, and done for them by whoever takes them up.

When and where a task is done is an engine's business (``jobs/worker.py``); that it is done by one
at a time, ends once and is never left behind is decided here and in the catalog.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

from tidegate import telemetry
from tidegate.catalog.base import Catalog, TaskQuery, Viewer
from tidegate.domain.errors import (
    BadTransition,
    Busy,
    CatalogDown,
    Draining,
    TidegateError,
    first_failure,
)
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.task import Task, TaskEvent, TaskType
from tidegate.killpoints import kill_point
from tidegate.services.waiting import set_within
from tidegate.telemetry import log

BEAT = 2.0
"""Seconds, at most, between two looks of a task's holder at its row."""


class Holding:
    """A task and the right to do it. ``progress`` says how far it is, in words for its owner."""

    def __init__(self, task: Task, catalog: Catalog, lease: float) -> None:
        self.task = task
        self.progress: Callable[[], str] = str
        self._catalog = catalog
        self._lease = lease

    async def remember_image(self, image_id: str) -> None:
        """Write down which image it is about, before that is made. BadTransition."""
        self.task = await self._catalog.renew_task(self.task, lease=self._lease, image_id=image_id)

    async def keep(self, done: asyncio.Event) -> None:
        """Renew the lease until ``done``. BadTransition, CatalogDown: it is lost."""
        said, renewed = "", time.monotonic()
        while not await set_within(done, min(self._lease / 3, BEAT)):
            words = self.progress()
            try:
                await self._catalog.renew_task(
                    self.task, lease=self._lease, message=words if words != said else None
                )
            except CatalogDown:
                if time.monotonic() - renewed > self._lease:
                    raise
            else:
                said, renewed = words, time.monotonic()


Work = Callable[[Holding], Awaitable[Mapping[str, object]]]
"""Does a task of one type: gives its result, or raises why there is none (TidegateError, whose
message its owner reads; Busy: not now). May be cancelled, and begun again by another holder."""


class Tasks:
    """``keep`` is seconds for which an ended task stays, ``lease`` those after which another
    server takes up a dead one's."""

    def __init__(
        self, catalog: Catalog, policy: Policy, *, keep: float, lease: float, node: str
    ) -> None:
        self._catalog = catalog
        self._policy = policy
        self._keep = keep
        self._lease = lease
        self._node = node
        self.wake = asyncio.Event()
        self.draining = False

    # for callers

    def require_access(self, caller: Caller) -> None:
        """Forbidden: the calls of tasks are not for this caller."""
        self._policy.require(caller, "tasks_api_access")

    async def show(self, caller: Caller, task_id: str) -> Task:
        self._policy.require(caller, "get_task")
        return await self._catalog.get_task(task_id, Viewer.of(caller))

    async def page(self, caller: Caller, query: TaskQuery) -> list[Task]:
        """``query.viewer`` is replaced by the caller's."""
        self._policy.require(caller, "get_tasks")
        return await self._catalog.list_tasks(replace(query, viewer=Viewer.of(caller)))

    async def of_image(self, caller: Caller, image_id: str) -> list[Task]:
        """The caller's tasks about an image. NotFound."""
        viewer = Viewer.of(caller)
        image = await self._catalog.get_image(image_id, viewer)
        self._policy.require(caller, "get_image", image)
        return await self._catalog.list_tasks(
            TaskQuery(viewer=viewer, equal={"image_id": image_id}, descending=False, limit=None)
        )

    async def add(
        self,
        caller: Caller,
        kind: TaskType,
        given: Mapping[str, object],
        *,
        image_id: str | None = None,
        request_id: str | None = None,
        insert: Callable[[Task], Awaitable[Task]] | None = None,
    ) -> Task:
        """A task that is done for this caller, with the caller's rights, as soon as may be.
        ``insert`` writes it down, where more has to be done with it."""
        planned = new_task(caller, kind, given, image_id=image_id, request_id=request_id)
        task = await (insert or self._catalog.create_task)(planned)
        self.added(task)
        return task

    def added(self, task: Task) -> None:
        """The task is in the catalog: do it."""
        log.info("task created", task=task.id, type=task.type, image=task.image_id,
                 request_id=task.request_id)  # fmt: skip
        self.wake.set()

    # for those who do them

    def drain(self) -> None:
        """Take up no more; what is being done is put back by its engine."""
        self.draining = True
        self.wake.set()

    async def take(
        self, limit: int, mine: Sequence[str] = (), *, kinds: Sequence[TaskType] = tuple(TaskType)
    ) -> list[Task]:
        """Tasks of these kinds to be done now, held by this server; not ``mine``, which it does
        already."""
        if self.draining or limit <= 0:
            return []
        return await self._catalog.take_tasks(
            self._node, kinds, lease=self._lease, limit=limit, mine=mine
        )

    async def perform(self, task: Task, work: Work) -> None:
        """Do a task that was taken, to its end. Cancelled, it is put back for another server."""
        kill_point("task_claimed")
        holding, begun = Holding(task, self._catalog, self._lease), time.monotonic()
        try:
            with telemetry.TASKS_RUNNING.track_inprogress():
                result = await self._do(holding, work)
            kill_point("task_done_uncommitted")
            await self._end(task, TaskEvent.SUCCEED, result=result)
        except BaseException as failures:
            await asyncio.shield(self._give_up(task, first_failure(failures)))
            return
        telemetry.TASKS.labels(task.type, "success").inc()
        log.info("task done", task=task.id, type=task.type, image=holding.task.image_id,
                 seconds=round(time.monotonic() - begun, 3),
                 request_id=task.request_id)  # fmt: skip

    async def purge(self) -> int:
        return await self._catalog.purge_tasks()

    async def _do(self, holding: Holding, work: Work) -> Mapping[str, object]:
        failure: TidegateError | None = None
        result: Mapping[str, object] = {}
        async with asyncio.TaskGroup() as group:
            done = asyncio.Event()
            group.create_task(holding.keep(done))
            try:
                result = await work(holding)
            except TidegateError as error:  # a renewal that runs just now is not cut short
                failure = error
            done.set()
        if failure is not None:
            raise failure
        return result

    async def _give_up(self, task: Task, error: BaseException) -> None:
        try:
            match error:
                case asyncio.CancelledError() | Draining():
                    await self._put_back(task, "stopping", 0.0)
                case Busy():
                    await self._put_back(task, error.message, error.retry_after)
                case CatalogDown():
                    raise error  # what cannot be written down now is another holder's, in a lease
                case _:
                    await self._fail(task, error)
        except BadTransition:
            log.warning("task lost", task=task.id, type=task.type)
        except CatalogDown as late:
            log.warning("task left to its lease", task=task.id, type=task.type, error=late.message)

    async def _put_back(self, task: Task, why: str, retry_in: float) -> None:
        await self._catalog.put_task_back(task, retry_in=retry_in)
        telemetry.TASKS.labels(task.type, "put back").inc()
        log.info("task put back", task=task.id, type=task.type, reason=why)

    async def _fail(self, task: Task, error: BaseException) -> None:
        ours = isinstance(error, TidegateError)
        message = error.message if isinstance(error, TidegateError) else "An internal error."
        kill_point("task_failing")
        await self._end(task, TaskEvent.FAIL, message=message)
        telemetry.TASKS.labels(task.type, "failure").inc()
        log.warning("task failed", task=task.id, type=task.type, error=message,
                    request_id=task.request_id, exc_info=None if ours else error)  # fmt: skip

    async def _end(
        self,
        task: Task,
        event: TaskEvent,
        *,
        result: Mapping[str, object] | None = None,
        message: str = "",
    ) -> None:
        with suppress(CatalogDown):
            await self._catalog.end_task(
                task, event, keep=self._keep, result=result, message=message
            )
            return
        # the commit may or may not have happened; saying it again is safe
        await self._catalog.end_task(task, event, keep=self._keep, result=result, message=message)


def new_task(
    caller: Caller,
    kind: TaskType,
    given: Mapping[str, object],
    *,
    image_id: str | None = None,
    request_id: str | None = None,
) -> Task:
    """What is to be done for this caller, with the caller's rights."""
    return Task(
        id=str(uuid4()),
        type=kind,
        owner=caller.project,
        user_id=caller.user,
        roles=caller.roles,
        input=given,
        image_id=image_id,
        request_id=request_id,
    )
