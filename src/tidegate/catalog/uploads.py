"""Statements about the attempts to fill an image, and about what must go from the stores.

An attempt is held by who knows its fence: a number that each take-over raises. Every statement of
a holder names it, so that an owner who was given up can change nothing any more.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.catalog import images, quotas
from tidegate.catalog import tables as t
from tidegate.catalog.engine import Clock
from tidegate.catalog.rows import now, removal_of, upload_of
from tidegate.domain.errors import AttemptLost, BadTransition
from tidegate.domain.image import Image, Location
from tidegate.domain.quota import Allowance
from tidegate.domain.status import TRANSITIONS, Event, Status
from tidegate.domain.upload import OPEN, Failure, Purpose, Removal, Sent, Upload, UploadState

_u = t.uploads.c
_i = t.images.c
_OPEN = sorted(OPEN)

COPIED_IN = (Status.IMPORTING.value, Status.ACTIVE.value, Status.DEACTIVATED.value)
"""Statuses of an image whose data is being copied into another store."""

_CLAIMED = (Status.SAVING.value, Status.UPLOADING.value, *COPIED_IN)

_Due = tuple[str | None, Mapping[str, Any]]
"""What is to be removed (a store's upload id; None: the object), and the lease that holds it."""


async def start(
    connection: AsyncConnection, upload: Upload, clock: Clock, lease: float, allowance: Allowance
) -> Image:
    event = Event.STAGE if upload.purpose is Purpose.STAGE else Event.UPLOAD
    row = TRANSITIONS[event]
    formats = [_i.disk_format.is_not(None), _i.container_format.is_not(None)]
    changed = await connection.execute(
        update(t.images)
        .where(
            _i.id == upload.image_id,
            _i.status.in_(sorted(row.sources)),
            *(formats if event is Event.UPLOAD else ()),
        )
        .values(status=row.target.value, claim=upload.id, updated_at=now())
    )
    if changed.rowcount == 0:
        error = await _why_not(connection, upload.image_id, event)
        raise error
    return await put(connection, upload, clock, lease, allowance)


async def put(
    connection: AsyncConnection, upload: Upload, clock: Clock, lease: float, allowance: Allowance
) -> Image:
    """The row of an attempt that has just claimed its image. TooLarge: there is no room for it."""
    moment = now()
    await connection.execute(
        insert(t.uploads).values(
            id=upload.id,
            image_id=upload.image_id,
            store=upload.store,
            key=upload.key,
            state=UploadState.STARTED.value,
            node=upload.node,
            fence=1,
            expected_size=upload.expected_size,
            received=0,
            purpose=upload.purpose.value,
            task_id=upload.task_id,
            started_at=moment,
            updated_at=moment,
            reserved=upload.expected_size or 0,
            **lease_values(clock, lease),
        )
    )
    image = await images.read(connection, upload.image_id)
    await quotas.admit_attempt(connection, image, upload, allowance)
    return image


async def _why_not(connection: AsyncConnection, image_id: str, event: Event) -> Exception:
    image = await images.read_live(connection, image_id)
    if image.status in TRANSITIONS[event].sources:
        images.need_formats(image)
    return await images.refused(connection, image_id, event)


async def renew(
    connection: AsyncConnection,
    attempt: str,
    fence: int,
    **values: Any,
) -> None:
    """Change an attempt's row while its holder still has the image. BadTransition."""
    still_claimed = exists().where(
        _i.id == _u.image_id, _i.claim == attempt, _i.status.in_(_CLAIMED)
    )
    await _change_held(connection, attempt, fence, still_claimed, updated_at=now(), **values)


async def keep(
    connection: AsyncConnection, attempt: str, fence: int, values: Mapping[str, Any]
) -> None:
    """Change an attempt's row for its holder, whatever became of the image. BadTransition."""
    await _change_held(connection, attempt, fence, **values)


async def _change_held(
    connection: AsyncConnection,
    attempt: str,
    fence: int,
    *conditions: ColumnElement[bool],
    **values: Any,
) -> None:
    changed = await connection.execute(
        update(t.uploads).where(held(attempt, fence), *conditions).values(**values)
    )
    if changed.rowcount == 0:
        raise await lost(connection, attempt)


async def lost(connection: AsyncConnection, attempt: str) -> BadTransition:
    status = await connection.scalar(
        select(_i.status).join(t.uploads, _u.image_id == _i.id).where(_u.id == attempt)
    )
    if status in (Status.DELETED, Status.PENDING_DELETE):
        return BadTransition("The image was deleted meanwhile.", status)
    return AttemptLost("This upload was given up and taken over by another server.", status)


async def publish(connection: AsyncConnection, attempt: str, fence: int, sent: Sent) -> Image:
    """What becomes of the image is decided by what the attempt is for."""
    upload = await _row(connection, attempt)
    if upload["state"] in (UploadState.DONE, UploadState.STAGED):
        return await images.read_live(connection, upload["image_id"])
    match upload["purpose"]:
        case Purpose.STAGE:
            state, sources = UploadState.STAGED, [Status.UPLOADING.value]
            values: Mapping[str, Any] = {"size": sent.size}
        case Purpose.COPY:
            state, sources, values = UploadState.DONE, list(COPIED_IN), {}
        case _:
            row = TRANSITIONS[Event.PUBLISH]
            state, sources = UploadState.DONE, sorted(row.sources)
            values = {"status": row.target.value, "was_active": True, **measured(sent)}
    changed = await connection.execute(
        update(t.images)
        .where(
            _i.id == upload["image_id"],
            _i.claim == attempt,
            _i.status.in_(sources),
            exists().where(held(attempt, fence)),
        )
        .values(updated_at=now(), **values)
    )
    if changed.rowcount == 0:
        raise await lost(connection, attempt)
    if state is UploadState.DONE:
        where = Location(upload["store"], upload["key"])
        await add_location(connection, upload["image_id"], where, sent)
    await end(connection, attempt, state, received=sent.size)
    return await images.refresh(connection, upload["image_id"])


async def add_location(
    connection: AsyncConnection, image_id: str, where: Location, sent: Sent
) -> None:
    """Behind the others. While the image is imported, what was measured becomes the image's."""
    position = await images.end_of_locations(connection, image_id)
    await images.put_location(connection, image_id, position, where)
    await connection.execute(
        update(t.images)
        .where(_i.id == image_id, _i.status == Status.IMPORTING.value)
        .values(measured(sent))
    )


def measured(sent: Sent) -> dict[str, Any]:
    """The columns of an image whose bytes went through our hands."""
    return {
        "size": sent.size,
        "checksum": sent.digests.get("md5"),
        "crc64nvme": None if sent.crc64nvme is None else str(sent.crc64nvme),
        "declared_size": None,
        "declared_checksum": None,
        **_strongest(sent),
        # what API v1 announced stays where we could not look
        **({} if sent.virtual_size is None else {"virtual_size": sent.virtual_size}),
        **({} if sent.disk_format is None else {"disk_format": sent.disk_format}),
    }


async def fail(
    connection: AsyncConnection,
    attempt: str,
    fence: int,
    failure: Failure,
    event: Event,
    due: Sequence[_Due],
    later: Sequence[_Due],
    received: int | None,
) -> list[Removal]:
    """Gives the removals of ``due``, not those of ``later``."""
    upload = await _row(connection, attempt)
    if upload["fence"] != fence:
        raise await lost(connection, attempt)
    if upload["state"] not in _OPEN:
        return []
    await end(
        connection,
        attempt,
        UploadState.FAILED,
        received=upload["received"] if received is None else received,
        failure_reason=failure.reason,
        failure_where=failure.where[:64],
        failure_message=failure.message,
        failure_request_id=failure.request_id,
    )
    row = TRANSITIONS[event]
    await connection.execute(
        update(t.images)
        .where(
            _i.id == upload["image_id"],
            _i.claim == attempt,
            _i.status.in_(sorted(row.sources)),
        )
        .values(status=row.target.value, updated_at=now(), claim=None, size=None)
    )
    removals = [
        await images.put_removal(connection, upload["store"], upload["key"], upload_id, lease)
        for upload_id, lease in (*due, *later)
    ]
    return removals[: len(due)]


async def take_over(
    connection: AsyncConnection,
    node: str,
    clock: Clock,
    lease: float,
    limit: int,
    mine: Sequence[str],
) -> list[tuple[Upload, int]]:
    """The expired attempts, each now held by ``node``, with their new fences. Not those that
    this very process is still working on (``mine``): they renew, or end, by themselves."""
    expired = or_(_u.lease_clock != clock.name, _u.lease_until < clock.now())
    chosen = (
        select(_u.id)
        .where(_u.ended_at.is_(None), expired, _u.id.not_in(mine))
        .order_by(_u.lease_until)
        .limit(limit)
    )
    rows = (
        await connection.execute(
            update(t.uploads)
            .where(_u.id.in_(chosen.scalar_subquery()), _u.ended_at.is_(None), expired)
            .values(fence=_u.fence + 1, node=node, updated_at=now(), **lease_values(clock, lease))
            .returning(t.uploads)
        )
    ).mappings()
    return [(upload_of(row), row["fence"]) for row in rows]


async def reserve_removals(
    connection: AsyncConnection, clock: Clock, lease: float, limit: int
) -> list[Removal]:
    c = t.removals.c
    due = or_(c.lease_until.is_(None), c.lease_clock != clock.name, c.lease_until < clock.now())
    # what was refused before comes last, so that it holds nothing else up
    chosen = select(c.id).where(due).order_by(c.attempts, c.id).limit(limit)
    rows = (
        await connection.execute(
            update(t.removals)
            .where(c.id.in_(chosen.scalar_subquery()))
            .values(lease_values(clock, lease))
            .returning(t.removals)
        )
    ).mappings()
    return sorted(map(removal_of, rows), key=lambda removal: (removal.attempts, removal.id))


async def _row(connection: AsyncConnection, attempt: str) -> Any:
    row = (
        (await connection.execute(select(t.uploads).where(_u.id == attempt).with_for_update()))
        .mappings()
        .one_or_none()
    )
    if row is None:
        raise BadTransition("There is no such upload.")
    return row


async def end(connection: AsyncConnection, attempt: str, state: UploadState, **values: Any) -> None:
    moment = now()
    await connection.execute(
        update(t.uploads)
        .where(_u.id == attempt)
        .values(
            state=state.value,
            ended_at=moment,
            updated_at=moment,
            lease_clock=None,
            lease_until=None,
            **values,
        )
    )


def held(attempt: str, fence: int) -> ColumnElement[bool]:
    return and_(_u.id == attempt, _u.fence == fence, _u.state.in_(_OPEN))


def lease_values(clock: Clock, lease: float) -> dict[str, Any]:
    """The columns of a lease of ``lease`` seconds from now."""
    return {"lease_clock": clock.name, "lease_until": clock.now() + lease}


def _strongest(sent: Sent) -> dict[str, str | None]:
    """What becomes ``os_hash_algo`` and ``os_hash_value``."""
    name = sent.strongest
    return {"hash_algo": name, "hash_value": None if name is None else sent.digests[name]}
