"""Statements about the life of images. Each function runs inside the transaction it is given."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import and_, case, exists, false, func, insert, select, union_all, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.catalog import tables as t
from tidegate.catalog.engine import Clock
from tidegate.catalog.rows import (
    copies,
    image_of,
    image_query,
    image_values,
    moment,
    now,
    removal_of,
)
from tidegate.domain.errors import (
    BadTransition,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
)
from tidegate.domain.image import Image, Location
from tidegate.domain.status import TRANSITIONS, Event, Status, target
from tidegate.domain.upload import Removal, UploadState

_i = t.images.c

WAITING, REMOVING, DELETED = "waiting", "removing", "deleted"
"""The steps of a deletion: its time has not come, its data goes, nothing but the record is left."""


def no_such_image(image_id: str) -> NotFound:
    return NotFound(f"No image found with ID {image_id}")


async def read(connection: AsyncConnection, image_id: str) -> Image:
    """As it is in this transaction, whatever its status."""
    row = (await connection.execute(image_query(None).where(_i.id == image_id))).one_or_none()
    if row is None:
        raise no_such_image(image_id)
    return image_of(row)


async def refresh(connection: AsyncConnection, image_id: str) -> Image:
    """Copy into its row what other tables hold of an image; due after each change of them."""
    changed = await connection.execute(
        update(t.images).where(_i.id == image_id).values(copies()).returning(t.images)
    )
    return image_of(changed.one())


async def read_live(connection: AsyncConnection, image_id: str) -> Image:
    image = await read(connection, image_id)
    if image.gone:
        raise no_such_image(image_id)
    return image


async def create(connection: AsyncConnection, image: Image, *, verified: bool) -> Image:
    """``verified``: data that is not our own was read."""
    buried = t.tombstones.c.id
    taken = union_all(
        select(_i.id).where(_i.id == image.id), select(buried).where(buried == image.id)
    )
    if await connection.scalar(taken) is not None:
        raise Conflict(f"Image ID {image.id} already exists!")
    born = now()
    active = image.status is Status.ACTIVE
    values = image_values(image) | {
        "created_at": born,
        "updated_at": born,
        "was_active": active,
    }
    await connection.execute(insert(t.images).values(values))
    await put_properties(connection, image.id, image.properties)
    await put_tags(connection, image.id, image.tags)
    for position, location in enumerate(image.locations):
        await put_location(
            connection, image.id, position, location, verified=verified or location.own
        )
    return await refresh(connection, image.id)


async def advance(connection: AsyncConnection, image_id: str, event: Event, **fields: Any) -> Image:
    """The one way a status changes when no attempt's claim is asked for."""
    row = TRANSITIONS[event]
    if row.target is Status.ACTIVE:
        fields["was_active"] = True
    changed = await connection.execute(
        update(t.images)
        .where(_i.id == image_id, _i.status.in_(sorted(row.sources)))
        .values({"status": row.target.value, "updated_at": now(), **fields})
    )
    if changed.rowcount == 0:
        raise await refused(connection, image_id, event)
    return await read(connection, image_id)


async def refused(connection: AsyncConnection, image_id: str, event: Event) -> Exception:
    """Why an event was not applied."""
    image = await read_live(connection, image_id)
    return BadTransition(
        f"Image status transition from {image.status} to {target(event)} is not allowed",
        image.status,
    )


async def remove(
    connection: AsyncConnection, image_id: str, clock: Clock, *, delayed: bool
) -> list[Removal]:
    row, later = TRANSITIONS[Event.DELETE], TRANSITIONS[Event.DELETE_LATER]
    has_data = exists().where(t.locations.c.image_id == _i.id)
    waits = and_(_i.status.in_(sorted(later.sources)), has_data) if delayed else false()
    deleted = now()
    status = await connection.scalar(
        update(t.images)
        .where(
            _i.id == image_id,
            _i.status.in_(sorted(row.sources)),
            _i.protected.is_(False),
        )
        .values(
            status=case((waits, later.target.value), else_=row.target.value),
            deleted_at=deleted,
            updated_at=deleted,
        )
        .returning(_i.status)
    )
    if status is None:
        image = await read_live(connection, image_id)
        if image.protected:
            raise Forbidden(f"Image {image_id} is protected and cannot be deleted.")
        raise await refused(connection, image_id, Event.DELETE)
    staged = await remove_staged(connection, image_id)
    step = WAITING if status == later.target else DELETED
    await connection.execute(
        insert(t.deletions).values(image_id=image_id, step=step, **moment(clock))
    )
    if step == WAITING:
        return staged
    image = await read(connection, image_id)
    return staged + await removals_of(connection, image_id, image.locations)


async def remove_staged(connection: AsyncConnection, image_id: str) -> list[Removal]:
    """Write down that staged data which became no location must go."""
    u = t.uploads.c
    gone = await connection.execute(
        update(t.uploads)
        .where(u.image_id == image_id, u.state == UploadState.STAGED.value)
        .values(state=UploadState.DONE.value, updated_at=now())
        .returning(u.store, u.key)
    )
    return [await put_removal(connection, row.store, row.key, None) for row in gone.all()]


def need_formats(image: Image) -> None:
    missing = [name for name in ("disk_format", "container_format") if getattr(image, name) is None]
    if missing:
        word = "Property" if len(missing) == 1 else "Properties"
        raise Invalid(f"{word} {', '.join(missing)} must be set prior to saving data.")


async def end_of_locations(connection: AsyncConnection, image_id: str) -> int:
    """The position behind the last one."""
    c = t.locations.c
    last = await connection.scalar(select(func.max(c.position)).where(c.image_id == image_id))
    return 0 if last is None else last + 1


async def put_location(
    connection: AsyncConnection,
    image_id: str,
    position: int,
    location: Location,
    *,
    verified: bool = True,
) -> None:
    await connection.execute(
        insert(t.locations).values(
            image_id=image_id,
            position=position,
            store=location.store,
            key=location.key,
            own=location.own,
            metadata=dict(location.metadata),
            unverified=None if verified else True,
        )
    )


async def put_removal(
    connection: AsyncConnection,
    store: str,
    key: str,
    upload_id: str | None,
    lease: Mapping[str, Any] | None = None,
) -> Removal:
    """``lease``: nobody looks at it before that has passed."""
    row = (
        (
            await connection.execute(
                insert(t.removals)
                .values(
                    store=store,
                    key=key,
                    upload_id=upload_id,
                    attempts=0,
                    created_at=now(),
                    **(lease or {}),
                )
                .returning(t.removals)
            )
        )
        .mappings()
        .one()
    )
    return removal_of(row)


async def removals_of(
    connection: AsyncConnection,
    image_id: str,
    locations: Iterable[Location],
    lease: Mapping[str, Any] | None = None,
) -> list[Removal]:
    """Write down what must go: our own bytes that no other image points to which is alive, or
    whose own removal has not begun."""
    c, d = t.locations.c, t.deletions.c
    let_go = exists().where(d.image_id == _i.id, d.step != WAITING)
    found = []
    for location in locations:
        if not location.own:
            continue
        used = await connection.scalar(
            select(
                exists().where(
                    and_(
                        c.store == location.store,
                        c.key == location.key,
                        c.image_id != image_id,
                        c.image_id == _i.id,
                        _i.status != Status.DELETED,
                        ~let_go,
                    )
                )
            )
        )
        if not used:
            removal = await put_removal(connection, location.store, location.key, None, lease)
            found.append(removal)
    return found


async def put_properties(
    connection: AsyncConnection, image_id: str, values: Mapping[str, str | None]
) -> None:
    if values:
        await connection.execute(
            insert(t.properties),
            [{"image_id": image_id, "name": k, "value": v} for k, v in values.items()],
        )


async def put_tags(connection: AsyncConnection, image_id: str, tags: Iterable[str]) -> None:
    rows = [{"image_id": image_id, "tag": tag} for tag in dict.fromkeys(tags)]
    if rows:
        await connection.execute(insert(t.tags), rows)
