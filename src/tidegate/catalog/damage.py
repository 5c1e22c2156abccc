"""How stored bytes are called damaged, whoever finds it out: the image is deactivated, and a failed
attempt says why. Each function runs inside the transaction it is given."""

from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, and_, exists, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.catalog import tables as t
from tidegate.catalog.activation import ADMIN
from tidegate.catalog.rows import now
from tidegate.domain.errors import BadTransition
from tidegate.domain.status import TRANSITIONS, Event
from tidegate.domain.upload import WRONG_BYTES, Failure, UploadState

_i, _l, _u = t.images.c, t.locations.c, t.uploads.c


def is_known(store: Any, key: Any) -> ColumnElement[bool]:
    """Of an image: that the bytes it has there are damaged was told already."""
    return exists().where(
        _u.image_id == _i.id, _u.store == store, _u.key == key, _u.failure_reason == WRONG_BYTES
    )


async def condemn(
    connection: AsyncConnection, image_id: str, store: str, key: str, failure: Failure
) -> None:
    """active → deactivated by an administrator, with a failed attempt; of one that is deactivated
    already, only what is not known of it yet. BadTransition: it has no such location any more, or
    none of these statuses."""
    row = TRANSITIONS[Event.DEACTIVATE]
    there = and_(
        _i.id == image_id,
        exists().where(_l.image_id == _i.id, _l.store == store, _l.key == key),
    )
    deactivated = await connection.execute(
        update(t.images)
        .where(there, _i.status.in_(sorted(row.sources)))
        .values(status=row.target.value, deactivated_by=ADMIN, updated_at=now())
    )
    if deactivated.rowcount == 0:
        found = await connection.execute(
            update(t.images)
            .where(there, _i.status == row.target.value)
            .values(deactivated_by=ADMIN)
        )
        if found.rowcount == 0:
            raise BadTransition("The image has no data any more, or has other data.")
        if await connection.scalar(select(is_known(store, key)).where(_i.id == image_id)):
            return
    moment = now()
    await connection.execute(
        insert(t.uploads).values(
            id=uuid4().hex,
            image_id=image_id,
            store=store,
            key=key,
            state=UploadState.FAILED.value,
            node="",
            fence=1,
            received=0,
            started_at=moment,
            updated_at=moment,
            ended_at=moment,
            failure_reason=failure.reason,
            failure_where=failure.where,
            failure_message=failure.message,
        )
    )
