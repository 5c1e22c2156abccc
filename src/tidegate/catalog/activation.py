"""Deactivating and reactivating. Each function runs inside the transaction it is given."""

from typing import Any

from sqlalchemy import true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.catalog import images
from tidegate.catalog import tables as t
from tidegate.catalog.rows import now
from tidegate.domain.errors import BadTransition, Forbidden
from tidegate.domain.status import TRANSITIONS, Event, Status

ADMIN = "admin"
OWNER = "owner"

_i = t.images.c


async def deactivate(connection: AsyncConnection, image_id: str, *, by_admin: bool) -> None:
    by = ADMIN if by_admin else OWNER
    try:
        await images.advance(connection, image_id, Event.DEACTIVATE, deactivated_by=by)
    except BadTransition as error:
        if error.status != Status.DEACTIVATED:
            raise
        if by_admin:
            await connection.execute(
                update(t.images)
                .where(_i.id == image_id, _i.status == Status.DEACTIVATED.value)
                .values(deactivated_by=by)
            )


async def reactivate(connection: AsyncConnection, image_id: str, *, by_admin: bool) -> None:
    row = TRANSITIONS[Event.REACTIVATE]
    may: Any = true() if by_admin else _i.deactivated_by.is_distinct_from(ADMIN)
    changed = await connection.execute(
        update(t.images)
        .where(_i.id == image_id, _i.status.in_(sorted(row.sources)), may)
        .values(status=row.target.value, deactivated_by=None, updated_at=now())
    )
    if changed.rowcount == 1:
        return
    image = await images.read_live(connection, image_id)
    if image.status in row.sources:
        raise Forbidden("An administrator deactivated the image; only one may reactivate it.")
    if image.status is not row.target:
        raise await images.refused(connection, image_id, Event.REACTIVATE)
