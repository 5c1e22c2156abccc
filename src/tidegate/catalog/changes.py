"""Statements that change what is said of an image: its fields, properties, tags and locations.
Each function runs inside the transaction it is given."""

from typing import assert_never

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.catalog import images, verifying
from tidegate.catalog import tables as t
from tidegate.catalog.base import (
    AddLocation,
    DescribeLocation,
    ImageChange,
    LeaveStore,
    LocationEdit,
    RemoveLocation,
)
from tidegate.catalog.rows import now
from tidegate.domain.errors import BadTransition, Conflict, Forbidden, Invalid, NotFound, TooLarge
from tidegate.domain.image import Image, Location, Visibility
from tidegate.domain.status import GONE, Event, Status
from tidegate.domain.upload import Removal

_i = t.images.c
_LIVE = [status.value for status in Status if status not in GONE]


async def change(
    connection: AsyncConnection, image_id: str, wanted: ImageChange
) -> tuple[Image, list[Removal]]:
    legal = _LIVE if wanted.only_in is None else [status.value for status in wanted.only_in]
    publishes = wanted.fields.get("visibility") == Visibility.PUBLIC
    if publishes:
        publishes = not await verifying.is_public(connection, image_id)
    vouches = await verifying.differs(connection, image_id, wanted.fields)
    changed = await connection.execute(
        update(t.images)
        .where(_i.id == image_id, _i.status.in_(legal))
        .values({**wanted.fields, "updated_at": now()})
    )
    if changed.rowcount == 0:
        image = await images.read_live(connection, image_id)
        raise BadTransition(
            f"This change is not allowed while the image is {image.status}.", image.status
        )
    if vouches:
        await verifying.unverify(connection, image_id)
    await _change_properties(connection, image_id, wanted)
    if wanted.tags is not None:
        await connection.execute(delete(t.tags).where(t.tags.c.image_id == image_id))
        await images.put_tags(connection, image_id, wanted.tags)
    image = await images.refresh(connection, image_id)
    removals: list[Removal] = []
    for edit in wanted.locations:
        removals += await _edit_location(connection, image, edit)
        image = await images.refresh(connection, image_id)
    added = any(isinstance(edit, AddLocation) for edit in wanted.locations)
    if (publishes or added or vouches) and not wanted.publish_unverified:
        await verifying.refuse_public(connection, image)
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
    await images.put_properties(connection, image_id, wanted.put)
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
        case LeaveStore(store):
            return await _leave_store(connection, image, store)
        case other:
            assert_never(other)


async def _add_location(connection: AsyncConnection, image: Image, edit: AddLocation) -> None:
    count = len(image.locations)
    if image.status not in (Status.QUEUED, Status.ACTIVE):
        raise BadTransition(
            f"It's not allowed to add locations if image status is {image.status}.", image.status
        )
    if image.status is Status.QUEUED and image.was_active and not edit.refill:
        raise Conflict("The image was active before; its data cannot be replaced.")
    where = edit.location
    if any((old.store, old.key) == (where.store, where.key) for old in image.locations):
        raise Invalid(f"The location {where.key} already exists")
    if 0 <= edit.limit <= count:
        raise TooLarge(
            "The limit has been exceeded on the number of allowed image locations. "
            f"Attempted: {count + 1}, Maximum: {edit.limit}"
        )
    for name, value in edit.learnt.items():
        if value is not None and getattr(image, name) not in (None, value):
            raise Conflict(f"{name} is already set with a different value")
    await _put_location(connection, image.id, where, edit.position)
    learnt = {
        name: value
        for name, value in edit.learnt.items()
        if getattr(image, name) is None and value is not None
    }
    if image.status is Status.QUEUED:
        images.need_formats(image)
        await images.advance(connection, image.id, Event.REGISTER, **learnt)
    elif learnt:
        await connection.execute(update(t.images).where(_i.id == image.id).values(learnt))


async def _put_location(
    connection: AsyncConnection, image_id: str, where: Location, index: int | None
) -> None:
    """Before the one that is at ``index`` now, or at the end. Those that were removed have left
    gaps, so that an index is no position."""
    c = t.locations.c
    at = None
    if index is not None:
        ordered = select(c.position).where(c.image_id == image_id).order_by(c.position)
        at = await connection.scalar(ordered.offset(index).limit(1))
    if at is None:
        at = await images.end_of_locations(connection, image_id)
    await connection.execute(
        update(t.locations)
        .where(c.image_id == image_id, c.position >= at)
        .values(position=c.position + 1)
    )
    await images.put_location(connection, image_id, at, where, verified=where.own)


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
        await images.advance(connection, image.id, Event.UNREGISTER, **cleared)
    return await images.removals_of(connection, image.id, [gone])


async def _leave_store(connection: AsyncConnection, image: Image, store: str) -> list[Removal]:
    if image.status is not Status.ACTIVE:
        raise BadTransition(
            "It's not allowed to remove image data from store if image status is not 'active'",
            image.status,
        )
    if image.protected:
        raise Forbidden(f"Image {image.id} is protected; none of its data can be removed.")
    gone = [one for one in image.locations if one.store == store]
    if len(image.locations) == 1 or (gone and len(gone) == len(image.locations)):
        raise Forbidden(
            "Cannot delete image data from the only store containing it. "
            "Consider deleting the image instead."
        )
    if not gone:
        raise NotFound(f"Image {image.id} is not stored in store {store}.")
    c = t.locations.c
    await connection.execute(delete(t.locations).where(c.image_id == image.id, c.store == store))
    return await images.removals_of(connection, image.id, gone)


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
    await images.put_tags(connection, image_id, [tag])
    await images.refresh(connection, image_id)


async def drop_tag(connection: AsyncConnection, image_id: str, tag: str) -> None:
    await _touch(connection, image_id)
    gone = await connection.execute(
        delete(t.tags).where(t.tags.c.image_id == image_id, t.tags.c.tag == tag)
    )
    if gone.rowcount == 0:
        raise NotFound(f"Image {image_id} has no tag {tag!r}.")
    await images.refresh(connection, image_id)


async def _touch(connection: AsyncConnection, image_id: str) -> None:
    changed = await connection.execute(
        update(t.images).where(_i.id == image_id, _i.status.in_(_LIVE)).values(updated_at=now())
    )
    if changed.rowcount == 0:
        raise images.no_such_image(image_id)
