"""What every catalog promises of imports: an image is one task's, and comes out of it whole or as
it was, in the one transaction that ends the task."""

from typing import Any
from uuid import uuid4

import pytest

from tidegate.catalog.base import ImageChange, Viewer
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import BadTransition, Conflict, NotFound
from tidegate.domain.image import Image
from tidegate.domain.status import Event, Status
from tidegate.domain.task import FAILED, IMPORTING, LOCK, Task, TaskEvent, TaskStatus, TaskType
from tidegate.domain.upload import Failure, Purpose, Sent, Upload, UploadState

ADMIN = Viewer(admin=True)
SENT = Sent(5, {"md5": "0" * 32, "sha512": "1" * 128}, 7, 1)
STORES = ["a", "b"]


async def queued(catalog: SqlCatalog) -> str:
    made = Image(id=str(uuid4()), disk_format="raw", container_format="bare")
    return (await catalog.create_image(made)).id


def attempt(image_id: str, store: str, purpose: Purpose, task: Task | None = None) -> Upload:
    name = uuid4().hex
    return Upload(id=name, image_id=image_id, store=store, key=f"{image_id}/{name}",
                  purpose=purpose, task_id=None if task is None else task.id)  # fmt: skip


async def staged(catalog: SqlCatalog) -> Upload:
    upload = attempt(await queued(catalog), "a", Purpose.STAGE)
    await catalog.start_upload(upload, lease=60)
    await catalog.upload_completing(upload.id, SENT)
    image = await catalog.publish_upload(upload.id, SENT)
    assert (image.status, image.size, image.checksum) == (Status.UPLOADING, 5, None)
    return upload


async def active(catalog: SqlCatalog) -> str:
    upload = attempt(await queued(catalog), "a", Purpose.FILL)
    await catalog.start_upload(upload, lease=60)
    await catalog.publish_upload(upload.id, SENT)
    return upload.image_id


def task_for(image_id: str, *, all_must: bool = True) -> Task:
    given: dict[str, Any] = {"import_req": {"all_stores_must_succeed": all_must}, "backend": STORES}
    return Task(id=str(uuid4()), type=TaskType.API_IMAGE_IMPORT, image_id=image_id, input=given)


async def begun(
    catalog: SqlCatalog, image_id: str, status: Status, *, all_must: bool = True, lease: float = 60
) -> Task:
    await catalog.ask_for_import(task_for(image_id, all_must=all_must), status)
    task = await taken(catalog, lease=lease)
    image = await catalog.begin_import(task, status, STORES)
    assert image.status is (Status.ACTIVE if status is Status.ACTIVE else Status.IMPORTING)
    assert (image.properties[IMPORTING], image.properties[FAILED]) == ("a,b", "")
    return task


async def taken(catalog: SqlCatalog, *, lease: float = 60) -> Task:
    (task,) = await catalog.take_tasks("node", tuple(TaskType), lease=lease, limit=5)
    return task


async def copied(catalog: SqlCatalog, task: Task, store: str) -> Upload:
    upload = attempt(task.image_id or "", store, Purpose.COPY, task)
    await catalog.start_copy(upload, task, deactivated=False, lease=60)
    await catalog.upload_completing(upload.id, SENT)
    await catalog.publish_upload(upload.id, SENT)
    return upload


async def end(catalog: SqlCatalog, task: Task, event: TaskEvent) -> Image:
    await catalog.end_task(task, event, keep=60, message="why")
    return await catalog.get_image(task.image_id or "", ADMIN)


async def removed(catalog: SqlCatalog) -> set[str]:
    return {one.key for one in await catalog.due_removals(lease=60)}


async def state(catalog: SqlCatalog, upload: Upload) -> UploadState:
    found = await catalog.uploads_of(upload.image_id)
    return next(one.state for one in found if one.id == upload.id)


# staging


async def test_of_staged_data_nothing_is_the_images_but_its_size(catalog: SqlCatalog) -> None:
    upload = await staged(catalog)
    image = await catalog.get_image(upload.image_id, ADMIN)
    assert (image.locations, image.hash_value, image.was_active) == ((), None, False)
    assert await state(catalog, upload) is UploadState.STAGED
    again = await catalog.publish_upload(upload.id, SENT)  # an answer that was lost
    assert again.status is Status.UPLOADING


async def test_a_staging_that_broke_leaves_a_queued_image(catalog: SqlCatalog) -> None:
    upload = attempt(await queued(catalog), "a", Purpose.STAGE)
    await catalog.start_upload(upload, lease=60)
    why = Failure("client_gone", "reading", "gone")
    await catalog.fail_upload(upload.id, why, Event.UNSTAGE, leftovers=[None])
    image = await catalog.get_image(upload.image_id, ADMIN)
    assert (image.status, image.size, image.claim) == (Status.QUEUED, None, None)


async def test_staged_data_of_a_deleted_image_is_to_be_removed(catalog: SqlCatalog) -> None:
    upload = await staged(catalog)
    (removal,) = await catalog.delete_image(upload.image_id)
    assert (removal.store, removal.key) == ("a", upload.key)
    assert await state(catalog, upload) is UploadState.DONE


# whose an image is


async def test_an_image_is_locked_by_its_task_until_that_ends(catalog: SqlCatalog) -> None:
    image_id = await queued(catalog)
    made = await catalog.ask_for_import(task_for(image_id), Status.QUEUED)
    assert made.status is TaskStatus.PENDING
    image = await catalog.get_image(image_id, ADMIN)
    assert (image.status, image.properties[LOCK]) == (Status.QUEUED, made.id)
    with pytest.raises(Conflict, match="not permitted"):
        await catalog.ask_for_import(task_for(image_id), Status.QUEUED)
    ended = await end(catalog, await taken(catalog), TaskEvent.FAIL)
    assert (ended.status, LOCK in ended.properties) == (Status.QUEUED, False)
    await catalog.ask_for_import(task_for(image_id), Status.QUEUED)


async def test_a_lock_of_a_task_that_is_not_there_is_broken(catalog: SqlCatalog) -> None:
    image_id = await queued(catalog)
    await catalog.change_image(image_id, ImageChange(put={LOCK: str(uuid4())}))
    await catalog.ask_for_import(task_for(image_id), Status.QUEUED)


async def test_nothing_is_asked_for_in_another_status_or_of_no_image(catalog: SqlCatalog) -> None:
    with pytest.raises(BadTransition):
        await catalog.ask_for_import(task_for(await active(catalog)), Status.QUEUED)
    with pytest.raises(NotFound):
        await catalog.ask_for_import(task_for(str(uuid4())), Status.QUEUED)


async def test_staged_data_is_needed_for_glance_direct_and_in_the_way_of_the_others(
    catalog: SqlCatalog,
) -> None:
    upload = attempt(await queued(catalog), "a", Purpose.STAGE)
    await catalog.start_upload(upload, lease=60)
    await catalog.ask_for_import(task_for(upload.image_id), Status.UPLOADING)
    task = await taken(catalog)
    with pytest.raises(BadTransition):  # it is still coming
        await catalog.begin_import(task, Status.UPLOADING, STORES)
    await catalog.publish_upload(upload.id, SENT)
    await catalog.begin_import(task, Status.UPLOADING, STORES)
    again = await catalog.begin_import(task, Status.UPLOADING, STORES)
    assert again.status is Status.IMPORTING


async def test_who_was_given_up_can_change_nothing_any_more(catalog: SqlCatalog) -> None:
    upload = await staged(catalog)
    late = await begun(catalog, upload.image_id, Status.UPLOADING, lease=-1)
    task = await taken(catalog)
    assert task.fence == 2
    with pytest.raises(BadTransition, match="aborted externally"):
        await catalog.publish_staged(late, upload.id)
    with pytest.raises(BadTransition):
        await catalog.note_import(late, left=[], failed=[], activate=True)
    with pytest.raises(BadTransition):
        await copied(catalog, late, "b")
    with pytest.raises(BadTransition):
        await catalog.end_task(late, TaskEvent.FAIL, keep=60)
    image = await catalog.publish_staged(task, upload.id)
    assert image.status is Status.IMPORTING


async def test_of_a_deleted_image_its_task_hears(catalog: SqlCatalog) -> None:
    upload = await staged(catalog)
    task = await begun(catalog, upload.image_id, Status.UPLOADING)
    await catalog.delete_image(upload.image_id)
    with pytest.raises(BadTransition, match="Image has been deleted"):
        await catalog.publish_staged(task, upload.id)
    await catalog.end_task(task, TaskEvent.FAIL, keep=60)
    with pytest.raises(NotFound):
        await catalog.get_image(upload.image_id, ADMIN)


# what it gets


async def test_a_staged_object_becomes_the_location(catalog: SqlCatalog) -> None:
    upload = await staged(catalog)
    task = await begun(catalog, upload.image_id, Status.UPLOADING)
    for _ in range(2):  # repeatable
        image = await catalog.publish_staged(task, upload.id)
        assert [(one.store, one.key) for one in image.locations] == [("a", upload.key)]
    assert (image.checksum, image.hash_value) == ("0" * 32, "1" * 128)
    image = await end(catalog, task, TaskEvent.SUCCEED)
    assert (image.status, image.was_active) == (Status.ACTIVE, True)
    assert LOCK not in image.properties
    assert await removed(catalog) == set()


async def test_copies_are_added_and_a_staged_object_that_is_none_goes(catalog: SqlCatalog) -> None:
    upload = await staged(catalog)
    task = await begun(catalog, upload.image_id, Status.UPLOADING)
    await copied(catalog, task, "b")
    noted = await catalog.note_import(task, left=["c"], failed=["d"], activate=False)
    assert (noted.status, noted.properties[IMPORTING], noted.properties[FAILED]) == (
        Status.IMPORTING, "c", "d",
    )  # fmt: skip
    await copied(catalog, task, "c")
    image = await end(catalog, task, TaskEvent.SUCCEED)
    assert [one.store for one in image.locations] == ["b", "c"]
    assert (image.status, image.size, image.crc64nvme) == (Status.ACTIVE, 5, 7)
    assert (image.properties[IMPORTING], image.properties[FAILED]) == ("", "d")
    assert await removed(catalog) == {upload.key}


async def test_an_image_may_be_active_before_its_import_ends(catalog: SqlCatalog) -> None:
    task = await begun(catalog, await queued(catalog), Status.QUEUED, all_must=False)
    nothing = await catalog.note_import(task, left=["b"], failed=[], activate=True)
    assert nothing.status is Status.IMPORTING  # no store has it
    await copied(catalog, task, "a")
    image = await catalog.note_import(task, left=["b"], failed=[], activate=True)
    assert (image.status, image.properties[LOCK]) == (Status.ACTIVE, task.id)
    image = await end(catalog, task, TaskEvent.FAIL)
    assert (image.status, len(image.locations)) == (Status.ACTIVE, 1)


async def test_no_second_copy_begins_while_one_is_open(catalog: SqlCatalog) -> None:
    task = await begun(catalog, await queued(catalog), Status.QUEUED)
    one, two = (attempt(task.image_id or "", "a", Purpose.COPY, task) for _ in range(2))
    await catalog.start_copy(one, task, deactivated=False, lease=60)
    with pytest.raises(BadTransition):
        await catalog.start_copy(two, task, deactivated=False, lease=60)


@pytest.mark.parametrize("admin", [False, True])
async def test_a_deactivated_image_is_copied_for_administrators_alone(
    catalog: SqlCatalog, admin: bool
) -> None:
    task = await begun(catalog, await active(catalog), Status.ACTIVE)
    await catalog.deactivate(task.image_id or "", by_admin=True)
    upload = attempt(task.image_id or "", "b", Purpose.COPY, task)
    if admin:
        await catalog.start_copy(upload, task, deactivated=True, lease=60)
        image = await catalog.publish_upload(upload.id, SENT)
        assert (image.status, len(image.locations)) == (Status.DEACTIVATED, 2)
    else:
        with pytest.raises(BadTransition):
            await catalog.start_copy(upload, task, deactivated=False, lease=60)


# how it fails


async def test_a_failed_import_leaves_a_queued_image_without_anything(catalog: SqlCatalog) -> None:
    upload = await staged(catalog)
    task = await begun(catalog, upload.image_id, Status.UPLOADING)
    copy = await copied(catalog, task, "b")
    image = await end(catalog, task, TaskEvent.FAIL)
    assert (image.status, image.size, image.checksum, image.hash_value) == (
        Status.QUEUED, None, None, None,
    )  # fmt: skip
    assert (image.locations, image.crc64nvme, image.claim) == ((), None, None)
    assert (image.properties[IMPORTING], image.properties[FAILED]) == ("", "a,b")
    assert LOCK not in image.properties
    assert await removed(catalog) == {upload.key, copy.key}


async def test_a_failed_copy_leaves_the_image_as_it_was(catalog: SqlCatalog) -> None:
    image_id = await active(catalog)
    before = await catalog.get_image(image_id, ADMIN)
    task = await begun(catalog, image_id, Status.ACTIVE)
    copy = await copied(catalog, task, "b")
    image = await end(catalog, task, TaskEvent.FAIL)
    assert (image.status, image.locations) == (Status.ACTIVE, before.locations)
    assert (image.size, image.checksum) == (5, "0" * 32)
    assert await removed(catalog) == {copy.key}


async def test_a_failed_copy_does_not_take_the_only_data_there_is(catalog: SqlCatalog) -> None:
    image_id = await active(catalog)
    task = await begun(catalog, image_id, Status.ACTIVE)
    await copied(catalog, task, "b")
    (held, _) = sorted(await catalog.own_locations(0, limit=5), key=lambda one: one.store)
    assert await catalog.drop_location(held)
    image = await end(catalog, task, TaskEvent.FAIL)
    assert (image.status, [one.store for one in image.locations]) == (Status.ACTIVE, ["b"])


async def test_an_attempt_that_comes_late_is_not_published(catalog: SqlCatalog) -> None:
    image_id = await active(catalog)
    task = await begun(catalog, image_id, Status.ACTIVE)
    copy = attempt(image_id, "b", Purpose.COPY, task)
    await catalog.start_copy(copy, task, deactivated=False, lease=60)
    await end(catalog, task, TaskEvent.FAIL)
    with pytest.raises(BadTransition):
        await catalog.publish_upload(copy.id, SENT)


async def test_ending_it_twice_is_ending_it_once(catalog: SqlCatalog) -> None:
    upload = await staged(catalog)
    task = await begun(catalog, upload.image_id, Status.UPLOADING)
    await end(catalog, task, TaskEvent.FAIL)
    again = attempt(upload.image_id, "a", Purpose.STAGE)
    await catalog.start_upload(again, lease=60)
    image = await end(catalog, task, TaskEvent.FAIL)
    assert image.status is Status.UPLOADING
