"""Statements that compare: what the catalog needs with what a store holds, and its own tables with
each other."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    case,
    delete,
    exists,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.catalog import damage, images, importing, uploads
from tidegate.catalog import tables as t
from tidegate.catalog.base import Fate, Flaw, Held
from tidegate.catalog.engine import Database
from tidegate.catalog.images import DELETED, WAITING
from tidegate.catalog.rows import copies, moment, now
from tidegate.domain.status import GONE, TRANSITIONS, Event, Status
from tidegate.domain.task import TaskStatus
from tidegate.domain.upload import Removal, UploadState

_i, _l, _u, _r = t.images.c, t.locations.c, t.uploads.c, t.removals.c
_d = t.deletions.c

_AT_WORK = [Status.SAVING.value, Status.UPLOADING.value, Status.IMPORTING.value]
_READABLE = [Status.ACTIVE.value, Status.DEACTIVATED.value]
_TASKS = [TaskStatus.PENDING.value, TaskStatus.PROCESSING.value]

REFUSED_OFTEN = 5
"""Failures after which a removal counts as stuck, however young it is."""

_let_go = exists().where(_d.image_id == _i.id, _d.step != WAITING)
_settled = and_(_i.status == Status.DEACTIVATED, damage.is_known(_l.store, _l.key))

_HELD = (
    select(_l.id, _l.image_id, _i.status, _l.store, _l.key, _i.size, _i.checksum, _i.crc64nvme)
    .join(t.images, _i.id == _l.image_id)
    .where(_l.own, _i.status.in_(_READABLE), ~_settled)
)


class SqlChecks:
    """See ``catalog.base.Checks``."""

    _database: Database

    async def fates(self, store: str, keys: Sequence[str]) -> dict[str, Fate]:
        async with self._database.transaction() as connection:
            return await _fates(connection, store, keys)

    async def remove_orphan(
        self, store: str, key: str, *, unknown: bool, lease: float
    ) -> Removal | None:
        reserved = uploads.lease_values(self._database.clock, lease)
        async with self._database.transaction() as connection:
            fate = (await _fates(connection, store, [key]))[key]
            if fate is Fate.ORPHAN or (unknown and fate is Fate.UNKNOWN):
                return await images.put_removal(connection, store, key, None, reserved)
            return None

    async def own_locations(self, after: int, *, limit: int) -> list[Held]:
        return await self._held(_HELD.where(_l.id > after).order_by(_l.id).limit(limit))

    async def own_locations_at(self, store: str, keys: Sequence[str]) -> list[Held]:
        return await self._held(_HELD.where(_l.store == store, _l.key.in_(keys)))

    async def _held(self, query: Select[Any]) -> list[Held]:
        return [
            Held(
                id=row["id"],
                image_id=row["image_id"],
                status=Status(row["status"]),
                store=row["store"],
                key=row["key"],
                size=row["size"],
                md5=row["checksum"],
                crc64nvme=None if row["crc64nvme"] is None else int(row["crc64nvme"]),
            )
            for row in await self._database.rows(query)
        ]

    async def is_held(self, location: Held) -> bool:
        found = await self._database.rows(
            select(_l.id)
            .join(t.images, _i.id == _l.image_id)
            .where(_l.id == location.id, _l.key == location.key, _i.status.in_(_READABLE))
        )
        return bool(found)

    async def drop_location(self, location: Held) -> bool:
        image_id = location.image_id
        async with self._database.transaction() as connection:
            image = await images.read(connection, image_id)
            where = (location.store, location.key)
            lost = [one for one in image.locations if (one.store, one.key) == where]
            if image.status not in _READABLE or not lost or len(image.locations) == 1:
                return False
            await connection.execute(
                delete(t.locations).where(_l.id == location.id, _l.image_id == image_id)
            )
            await images.removals_of(connection, image_id, lost)
            await images.refresh(connection, image_id)
            return True

    async def stale_copies(self, after: str, *, limit: int) -> tuple[str | None, list[str]]:
        differs = or_(*(_i[name].is_distinct_from(value) for name, value in copies().items()))
        rows = await self._database.rows(
            select(_i.id, differs.label("differs"))
            .where(_i.id > after)
            .order_by(_i.id)
            .limit(limit)
        )
        last = rows[-1]["id"] if len(rows) == limit else None
        return last, [row["id"] for row in rows if row["differs"]]

    async def flaws(self, *, older_than: float) -> list[Flaw]:
        clock = self._database.clock
        over = or_(_u.lease_clock != clock.name, _u.lease_until < clock.now() - older_than)
        old = _r.created_at < now() - int(older_than * 1e6)
        unknown = exists().where(_d.image_id == _i.id)
        queries: list[tuple[str, str, Any]] = [
            ("lease", "an attempt that nobody works on",
             select(_u.id).where(_u.ended_at.is_(None), over)),
            ("saving", "an image that no attempt fills",
             select(_i.id).where(_i.status == Status.SAVING, ~_is_filled())),
            ("uploading", "an image for which no data comes, and none is staged",
             select(_i.id).where(_i.status == Status.UPLOADING, ~_is_filled(), ~_is_staged())),
            ("importing", "an image that no task imports",
             select(_i.id).where(importing.is_abandoned())),
            ("staged", "staged data that no image waits for",
             select(_u.image_id).where(_u.state == UploadState.STAGED, ~_waits_for_staged())),
            # before what makes removals due
            ("needed", "a removal of bytes that an image needs",
             select(_r.id).where(_is_needed())),
            ("removal", "a removal that does not come to an end",
             select(_r.id).where(or_(old, _r.attempts >= REFUSED_OFTEN), ~_is_needed())),
            ("deletion", "a deleted image that nobody would purge",
             select(_i.id).where(_i.status.in_(sorted(GONE)), ~unknown)),
            *(
                ("rows", f"rows of an image that does not exist, in {column.table.name}",
                 select(literal(f"{column.table.name}:") + column).distinct()
                 .where(column.not_in(select(_i.id))))
                for column in images_children()
            ),
        ]  # fmt: skip
        found: list[Flaw] = []
        for what, detail, query in queries:
            rows = await self._database.rows(query)
            found += [Flaw(what, str(next(iter(row.values()))), detail) for row in rows]
        return found

    async def mend(self, flaw: Flaw, *, broken: Event) -> None:
        async with self._database.transaction() as connection:
            match flaw.what:
                case "saving":
                    await _advance_unfilled(connection, flaw.subject, broken)
                case "uploading":
                    await _advance_unfilled(connection, flaw.subject, Event.UNSTAGE)
                case "importing":
                    await importing.fail_abandoned(connection, flaw.subject)
                case "staged":
                    still = select(~_waits_for_staged()).where(_u.image_id == flaw.subject)
                    if await connection.scalar(still):
                        await images.remove_staged(connection, flaw.subject)
                case "removal":
                    await connection.execute(
                        update(t.removals)
                        .where(_r.id == int(flaw.subject))
                        .values(lease_clock=None, lease_until=None)
                    )
                case "needed":
                    await connection.execute(
                        delete(t.removals).where(_r.id == int(flaw.subject), _is_needed())
                    )
                case "deletion":
                    await self._enter(connection, flaw.subject)
                case "rows":
                    name, _, image_id = flaw.subject.partition(":")
                    for column in images_children():
                        if column.table.name == name:
                            await connection.execute(
                                delete(column.table).where(
                                    column == image_id, column.not_in(select(_i.id))
                                )
                            )
                case "copies":
                    await images.refresh(connection, flaw.subject)
                case _:
                    pass

    async def _enter(self, connection: AsyncConnection, image_id: str) -> None:
        """Let the scrubber or the purger know an image that is gone; its wait begins now."""
        known = await connection.scalar(select(exists().where(_d.image_id == image_id)))
        image = await images.read(connection, image_id)
        if image.gone and not known:
            step = DELETED if image.status is Status.DELETED else WAITING
            await connection.execute(
                insert(t.deletions).values(
                    image_id=image_id, step=step, **moment(self._database.clock)
                )
            )


async def _fates(connection: AsyncConnection, store: str, keys: Sequence[str]) -> dict[str, Fate]:
    pairs = {key: key.split("/", 1) for key in keys}
    owners = sorted({image_id for image_id, _ in pairs.values()})
    attempts = sorted({attempt for _, attempt in pairs.values()})

    async def pick(query: Any) -> dict[str, Any]:
        return {row[0]: row[1] for row in await connection.execute(query)}

    # in whatever store: a new name of a bucket, or a second one, must not cost an image its data
    used = await pick(
        select(_l.key, _i.id)
        .join(t.images, _i.id == _l.image_id)
        .where(_l.key.in_(keys), _i.status != Status.DELETED, ~_let_go)
    )
    going = await pick(select(_r.key, _r.id).where(_r.key.in_(keys)))
    # what is staged is not over
    ended = case((_u.state != UploadState.STAGED, _u.ended_at))
    tried = await pick(select(_u.id, ended).where(_u.id.in_(attempts)))
    ours = await pick(select(_u.id, _u.store).where(_u.id.in_(attempts)))
    status = await pick(select(_i.id, _i.status).where(_i.id.in_(owners)))
    buried = await pick(
        select(t.tombstones.c.id, t.tombstones.c.id).where(t.tombstones.c.id.in_(owners))
    )
    busy = await pick(
        select(t.tasks.c.image_id, t.tasks.c.id).where(
            t.tasks.c.image_id.in_(owners), t.tasks.c.status.in_(_TASKS)
        )
    )

    def judge(key: str) -> Fate:
        image_id, attempt = pairs[key]
        if key in used or key in going or image_id in busy or status.get(image_id) in _AT_WORK:
            return Fate.NEEDED
        if attempt in tried:
            if tried[attempt] is None:
                return Fate.NEEDED
            return Fate.ORPHAN if ours[attempt] == store else Fate.UNKNOWN
        if image_id in buried or status.get(image_id) == Status.DELETED:
            return Fate.ORPHAN
        return Fate.UNKNOWN

    return {key: judge(key) for key in keys}


async def _advance_unfilled(connection: AsyncConnection, image_id: str, event: Event) -> None:
    row = TRANSITIONS[event]
    await connection.execute(
        update(t.images)
        .where(_i.id == image_id, _i.status.in_(sorted(row.sources)), ~_is_filled(), ~_is_staged())
        .values(status=row.target.value, claim=None, size=None, updated_at=now())
    )


def images_children() -> list[Any]:
    """The columns of other tables that name an image."""
    return [
        key.parent
        for table in t.metadata.sorted_tables
        for key in table.foreign_keys
        if key.column is _i.id
    ]


def _is_filled() -> ColumnElement[bool]:
    return exists().where(_u.image_id == _i.id, _u.id == _i.claim, _u.ended_at.is_(None))


def _is_staged() -> ColumnElement[bool]:
    return exists().where(_u.image_id == _i.id, _u.state == UploadState.STAGED)


def _waits_for_staged() -> ColumnElement[bool]:
    """Of an attempt: its image is one that is staged, or imported."""
    waiting = [Status.UPLOADING.value, Status.IMPORTING.value]
    return exists().where(_i.id == _u.image_id, _i.status.in_(waiting))


def _is_needed() -> ColumnElement[bool]:
    """Of a removal (of an object, not of an upload)."""
    return exists(
        select(literal(1))
        .select_from(t.locations.join(t.images, _i.id == _l.image_id))
        .where(_l.store == _r.store, _l.key == _r.key, _i.status != Status.DELETED, ~_let_go)
        .correlate(t.removals)
    )
