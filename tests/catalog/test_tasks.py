"""What every catalog promises of tasks: each is worked on by one, and ends once."""

import asyncio
import time
from typing import Any
from uuid import uuid4

import pytest

from tidegate.catalog.base import TaskQuery, Viewer
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import BadTransition, Invalid, NotFound
from tidegate.domain.task import TASK_TRANSITIONS, Task, TaskEvent, TaskStatus, TaskType

ADMIN = Viewer(admin=True)
KEEP = 3600.0
ALL = tuple(TaskType)


def task(**fields: Any) -> Task:
    return Task(**{"id": str(uuid4()), "type": TaskType.IMPORT, **fields})


async def taken(catalog: SqlCatalog, *, lease: float = 60, **fields: Any) -> Task:
    made = await catalog.create_task(task(**fields))
    (found,) = await catalog.take_tasks("node", ALL, lease=lease, limit=10)
    assert found.id == made.id
    return found


async def ended(catalog: SqlCatalog, event: TaskEvent, **fields: Any) -> Task:
    return await catalog.end_task(await taken(catalog, **fields), event, keep=KEEP)


async def in_status(catalog: SqlCatalog, status: TaskStatus) -> Task:
    match status:
        case TaskStatus.PENDING:
            return await catalog.create_task(task())
        case TaskStatus.PROCESSING:
            return await taken(catalog)
        case TaskStatus.SUCCESS:
            return await ended(catalog, TaskEvent.SUCCEED)
        case TaskStatus.FAILURE:
            return await ended(catalog, TaskEvent.FAIL)


async def listed(catalog: SqlCatalog, **query: Any) -> list[str]:
    found = await catalog.list_tasks(TaskQuery(**{"viewer": ADMIN, **query}))
    return [one.id for one in found]


async def test_what_was_made_is_pending_and_read_as_it_was(catalog: SqlCatalog) -> None:
    made = await catalog.create_task(
        task(owner="p1", user_id="u1", roles=frozenset({"member"}), input={"a": [1]},
             image_id=str(uuid4()), request_id="req-1")
    )  # fmt: skip
    assert made.status is TaskStatus.PENDING
    assert made.created_at == made.updated_at > 0
    assert (made.message, made.result, made.expires_at) == ("", None, None)
    assert await catalog.get_task(made.id, ADMIN) == made


async def test_a_task_that_is_taken_is_processing_and_held_by_one(
    catalog: SqlCatalog, other: SqlCatalog
) -> None:
    for _ in range(9):
        await catalog.create_task(task())
    halves = await asyncio.gather(
        *(one.take_tasks("node", ALL, lease=60, limit=5) for one in (catalog, other))
    )
    found = [one for half in halves for one in half]
    assert len({one.id for one in found}) == len(found) == 9
    assert {one.status for one in found} == {TaskStatus.PROCESSING}
    assert await catalog.take_tasks("node", ALL, lease=60, limit=5) == []


async def test_the_oldest_is_taken_first(catalog: SqlCatalog) -> None:
    made = [await catalog.create_task(task()) for _ in range(3)]
    found = await catalog.take_tasks("node", ALL, lease=60, limit=2)
    assert [one.id for one in found] == [one.id for one in made[:2]]


async def test_a_dead_ones_task_is_taken_over_and_its_former_holder_changes_nothing(
    catalog: SqlCatalog, other: SqlCatalog
) -> None:
    former = await taken(catalog, lease=-1)
    (holder,) = await other.take_tasks("other", ALL, lease=60, limit=1)
    assert holder.fence == former.fence + 1
    for forbidden in (
        catalog.renew_task(former, lease=60),
        catalog.put_task_back(former),
        catalog.end_task(former, TaskEvent.FAIL, keep=KEEP),
        catalog.end_task(former, TaskEvent.SUCCEED, keep=KEEP),
    ):
        with pytest.raises(BadTransition):
            await forbidden
    assert await catalog.get_task(former.id, ADMIN) == holder
    await other.end_task(holder, TaskEvent.SUCCEED, keep=KEEP)


async def test_only_tasks_of_a_kind_that_can_be_done_are_taken(catalog: SqlCatalog) -> None:
    await catalog.create_task(task(type=TaskType.LOCATION_IMPORT))
    made = await catalog.create_task(task(type=TaskType.IMPORT))
    found = await catalog.take_tasks("node", [TaskType.IMPORT], lease=60, limit=10)
    assert [one.id for one in found] == [made.id]


async def test_ones_own_are_left_although_their_lease_ran_out(catalog: SqlCatalog) -> None:
    held = await taken(catalog, lease=-1)
    assert await catalog.take_tasks("node", ALL, lease=60, limit=1, mine=[held.id]) == []


async def test_a_renewed_lease_is_kept_and_what_is_said_is_read(
    catalog: SqlCatalog, other: SqlCatalog
) -> None:
    held, image_id = await taken(catalog, lease=-1), str(uuid4())
    await catalog.renew_task(held, lease=60, message="Copied 1 MiB", image_id=image_id)
    await catalog.renew_task(held, lease=60)
    assert await other.take_tasks("other", ALL, lease=60, limit=1) == []
    found = await catalog.get_task(held.id, ADMIN)
    assert (found.message, found.image_id) == ("Copied 1 MiB", image_id)


async def test_what_is_put_back_stays_processing_and_is_anybodys(
    catalog: SqlCatalog, other: SqlCatalog
) -> None:
    held = await taken(catalog)
    await catalog.put_task_back(held)
    assert (await catalog.get_task(held.id, ADMIN)).status is TaskStatus.PROCESSING
    (found,) = await other.take_tasks("other", ALL, lease=60, limit=1)
    await other.put_task_back(found, retry_in=60)
    assert await catalog.take_tasks("node", ALL, lease=60, limit=1) == []


@pytest.mark.parametrize("status", TaskStatus)
@pytest.mark.parametrize("event", TaskEvent)
async def test_the_table_of_transitions_is_what_happens(
    catalog: SqlCatalog, status: TaskStatus, event: TaskEvent
) -> None:
    before = await in_status(catalog, status)
    if event is TaskEvent.START:
        await catalog.take_tasks("node", ALL, lease=60, limit=1)
    else:
        try:
            await catalog.end_task(before, event, keep=KEEP)
        except BadTransition:
            assert status not in TASK_TRANSITIONS[event][0]
    found = await catalog.get_task(before.id, ADMIN)
    sources, target = TASK_TRANSITIONS[event]
    assert found.status is (target if status in sources else status)


async def test_the_end_is_said_once_and_may_be_said_again(catalog: SqlCatalog) -> None:
    held = await taken(catalog)
    first = await catalog.end_task(held, TaskEvent.SUCCEED, keep=KEEP, result={"image_id": "i"})
    assert (first.status, first.result) == (TaskStatus.SUCCESS, {"image_id": "i"})
    assert first.expires_at is not None
    assert abs(first.expires_at - first.updated_at - KEEP * 1e6) < 1e6
    assert await catalog.end_task(held, TaskEvent.SUCCEED, keep=KEEP) == first
    with pytest.raises(BadTransition):
        await catalog.end_task(held, TaskEvent.FAIL, keep=KEEP)


async def test_an_expired_task_is_found_nowhere_and_goes(catalog: SqlCatalog) -> None:
    kept = await ended(catalog, TaskEvent.FAIL)
    gone = await catalog.end_task(await taken(catalog), TaskEvent.FAIL, keep=-1)
    assert await listed(catalog) == [kept.id]
    with pytest.raises(NotFound):
        await catalog.get_task(gone.id, ADMIN)
    assert await catalog.purge_tasks() == 1
    assert await catalog.purge_tasks() == 0
    assert await listed(catalog) == [kept.id]


async def test_a_project_sees_its_own_tasks_alone(catalog: SqlCatalog) -> None:
    mine = await catalog.create_task(task(owner="p1"))
    for owner in ("p2", None):
        await catalog.create_task(task(owner=owner))
    assert await listed(catalog, viewer=Viewer(project="p1")) == [mine.id]
    assert await listed(catalog, viewer=Viewer()) == []
    assert len(await listed(catalog)) == 3
    with pytest.raises(NotFound):
        await catalog.get_task(mine.id, Viewer(project="p2"))


async def test_filters(catalog: SqlCatalog) -> None:
    made = await catalog.create_task(task(owner="p1"))
    await catalog.create_task(task(owner="p2", type=TaskType.COPY_FROM))
    shown = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(made.created_at // 1_000_000))
    assert await listed(catalog, equal={"owner": "p1"}) == [made.id]
    assert await listed(catalog, equal={"type": "import", "status": "pending"}) == [made.id]
    assert await listed(catalog, equal={"status": "success"}) == []
    assert made.id in await listed(catalog, equal={"created_at": shown})
    assert await listed(catalog, equal={"created_at": "2020-01-01T00:00:00Z"}) == []
    assert await listed(catalog, equal={"created_at": "yesterday"}) == []


@pytest.mark.parametrize("sort", ["created_at", "owner", "status", "expires_at", "id"])
@pytest.mark.parametrize("descending", [True, False])
async def test_pages_join_to_the_whole(catalog: SqlCatalog, sort: str, descending: bool) -> None:
    for number in range(5):
        await catalog.create_task(task(owner=f"p{number % 2}" if number else None))
    order: dict[str, Any] = {"sort": sort, "descending": descending}
    whole = await listed(catalog, **order)
    found: list[str] = []
    while page := await listed(catalog, limit=2, marker=found[-1] if found else None, **order):
        found += page
    assert found == whole
    assert len(found) == 5


async def test_a_marker_must_be_seen(catalog: SqlCatalog) -> None:
    hidden = await catalog.create_task(task(owner="p1"))
    for marker in (hidden.id, str(uuid4())):
        with pytest.raises(Invalid):
            await listed(catalog, viewer=Viewer(project="p2"), marker=marker)
