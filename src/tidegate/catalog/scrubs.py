"""Statements about reading stored bytes again.

A repair is an attempt of its own, so that whatever a crash leaves of it is found like an upload's:
it holds no claim on the image, and its end can only give it up or swap one location.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.catalog import damage, images, uploads, verifying
from tidegate.catalog import tables as t
from tidegate.catalog.engine import Clock, Database
from tidegate.catalog.rows import now
from tidegate.domain.errors import BadTransition
from tidegate.domain.image import Location
from tidegate.domain.scrub import Copy
from tidegate.domain.status import Status
from tidegate.domain.upload import Failure, Removal, Upload, UploadState

_l = t.locations.c
_i = t.images.c
_READ = (Status.ACTIVE.value, Status.DEACTIVATED.value)
_since: ColumnElement[int] = func.coalesce(_l.scrubbed_at, _i.created_at)


class SqlScrubs:
    """See ``catalog.base.Scrubs``."""

    _database: Database
    _fences: dict[str, int]

    async def copies_to_scrub(
        self,
        stores: Sequence[str],
        *,
        before: int,
        after: Copy | None = None,
        image_id: str | None = None,
        limit: int = 50,
    ) -> list[Copy]:
        due = and_(_l.own.is_(True), _l.store.in_(stores), _since < before)
        rows = await self._database.rows(_copies(due, after, image_id, limit))
        return [Copy(**row) for row in rows]

    async def unverified_copies(
        self, *, after: Copy | None = None, image_id: str | None = None, limit: int = 50
    ) -> list[Copy]:
        due = _l.unverified.is_(True)
        rows = await self._database.rows(_copies(due, after, image_id, limit))
        return [Copy(**row) for row in rows]

    async def verify_copy(self, copy: Copy, learnt: Mapping[str, str]) -> bool:
        async with self._database.transaction() as connection:
            if not await connection.scalar(select(_there(copy))):
                return False
            if learnt and not await verifying.learn(connection, copy.image_id, learnt):
                return False
            await verifying.verify(connection, copy.image_id, copy)
            return True

    async def take_copy(self, copy: Copy, *, lease: float) -> bool:
        async with self._database.transaction() as connection:
            return await _take(connection, copy, self._database.clock, lease)

    async def keep_copy(self, copy: Copy, *, lease: float) -> None:
        async with self._database.transaction() as connection:
            await _keep(connection, copy, self._database.clock, lease)

    async def leave_copy(self, copy: Copy, *, good: bool) -> None:
        async with self._database.transaction() as connection:
            await _end(connection, copy, good=good)

    async def condemn(self, image_id: str, store: str, key: str, failure: Failure) -> None:
        async with self._database.transaction() as connection:
            await damage.condemn(connection, image_id, store, key, failure)

    async def start_repair(self, repair: Upload, bad: Copy, *, lease: float) -> None:
        async with self._database.transaction() as connection:
            await _start_repair(connection, repair, bad, self._database.clock, lease)
        self._fences[repair.id] = 1

    async def repair_began(self, repair: Upload, upload_id: str) -> None:
        async with self._database.transaction() as connection:
            await _repair_began(connection, repair, self._fences.get(repair.id, 0), upload_id)

    async def finish_repair(self, repair: Upload, bad: Copy, received: int) -> list[Removal]:
        fence = self._fences.get(repair.id, 0)
        async with self._database.transaction() as connection:
            return await _finish_repair(connection, repair, fence, bad, received)


def _copies(
    due: ColumnElement[bool], after: Copy | None, image_id: str | None, limit: int
) -> Select[Any]:
    """The longest unseen first, from ``after`` on."""
    wanted = (
        select(_l.id, _l.image_id, _l.store, _l.key, _since.label("since"))
        .join(t.images, _i.id == _l.image_id)
        .where(_i.status.in_(_READ), due)
        .order_by(_since, _l.id)
        .limit(limit)
    )
    if after is not None:
        later = and_(_since == after.since, _l.id > after.id)
        wanted = wanted.where(or_(_since > after.since, later))
    return wanted if image_id is None else wanted.where(_i.id == image_id)


async def _take(connection: AsyncConnection, copy: Copy, clock: Clock, lease: float) -> bool:
    free = or_(_l.scrub_until.is_(None), _l.scrub_clock != clock.name, _l.scrub_until < clock.now())
    taken = await connection.execute(
        update(t.locations)
        .where(
            _l.id == copy.id,
            _l.key == copy.key,
            func.coalesce(_l.scrubbed_at, copy.since) == copy.since,  # nobody did it meanwhile
            free,
        )
        .values(_leased(clock, lease))
    )
    return bool(taken.rowcount)


async def _keep(connection: AsyncConnection, copy: Copy, clock: Clock, lease: float) -> None:
    await connection.execute(
        update(t.locations).where(_l.id == copy.id).values(_leased(clock, lease))
    )


async def _end(connection: AsyncConnection, copy: Copy, *, good: bool) -> None:
    values: dict[str, Any] = {"scrub_clock": None, "scrub_until": None}
    if good:
        values["scrubbed_at"] = now()
    await connection.execute(
        update(t.locations).where(_l.id == copy.id, _l.key == copy.key).values(values)
    )


async def _start_repair(
    connection: AsyncConnection, repair: Upload, bad: Copy, clock: Clock, lease: float
) -> None:
    if not await connection.scalar(select(_there(bad))):
        raise _overtaken()
    moment = now()
    await connection.execute(
        insert(t.uploads).values(
            id=repair.id,
            image_id=repair.image_id,
            store=repair.store,
            key=repair.key,
            state=UploadState.STARTED.value,
            node=repair.node,
            fence=1,
            expected_size=repair.expected_size,
            received=0,
            started_at=moment,
            updated_at=moment,
            **uploads.lease_values(clock, lease),
        )
    )


async def _repair_began(
    connection: AsyncConnection, repair: Upload, fence: int, upload_id: str
) -> None:
    changed = await connection.execute(
        update(t.uploads)
        .where(uploads.held(repair.id, fence))
        .values(state=UploadState.WRITING.value, upload_id=upload_id, updated_at=now())
    )
    if changed.rowcount == 0:
        raise _overtaken()


async def _finish_repair(
    connection: AsyncConnection, repair: Upload, fence: int, bad: Copy, received: int
) -> list[Removal]:
    ended = await connection.scalar(select(t.uploads.c.state).where(t.uploads.c.id == repair.id))
    if ended == UploadState.DONE:
        return []
    swapped = await connection.execute(
        update(t.locations)
        .where(_l.id == bad.id, _there(bad), exists().where(uploads.held(repair.id, fence)))
        .values(key=repair.key, scrubbed_at=now(), scrub_clock=None, scrub_until=None)
    )
    if swapped.rowcount == 0:
        raise _overtaken()
    await uploads.end(connection, repair.id, UploadState.DONE, received=received)
    await images.refresh(connection, bad.image_id)
    return await images.removals_of(connection, bad.image_id, [Location(bad.store, bad.key)])


def _there(copy: Copy) -> ColumnElement[bool]:
    """The location is still the image's, and the image still has data."""
    own, image = t.locations.alias(), t.images.alias()
    return exists().where(
        own.c.id == copy.id,
        own.c.store == copy.store,
        own.c.key == copy.key,
        image.c.id == own.c.image_id,
        image.c.status.in_(_READ),
    )


def _leased(clock: Clock, lease: float) -> dict[str, Any]:
    return {"scrub_clock": clock.name, "scrub_until": clock.now() + lease}


def _overtaken() -> BadTransition:
    return BadTransition("The image lost this data meanwhile, or somebody else mends it.")
