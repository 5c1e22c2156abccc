"""Statements about locations that a task registers.

Each statement of a task's holder asks that the image is the task's still (``locks``).
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.catalog import images, locks, quotas, tasks, verifying
from tidegate.catalog import tables as t
from tidegate.catalog.engine import Database
from tidegate.catalog.rows import now
from tidegate.domain.errors import BadTransition, Conflict
from tidegate.domain.image import Image, Location
from tidegate.domain.quota import UNLIMITED, Allowance
from tidegate.domain.status import GONE, Event, Status
from tidegate.domain.task import Task, TaskType

_i = t.images.c
_HAS_DATA = (Status.ACTIVE, Status.DEACTIVATED)
_OPEN = (Status.QUEUED, Status.IMPORTING, *_HAS_DATA)


class SqlRegistrations:
    """See ``catalog.base.Registrations``."""

    _database: Database

    async def ask_for_location(self, task: Task) -> Task:
        async with self._database.transaction() as connection:
            return await _ask(connection, task)

    async def begin_location(self, task: Task, *, verify: bool) -> Image:
        async with self._database.transaction() as connection:
            image = await _claim(connection, task, _OPEN)
            if image.status is Status.QUEUED:
                images.need_formats(image)
                if verify:
                    image = await images.advance(connection, image.id, Event.IMPORT)
            return image

    async def register_location(
        self,
        task: Task,
        location: Location,
        learnt: Mapping[str, object],
        *,
        refill: bool,
        publish_unverified: bool = False,
        allowance: Allowance = UNLIMITED,
    ) -> Image:
        async with self._database.transaction() as connection:
            image = await _register(
                connection, task, location, learnt, refill=refill, allowance=allowance
            )
            if not publish_unverified:
                await verifying.refuse_public(connection, image)
            return image

    async def note_digests(self, task: Task, location: Location, learnt: Mapping[str, str]) -> None:
        async with self._database.transaction() as connection:
            await _note(connection, task, location, learnt)


async def _ask(connection: AsyncConnection, task: Task) -> Task:
    image_id = locks.image_of(task)
    mine = await connection.execute(
        update(t.images)
        .where(_i.id == image_id, _i.status == Status.QUEUED.value, ~locks.has_live_task())
        .values(updated_at=now())
    )
    if mine.rowcount == 0:
        image = await images.read_live(connection, image_id)
        if image.status is not Status.QUEUED:
            raise not_queued(image)
        raise Conflict("Image has active task")
    await locks.lock(connection, task)
    await images.refresh(connection, image_id)
    return await tasks.create(connection, task)


def not_queued(image: Image) -> BadTransition:
    return BadTransition(
        f"It's not allowed to add locations if image status is {image.status}.", image.status
    )


async def _register(
    connection: AsyncConnection,
    task: Task,
    location: Location,
    learnt: Mapping[str, object],
    *,
    refill: bool,
    allowance: Allowance,
) -> Image:
    image = await _claim(connection, task, _OPEN)
    if image.status in _HAS_DATA:
        if not has(image, location):
            raise not_queued(image)
        return image  # said before
    if image.was_active and not refill:
        raise Conflict("The image was active before; its data cannot be replaced.")
    importing = image.status is Status.IMPORTING
    event = Event.FINISH_IMPORT if importing else Event.REGISTER
    verified = "hash_value" in learnt
    await images.put_location(connection, image.id, 0, location, verified=verified)
    await images.advance(connection, image.id, event, **learnt)
    await quotas.admit_bytes(connection, image.owner, allowance)
    return await images.refresh(connection, image.id)


async def _note(
    connection: AsyncConnection, task: Task, location: Location, learnt: Mapping[str, str]
) -> None:
    image = await _claim(connection, task, _HAS_DATA)
    if not has(image, location):
        raise BadTransition("The location was removed meanwhile.", image.status)
    if not await verifying.learn(connection, image.id, learnt):
        raise Conflict("Other digests than those of the data were set meanwhile.")
    await verifying.verify(connection, image.id, location)


async def settle(connection: AsyncConnection, task: Task) -> None:
    """Let the image of a task go that ends in this very transaction."""
    if task.type is not TaskType.LOCATION_IMPORT or task.image_id is None:
        return
    mine = await connection.execute(
        update(t.images)
        .where(_i.id == task.image_id, _i.status.not_in(sorted(GONE)), locks.is_locked_by(task))
        .values(updated_at=now())
    )
    if mine.rowcount == 0:
        return
    image = await images.read(connection, task.image_id)
    if image.status is Status.IMPORTING:
        await images.advance(connection, image.id, Event.FAIL_IMPORT)
    await locks.unlock(connection, image.id)
    await images.refresh(connection, image.id)


async def _claim(connection: AsyncConnection, task: Task, statuses: Sequence[Status]) -> Image:
    """The image, its row held until the transaction ends. BadTransition."""
    image_id = locks.image_of(task)
    mine = await connection.execute(
        update(t.images)
        .where(
            _i.id == image_id,
            _i.status.in_([one.value for one in statuses]),
            locks.is_held(task),
            locks.is_locked_by(task),
        )
        .values(updated_at=_i.updated_at)
    )
    image = await images.read(connection, image_id)
    if mine.rowcount == 0:
        if image.gone:
            raise BadTransition("The image was deleted meanwhile.", image.status)
        if image.status not in statuses:
            raise not_queued(image)
        raise BadTransition("The task was ended, or taken over by another server.")
    return image


def has(image: Image, location: Location) -> bool:
    return any((one.store, one.key) == (location.store, location.key) for one in image.locations)
