"""The catalog on a SQL database."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import delete, func, select, text, update

from tidegate.catalog import (
    activation,
    adoptions,
    changes,
    exporting,
    images,
    importing,
    members,
    quotas,
    registering,
    tasks,
    uploads,
)
from tidegate.catalog import tables as t
from tidegate.catalog.base import (
    AddLocation,
    ImageChange,
    ImageQuery,
    TaskQuery,
    Usage,
    Viewer,
)
from tidegate.catalog.checks import SqlChecks
from tidegate.catalog.deletions import SqlDeletions
from tidegate.catalog.engine import Database, compiled
from tidegate.catalog.exporting import SqlExports
from tidegate.catalog.importing import SqlImports
from tidegate.catalog.metadefs import SqlMetadefs
from tidegate.catalog.query import image_page, unknown_marker
from tidegate.catalog.registering import SqlRegistrations
from tidegate.catalog.rows import image_of, one_image, upload_of
from tidegate.catalog.scrubs import SqlScrubs
from tidegate.domain.errors import NotFound
from tidegate.domain.image import Image
from tidegate.domain.member import Member, MemberStatus
from tidegate.domain.quota import UNLIMITED, Allowance
from tidegate.domain.status import GONE, INITIAL, Event, Status
from tidegate.domain.task import Task, TaskEvent, TaskType
from tidegate.domain.upload import Failure, Removal, Sent, Upload, UploadState

ONE_IMAGE = {admin: compiled(one_image(admin=admin)) for admin in (True, False)}
_ANY_IMAGE = {admin: compiled(one_image(admin=admin, gone=True)) for admin in (True, False)}


class SqlCatalog(
    SqlDeletions, SqlChecks, SqlExports, SqlImports, SqlMetadefs, SqlRegistrations, SqlScrubs
):
    """See ``catalog.base.Catalog``. One instance is one holder of attempts: it remembers the
    fence of each attempt that it started or took over."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._fences: dict[str, int] = {}

    async def open(self) -> None:
        await self._database.open()

    async def close(self) -> None:
        await self._database.close()

    async def ping(self) -> None:
        await self._database.rows(select(text("1")))

    # images

    async def create_image(
        self, image: Image, *, task: Task | None = None, allowance: Allowance = UNLIMITED
    ) -> Image:
        assert image.status in INITIAL
        async with self._database.transaction() as connection:
            if task is not None:
                await tasks.create(connection, task)
            created = await images.create(connection, image, verified=False)
            await quotas.admit_image(connection, created, allowance)
            return created

    async def get_image(self, image_id: str, viewer: Viewer) -> Image:
        asked = {"id": image_id, "project": viewer.project}
        image = await self._database.hot_row(ONE_IMAGE[viewer.admin], asked, image_of)
        if image is None:
            raise images.no_such_image(image_id)
        return image

    async def get_image_or_gone(self, image_id: str, viewer: Viewer) -> Image:
        asked = {"id": image_id, "project": viewer.project}
        image = await self._database.hot_row(_ANY_IMAGE[viewer.admin], asked, image_of)
        if image is None:
            raise images.no_such_image(image_id)
        return image

    async def list_images(self, query: ImageQuery) -> list[Image]:
        marker = None
        if query.marker is not None:
            try:
                known = self.get_image if query.without >= GONE else self.get_image_or_gone
                marker = await known(query.marker, query.viewer)
            except NotFound:
                raise unknown_marker(query.marker) from None
        rows = await self._database.rows(image_page(query, marker))
        return [image_of(tuple(row.values())) for row in rows]

    async def change_image(
        self, image_id: str, change: ImageChange, *, task: Task | None = None
    ) -> tuple[Image, list[Removal]]:
        async with self._database.transaction() as connection:
            if task is not None:
                await tasks.create(connection, task)
            changed, removals = await changes.change(connection, image_id, change)
            if any(isinstance(edit, AddLocation) for edit in change.locations):
                await quotas.admit_bytes(connection, changed.owner, change.allowance)
            return changed, removals

    async def set_tag(self, image_id: str, tag: str, *, limit: int) -> None:
        async with self._database.transaction() as connection:
            await changes.set_tag(connection, image_id, tag, limit)

    async def drop_tag(self, image_id: str, tag: str) -> None:
        async with self._database.transaction() as connection:
            await changes.drop_tag(connection, image_id, tag)

    async def advance(self, image_id: str, event: Event) -> Image:
        async with self._database.transaction() as connection:
            return await images.advance(connection, image_id, event)

    async def deactivate(self, image_id: str, *, by_admin: bool) -> None:
        async with self._database.transaction() as connection:
            await activation.deactivate(connection, image_id, by_admin=by_admin)

    async def reactivate(self, image_id: str, *, by_admin: bool) -> None:
        async with self._database.transaction() as connection:
            await activation.reactivate(connection, image_id, by_admin=by_admin)

    async def statuses(self, image_ids: Collection[str]) -> dict[str, Status]:
        c = t.images.c
        rows = await self._database.rows(select(c.id, c.status).where(c.id.in_(list(image_ids))))
        return {row["id"]: Status(row["status"]) for row in rows}

    async def usage_of(self, project: str | None) -> Usage:
        (row,) = await self._database.rows(quotas.held(project))
        return Usage(**{name: int(value) for name, value in row.items()})

    async def delete_image(self, image_id: str, *, delayed: bool = False) -> list[Removal]:
        async with self._database.transaction() as connection:
            return await images.remove(connection, image_id, self._database.clock, delayed=delayed)

    # members

    async def members_of(self, image_id: str) -> list[Member]:
        rows = await self._database.rows(members.of_image(image_id))
        return [members.member_of(row) for row in rows]

    async def get_member(self, image_id: str, project: str) -> Member:
        rows = await self._database.rows(
            members.of_image(image_id).where(t.members.c.member == project)
        )
        if not rows:
            raise members.no_such_member(image_id, project)
        return members.member_of(rows[0])

    async def put_member(
        self,
        image_id: str,
        project: str,
        *,
        can_share: bool | None = None,
        new: bool = False,
        limit: int = -1,
    ) -> Member:
        async with self._database.transaction() as connection:
            return await members.put(
                connection, image_id, project, can_share=can_share, new=new, limit=limit
            )

    async def replace_members(
        self, image_id: str, wanted: Mapping[str, bool | None], *, limit: int = -1
    ) -> None:
        async with self._database.transaction() as connection:
            await members.replace(connection, image_id, wanted, limit=limit)

    async def drop_member(self, image_id: str, project: str) -> None:
        async with self._database.transaction() as connection:
            await members.drop(connection, image_id, project)

    async def set_member_status(self, image_id: str, project: str, status: MemberStatus) -> Member:
        async with self._database.transaction() as connection:
            return await members.set_status(connection, image_id, project, status)

    async def shared_with(self, project: str, viewer: Viewer) -> list[Member]:
        rows = await self._database.rows(members.shared_with(project, viewer))
        return [members.member_of(row) for row in rows]

    # uploads

    async def start_upload(
        self,
        upload: Upload,
        *,
        lease: float,
        change: ImageChange | None = None,
        allowance: Allowance = UNLIMITED,
    ) -> Image:
        self._fences[upload.id] = 1  # for who does not live to see the commit, too
        clock = self._database.clock
        async with self._database.transaction() as connection:
            if change is not None:
                await changes.change(connection, upload.image_id, change)
            return await uploads.start(connection, upload, clock, lease, allowance)

    async def reserve_bytes(self, attempt: str, most: int, allowance: Allowance) -> int:
        async with self._database.transaction() as connection:
            return await quotas.reserve(connection, attempt, most, allowance)

    async def upload_began(self, attempt: str, upload_id: str) -> None:
        await self._renew(attempt, state=UploadState.WRITING.value, upload_id=upload_id)

    async def renew_upload(self, attempt: str, received: int, *, lease: float) -> None:
        await self._renew(
            attempt, received=received, **uploads.lease_values(self._database.clock, lease)
        )

    async def upload_completing(self, attempt: str, sent: Sent) -> None:
        await self._renew(
            attempt,
            state=UploadState.COMPLETING.value,
            received=sent.size,
            sent_size=sent.size,
            sent_digests=dict(sent.digests),
            sent_crc64nvme=None if sent.crc64nvme is None else str(sent.crc64nvme),
            sent_parts=sent.parts,
            sent_virtual_size=sent.virtual_size,
            sent_disk_format=sent.disk_format,
        )

    async def publish_upload(self, attempt: str, sent: Sent) -> Image:
        async with self._database.transaction() as connection:
            image = await uploads.publish(connection, attempt, self._fence(attempt), sent)
        self.let_go(attempt)
        return image

    async def fail_upload(
        self,
        attempt: str,
        failure: Failure,
        event: Event,
        *,
        leftovers: Sequence[str | None],
        reserve: float = 0.0,
        look_again: float | None = None,
        received: int | None = None,
    ) -> list[Removal]:
        clock = self._database.clock
        due = [(one, uploads.lease_values(clock, reserve)) for one in leftovers]
        later = [] if look_again is None else [(None, uploads.lease_values(clock, look_again))]
        async with self._database.transaction() as connection:
            return await uploads.fail(
                connection, attempt, self._fence(attempt), failure, event, due, later, received
            )

    async def keep_upload(self, attempt: str, *, lease: float) -> None:
        values = uploads.lease_values(self._database.clock, lease)
        async with self._database.transaction() as connection:
            await uploads.keep(connection, attempt, self._fence(attempt), values)

    def let_go(self, attempt: str) -> None:
        self._fences.pop(attempt, None)

    async def uploads_of(self, image_id: str) -> list[Upload]:
        c = t.uploads.c
        rows = await self._database.rows(
            select(t.uploads).where(c.image_id == image_id).order_by(c.started_at, c.id)
        )
        return [upload_of(row) for row in rows]

    async def open_uploads(self, attempts: Sequence[str]) -> dict[str, Upload]:
        rows = await self._database.rows(select(t.uploads).where(t.uploads.c.id.in_(attempts)))
        return {row["id"]: upload_of(row) for row in rows}

    async def take_over_expired(self, node: str, *, lease: float, limit: int = 50) -> list[Upload]:
        async with self._database.transaction() as connection:
            taken = await uploads.take_over(
                connection, node, self._database.clock, lease, limit, list(self._fences)
            )
        self._fences.update({upload.id: fence for upload, fence in taken})
        return [upload for upload, _ in taken]

    # removals

    async def due_removals(self, *, lease: float, limit: int = 100) -> list[Removal]:
        async with self._database.transaction() as connection:
            return await uploads.reserve_removals(connection, self._database.clock, lease, limit)

    async def removals_waiting(self) -> dict[str, int]:
        c = t.removals.c
        rows = await self._database.rows(
            select(c.store, func.count().label("count")).group_by(c.store)
        )
        return {row["store"]: row["count"] for row in rows}

    async def removal_done(self, removal_id: int) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(delete(t.removals).where(t.removals.c.id == removal_id))

    async def removal_failed(self, removal_id: int, message: str, *, retry_in: float) -> None:
        c = t.removals.c
        async with self._database.transaction() as connection:
            await connection.execute(
                update(t.removals)
                .where(c.id == removal_id)
                .values(
                    attempts=c.attempts + 1,
                    message=message,
                    **uploads.lease_values(self._database.clock, retry_in),
                )
            )

    # objects that lie in a store already

    async def image_at(self, store: str, key: str) -> str | None:
        for row in await self._database.rows(adoptions.holder(store, key)):
            return str(row["id"])
        return None

    async def adopt(self, image: Image) -> None:
        async with self._database.transaction() as connection:
            await adoptions.adopt(connection, image)

    # tasks

    async def create_task(self, task: Task) -> Task:
        async with self._database.transaction() as connection:
            return await tasks.create(connection, task)

    async def get_task(self, task_id: str, viewer: Viewer) -> Task:
        rows = await self._database.rows(tasks.one(task_id, viewer))
        if not rows:
            raise tasks.no_such_task(task_id)
        return tasks.task_of(rows[0])

    async def list_tasks(self, query: TaskQuery) -> list[Task]:
        marker = None
        if query.marker is not None:
            try:
                marker = await self.get_task(query.marker, query.viewer)
            except NotFound:
                raise tasks.unknown_marker(query.marker) from None
        rows = await self._database.rows(tasks.page(query, marker))
        return [tasks.task_of(row) for row in rows]

    async def take_tasks(
        self,
        node: str,
        kinds: Sequence[TaskType],
        *,
        lease: float,
        limit: int,
        mine: Sequence[str] = (),
    ) -> list[Task]:
        async with self._database.transaction() as connection:
            return await tasks.take(
                connection, node, kinds, self._database.clock, lease, limit, mine
            )

    async def renew_task(
        self,
        task: Task,
        *,
        lease: float,
        message: str | None = None,
        image_id: str | None = None,
    ) -> Task:
        given = {"message": message, "image_id": image_id}
        values = {name: value for name, value in given.items() if value is not None}
        values.update(uploads.lease_values(self._database.clock, lease))
        async with self._database.transaction() as connection:
            return await tasks.change_held(connection, task, **values)

    async def put_task_back(self, task: Task, *, retry_in: float = 0.0) -> None:
        values = uploads.lease_values(self._database.clock, retry_in)
        async with self._database.transaction() as connection:
            await tasks.change_held(connection, task, **values)

    async def end_task(
        self,
        task: Task,
        event: TaskEvent,
        *,
        keep: float,
        result: Mapping[str, object] | None = None,
        message: str = "",
    ) -> Task:
        async with self._database.transaction() as connection:
            ended = await tasks.end(connection, task, event, result, message, keep)
            await importing.settle(connection, ended, event)
            await registering.settle(connection, ended)
            await exporting.settle(connection, ended, event)
            return ended

    async def purge_tasks(self) -> int:
        async with self._database.transaction() as connection:
            return await tasks.purge(connection)

    def _fence(self, attempt: str) -> int:
        return self._fences.get(attempt, 0)

    async def _renew(self, attempt: str, **values: object) -> None:
        async with self._database.transaction() as connection:
            await uploads.renew(connection, attempt, self._fence(attempt), **values)
