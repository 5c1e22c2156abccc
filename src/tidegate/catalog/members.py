"""Statements about the members of an image. A member that was removed keeps its row, marked as
deleted, and is restored from it."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, insert, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.catalog import tables as t
from tidegate.catalog.base import Viewer
from tidegate.catalog.images import no_such_image
from tidegate.catalog.rows import now
from tidegate.domain.errors import Conflict, NotFound, TooLarge
from tidegate.domain.image import Visibility
from tidegate.domain.member import Member, MemberStatus
from tidegate.domain.status import GONE, Status

_m, _i = t.members.c, t.images.c
_PENDING = MemberStatus.PENDING.value


def of_image(image_id: str) -> Select[Any]:
    """Its members, in the order in which they were first invited."""
    return (
        select(t.members)
        .where(_m.image_id == image_id, _m.deleted_at.is_(None))
        .order_by(_m.created_at, _m.member)
    )


def shared_with(project: str, viewer: Viewer) -> Select[Any]:
    """The memberships of ``project`` in images that are there, as far as they concern ``viewer``:
    in its own images, or its own memberships while the images are shared."""
    statement = (
        select(t.members)
        .join(t.images, _i.id == _m.image_id)
        .where(_m.member == project, _m.deleted_at.is_(None), _i.status.not_in(sorted(GONE)))
        .order_by(_m.image_id)
    )
    if viewer.admin:
        return statement
    invited = and_(_m.member == viewer.project, _i.visibility == Visibility.SHARED.value)
    return statement.where(or_(_i.owner == viewer.project, invited))


async def put(
    connection: AsyncConnection,
    image_id: str,
    project: str,
    *,
    can_share: bool | None,
    new: bool,
    limit: int,
) -> Member:
    await _hold(connection, image_id)
    if not new:
        changed = await _change(connection, image_id, project, _shares(can_share))
        if changed is not None:
            return changed
    elif await connection.scalar(select(_m.member).where(_live(image_id), _m.member == project)):
        raise Conflict(f"Member {project} is duplicated for image {image_id}")
    found = await _invite(connection, image_id, project, bool(can_share), limit)
    if found is None:
        count = await connection.scalar(select(_count(image_id)))
        raise _too_many(image_id, (count or 0) + 1, limit)
    return found


async def replace(
    connection: AsyncConnection, image_id: str, wanted: Mapping[str, bool | None], *, limit: int
) -> None:
    await _hold(connection, image_id)
    moment = now()
    before = await connection.scalar(select(_count(image_id))) or 0
    await connection.execute(
        update(t.members)
        .where(_live(image_id), _m.member.not_in(list(wanted)))
        .values(deleted_at=moment, updated_at=moment)
    )
    for project, can_share in wanted.items():
        if await _change(connection, image_id, project, _shares(can_share)) is None:
            await _invite(connection, image_id, project, bool(can_share), -1)
    count = await connection.scalar(select(_count(image_id))) or 0
    if before < count and 0 <= limit < count:
        raise _too_many(image_id, count, limit)


async def drop(connection: AsyncConnection, image_id: str, project: str) -> None:
    await _hold(connection, image_id)
    if await _change(connection, image_id, project, {"deleted_at": now()}) is None:
        raise no_such_member(image_id, project)


async def set_status(
    connection: AsyncConnection, image_id: str, project: str, status: MemberStatus
) -> Member:
    await _hold(connection, image_id)
    changed = await _change(connection, image_id, project, {"status": status.value})
    if changed is None:
        raise no_such_member(image_id, project)
    return changed


def no_such_member(image_id: str, project: str) -> NotFound:
    return NotFound(f"{project} not found in the member list of the image {image_id}.")


def member_of(row: Mapping[str, Any]) -> Member:
    return Member(
        image_id=row["image_id"],
        project=row["member"],
        status=MemberStatus(row["status"]),
        can_share=bool(row["can_share"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def _hold(connection: AsyncConnection, image_id: str) -> None:
    """Keep other changes of the image, and of its members, away until the transaction ends."""
    held = await connection.execute(
        update(t.images)
        .where(_i.id == image_id, _i.status != Status.DELETED.value)
        .values(updated_at=_i.updated_at)
    )
    if held.rowcount == 0:
        raise no_such_image(image_id)


def _live(image_id: str) -> ColumnElement[bool]:
    return and_(_m.image_id == image_id, _m.deleted_at.is_(None))


def _count(image_id: str) -> Any:
    return select(func.count()).select_from(t.members).where(_live(image_id)).scalar_subquery()


def _shares(can_share: bool | None) -> dict[str, Any]:
    return {} if can_share is None else {"can_share": can_share}


async def _change(
    connection: AsyncConnection, image_id: str, project: str, values: Mapping[str, Any]
) -> Member | None:
    """None: no such member."""
    changed = await connection.execute(
        update(t.members)
        .where(_live(image_id), _m.member == project)
        .values({**values, "updated_at": now()})
        .returning(t.members)
    )
    row = changed.mappings().one_or_none()
    return None if row is None else member_of(row)


async def _invite(
    connection: AsyncConnection, image_id: str, project: str, can_share: bool, limit: int
) -> Member | None:
    """Restore the member, or make it, where there is room for one more (else None)."""
    moment = now()
    room = literal(True) if limit < 0 else _count(image_id) < limit
    values = {"status": _PENDING, "can_share": can_share, "updated_at": moment, "deleted_at": None}
    # the count looks at rows of the table that is changed: of those that are there, not of this
    restored = await connection.execute(
        update(t.members)
        .where(_m.image_id == image_id, _m.member == project, _m.deleted_at.is_not(None), room)
        .values(values)
        .returning(t.members)
    )
    row = restored.mappings().one_or_none()
    if row is not None:
        return member_of(row)
    known = select(_m.member).where(_m.image_id == image_id, _m.member == project).exists()
    values |= {"image_id": image_id, "member": project, "created_at": moment}
    columns = [t.members.c[name] for name in values]
    made = await connection.execute(
        insert(t.members)
        .from_select(
            columns,
            select(
                *(literal(value, t.members.c[name].type) for name, value in values.items())
            ).where(room, ~known),
        )
        .returning(t.members)
    )
    row = made.mappings().one_or_none()
    return None if row is None else member_of(row)


def _too_many(image_id: str, attempted: int, limit: int) -> TooLarge:
    return TooLarge(
        f"Image member limit exceeded for image {image_id}: The limit has been exceeded on the "
        "number of allowed image members for this image. "
        f"Attempted: {attempted}, Maximum: {limit}"
    )
