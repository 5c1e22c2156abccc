"""The life of a task: work a user asked for that outlives its request."""

from enum import StrEnum


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
