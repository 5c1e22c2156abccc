"""The catalog's contract: tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tidegate.catalog.contract.images import Viewer
from tidegate.domain.task import Task, TaskEvent, TaskType


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQuery:
    """A page of the tasks that did not expire: of all projects for an admin, else of the
    viewer's. ``equal`` maps columns to values, a time's as ISO 8601, compared by whole seconds.
    ``limit`` None: all."""

    viewer: Viewer
    equal: Mapping[str, str] = field(default_factory=dict)
    sort: str = "created_at"
    descending: bool = True
    limit: int | None = 25
    marker: str | None = None


class Tasks(Protocol):
    async def create_task(self, task: Task) -> Task:
        """Insert a pending task; ``created_at`` and ``updated_at`` are set here."""

    async def get_task(self, task_id: str, viewer: Viewer) -> Task:
        """NotFound: absent, expired, or not for the viewer's eyes."""

    async def list_tasks(self, query: TaskQuery) -> list[Task]:
        """Invalid when the marker is unknown to the viewer."""

    async def take_tasks(
        self,
        node: str,
        kinds: Sequence[TaskType],
        *,
        lease: float,
        limit: int,
        mine: Sequence[str] = (),
    ) -> list[Task]:
        """Of these kinds: pending tasks, which are processing from here on, and processing ones
        whose lease has run out; each is held by this caller alone, for ``lease`` seconds. ``mine``
        are left."""

    async def renew_task(
        self,
        task: Task,
        *,
        lease: float,
        message: str | None = None,
        image_id: str | None = None,
    ) -> Task:
        """Renew the lease of a task that is held, and record what is not None. BadTransition:
        taken over, or ended."""

    async def put_task_back(self, task: Task, *, retry_in: float = 0.0) -> None:
        """Hold it no longer: it stays processing, and anybody may take it in ``retry_in`` seconds.
        BadTransition."""

    async def end_task(
        self,
        task: Task,
        event: TaskEvent,
        *,
        keep: float,
        result: Mapping[str, object] | None = None,
        message: str = "",
    ) -> Task:
        """SUCCEED or FAIL; the task expires in ``keep`` seconds. Repeatable by its holder.
        BadTransition."""

    async def purge_tasks(self) -> int:
        """Remove the expired tasks; how many."""
