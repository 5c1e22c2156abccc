"""Statements about images. Each function runs inside the transaction it is given."""

from collections.abc import Iterable, Mapping
from typing import Any, assert_never

from sqlalchemy import and_, case, delete, exists, false, func, insert, select, union_all, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.catalog import tables as t
from tidegate.catalog.base import (
    AddLocation,
    DescribeLocation,
    ImageChange,
    LocationEdit,
    RemoveLocation,
)
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
    TooLarge,
)
from tidegate.domain.image import Image, Location
from tidegate.domain.status import GONE, TRANSITIONS, Event, Status, target
from tidegate.domain.upload import Removal

_i = t.images.c
_LIVE = [status.value for status in Status if status not in GONE]

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


async def create(connection: AsyncConnection, image: Image) -> Image:
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
    await _put_properties(connection, image.id, image.properties)
    await _put_tags(connection, image.id, image.tags)
    for position, location in enumerate(image.locations):
        await put_location(connection, image.id, position, location)
    return await refresh(connection, image.id)


async def change(
    connection: AsyncConnection, image_id: str, wanted: ImageChange
) -> tuple[Image, list[Removal]]:
    legal = _LIVE if wanted.only_in is None else [status.value for status in wanted.only_in]
    changed = await connection.execute(
        update(t.images)
        .where(_i.id == image_id, _i.status.in_(legal))
        .values({**wanted.fields, "updated_at": now()})
    )
    if changed.rowcount == 0:
        image = await read_live(connection, image_id)
        raise BadTransition(
            f"This change is not allowed while the image is {image.status}.", image.status
        )
    await _change_properties(connection, image_id, wanted)
    if wanted.tags is not None:
        await connection.execute(delete(t.tags).where(t.tags.c.image_id == image_id))
        await _put_tags(connection, image_id, wanted.tags)
    image = await refresh(connection, image_id)
    removals: list[Removal] = []
    for edit in wanted.locations:
        removals += await _edit_location(connection, image, edit)
        image = await refresh(connection, image_id)
    return image, removals


async def _change_properties(
    connection: AsyncConnection, image_id: str, wanted: ImageChange
) -> None:
    c = t.properties.c
    touched = [*wanted.put, *wanted.drop]
    if not touched:
        return
    counted = (
        select(func.count())
        .select_from(t.properties)
        .where(c.image_id == image_id, c.name.not_like(r"os\_glance%", escape="\\"))
    )
    before = await connection.scalar(counted) or 0
    await connection.execute(
        delete(t.properties).where(c.image_id == image_id, c.name.in_(touched))
    )
    await _put_properties(connection, image_id, wanted.put)
    count = await connection.scalar(counted) or 0
    if before < count and 0 <= wanted.max_properties < count:
        raise TooLarge(
            "The limit has been exceeded on the number of allowed image properties. "
            f"Attempted: {count}, Maximum: {wanted.max_properties}"
        )


async def _edit_location(
    connection: AsyncConnection, image: Image, edit: LocationEdit
) -> list[Removal]:
    match edit:
        case AddLocation():
            await _add_location(connection, image, edit)
            return []
        case RemoveLocation(index):
            return await _remove_location(connection, image, index)
        case DescribeLocation(store, key, metadata):
            c = t.locations.c
            await connection.execute(
                update(t.locations)
                .where(c.image_id == image.id, c.store == store, c.key == key)
                .values(metadata=dict(metadata))
            )
            return []
        case other:
            assert_never(other)


async def _add_location(connection: AsyncConnection, image: Image, edit: AddLocation) -> None:
    count = len(image.locations)
    if image.status not in (Status.QUEUED, Status.ACTIVE):
        raise BadTransition(
            f"It's not allowed to add locations if image status is {image.status}.", image.status
        )
    where = edit.location
    if any((old.store, old.key) == (where.store, where.key) for old in image.locations):
        raise Conflict("The image has this location already.")
    if 0 <= edit.limit <= count:
        raise TooLarge(
            "The limit has been exceeded on the number of allowed image locations. "
            f"Attempted: {count + 1}, Maximum: {edit.limit}"
        )
    at = count if edit.position is None else min(edit.position, count)
    c = t.locations.c
    await connection.execute(
        update(t.locations)
        .where(c.image_id == image.id, c.position >= at)
        .values(position=c.position + 1)
    )
    await put_location(connection, image.id, at, where)
    learnt = {
        name: value
        for name, value in edit.learnt.items()
        if getattr(image, name) is None and value is not None
    }
    if image.status is Status.QUEUED:
        need_formats(image)
        await advance(connection, image.id, Event.REGISTER, **learnt)
    elif learnt:
        await connection.execute(update(t.images).where(_i.id == image.id).values(learnt))


async def _remove_location(connection: AsyncConnection, image: Image, index: int) -> list[Removal]:
    if image.status is not Status.ACTIVE:
        raise BadTransition(
            f"It's not allowed to remove locations if image status is {image.status}.",
            image.status,
        )
    if not -1 <= index < len(image.locations) or not image.locations:
        raise Invalid("Invalid position for removing a location.")
    gone = image.locations[index]
    c = t.locations.c
    await connection.execute(
        delete(t.locations).where(c.image_id == image.id, c.store == gone.store, c.key == gone.key)
    )
    if len(image.locations) == 1:
        if image.protected:
            raise Forbidden(f"Image {image.id} is protected; its last location cannot be removed.")
        cleared = dict.fromkeys(
            ("size", "virtual_size", "checksum", "hash_algo", "hash_value", "crc64nvme", "claim")
        )
        await advance(connection, image.id, Event.UNREGISTER, **cleared)
    return await removals_of(connection, image.id, [gone])


async def set_tag(connection: AsyncConnection, image_id: str, tag: str, limit: int) -> None:
    await _touch(connection, image_id)
    c = t.tags.c
    if await connection.scalar(select(c.tag).where(c.image_id == image_id, c.tag == tag)):
        return
    count = await connection.scalar(
        select(func.count()).select_from(t.tags).where(c.image_id == image_id)
    )
    if 0 <= limit <= (count or 0):
        raise TooLarge(
            f"Image tag limit exceeded for image {image_id}: The limit has been exceeded on the "
            f"number of allowed image tags. Attempted: {(count or 0) + 1}, Maximum: {limit}"
        )
    await _put_tags(connection, image_id, [tag])
    await refresh(connection, image_id)


async def drop_tag(connection: AsyncConnection, image_id: str, tag: str) -> None:
    await _touch(connection, image_id)
    gone = await connection.execute(
        delete(t.tags).where(t.tags.c.image_id == image_id, t.tags.c.tag == tag)
    )
    if gone.rowcount == 0:
        raise NotFound(f"Image {image_id} has no tag {tag!r}.")
    await refresh(connection, image_id)


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
    step = WAITING if status == later.target else DELETED
    await connection.execute(
        insert(t.deletions).values(image_id=image_id, step=step, **moment(clock))
    )
    if step == WAITING:
        return []
    image = await read(connection, image_id)
    return await removals_of(connection, image_id, image.locations)


def need_formats(image: Image) -> None:
    missing = [name for name in ("disk_format", "container_format") if getattr(image, name) is None]
    if missing:
        word = "Property" if len(missing) == 1 else "Properties"
        raise Invalid(f"{word} {', '.join(missing)} must be set prior to saving data.")


async def put_location(
    connection: AsyncConnection, image_id: str, position: int, location: Location
) -> None:
    await connection.execute(
        insert(t.locations).values(
            image_id=image_id,
            position=position,
            store=location.store,
            key=location.key,
            own=location.own,
            metadata=dict(location.metadata),
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


async def _touch(connection: AsyncConnection, image_id: str) -> None:
    changed = await connection.execute(
        update(t.images).where(_i.id == image_id, _i.status.in_(_LIVE)).values(updated_at=now())
    )
    if changed.rowcount == 0:
        raise no_such_image(image_id)


async def _put_properties(
    connection: AsyncConnection, image_id: str, values: Mapping[str, str | None]
) -> None:
    if values:
        await connection.execute(
            insert(t.properties),
            [{"image_id": image_id, "name": k, "value": v} for k, v in values.items()],
        )


async def _put_tags(connection: AsyncConnection, image_id: str, tags: Iterable[str]) -> None:
    rows = [{"image_id": image_id, "tag": tag} for tag in dict.fromkeys(tags)]
    if rows:
        await connection.execute(insert(t.tags), rows)
