"""What comes after a delete: the wait, the removal of the data, the purge of the record.

Which clock: these waits are days long and outlive reboots, so that the clock of leases alone
cannot judge them. While it is the same one that saw the step begin, it decides, and no step of the
wall clock matters; after a reboot nothing is left but the wall clock's moment.
"""

from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, insert, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.catalog import images, uploads
from tidegate.catalog import tables as t
from tidegate.catalog.checks import images_children
from tidegate.catalog.engine import Clock, Database
from tidegate.catalog.images import DELETED, REMOVING, WAITING
from tidegate.catalog.rows import moment, now
from tidegate.domain.status import TRANSITIONS, Event
from tidegate.domain.task import TaskStatus
from tidegate.domain.upload import Removal

_d = t.deletions.c
_r = t.removals.c
_TASKS_OVER = (TaskStatus.SUCCESS.value, TaskStatus.FAILURE.value)


class SqlDeletions:
    """See ``catalog.base.Deletions``."""

    _database: Database

    async def begin_scrubs(
        self, *, delay: float, lease: float, limit: int = 50
    ) -> tuple[int, list[Removal]]:
        clock = self._database.clock
        async with self._database.transaction() as connection:
            return await _begin(connection, clock, delay, lease, limit)

    async def finish_scrubs(self, *, limit: int = 50) -> list[str]:
        async with self._database.transaction() as connection:
            return await _finish(connection, self._database.clock, limit)

    async def purge(self, *, after: float, limit: int = 50) -> int:
        async with self._database.transaction() as connection:
            return await _purge(connection, self._database.clock, after, limit)

    async def take_turn(self, name: str, seconds: float) -> bool:
        clock, c = self._database.clock, t.turns.c
        values = uploads.lease_values(clock, seconds)
        over = or_(c.lease_clock != clock.name, c.lease_until < clock.now())
        async with self._database.transaction() as connection:
            taken = await connection.execute(
                update(t.turns).where(c.name == name, over).values(values)
            )
            if taken.rowcount:
                return True
            if await connection.scalar(select(exists().where(c.name == name))):
                return False
            await connection.execute(insert(t.turns).values(name=name, **values))
            return True


async def _begin(
    connection: AsyncConnection, clock: Clock, delay: float, lease: float, limit: int
) -> tuple[int, list[Removal]]:
    due = (
        select(_d.image_id)
        .where(_d.step == WAITING, _since(clock, delay))
        .order_by(_d.at)
        .limit(limit)
    )
    reserved = uploads.lease_values(clock, lease)
    taken = 0
    removals: list[Removal] = []
    for image_id in list(await connection.scalars(due)):
        begun = await connection.execute(
            update(t.deletions)
            .where(_d.image_id == image_id, _d.step == WAITING)
            .values(step=REMOVING, **moment(clock))
        )
        if begun.rowcount:
            taken += 1
            image = await images.read(connection, image_id)
            removals += await images.removals_of(connection, image_id, image.locations, reserved)
    return taken, removals


async def _finish(connection: AsyncConnection, clock: Clock, limit: int) -> list[str]:
    row, i = TRANSITIONS[Event.SCRUB], t.images.c
    done = select(_d.image_id).where(_d.step == REMOVING, ~_owed(t.locations)).limit(limit)
    scrubbed = await connection.scalars(
        update(t.images)
        .where(i.id.in_(done.scalar_subquery()), i.status.in_(sorted(row.sources)))
        .values(status=row.target.value, updated_at=now())
        .returning(i.id)
    )
    found = list(scrubbed)
    await connection.execute(
        update(t.deletions).where(_d.image_id.in_(found)).values(step=DELETED, **moment(clock))
    )
    return found


async def _purge(connection: AsyncConnection, clock: Clock, after: float, limit: int) -> int:
    u, k = t.uploads.c, t.tasks.c
    attempt_runs = exists().where(u.image_id == _d.image_id, u.ended_at.is_(None))
    task_runs = exists().where(k.image_id == _d.image_id, k.status.not_in(_TASKS_OVER))
    chosen = (
        select(_d.image_id)
        .where(_d.step == DELETED, _since(clock, after))
        .where(~_owed(t.locations), ~_owed(t.uploads), ~attempt_runs, ~task_runs)
        .order_by(_d.at)
        .limit(limit)
    )
    ids = list(await connection.scalars(chosen))
    if ids:
        await connection.execute(insert(t.tombstones), [{"id": image_id} for image_id in ids])
        await connection.execute(delete(t.tasks).where(k.image_id.in_(ids)))
        for column in images_children():
            await connection.execute(delete(column.table).where(column.in_(ids)))
        await connection.execute(delete(t.images).where(t.images.c.id.in_(ids)))
    return len(ids)


def _since(clock: Clock, seconds: float) -> ColumnElement[bool]:
    """Whether the step began at least so many seconds ago."""
    return or_(
        and_(_d.clock == clock.name, _d.tick <= clock.now() - seconds),
        and_(_d.clock != clock.name, _d.at <= now() - int(seconds * 1e6)),
    )


def _owed(keys: Any) -> ColumnElement[bool]:
    """Whether bytes under a key that the image has in this table are still to be removed."""
    return exists(
        select(literal(1))
        .select_from(keys)
        .join(t.removals, and_(_r.store == keys.c.store, _r.key == keys.c.key))
        .where(keys.c.image_id == _d.image_id)
        .correlate(t.deletions)
    )
