"""Whose an image is: a task's, while the image's property ``LOCK`` holds the task's id.

Each statement of a task's holder asks for that, and for the task's fence, so that who was given up
can change nothing.
"""

from sqlalchemy import ColumnElement, delete, exists
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.catalog import images
from tidegate.catalog import tables as t
from tidegate.domain.task import LOCK, Task, TaskStatus

_i, _p, _t = t.images.c, t.properties.c, t.tasks.c
LIVE = (TaskStatus.PENDING.value, TaskStatus.PROCESSING.value)


def has_live_task() -> ColumnElement[bool]:
    """Of an image: it is a task's that has not ended."""
    return exists().where(
        _p.image_id == _i.id, _p.name == LOCK, _t.id == _p.value, _t.status.in_(LIVE)
    )


def is_locked_by(task: Task) -> ColumnElement[bool]:
    """Of an image."""
    return exists().where(_p.image_id == _i.id, _p.name == LOCK, _p.value == task.id)


def is_held(task: Task) -> ColumnElement[bool]:
    """The task is its holder's still."""
    return exists().where(
        _t.id == task.id, _t.fence == task.fence, _t.status == TaskStatus.PROCESSING.value
    )


async def lock(connection: AsyncConnection, task: Task) -> None:
    """Instead of a task that has ended, if there was one."""
    image_id = image_of(task)
    await unlock(connection, image_id)
    await images.put_properties(connection, image_id, {LOCK: task.id})


async def unlock(connection: AsyncConnection, image_id: str) -> None:
    await connection.execute(delete(t.properties).where(_p.image_id == image_id, _p.name == LOCK))


def image_of(task: Task) -> str:
    """The id of the image that a task is about."""
    assert task.image_id is not None
    return task.image_id
