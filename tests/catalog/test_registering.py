"""What every catalog promises of locations that a task registers: the image is one holder's."""

from typing import Any
from uuid import uuid4

import pytest

from tidegate.catalog.base import ImageChange, LeaveStore, RemoveLocation, Viewer
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import BadTransition, Conflict, Forbidden, Invalid, NotFound
from tidegate.domain.image import Image, Location
from tidegate.domain.status import Event, Status
from tidegate.domain.task import LOCK, Task, TaskEvent, TaskType

ADMIN = Viewer(admin=True)
ALL = tuple(TaskType)
WHERE = Location("http", "http://example.org/x", own=False)
DIGESTS = {"checksum": "0" * 32, "hash_algo": "sha512", "hash_value": "1" * 128}


async def queued(catalog: SqlCatalog, **fields: Any) -> str:
    given = {"disk_format": "raw", "container_format": "bare", **fields}
    return (await catalog.create_image(Image(id=str(uuid4()), **given))).id


def asked_for(image_id: str) -> Task:
    return Task(id=str(uuid4()), type=TaskType.LOCATION_IMPORT, image_id=image_id)


async def held(catalog: SqlCatalog, **fields: Any) -> Task:
    """A task in its holder's hand; the image is its own."""
    made = await catalog.ask_for_location(asked_for(await queued(catalog, **fields)))
    (found,) = await catalog.take_tasks("node", ALL, lease=60, limit=10)
    assert found.id == made.id
    return found


async def image_of(catalog: SqlCatalog, task: Task) -> Image:
    assert task.image_id is not None
    return await catalog.get_image(task.image_id, ADMIN)


async def register(catalog: SqlCatalog, task: Task, **learnt: object) -> Image:
    return await catalog.register_location(task, WHERE, {"size": 5, **learnt}, refill=False)


async def end(catalog: SqlCatalog, task: Task, event: TaskEvent) -> None:
    await catalog.end_task(task, event, keep=60)


async def test_an_image_is_one_tasks_until_that_has_ended(catalog: SqlCatalog) -> None:
    task = await held(catalog)
    image = await image_of(catalog, task)
    assert image.properties == {LOCK: task.id}
    with pytest.raises(Conflict):
        await catalog.ask_for_location(asked_for(image.id))
    await end(catalog, task, TaskEvent.FAIL)
    assert (await image_of(catalog, task)).properties == {}
    await catalog.ask_for_location(asked_for(image.id))


async def test_a_lock_of_a_task_that_nobody_knows_is_broken(catalog: SqlCatalog) -> None:
    image_id = await queued(catalog, properties={LOCK: str(uuid4())})
    asked = await catalog.ask_for_location(asked_for(image_id))
    assert (await image_of(catalog, asked)).properties == {LOCK: asked.id}


async def test_a_refused_request_leaves_no_task(catalog: SqlCatalog) -> None:
    image_id = await queued(catalog)
    await catalog.advance(image_id, Event.IMPORT)
    with pytest.raises(BadTransition):
        await catalog.ask_for_location(asked_for(image_id))
    with pytest.raises(NotFound):
        await catalog.ask_for_location(asked_for(str(uuid4())))
    assert await catalog.take_tasks("node", ALL, lease=60, limit=10) == []


@pytest.mark.parametrize("verify", [False, True])
async def test_each_step_may_be_said_again(catalog: SqlCatalog, verify: bool) -> None:
    task = await held(catalog)
    for _ in range(2):
        begun = await catalog.begin_location(task, verify=verify)
        assert begun.status is (Status.IMPORTING if verify else Status.QUEUED)
    for _ in range(2):
        image = await register(catalog, task, hash_algo="sha512")
        assert (image.status, image.size, image.was_active) == (Status.ACTIVE, 5, True)
        assert image.locations == (WHERE,)
    for _ in range(2):
        await catalog.note_digests(task, WHERE, DIGESTS)
    for _ in range(2):
        await end(catalog, task, TaskEvent.SUCCEED)
    image = await image_of(catalog, task)
    assert (image.checksum, image.hash_value) == ("0" * 32, "1" * 128)
    assert (image.status, image.properties) == (Status.ACTIVE, {})


async def test_who_was_given_up_changes_nothing_any_more(catalog: SqlCatalog) -> None:
    await catalog.ask_for_location(asked_for(await queued(catalog)))
    (stale,) = await catalog.take_tasks("dead", ALL, lease=-1, limit=1)
    (task,) = await catalog.take_tasks("node", ALL, lease=60, limit=1)
    assert task.id == stale.id
    for step in (
        catalog.begin_location(stale, verify=True),
        register(catalog, stale),
        catalog.note_digests(stale, WHERE, DIGESTS),
        end(catalog, stale, TaskEvent.FAIL),
    ):
        with pytest.raises(BadTransition):
            await step
    image = await image_of(catalog, task)
    assert (image.status, image.locations) == (Status.QUEUED, ())
    assert image.properties == {LOCK: task.id}


async def test_a_task_that_fails_while_it_verifies_leaves_the_image_queued(
    catalog: SqlCatalog,
) -> None:
    task = await held(catalog)
    await catalog.begin_location(task, verify=True)
    await end(catalog, task, TaskEvent.FAIL)
    image = await image_of(catalog, task)
    assert (image.status, image.properties) == (Status.QUEUED, {})


async def test_a_deleted_image_is_not_touched(catalog: SqlCatalog) -> None:
    task = await held(catalog)
    assert task.image_id is not None
    await catalog.begin_location(task, verify=True)
    await catalog.delete_image(task.image_id)
    with pytest.raises(BadTransition, match="deleted"):
        await register(catalog, task)
    await end(catalog, task, TaskEvent.FAIL)
    gone = await catalog.get_image_or_gone(task.image_id, ADMIN)
    assert gone.status is Status.DELETED


async def test_without_formats_it_does_not_begin(catalog: SqlCatalog) -> None:
    task = await held(catalog, disk_format=None)
    with pytest.raises(Invalid):
        await catalog.begin_location(task, verify=True)
    assert (await image_of(catalog, task)).status is Status.QUEUED


async def test_digests_are_those_of_the_location_and_replace_no_others(
    catalog: SqlCatalog,
) -> None:
    task = await held(catalog)
    await register(catalog, task)
    await catalog.note_digests(task, WHERE, DIGESTS)
    with pytest.raises(Conflict):
        await catalog.note_digests(task, WHERE, {**DIGESTS, "checksum": "f" * 32})
    with pytest.raises(BadTransition):
        await catalog.note_digests(task, Location("http", "http://other/"), DIGESTS)
    assert (await image_of(catalog, task)).checksum == "0" * 32


async def test_what_was_active_once_is_refilled_by_who_may(catalog: SqlCatalog) -> None:
    first = await held(catalog)
    await register(catalog, first)
    await end(catalog, first, TaskEvent.SUCCEED)
    assert first.image_id is not None
    emptied = ImageChange(locations=[RemoveLocation(0)])
    await catalog.change_image(first.image_id, emptied)
    await catalog.ask_for_location(asked_for(first.image_id))
    (task,) = await catalog.take_tasks("node", ALL, lease=60, limit=1)
    with pytest.raises(Conflict):
        await register(catalog, task)
    again = await catalog.register_location(task, WHERE, {"size": 5}, refill=True)
    assert again.status is Status.ACTIVE


async def test_a_store_is_left_by_all_of_its_locations_or_by_none(catalog: SqlCatalog) -> None:
    ours = [Location("main", "a"), Location("main", "b")]
    elsewhere = Location("cold", "c")
    one = Image(id=str(uuid4()), status=Status.ACTIVE, size=1, locations=(*ours, elsewhere))
    await catalog.create_image(one)
    image, removals = await catalog.change_image(
        one.id, ImageChange(locations=[LeaveStore("main")])
    )
    assert image.locations == (elsewhere,)
    assert [(removal.store, removal.key) for removal in removals] == [("main", "a"), ("main", "b")]
    assert await catalog.removals_waiting() == {"main": 2}
    two = Image(id=str(uuid4()), status=Status.ACTIVE, size=1, locations=tuple(ours))
    await catalog.create_image(two)
    with pytest.raises(Forbidden):
        await catalog.change_image(two.id, ImageChange(locations=[LeaveStore("main")]))
