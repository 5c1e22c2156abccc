"""Statements about keys of stores that tasks export images to.

Each statement of a task's holder asks for the task's fence (``locks``).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.catalog import adoptions, images, locks
from tidegate.catalog import tables as t
from tidegate.catalog.engine import Database
from tidegate.catalog.rows import now
from tidegate.domain.errors import BadTransition, Conflict
from tidegate.domain.export import Export
from tidegate.domain.status import Status
from tidegate.domain.task import Task, TaskEvent, TaskType
from tidegate.domain.upload import Sent

_e, _i, _r = t.exports.c, t.images.c, t.removals.c
_NOTHING_SENT: Mapping[str, Any] = {
    "sent_size": None,
    "sent_digests": None,
    "sent_crc64nvme": None,
}


class SqlExports:
    """See ``catalog.contract.exports.Exports``."""

    _database: Database

    async def claim_export(self, task: Task, store: str, key: str) -> Export:
        async with self._database.transaction() as connection:
            return await _claim(connection, task, store, key)

    async def export_began(self, task: Task, export: Export, upload_id: str) -> None:
        async with self._database.transaction() as connection:
            await _change(connection, task, export, upload_id=upload_id, **_NOTHING_SENT)

    async def export_completing(self, task: Task, export: Export, sent: Sent) -> None:
        image_id = locks.image_of(task)
        crc = None if sent.crc64nvme is None else str(sent.crc64nvme)
        values = {
            "sent_size": sent.size,
            "sent_digests": dict(sent.digests),
            "sent_crc64nvme": crc,
        }
        async with self._database.transaction() as connection:
            # the image's row is had until the commit, so that its status is decided before or after
            active = await connection.execute(
                update(t.images)
                .where(_i.id == image_id, _i.status == Status.ACTIVE.value)
                .values(status=Status.ACTIVE.value)
            )
            if not active.rowcount:
                image = await images.read(connection, image_id)
                raise Conflict(f"The image is {image.status} meanwhile; it was not exported.")
            await _change(connection, task, export, **values)

    async def drop_export(self, task: Task, export: Export) -> None:
        async with self._database.transaction() as connection:
            gone = delete(t.exports).where(_is(export), locks.is_held(task))
            if not (await connection.execute(gone)).rowcount:
                await _need_held(connection, task)

    async def stale_exports(self, stores: Sequence[str], *, limit: int = 50) -> list[Export]:
        here = _e.store.in_(list(stores))
        stale = select(t.exports).where(here, ~_is_live()).order_by(_e.created_at).limit(limit)
        return [_export_of(row) for row in await self._database.rows(stale)]

    async def forget_export(self, export: Export) -> bool:
        async with self._database.transaction() as connection:
            same = _e.upload_id.is_not_distinct_from(export.upload_id)
            gone = delete(t.exports).where(_is(export), same, ~_is_live())
            return bool((await connection.execute(gone)).rowcount)


async def settle(connection: AsyncConnection, task: Task, event: TaskEvent) -> None:
    """Let the key of a task go that succeeds in this very transaction."""
    if task.type is TaskType.EXPORT and event is TaskEvent.SUCCEED:
        await connection.execute(delete(t.exports).where(_e.task_id == task.id))


async def _claim(connection: AsyncConnection, task: Task, store: str, key: str) -> Export:
    await _need_held(connection, task)
    here = and_(_e.store == store, _e.key == key)
    await connection.execute(
        update(t.exports)
        .where(here, _e.task_id != task.id, ~_is_live())
        .values(task_id=task.id, **_NOTHING_SENT)
    )
    found = (await connection.execute(select(t.exports).where(here))).mappings().one_or_none()
    if found is not None:
        if found["task_id"] != task.id:
            raise Conflict("Another export writes there.")
        return _export_of(found)
    if await connection.scalar(adoptions.holder(store, key)) is not None:
        raise Conflict("The data of an image lies there; choose another key.")
    owed = select(_r.id).where(_r.store == store, _r.key == key).limit(1)
    if await connection.scalar(owed) is not None:
        raise Conflict("What lay there is about to be removed; ask again later.")
    made = await connection.execute(
        insert(t.exports)
        .values(store=store, key=key, task_id=task.id, created_at=now())
        .returning(t.exports)
    )
    return _export_of(made.mappings().one())


async def _change(connection: AsyncConnection, task: Task, export: Export, **values: Any) -> None:
    changed = await connection.execute(
        update(t.exports).where(_is(export), locks.is_held(task)).values(**values)
    )
    if not changed.rowcount:
        raise _lost()


async def _need_held(connection: AsyncConnection, task: Task) -> None:
    if not await connection.scalar(select(literal(1)).where(locks.is_held(task))):
        raise _lost()


def _lost() -> BadTransition:
    return BadTransition("The task was ended, or taken over by another server.")


def _is(export: Export) -> ColumnElement[bool]:
    return and_(_e.store == export.store, _e.key == export.key, _e.task_id == export.task_id)


def _is_live() -> ColumnElement[bool]:
    """Of an export: its task has not ended."""
    return exists().where(t.tasks.c.id == _e.task_id, t.tasks.c.status.in_(locks.LIVE))


def _export_of(row: Any) -> Export:
    crc = row["sent_crc64nvme"]
    sent = None
    if row["sent_size"] is not None:
        sent = Sent(row["sent_size"], row["sent_digests"], None if crc is None else int(crc))
    return Export(
        store=row["store"],
        key=row["key"],
        task_id=row["task_id"],
        upload_id=row["upload_id"],
        sent=sent,
    )
