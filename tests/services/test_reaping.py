"""What a dead process left is finished or killed, by anybody, again and again."""

import asyncio
from uuid import uuid4

import pytest
from tests.kit.sources import pattern
from tests.kit.stores import objects, part_of, unfinished
from tests.services.conftest import MIB, World

from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import BadTransition, StoreDown
from tidegate.domain.status import Status
from tidegate.domain.task import LOCK, Task, TaskType
from tidegate.domain.upload import Purpose, Sent, Upload, UploadState

BODY = pattern(6 * MIB)
SENT = Sent(len(BODY), {"md5": "0" * 32}, part_of(BODY).crc64nvme, 2, virtual_size=len(BODY))


async def claimed(world: World, dead: SqlCatalog) -> Upload:
    image_id = await world.queued()
    attempt = uuid4().hex
    upload = Upload(
        id=attempt, image_id=image_id, store=world.store.id, key=f"{image_id}/{attempt}"
    )
    await dead.start_upload(upload, lease=-1)
    return upload


async def test_an_attempt_that_only_claimed_is_killed(world: World, dead: SqlCatalog) -> None:
    upload = await claimed(world, dead)
    assert await world.reaping().reap() == 1
    assert (await world.image(upload.image_id)).status is Status.KILLED
    assert (await world.failure(upload.image_id)).reason == "node_died"


async def test_an_attempt_with_parts_is_aborted_and_killed(world: World, dead: SqlCatalog) -> None:
    upload = await claimed(world, dead)
    writing = await world.store.begin(upload.key)
    await dead.upload_began(upload.id, writing.upload_id)
    await writing.put_part(part_of(BODY))
    await world.reaping().reap()
    assert (await world.image(upload.image_id)).status is Status.KILLED
    assert await unfinished(world.store) == []


async def test_a_removal_that_outlasts_the_lease_ends_as_any_other(
    world: World, dead: SqlCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await claimed(world, dead)
    keep, refused = world.catalog.keep_upload, asyncio.Event()

    async def keep_and_tell(attempt: str, *, lease: float) -> None:
        try:
            await keep(attempt, lease=lease)
        except BadTransition:
            refused.set()
            raise

    async def slowly(*_: object) -> None:
        await refused.wait()

    monkeypatch.setattr(world.catalog, "keep_upload", keep_and_tell)
    world.store.before["delete"] = slowly
    async with asyncio.timeout(20):
        assert await world.reaping(lease=0.3).reap() == 1
    assert (await world.image(upload.image_id)).status is Status.KILLED
    assert await world.removals.carry_out_due() == 0


async def test_an_upload_that_nobody_wrote_down_is_swept(world: World, dead: SqlCatalog) -> None:
    upload = await claimed(world, dead)
    await world.store.begin(upload.key)
    await world.reaping().reap()
    assert await world.reaping().sweep() == 1
    assert await unfinished(world.store) == []


async def test_a_live_attempts_upload_is_not_swept(world: World) -> None:
    image_id = await world.queued()
    attempt = uuid4().hex
    key = f"{image_id}/{attempt}"
    await world.catalog.start_upload(
        Upload(id=attempt, image_id=image_id, store=world.store.id, key=key), lease=60
    )
    writing = await world.store.begin(key)
    assert await world.reaping().sweep() == 0
    await world.catalog.upload_began(attempt, writing.upload_id)
    assert await world.reaping().sweep() == 0
    assert await unfinished(world.store) == [(key, writing.upload_id)]


async def test_what_is_not_ours_in_a_bucket_is_left_alone(world: World) -> None:
    await world.store.begin("somebody/else")
    await world.store.put("somebody/elses", part_of(b"x"))
    assert await world.reaping().sweep() == 0
    assert len(await unfinished(world.store)) == 1
    assert await objects(world.store) == {"somebody/elses": 1}


async def test_a_complete_object_is_finished(world: World, dead: SqlCatalog) -> None:
    upload = await claimed(world, dead)
    await world.store.put(upload.key, part_of(BODY))
    await dead.upload_completing(upload.id, SENT)
    await world.reaping().reap()
    image = await world.image(upload.image_id)
    assert (image.status, image.size) == (Status.ACTIVE, len(BODY))
    assert image.virtual_size == len(BODY)


async def test_an_object_of_another_size_is_not_finished(world: World, dead: SqlCatalog) -> None:
    upload = await claimed(world, dead)
    await world.store.put(upload.key, part_of(BODY[:-1]))
    await dead.upload_completing(upload.id, SENT)
    await world.reaping().reap()
    assert (await world.image(upload.image_id)).status is Status.KILLED
    assert await objects(world.store) == {}


async def test_an_object_of_other_bytes_is_not_finished(world: World, dead: SqlCatalog) -> None:
    upload = await claimed(world, dead)
    await world.store.put(upload.key, part_of(pattern(len(BODY), seed=1)))
    await dead.upload_completing(upload.id, SENT)
    await world.reaping().reap()
    assert (await world.image(upload.image_id)).status is Status.KILLED
    assert await objects(world.store) == {}


async def test_a_store_that_is_down_is_waited_for(world: World, dead: SqlCatalog) -> None:
    upload = await claimed(world, dead)
    await world.store.put(upload.key, part_of(BODY))
    await dead.upload_completing(upload.id, SENT)
    world.store.fail("look", StoreDown("memory", "it answered 503"), times=1)
    assert await world.reaping().reap() == 0
    assert (await world.image(upload.image_id)).status is Status.SAVING


async def test_of_an_image_that_was_deleted_nothing_stays(world: World, dead: SqlCatalog) -> None:
    upload = await claimed(world, dead)
    await world.store.put(upload.key, part_of(BODY))
    await dead.upload_completing(upload.id, SENT)
    await world.catalog.delete_image(upload.image_id)
    await world.reaping().reap()
    assert await objects(world.store) == {}


async def test_reaping_twice_changes_nothing(world: World, dead: SqlCatalog) -> None:
    upload = await claimed(world, dead)
    await world.reaping().reap()
    before = await world.catalog.uploads_of(upload.image_id)
    assert await world.reaping().reap() == 0
    assert await world.catalog.uploads_of(upload.image_id) == before


# staging, and copies for a task


async def staging(world: World, dead: SqlCatalog) -> Upload:
    image_id, attempt = await world.queued(), uuid4().hex
    upload = Upload(id=attempt, image_id=image_id, store=world.store.id,
                    key=f"{image_id}/{attempt}", purpose=Purpose.STAGE)  # fmt: skip
    await dead.start_upload(upload, lease=-1)
    return upload


async def test_a_staging_whose_server_died_takes_the_image_back_to_queued(
    world: World, dead: SqlCatalog
) -> None:
    upload = await staging(world, dead)
    writing = await world.store.begin(upload.key)
    await dead.upload_began(upload.id, writing.upload_id)
    await world.reaping().reap()
    image = await world.image(upload.image_id)
    assert (image.status, image.size, image.claim) == (Status.QUEUED, None, None)
    assert (await world.failure(upload.image_id)).reason == "node_died"
    assert await unfinished(world.store) == []


async def test_a_staging_whose_object_is_whole_is_finished(world: World, dead: SqlCatalog) -> None:
    upload = await staging(world, dead)
    await dead.upload_completing(upload.id, SENT)
    await world.store.put(upload.key, part_of(BODY))
    await world.reaping().reap()
    image = await world.image(upload.image_id)
    assert (image.status, image.size, image.locations) == (Status.UPLOADING, len(BODY), ())
    (attempt,) = await world.catalog.uploads_of(upload.image_id)
    assert attempt.state is UploadState.STAGED


@pytest.mark.parametrize("whole", [False, True])
async def test_a_copy_whose_server_died_is_finished_or_leaves_the_image_to_its_task(
    world: World, dead: SqlCatalog, whole: bool
) -> None:
    image_id = await world.queued()
    task = Task(id=str(uuid4()), type=TaskType.API_IMAGE_IMPORT, image_id=image_id)
    await dead.ask_for_import(task, Status.QUEUED)
    (task,) = await dead.take_tasks("n", [task.type], lease=60, limit=1)
    await dead.begin_import(task, Status.QUEUED, ["memory"])
    attempt = uuid4().hex
    copy = Upload(id=attempt, image_id=image_id, store=world.store.id, key=f"{image_id}/{attempt}",
                  purpose=Purpose.COPY, task_id=task.id)  # fmt: skip
    await dead.start_copy(copy, task, deactivated=False, lease=-1)
    await dead.upload_completing(copy.id, SENT)
    if whole:
        await world.store.put(copy.key, part_of(BODY))
    await world.reaping().reap()
    image = await world.image(image_id)
    assert (image.status, len(image.locations)) == (Status.IMPORTING, 1 if whole else 0)
    assert len(await objects(world.store)) == (1 if whole else 0)
    assert image.properties[LOCK] == task.id
