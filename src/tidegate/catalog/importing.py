"""Statements about imports: whose an image is meanwhile, what it gets, and how that ends.

The end of the task and the end of its import are one transaction: there is nothing in between.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.catalog import images, locks, tasks, uploads
from tidegate.catalog import tables as t
from tidegate.catalog.engine import Database
from tidegate.catalog.rows import now, upload_of
from tidegate.domain.errors import BadTransition, Conflict
from tidegate.domain.image import Image, Location
from tidegate.domain.quota import UNLIMITED, Allowance
from tidegate.domain.status import TRANSITIONS, Event, Status
from tidegate.domain.task import FAILED, IMPORTING, Task, TaskEvent, TaskType
from tidegate.domain.upload import OPEN, Purpose, Upload, UploadState

_i, _u, _p, _l = t.images.c, t.uploads.c, t.properties.c, t.locations.c
_EMPTY = dict.fromkeys(
    ("size", "virtual_size", "checksum", "hash_algo", "hash_value", "crc64nvme", "claim")
)


class SqlImports:
    """See ``catalog.base.Imports``."""

    _database: Database
    _fences: dict[str, int]

    async def ask_for_import(self, task: Task, status: Status) -> Task:
        async with self._database.transaction() as connection:
            return await _ask(connection, task, status)

    async def begin_import(self, task: Task, status: Status, stores: Sequence[str]) -> Image:
        async with self._database.transaction() as connection:
            return await _begin(connection, task, status, stores)

    async def note_import(
        self, task: Task, *, left: Sequence[str], failed: Sequence[str], activate: bool
    ) -> Image:
        async with self._database.transaction() as connection:
            return await _note(connection, task, left, failed, activate=activate)

    async def publish_staged(
        self, task: Task, attempt: str, *, virtual_size: int | None = None
    ) -> Image:
        async with self._database.transaction() as connection:
            return await _publish_staged(connection, task, attempt, virtual_size)

    async def start_copy(
        self,
        upload: Upload,
        task: Task,
        *,
        deactivated: bool,
        lease: float,
        allowance: Allowance = UNLIMITED,
    ) -> Image:
        self._fences[upload.id] = 1  # for who does not live to see the commit, too
        statuses = [Status.IMPORTING, Status.ACTIVE]
        async with self._database.transaction() as connection:
            await _claim(connection, task, statuses + [Status.DEACTIVATED] * deactivated, upload.id)
            return await uploads.put(connection, upload, self._database.clock, lease, allowance)


async def _ask(connection: AsyncConnection, task: Task, status: Status) -> Task:
    image_id = locks.image_of(task)
    changed = await connection.execute(
        update(t.images)
        .where(_i.id == image_id, _i.status == status.value, ~locks.has_live_task())
        .values(updated_at=now())
    )
    if changed.rowcount == 0:
        image = await images.read_live(connection, image_id)
        if image.status is not status:
            raise BadTransition(f"The image is {image.status} meanwhile.", image.status)
        raise Conflict(
            f"New operation on image '{image_id}' is not permitted as prior operation is still "
            "in progress"
        )
    await connection.execute(delete(t.properties).where(_p.image_id == image_id, _p.name == FAILED))
    await locks.lock(connection, task)
    await _set(connection, image_id, {IMPORTING: _asked_for(task)})
    await images.refresh(connection, image_id)
    return await tasks.create(connection, task)


async def _begin(
    connection: AsyncConnection, task: Task, status: Status, stores: Sequence[str]
) -> Image:
    image_id = locks.image_of(task)
    if status is Status.ACTIVE:
        await _claim(connection, task, [Status.ACTIVE, Status.DEACTIVATED])
    else:
        staged = exists().where(_u.image_id == _i.id, _u.state == UploadState.STAGED.value)
        whole = staged if status is Status.UPLOADING else ~staged
        row = TRANSITIONS[Event.IMPORT]
        assert status in row.sources
        begun = await connection.execute(
            update(t.images)
            .where(_i.id == image_id, _i.status == status.value, whole, *_held(task))
            .values(status=row.target.value, updated_at=now())
        )
        if begun.rowcount == 0:
            image = await images.read(connection, image_id)
            by_former_holder = FAILED in image.properties  # set below, and gone before
            was = [Status.IMPORTING, Status.ACTIVE] if by_former_holder else [status]
            await _claim(connection, task, was)
            if not by_former_holder:
                raise BadTransition("The data is not staged yet, or in the way.", image.status)
            return image
    await _set(connection, image_id, {IMPORTING: ",".join(sorted(stores)), FAILED: ""})
    return await images.refresh(connection, image_id)


async def _note(
    connection: AsyncConnection,
    task: Task,
    left: Sequence[str],
    failed: Sequence[str],
    *,
    activate: bool,
) -> Image:
    image_id = locks.image_of(task)
    await _claim(connection, task, [Status.IMPORTING, Status.ACTIVE, Status.DEACTIVATED])
    if activate:
        await _activate(connection, image_id)
    lists = {IMPORTING: ",".join(sorted(left)), FAILED: ",".join(sorted(failed))}
    await _set(connection, image_id, lists)
    return await images.refresh(connection, image_id)


async def _publish_staged(
    connection: AsyncConnection, task: Task, attempt: str, virtual_size: int | None
) -> Image:
    image_id = locks.image_of(task)
    await _claim(connection, task, [Status.IMPORTING])
    row = (
        (
            await connection.execute(
                update(t.uploads)
                .where(
                    _u.id == attempt, _u.image_id == image_id, _u.state == UploadState.STAGED.value
                )
                .values(state=UploadState.DONE.value, updated_at=now())
                .returning(t.uploads)
            )
        )
        .mappings()
        .one_or_none()
    )
    if row is not None:
        upload = upload_of(row)
        assert upload.sent is not None
        where = Location(upload.store, upload.key)
        sent = replace(upload.sent, virtual_size=virtual_size)
        await uploads.add_location(connection, image_id, where, sent)
    return await images.refresh(connection, image_id)


async def settle(connection: AsyncConnection, task: Task, event: TaskEvent) -> None:
    """End the import of a task that ends in this very transaction, if the image is its own still.
    What is not needed any more is written down to be removed."""
    if task.type is not TaskType.API_IMAGE_IMPORT or task.image_id is None:
        return
    image_id = task.image_id
    mine = await connection.execute(
        update(t.images)
        .where(_i.id == image_id, _i.status != Status.DELETED.value, locks.is_locked_by(task))
        .values(updated_at=now(), claim=None)
    )
    if mine.rowcount == 0:
        return
    image = await images.read(connection, image_id)
    lists = {IMPORTING: ""}
    if event is TaskEvent.SUCCEED:
        await _activate(connection, image_id)
    else:
        lists[FAILED] = _asked_for(task)
        await _take_back(connection, image, task)
    await _let_go(connection, image_id, lists)


def is_abandoned() -> ColumnElement[bool]:
    """Of an image: it is importing, and no task does it."""
    return and_(_i.status == Status.IMPORTING.value, ~locks.has_live_task())


async def fail_abandoned(connection: AsyncConnection, image_id: str) -> None:
    """The image, if it is abandoned still, is what it was before its import."""
    found = await connection.execute(
        update(t.images)
        .where(_i.id == image_id, is_abandoned())
        .values(updated_at=now(), claim=None)
    )
    if found.rowcount == 0:
        return
    await _fail(connection, await images.read(connection, image_id))
    await _let_go(connection, image_id, {IMPORTING: ""})


async def _let_go(connection: AsyncConnection, image_id: str, lists: Mapping[str, str]) -> None:
    """What is left when an import is over."""
    await images.remove_staged(connection, image_id)
    await _set(connection, image_id, lists)
    await locks.unlock(connection, image_id)
    await images.refresh(connection, image_id)


async def _fail(connection: AsyncConnection, image: Image) -> None:
    await images.advance(connection, image.id, Event.FAIL_IMPORT, **_EMPTY)
    await _drop(connection, image.id, image.locations)


async def _drop(connection: AsyncConnection, image_id: str, gone: Sequence[Location]) -> None:
    for one in gone:
        await connection.execute(
            delete(t.locations).where(
                _l.image_id == image_id, _l.store == one.store, _l.key == one.key
            )
        )
    await images.removals_of(connection, image_id, gone)


async def _take_back(connection: AsyncConnection, image: Image, task: Task) -> None:
    """The image is what it was before its import."""
    if image.status is Status.IMPORTING:
        await _fail(connection, image)
    elif _all_must(task):
        made = select(_u.store, _u.key).where(_u.task_id == task.id, _u.image_id == image.id)
        copies = {(row.store, row.key) for row in (await connection.execute(made)).all()}
        gone = [one for one in image.locations if (one.store, one.key) in copies]
        if len(gone) < len(image.locations):  # who removed all others has nothing but these
            await _drop(connection, image.id, gone)


async def _activate(connection: AsyncConnection, image_id: str) -> None:
    """FINISH_IMPORT, where the image is being imported and a store has its data."""
    row = TRANSITIONS[Event.FINISH_IMPORT]
    await connection.execute(
        update(t.images)
        .where(
            _i.id == image_id,
            _i.status.in_(sorted(row.sources)),
            exists().where(_l.image_id == _i.id),
        )
        .values(status=row.target.value, was_active=True, updated_at=now())
    )


async def _claim(
    connection: AsyncConnection, task: Task, statuses: Sequence[Status], attempt: str | None = None
) -> None:
    """Have the image's row, for the task's holder, and for an attempt of it. BadTransition."""
    image_id = locks.image_of(task)
    values: dict[str, Any] = {"updated_at": now()}
    if attempt is not None:
        values["claim"] = attempt
    changed = await connection.execute(
        update(t.images)
        .where(_i.id == image_id, _i.status.in_([one.value for one in statuses]), *_held(task))
        .values(values)
    )
    if changed.rowcount == 0:
        image = await images.read(connection, image_id)
        if image.gone:
            raise BadTransition("Image has been deleted, aborting import.", image.status)
        if image.status not in statuses:
            raise BadTransition(f"The image is {image.status} meanwhile.", image.status)
        raise BadTransition("Task was aborted externally")


def _held(task: Task) -> tuple[ColumnElement[bool], ...]:
    """The task is its holder's still, and the image is the task's; no attempt of it is open."""
    open_copy = exists().where(
        _u.image_id == _i.id, _u.purpose == Purpose.COPY.value, _u.state.in_(sorted(OPEN))
    )
    return locks.is_held(task), locks.is_locked_by(task), ~open_copy


async def _set(connection: AsyncConnection, image_id: str, values: Mapping[str, str]) -> None:
    await connection.execute(
        delete(t.properties).where(_p.image_id == image_id, _p.name.in_(list(values)))
    )
    await images.put_properties(connection, image_id, values)


def _asked_for(task: Task) -> str:
    stores = task.input.get("backend")
    return ",".join(sorted(map(str, stores))) if isinstance(stores, list) else ""


def _all_must(task: Task) -> bool:
    request = task.input.get("import_req")
    return not (isinstance(request, dict) and request.get("all_stores_must_succeed") is False)
