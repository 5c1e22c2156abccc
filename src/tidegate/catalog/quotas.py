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
from tidegate.domain.upload import Purpose, Upload, UploadState

_i, _l, _u, _r, _p = t.images.c, t.locations.c, t.uploads.c, t.removals.c, t.properties.c
_NOTHING = 0
_COMING = (Status.SAVING.value, Status.UPLOADING.value, Status.IMPORTING.value)


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


def bytes_staged(owner: str | None) -> Select[Any]:
    """What is staged, and what is on its way to be."""
    waits = _u.state == UploadState.STAGED.value
    comes = func.coalesce(_u.reserved, _u.expected_size, _u.received)
    return (
        select(func.coalesce(func.sum(case((waits, _u.received), else_=comes)), _NOTHING))
        .join(t.images, _i.id == _u.image_id)
        .where(
            _owned(owner),
            _u.purpose == Purpose.STAGE.value,
            or_(waits, _u.ended_at.is_(None)),
        )
    )


def images_coming(owner: str | None) -> Select[Any]:
    copied = exists().where(_p.image_id == _i.id, _p.name == IMPORTING, _p.value != "")
    return select(func.count()).where(_owned(owner), or_(_i.status.in_(_COMING), copied))


def held(owner: str | None) -> Select[Any]:
    """One row, with the fields of ``Usage``: what is shown is what limits are compared with."""
    located, attempted = bytes_located(owner), bytes_attempted(owner)
    return select(
        (located.scalar_subquery() + attempted.scalar_subquery()).label("stored"),
        bytes_staged(owner).scalar_subquery().label("staged"),
        images_held(owner).scalar_subquery().label("images"),
        images_coming(owner).scalar_subquery().label("uploading"),
    )


async def admit_image(connection: AsyncConnection, image: Image, allowance: Allowance) -> None:
    """TooLarge: the image, which is there already, is one too many, or its data is."""
    await _count(
        connection, image.owner, images_held(image.owner), allowance.images, "images of a project"
    )
    if image.locations:
        await admit_bytes(connection, image.owner, allowance)


async def admit_bytes(connection: AsyncConnection, owner: str | None, allowance: Allowance) -> None:
    """TooLarge: what the project holds by now is too much."""
    for room, error in await _rooms(connection, owner, allowance):
        if room < 0:
            raise error


async def admit_attempt(
    connection: AsyncConnection, image: Image, upload: Upload, allowance: Allowance
) -> None:
    """TooLarge: there is no room for what the attempt, which is there already, has reserved; or
    none at all, where it does not know how much comes."""
    coming, what = images_coming(image.owner), "images of a project whose data comes at a time"
    await _count(connection, image.owner, coming, allowance.uploading, what)
    for room, error in await _rooms(connection, image.owner, allowance, upload.purpose):
        if room < 0 or (room == 0 and upload.expected_size is None):
            raise error


async def reserve(
    connection: AsyncConnection, attempt: str, most: int, allowance: Allowance
) -> int:
    """Let an attempt hold up to ``most`` bytes more; how many. TooLarge: not one. BadTransition:
    there is no such attempt, or it has ended."""
    row = (
        await connection.execute(
            select(_i.owner, _u.purpose)
            .join(t.uploads, _u.image_id == _i.id)
            .where(_u.id == attempt, _u.ended_at.is_(None))
        )
    ).one_or_none()
    if row is None:
        raise BadTransition("There is no such upload.")
    granted = most
    for room, error in await _rooms(connection, row.owner, allowance, Purpose(row.purpose)):
        granted = min(granted, room)
        if granted <= 0:
            raise error
    await connection.execute(
        update(t.uploads)
        .where(_u.id == attempt)
        .values(reserved=func.coalesce(_u.reserved, _NOTHING) + granted)
    )
    return granted


def _owned(owner: str | None) -> ColumnElement[bool]:
    return _i.owner.is_(None) if owner is None else _i.owner == owner


async def _count(
    connection: AsyncConnection, owner: str | None, query: Select[Any], limit: int | None, what: str
) -> None:
    if limit is None:
        return
    await _alone(connection, owner)
    found = await connection.scalar(query) or 0
    if found > limit:
        raise TooLarge(
            f"The limit has been exceeded on the number of {what}. "
            f"Attempted: {found}, Maximum: {limit}"
        )


async def _rooms(
    connection: AsyncConnection,
    owner: str | None,
    allowance: Allowance,
    purpose: Purpose | None = None,
) -> list[tuple[int, TooLarge]]:
    """Of each limit on bytes the room that is left (negative: more is held than may be), and what
    to raise where it is too small."""
    stored = [bytes_located(owner), bytes_attempted(owner)]
    limits = [] if allowance.bytes is None else [(allowance.bytes, stored, "in all")]
    if purpose is Purpose.STAGE and allowance.staged is not None:
        limits.append((allowance.staged, [bytes_staged(owner)], "staged"))
    if limits:
        await _alone(connection, owner)
    found = []
    for limit, queries, where in limits:
        held = sum([int(await connection.scalar(query) or 0) for query in queries])
        message = "The data was denied because it exceeds the quota of the image's project: "
        found.append((limit - held, TooLarge(f"{message}{limit} bytes {where}.")))
    return found


async def _alone(connection: AsyncConnection, owner: str | None) -> None:
    """Keep all others who count for this project away until the transaction ends. SQLite's
    transactions have the database for themselves from their beginning."""
    if connection.dialect.name == "postgresql":
        name = func.hashtextextended(f"quota of {owner}", 0)
        await connection.execute(select(func.pg_advisory_xact_lock(name)))
