"""Statements about tasks. Each function runs inside the transaction it is given.

As with uploads, every statement of a holder names its fence.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, false, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.catalog import tables as t
from tidegate.catalog.base import TaskQuery, Viewer
from tidegate.catalog.engine import Clock
from tidegate.catalog.query import after
from tidegate.catalog.rows import now
from tidegate.catalog.uploads import lease_values
from tidegate.domain.errors import BadTransition, Invalid, NotFound
from tidegate.domain.task import TASK_TRANSITIONS, Task, TaskEvent, TaskStatus, TaskType

_t = t.tasks.c
_TIMES = frozenset({"created_at", "updated_at", "expires_at"})
_NO_LEASE: Mapping[str, Any] = {"lease_clock": None, "lease_until": None}


async def create(connection: AsyncConnection, task: Task) -> Task:
    moment = now()
    row = await connection.execute(
        insert(t.tasks)
        .values(
            id=task.id,
            type=task.type.value,
            status=TaskStatus.PENDING.value,
            owner=task.owner,
            user_id=task.user_id,
            roles=sorted(task.roles),
            input=dict(task.input),
            message="",
            image_id=task.image_id,
            request_id=task.request_id,
            fence=0,
            created_at=moment,
            updated_at=moment,
        )
        .returning(t.tasks)
    )
    return task_of(row.mappings().one())


async def take(
    connection: AsyncConnection,
    node: str,
    kinds: Sequence[TaskType],
    clock: Clock,
    lease: float,
    limit: int,
    mine: Sequence[str],
) -> list[Task]:
    """Of these kinds: pending tasks (START), and running ones whose lease has run out, the oldest
    first; not those that this process works on (``mine``)."""
    starts, processing = TASK_TRANSITIONS[TaskEvent.START]
    expired = or_(_t.lease_clock != clock.name, _t.lease_until < clock.now())
    free = and_(
        _t.type.in_([kind.value for kind in kinds]),
        or_(_t.status.in_(sorted(starts)), and_(_t.status == processing, expired)),
    )
    chosen = (
        select(_t.id).where(free, _t.id.not_in(mine)).order_by(_t.created_at, _t.id).limit(limit)
    )
    rows = (
        await connection.execute(
            update(t.tasks)
            .where(_t.id.in_(chosen.scalar_subquery()), free)
            .values(
                status=processing.value,
                fence=_t.fence + 1,
                node=node,
                updated_at=now(),
                **lease_values(clock, lease),
            )
            .returning(t.tasks)
        )
    ).mappings()
    return sorted(map(task_of, rows), key=lambda task: (task.created_at, task.id))


async def change_held(connection: AsyncConnection, task: Task, **values: Any) -> Task:
    """BadTransition: taken over, or ended."""
    row = (
        await connection.execute(
            update(t.tasks)
            .where(
                _t.id == task.id, _t.fence == task.fence, _t.status == TaskStatus.PROCESSING.value
            )
            .values(updated_at=now(), **values)
            .returning(t.tasks)
        )
    ).mappings()
    found = row.one_or_none()
    if found is None:
        raise BadTransition("The task was ended, or taken over by another server.")
    return task_of(found)


async def end(
    connection: AsyncConnection,
    task: Task,
    event: TaskEvent,
    result: Mapping[str, object] | None,
    message: str,
    keep: float,
) -> Task:
    """Repeatable by the same holder. BadTransition."""
    sources, target = TASK_TRANSITIONS[event]
    moment = now()
    row = (
        await connection.execute(
            update(t.tasks)
            .where(_t.id == task.id, _t.fence == task.fence, _t.status.in_(sorted(sources)))
            .values(
                status=target.value,
                result=None if result is None else dict(result),
                message=message,
                updated_at=moment,
                expires_at=moment + int(keep * 1_000_000),
                **_NO_LEASE,
            )
            .returning(t.tasks)
        )
    ).mappings()
    found = row.one_or_none()
    if found is not None:
        return task_of(found)
    said_before = select(t.tasks).where(
        _t.id == task.id, _t.fence == task.fence, _t.status == target.value
    )
    again = (await connection.execute(said_before)).mappings().one_or_none()
    if again is None:
        raise BadTransition("The task was ended, or taken over by another server.")
    return task_of(again)


async def purge(connection: AsyncConnection) -> int:
    gone = await connection.execute(delete(t.tasks).where(~_lasts()))
    return gone.rowcount


def one(task_id: str, viewer: Viewer) -> Select[Any]:
    return select(t.tasks).where(_t.id == task_id, _seen(viewer), _lasts())


def no_such_task(task_id: str) -> NotFound:
    return NotFound(f"Could not find task {task_id}")


def page(query: TaskQuery, marker: Task | None) -> Select[Any]:
    statement = select(t.tasks).where(_seen(query.viewer), _lasts())
    for name, value in query.equal.items():
        statement = statement.where(_holds(name, value))
    keys = {query.sort: query.descending, "id": query.descending}
    if marker is not None:
        statement = statement.where(after(t.tasks, keys.items(), marker))
    for name, descending in keys.items():
        column = t.sortable(_t[name])
        statement = statement.order_by(column.desc() if descending else column.asc())
    return statement if query.limit is None else statement.limit(query.limit)


def unknown_marker(marker: str) -> Invalid:
    return Invalid(f"Task with the given id {marker} was not found")


def task_of(row: Any) -> Task:
    return Task(
        id=row["id"],
        type=TaskType(row["type"]),
        status=TaskStatus(row["status"]),
        owner=row["owner"],
        user_id=row["user_id"],
        roles=frozenset(row["roles"] or ()),
        input=row["input"] or {},
        result=row["result"],
        message=row["message"],
        image_id=row["image_id"],
        request_id=row["request_id"],
        fence=row["fence"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        expires_at=row["expires_at"],
    )


def _seen(viewer: Viewer) -> ColumnElement[bool]:
    if viewer.admin:
        return _t.id.is_not(None)
    return false() if viewer.project is None else _t.owner == viewer.project


def _lasts() -> ColumnElement[bool]:
    return or_(_t.expires_at.is_(None), _t.expires_at > now())


def _holds(name: str, value: str) -> ColumnElement[bool]:
    """Times are shown in whole seconds: compare what is shown."""
    if name not in _TIMES:
        return _t[name] == value
    try:
        begin = int(datetime.fromisoformat(value).timestamp()) * 1_000_000
    except (ValueError, OverflowError):
        return false()
    return and_(_t[name] >= begin, _t[name] < begin + 1_000_000)
