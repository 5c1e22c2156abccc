"""Data that the gateway has not read itself, since a client registered where it lies: it is marked
until it was read. Each function runs inside the transaction it is given."""

from collections.abc import Mapping

from sqlalchemy import exists, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.catalog import tables as t
from tidegate.catalog.rows import now
from tidegate.domain.errors import Unverified
from tidegate.domain.image import Image, Location, Visibility
from tidegate.domain.scrub import Copy

_i, _l = t.images.c, t.locations.c
_TOLD = ("size", "checksum", "hash_algo", "hash_value")


async def is_public(connection: AsyncConnection, image_id: str) -> bool:
    """Nobody else changes it before this transaction ends."""
    found = select(_i.visibility).where(_i.id == image_id).with_for_update()
    return bool(await connection.scalar(found) == Visibility.PUBLIC)


async def refuse_public(connection: AsyncConnection, image: Image) -> None:
    """Unverified: the image is public and says digests, and some of its data was never read
    here."""
    if image.visibility is not Visibility.PUBLIC or (image.checksum or image.hash_value) is None:
        return
    unread = exists().where(_l.image_id == image.id, _l.unverified.is_(True))
    if await connection.scalar(select(unread)):
        raise Unverified


async def differs(connection: AsyncConnection, image_id: str, fields: Mapping[str, object]) -> bool:
    """Whether something else is about to be said of the image's data than it has now."""
    told = [_i[name].is_distinct_from(fields[name]) for name in _TOLD if name in fields]
    if not told:
        return False
    return bool(await connection.scalar(select(or_(*told)).where(_i.id == image_id)))


async def unverify(connection: AsyncConnection, image_id: str) -> None:
    """What was read of data that is not our own says nothing any more."""
    await connection.execute(
        update(t.locations)
        .where(_l.image_id == image_id, _l.own.is_(False))
        .values(unverified=True)
    )


async def verify(connection: AsyncConnection, image_id: str, location: Location | Copy) -> None:
    """It was read, and is what the image says."""
    await connection.execute(
        update(t.locations)
        .where(_l.image_id == image_id, _l.store == location.store, _l.key == location.key)
        .values(unverified=None)
    )


async def learn(connection: AsyncConnection, image_id: str, digests: Mapping[str, str]) -> bool:
    """Write down digests (columns) where the image has none; false: it has others."""
    same_or_none = [or_(_i[name].is_(None), _i[name] == value) for name, value in digests.items()]
    noted = await connection.execute(
        update(t.images)
        .where(_i.id == image_id, *same_or_none)
        .values({**digests, "updated_at": now()})
    )
    return noted.rowcount > 0
