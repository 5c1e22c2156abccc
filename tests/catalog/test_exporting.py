"""What every catalog promises of exports: a key is one task's, and what that leaves is found."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest
from tests.catalog.test_tasks import KEEP, taken

from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import BadTransition, Conflict
from tidegate.domain.export import Export
from tidegate.domain.image import Image, Location
from tidegate.domain.status import Event, Status
from tidegate.domain.task import Task, TaskEvent, TaskType
from tidegate.domain.upload import Sent

STORE, KEY = "main", "exports/disk.raw"
SENT = Sent(7, {"md5": "m", "sha512": "s"}, 2**64 - 1)


async def exporting(catalog: SqlCatalog, *, lease: float = 60) -> Task:
    """A task that is held, of an active image."""
    location = Location("main", f"{uuid4()}/{uuid4().hex}")
    image = Image(id=str(uuid4()), disk_format="raw", container_format="bare",
                  status=Status.ACTIVE, size=7, locations=(location,))  # fmt: skip
    await catalog.adopt(image)
    return await taken(catalog, lease=lease, type=TaskType.EXPORT, image_id=image.id)


async def claimed(catalog: SqlCatalog, task: Task) -> Export:
    return await catalog.claim_export(task, STORE, KEY)


async def left(catalog: SqlCatalog, upload_id: str = "u1") -> Export:
    """By a task that failed, with its object being completed."""
    task = await exporting(catalog)
    export = await claimed(catalog, task)
    await catalog.export_began(task, export, upload_id)
    await catalog.export_completing(task, export, SENT)
    await catalog.end_task(task, TaskEvent.FAIL, keep=KEEP)
    return await found(catalog)


async def found(catalog: SqlCatalog) -> Export:
    (export,) = await catalog.stale_exports([STORE])
    return export


async def test_a_key_is_had_by_one_task(catalog: SqlCatalog, other: SqlCatalog) -> None:
    tasks = [await exporting(catalog) for _ in range(6)]
    claims = [claimed(who, task) for who, task in zip([catalog, other] * 3, tasks, strict=True)]
    got = await asyncio.gather(*claims, return_exceptions=True)
    assert sum(isinstance(one, Export) for one in got) == 1
    assert {str(one) for one in got if not isinstance(one, Export)} == {
        "Another export writes there."
    }


async def test_other_keys_and_stores_are_others(catalog: SqlCatalog) -> None:
    await claimed(catalog, await exporting(catalog))
    for store, key in ((STORE, "exports/b"), ("second", KEY)):
        await catalog.claim_export(await exporting(catalog), store, key)


async def test_what_was_written_down_is_found_by_the_next_holder(catalog: SqlCatalog) -> None:
    task = await exporting(catalog, lease=-1)
    export = await claimed(catalog, task)
    assert export == Export(store=STORE, key=KEY, task_id=task.id)
    await catalog.export_began(task, export, "u1")
    await catalog.export_completing(task, export, SENT)
    (next_one,) = await catalog.take_tasks("node", [TaskType.EXPORT], lease=60, limit=1)
    assert next_one.id == task.id
    assert await claimed(catalog, next_one) == replace(export, upload_id="u1", sent=SENT)


async def test_what_begins_again_has_sent_nothing(catalog: SqlCatalog) -> None:
    task = await exporting(catalog)
    export = await claimed(catalog, task)
    await catalog.export_began(task, export, "u1")
    await catalog.export_completing(task, export, SENT)
    await catalog.export_began(task, export, "u2")
    assert await claimed(catalog, task) == replace(export, upload_id="u2")


async def test_a_holder_who_was_given_up_changes_nothing(catalog: SqlCatalog) -> None:
    former = await exporting(catalog, lease=-1)
    export = await claimed(catalog, former)
    await catalog.take_tasks("node", [TaskType.EXPORT], lease=60, limit=1)
    for change in (
        claimed(catalog, former),
        catalog.export_began(former, export, "u1"),
        catalog.export_completing(former, export, SENT),
        catalog.drop_export(former, export),
    ):
        with pytest.raises(BadTransition):
            await change


@pytest.mark.parametrize("event", [Event.DEACTIVATE, None], ids=["deactivated", "deleted"])
async def test_what_is_active_no_more_is_not_completed(
    catalog: SqlCatalog, event: Event | None
) -> None:
    task = await exporting(catalog)
    export = await claimed(catalog, task)
    await catalog.export_began(task, export, "u1")
    assert task.image_id is not None
    if event is None:
        await catalog.delete_image(task.image_id)
    else:
        await catalog.advance(task.image_id, event)
    with pytest.raises(Conflict, match="meanwhile") as refused:
        await catalog.export_completing(task, export, SENT)
    assert not isinstance(refused.value, BadTransition)
    assert (await claimed(catalog, task)).sent is None


async def test_a_key_that_was_dropped_is_free(catalog: SqlCatalog) -> None:
    task = await exporting(catalog)
    export = await claimed(catalog, task)
    for _ in range(2):
        await catalog.drop_export(task, export)
    await claimed(catalog, await exporting(catalog))


async def test_a_success_lets_the_key_go(catalog: SqlCatalog) -> None:
    task = await exporting(catalog)
    await claimed(catalog, task)
    await catalog.end_task(task, TaskEvent.SUCCEED, keep=KEEP)
    assert await catalog.stale_exports([STORE]) == []
    await claimed(catalog, await exporting(catalog))


async def test_what_is_under_way_is_not_stale(catalog: SqlCatalog) -> None:
    await claimed(catalog, await exporting(catalog, lease=-1))
    assert await catalog.stale_exports([STORE]) == []


@pytest.mark.parametrize("purged", [False, True], ids=["failed", "purged"])
async def test_what_a_task_left_is_the_next_ones_that_asks(
    catalog: SqlCatalog, purged: bool
) -> None:
    former = await exporting(catalog)
    export = await claimed(catalog, former)
    await catalog.export_began(former, export, "u1")
    await catalog.export_completing(former, export, SENT)
    await catalog.end_task(former, TaskEvent.FAIL, keep=-1 if purged else KEEP)
    assert await catalog.purge_tasks() == int(purged)
    task = await exporting(catalog)
    assert await claimed(catalog, task) == Export(
        store=STORE, key=KEY, task_id=task.id, upload_id="u1"
    )
    assert await catalog.stale_exports([STORE]) == []


async def test_what_is_stale_is_forgotten_once(catalog: SqlCatalog) -> None:
    export = await left(catalog)
    assert export.upload_id == "u1"
    assert await catalog.forget_export(export)
    assert not await catalog.forget_export(export)
    assert await catalog.stale_exports([STORE]) == []


async def test_what_is_stale_in_a_store_that_is_not_here_is_for_those_who_have_it(
    catalog: SqlCatalog,
) -> None:
    await left(catalog)
    assert await catalog.stale_exports(["second"]) == []


async def test_what_somebody_has_by_now_is_not_forgotten(catalog: SqlCatalog) -> None:
    export = await left(catalog)
    await claimed(catalog, await exporting(catalog))
    assert not await catalog.forget_export(export)


async def test_no_export_goes_where_the_data_of_an_image_lies(catalog: SqlCatalog) -> None:
    image = Image(
        id=str(uuid4()), status=Status.ACTIVE, locations=(Location(STORE, KEY, own=True),)
    )
    await catalog.adopt(image)
    with pytest.raises(Conflict, match="image lies there"):
        await claimed(catalog, await exporting(catalog))
    (removal,) = await catalog.delete_image(image.id)
    with pytest.raises(Conflict, match="about to be removed"):
        await claimed(catalog, await exporting(catalog))
    await catalog.removal_done(removal.id)
    await claimed(catalog, await exporting(catalog))


async def test_what_an_export_writes_is_not_adopted(catalog: SqlCatalog) -> None:
    await claimed(catalog, await exporting(catalog))
    image = Image(id=str(uuid4()), status=Status.ACTIVE, locations=(Location(STORE, KEY),))
    with pytest.raises(Conflict, match="an export is writing it"):
        await catalog.adopt(image)
