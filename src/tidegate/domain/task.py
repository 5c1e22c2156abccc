"""The life of a task: work a user asked for that outlives its request.

A task is worked on by who holds its lease; each taking raises its fence, so that a worker who was
given up can change nothing any more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID, uuid5

from tidegate.domain.policy import Caller


class TaskStatus(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    SUCCESS = "success"
    FAILURE = "failure"


class TaskEvent(StrEnum):
    START = "start"
    SUCCEED = "succeed"
    FAIL = "fail"


TASK_TRANSITIONS: dict[TaskEvent, tuple[frozenset[TaskStatus], TaskStatus]] = {
    TaskEvent.START: (frozenset({TaskStatus.PENDING}), TaskStatus.PROCESSING),
    TaskEvent.SUCCEED: (frozenset({TaskStatus.PROCESSING}), TaskStatus.SUCCESS),
    TaskEvent.FAIL: (frozenset({TaskStatus.PROCESSING}), TaskStatus.FAILURE),
}


class TaskType(StrEnum):
    IMPORT = "import"
    CLONE = "clone"  # ours
    EXPORT = "export"
    API_IMAGE_IMPORT = "api_image_import"
    LOCATION_IMPORT = "location_import"
    COPY_FROM = "copy_from"  # API v1's; Glance has no task for it


LOCK = "os_glance_import_task"
"""The property of an image that names the import task whose it is."""

IMPORTING = "os_glance_importing_to_stores"
FAILED = "os_glance_failed_import"
"""The properties that list the stores to which an import is still to bring it, and those to which
it failed to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """``owner``, ``user_id`` and ``roles`` are those of the caller for whom it is done; times are
    microseconds UTC. ``fence`` counts how often it was taken up."""

    id: str
    type: TaskType
    status: TaskStatus = TaskStatus.PENDING
    owner: str | None = None
    user_id: str | None = None
    roles: frozenset[str] = frozenset()
    input: Mapping[str, object] = field(default_factory=dict)
    result: Mapping[str, object] | None = None
    message: str = ""
    image_id: str | None = None
    request_id: str | None = None
    fence: int = 0
    created_at: int = 0
    updated_at: int = 0
    expires_at: int | None = None

    @property
    def caller(self) -> Caller:
        return Caller(project=self.owner, roles=self.roles, user=self.user_id)

    @property
    def attempt(self) -> str:
        """The id of the upload that this holder may begin; so whoever takes the task up next
        finds what became of it."""
        return self._attempt(self.fence)

    @property
    def attempts(self) -> frozenset[str]:
        """The ids of the uploads that this and former holders may have begun."""
        return frozenset(self._attempt(fence) for fence in range(1, self.fence + 1))

    def _attempt(self, fence: int) -> str:
        return uuid5(UUID(self.id), str(fence)).hex
