"""Statements about objects that lie in a store already."""

from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.catalog import images
from tidegate.catalog import tables as t
from tidegate.domain.errors import Conflict
from tidegate.domain.image import Image
from tidegate.domain.status import Status

_l = t.locations.c
_i = t.images.c
_e = t.exports.c
_r = t.removals.c
_u = t.uploads.c


def holder(store: str, key: str) -> Select[Any]:
    """The image that has this location, and not only had it."""
    return (
        select(_i.id)
        .join(t.locations, _l.image_id == _i.id)
        .where(_l.store == store, _l.key == key, _i.status != Status.DELETED)
        .limit(1)
    )


async def adopt(connection: AsyncConnection, image: Image) -> None:
    (location,) = image.locations
    taken = await connection.scalar(holder(location.store, location.key))
    if taken is not None:
        raise Conflict(f"image {taken} has it already")
    writing = select(_u.id).where(
        _u.ended_at.is_(None), _u.store == location.store, _u.key == location.key
    )
    if await connection.scalar(writing):
        raise Conflict("an upload is writing it")
    if await connection.scalar(
        select(_r.id).where(_r.store == location.store, _r.key == location.key).limit(1)
    ):
        raise Conflict("it is about to be removed")
    exporting = select(_e.task_id).where(_e.store == location.store, _e.key == location.key)
    if await connection.scalar(exporting):
        raise Conflict("an export is writing it")
    await images.create(connection, image, verified=True)
