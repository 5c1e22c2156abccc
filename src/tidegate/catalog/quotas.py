"""What a project holds, counted inside the transaction that adds to it.

Nothing keeps a running total that a crash could leave wrong: each count is taken from the rows
themselves, by whoever adds to them and alone at that time. Bytes are held from the moment they are
promised until they are gone from the store: an attempt holds what it reserved while it is open, an
image its size once for each location, and what is still to be removed goes on counting.
"""

from typing import Any

from sqlalchemy import ColumnElement, Select, case, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.catalog import tables as t
from tidegate.domain.errors import BadTransition, TooLarge
from tidegate.domain.image import Image
from tidegate.domain.quota import Allowance
from tidegate.domain.status import GONE, Status
from tidegate.domain.task import IMPORTING
from tidegate.domain.upload import UploadState

_i, _l, _u, _r, _p = t.images.c, t.locations.c, t.uploads.c, t.removals.c, t.properties.c
_NOTHING = 0


def images_held(owner: str | None) -> Select[Any]:
    return select(func.count()).where(_owned(owner), _i.status.not_in(sorted(GONE)))


def bytes_located(owner: str | None) -> Select[Any]:
    """Those of images whose data nobody has begun to remove."""
    return (
        select(func.coalesce(func.sum(_i.size), _NOTHING))
        .join(t.locations, _l.image_id == _i.id)
        .where(_owned(owner), _i.status != Status.DELETED.value)
    )


def bytes_attempted(owner: str | None) -> Select[Any]:
    """What open attempts reserved, what was staged, and what ended ones have left in a store."""
    image = t.images.alias()
    located = exists().where(
        _l.store == _u.store,
        _l.key == _u.key,
        image.c.id == _l.image_id,
        image.c.status != Status.DELETED.value,
    )
    owed = exists().where(_r.store == _u.store, _r.key == _u.key)
    running = _u.ended_at.is_(None)
    staged = _u.state == UploadState.STAGED.value
    held = case(
        (running, func.coalesce(_u.reserved, _u.expected_size, _u.received)), else_=_u.received
    )
    return (
        select(func.coalesce(func.sum(held), _NOTHING))
        .join(t.images, _i.id == _u.image_id)
        .where(_owned(owner), or_(running, staged, owed & ~located))
    )


def held(owner: str | None) -> Select[Any]:
    """One row, with the fields of ``Usage``: what is shown is what limits are compared with."""
    copied = exists().where(_p.image_id == _i.id, _p.name == IMPORTING, _p.value != "")
    staged = or_(_i.status.in_([Status.UPLOADING.value, Status.IMPORTING.value]), copied)
    coming = or_(_i.status == Status.SAVING.value, staged)

    def of_images(value: ColumnElement[Any]) -> Select[Any]:
        return select(func.coalesce(func.sum(value), _NOTHING)).where(_owned(owner))

    located, attempted = bytes_located(owner), bytes_attempted(owner)
    return select(
        (located.scalar_subquery() + attempted.scalar_subquery()).label("stored"),
        of_images(case((staged, func.coalesce(_i.size, _NOTHING)), else_=_NOTHING))
        .scalar_subquery()
        .label("staged"),
        images_held(owner).scalar_subquery().label("images"),
        of_images(case((coming, 1), else_=0)).scalar_subquery().label("uploading"),
    )


async def admit_image(connection: AsyncConnection, image: Image, allowance: Allowance) -> None:
    """TooLarge: the image, which is there already, is one too many, or its data is."""
    if allowance.images is not None:
        await _alone(connection, image.owner)
        held = await connection.scalar(images_held(image.owner)) or 0
        if held > allowance.images:
            raise TooLarge(
                "The limit has been exceeded on the number of images of a project. "
                f"Attempted: {held}, Maximum: {allowance.images}"
            )
    if image.locations:
        await admit_bytes(connection, image.owner, allowance)


async def admit_bytes(connection: AsyncConnection, owner: str | None, allowance: Allowance) -> None:
    """TooLarge: what the project holds by now is too much."""
    if allowance.bytes is not None and await _room(connection, owner, allowance.bytes) < 0:
        raise _too_much(allowance.bytes)


async def admit_attempt(
    connection: AsyncConnection, image: Image, size: int | None, allowance: Allowance
) -> None:
    """TooLarge: there is no room for what the attempt, which is there already, has reserved; or
    none at all, where it does not know how much comes."""
    if allowance.bytes is None:
        return
    room = await _room(connection, image.owner, allowance.bytes)
    if room < 0 or (room == 0 and size is None):
        raise _too_much(allowance.bytes)


async def reserve(
    connection: AsyncConnection, attempt: str, most: int, allowance: Allowance
) -> int:
    """Let an attempt hold up to ``most`` bytes more; how many. TooLarge: not one. BadTransition:
    there is no such attempt, or it has ended."""
    row = (
        await connection.execute(
            select(_i.owner)
            .join(t.uploads, _u.image_id == _i.id)
            .where(_u.id == attempt, _u.ended_at.is_(None))
        )
    ).one_or_none()
    if row is None:
        raise BadTransition("There is no such upload.")
    granted = most
    if allowance.bytes is not None:
        granted = min(most, await _room(connection, row.owner, allowance.bytes))
        if granted <= 0:
            raise _too_much(allowance.bytes)
    await connection.execute(
        update(t.uploads)
        .where(_u.id == attempt)
        .values(reserved=func.coalesce(_u.reserved, _NOTHING) + granted)
    )
    return granted


def _owned(owner: str | None) -> ColumnElement[bool]:
    return _i.owner.is_(None) if owner is None else _i.owner == owner


async def _room(connection: AsyncConnection, owner: str | None, limit: int) -> int:
    """Bytes; negative: more is held than may be."""
    await _alone(connection, owner)
    located = await connection.scalar(bytes_located(owner)) or 0
    return limit - int(located) - int(await connection.scalar(bytes_attempted(owner)) or 0)


async def _alone(connection: AsyncConnection, owner: str | None) -> None:
    """Keep all others who count for this project away until the transaction ends. SQLite's
    transactions have the database for themselves from their beginning."""
    if connection.dialect.name == "postgresql":
        name = func.hashtextextended(f"quota of {owner}", 0)
        await connection.execute(select(func.pg_advisory_xact_lock(name)))


def _too_much(limit: int) -> TooLarge:
    return TooLarge(
        "The data was denied because it exceeds the quota of the image's project: "
        f"{limit} bytes in all."
    )
