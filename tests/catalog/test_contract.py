"""What every catalog promises."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, or_, select

from tidegate.catalog import tables
from tidegate.catalog.base import (
    AddLocation,
    Condition,
    DescribeLocation,
    ImageChange,
    ImageQuery,
    RemoveLocation,
    TaskQuery,
    Viewer,
)
from tidegate.catalog.rows import copies
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import (
    BadTransition,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TooLarge,
)
from tidegate.domain.image import Image, Location, Visibility
from tidegate.domain.status import GONE, TRANSITIONS, Event, Status
from tidegate.domain.task import Task, TaskType
from tidegate.domain.upload import Failure, Sent, Upload, UploadState

ADMIN = Viewer(admin=True)
SENT = Sent(5, {"md5": "0" * 32, "sha256": "1" * 64, "sha512": "2" * 128}, 2**64 - 1, 2, 7)
BROKEN = Failure("client_gone", "reading", "The client went.", "req-1")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'catalog.db'}"


@pytest.fixture
async def catalog(url: str) -> AsyncIterator[SqlCatalog]:
    catalog = SqlCatalog(url)
    await catalog.open()
    yield catalog
    await catalog.close()
    assert _stale_copies(url) == []  # whatever a test did


def _stale_copies(url: str) -> list[str]:
    """Images whose row does not tell what the tables of properties, tags and locations hold."""
    engine = create_engine(url)
    i = tables.images.c
    differs = or_(*(i[name].is_distinct_from(value) for name, value in copies().items()))
    with engine.connect() as connection:
        found = list(connection.scalars(select(i.id).where(differs)))
    engine.dispose()
    return found


@pytest.fixture
async def other(url: str, catalog: SqlCatalog) -> AsyncIterator[SqlCatalog]:
    """Another worker's, on the same database."""
    catalog = SqlCatalog(url)
    await catalog.open()
    yield catalog
    await catalog.close()


def image(**fields: object) -> Image:
    given: dict[str, object] = {
        "id": str(uuid4()),
        "disk_format": "raw",
        "container_format": "bare",
        **fields,
    }
    return Image(**given)


def attempt_at(image_id: str) -> Upload:
    attempt = uuid4().hex
    return Upload(id=attempt, image_id=image_id, store="main", key=f"{image_id}/{attempt}")


async def saving(catalog: SqlCatalog, *, lease: float = 60, **fields: Any) -> Upload:
    upload = attempt_at((await catalog.create_image(image(**fields))).id)
    await catalog.start_upload(upload, lease=lease)
    return upload


async def uploaded(catalog: SqlCatalog) -> Image:
    upload = await saving(catalog)
    return await catalog.publish_upload(upload.id, SENT)


async def in_status(catalog: SqlCatalog, status: Status) -> Image:
    """An image that came to this status by legal steps."""
    match status:
        case Status.QUEUED:
            return await catalog.create_image(image())
        case Status.SAVING:
            upload = await saving(catalog)
            return await catalog.get_image(upload.image_id, ADMIN)
        case Status.ACTIVE:
            return await uploaded(catalog)
        case Status.KILLED:
            upload = await saving(catalog)
            await catalog.fail_upload(upload.id, BROKEN, Event.BREAK, leftovers=[])
            return await catalog.get_image(upload.image_id, ADMIN)
        case Status.DEACTIVATED:
            return await catalog.advance((await uploaded(catalog)).id, Event.DEACTIVATE)
        case Status.UPLOADING:
            return await catalog.advance((await catalog.create_image(image())).id, Event.STAGE)
        case Status.IMPORTING:
            return await catalog.advance((await catalog.create_image(image())).id, Event.IMPORT)
        case Status.PENDING_DELETE:
            found = await uploaded(catalog)
            await catalog.delete_image(found.id, delayed=True)
            return found._replace(status=status)
        case Status.DELETED:
            found = await uploaded(catalog)
            await catalog.delete_image(found.id)
            return found


# images


async def test_an_image_is_read_as_it_was_created(catalog: SqlCatalog) -> None:
    new = image(
        name="näme",
        owner="p",
        visibility=Visibility.PRIVATE,
        protected=True,
        hidden=True,
        min_disk=3,
        min_ram=4,
        properties={"b": "2", "a": None},
        tags=("y", "x", "x"),
        crc64nvme=2**64 - 1,
    )
    created = await catalog.create_image(new)
    found = await catalog.get_image(new.id, ADMIN)
    assert found == created
    assert found.tags == ("x", "y")
    assert found.properties == {"b": "2", "a": None}
    assert found.crc64nvme == 2**64 - 1
    assert (found.name, found.owner, found.protected, found.hidden) == ("näme", "p", True, True)
    assert found.created_at == found.updated_at > 0


async def test_an_id_is_used_once_even_after_deletion(catalog: SqlCatalog) -> None:
    first = await catalog.create_image(image())
    with pytest.raises(Conflict):
        await catalog.create_image(image(id=first.id))
    await catalog.delete_image(first.id)
    with pytest.raises(Conflict):
        await catalog.create_image(image(id=first.id))


@pytest.mark.parametrize("text", ["", "no-such-id", "x" * 5000, "\x00", "'; drop table images; --"])
async def test_what_is_no_id_is_not_found(catalog: SqlCatalog, text: str) -> None:
    with pytest.raises(NotFound):
        await catalog.get_image(text, ADMIN)


@pytest.mark.parametrize(
    ("visibility", "seen"),
    [
        (Visibility.PUBLIC, True),
        (Visibility.COMMUNITY, True),
        (Visibility.SHARED, False),
        (Visibility.PRIVATE, False),
    ],
)
async def test_another_projects_image_is_seen_by_its_visibility(
    catalog: SqlCatalog, visibility: Visibility, seen: bool
) -> None:
    found = await catalog.create_image(image(owner="p1", visibility=visibility))
    stranger = Viewer(project="p2")
    if seen:
        assert (await catalog.get_image(found.id, stranger)).id == found.id
    else:
        with pytest.raises(NotFound):
            await catalog.get_image(found.id, stranger)
    assert (await catalog.get_image(found.id, Viewer(project="p1"))).id == found.id


async def test_a_change_touches_what_it_names_alone(catalog: SqlCatalog) -> None:
    before = await catalog.create_image(
        image(name="a", properties={"k": "1", "l": "2"}, tags=("t",))
    )
    change = ImageChange(fields={"min_disk": 7}, put={"k": "3"}, drop=frozenset({"l"}))
    after, removals = await catalog.change_image(before.id, change)
    assert (after.name, after.min_disk, after.properties, after.tags) == (
        "a",
        7,
        {"k": "3"},
        ("t",),
    )
    assert after.updated_at > before.updated_at
    assert removals == []


async def test_a_change_is_all_or_nothing(catalog: SqlCatalog) -> None:
    before = await catalog.create_image(image(name="a"))
    change = ImageChange(
        fields={"name": "b"}, put={"k": "1"}, tags=("t",), locations=[RemoveLocation(0)]
    )
    with pytest.raises(BadTransition):
        await catalog.change_image(before.id, change)
    assert await catalog.get_image(before.id, ADMIN) == before


async def test_a_change_holds_in_the_named_statuses_alone(catalog: SqlCatalog) -> None:
    found = await uploaded(catalog)
    change = ImageChange(fields={"disk_format": "iso"}, only_in=frozenset({Status.QUEUED}))
    with pytest.raises(BadTransition):
        await catalog.change_image(found.id, change)


async def test_properties_are_limited_when_new_names_come(catalog: SqlCatalog) -> None:
    found = await catalog.create_image(image(properties={"a": "1", "b": "2", "os_glance_x": "3"}))
    with pytest.raises(TooLarge):
        await catalog.change_image(found.id, ImageChange(put={"c": "3"}, max_properties=2))
    await catalog.change_image(found.id, ImageChange(put={"b": "3"}, max_properties=1))
    await catalog.change_image(
        found.id, ImageChange(put={"c": "3"}, drop=frozenset({"a"}), max_properties=2)
    )


async def test_tags_are_added_once_and_limited(catalog: SqlCatalog) -> None:
    found = await catalog.create_image(image(tags=("a",)))
    await catalog.set_tag(found.id, "b", limit=2)
    await catalog.set_tag(found.id, "b", limit=2)
    with pytest.raises(TooLarge):
        await catalog.set_tag(found.id, "c", limit=2)
    await catalog.drop_tag(found.id, "a")
    with pytest.raises(NotFound):
        await catalog.drop_tag(found.id, "a")
    assert (await catalog.get_image(found.id, ADMIN)).tags == ("b",)


async def test_a_protected_image_is_not_deleted(catalog: SqlCatalog) -> None:
    found = await catalog.create_image(image(protected=True))
    with pytest.raises(Forbidden):
        await catalog.delete_image(found.id)
    assert (await catalog.get_image(found.id, ADMIN)).status is Status.QUEUED


async def test_who_may_not_refill_adds_no_location_to_what_was_emptied_meanwhile(
    catalog: SqlCatalog,
) -> None:
    found = await uploaded(catalog)
    await catalog.change_image(found.id, ImageChange(locations=[RemoveLocation(-1)]))
    added = AddLocation(location=Location("http", "http://x/", own=False), refill=False)
    with pytest.raises(Conflict):
        await catalog.change_image(found.id, ImageChange(locations=[added]))
    again = replace(added, refill=True)
    image_now, _ = await catalog.change_image(found.id, ImageChange(locations=[again]))
    assert image_now.status is Status.ACTIVE


async def test_a_change_is_made_with_the_claim_or_not_at_all(catalog: SqlCatalog) -> None:
    bare = image(disk_format=None, container_format=None, name="before")
    found = await catalog.create_image(bare)
    formats = {"disk_format": "raw", "container_format": "bare"}
    change = ImageChange(fields={"name": "after", **formats}, put={"a": "1"})
    claimed = await catalog.start_upload(attempt_at(found.id), lease=60, change=change)
    assert (claimed.status, claimed.name, claimed.disk_format) == (Status.SAVING, "after", "raw")
    late = ImageChange(fields={"name": "late"}, put={"a": "2"}, only_in=frozenset({Status.SAVING}))
    with pytest.raises(BadTransition):
        await catalog.start_upload(attempt_at(found.id), lease=60, change=late)
    image_now = await catalog.get_image(found.id, ADMIN)
    assert (image_now.name, image_now.properties) == ("after", {"a": "1"})
    assert len(await catalog.uploads_of(found.id)) == 1


async def test_a_claim_that_its_change_forbids_claims_nothing(catalog: SqlCatalog) -> None:
    found = await catalog.create_image(image(properties={"a": "1"}))
    change = ImageChange(put={"b": "2"}, max_properties=1)
    with pytest.raises(TooLarge):
        await catalog.start_upload(attempt_at(found.id), lease=60, change=change)
    assert (await catalog.get_image(found.id, ADMIN)).status is Status.QUEUED
    assert await catalog.uploads_of(found.id) == []


async def test_an_image_and_the_task_that_fills_it_are_written_as_one(catalog: SqlCatalog) -> None:
    taken = await catalog.create_image(image())
    task = Task(id=str(uuid4()), type=TaskType.COPY_FROM, image_id=taken.id)
    with pytest.raises(Conflict):
        await catalog.create_image(image(id=taken.id), task=task)
    only_active = ImageChange(only_in=frozenset({Status.ACTIVE}))
    with pytest.raises(BadTransition):
        await catalog.change_image(taken.id, only_active, task=task)
    assert await catalog.list_tasks(TaskQuery(viewer=ADMIN)) == []
    await catalog.change_image(taken.id, ImageChange(fields={"name": "x"}), task=task)
    assert (await catalog.get_image(taken.id, ADMIN)).name == "x"
    other = image()
    again = replace(task, id=str(uuid4()), image_id=other.id)
    await catalog.create_image(other, task=again)
    found = await catalog.list_tasks(TaskQuery(viewer=ADMIN))
    assert {one.image_id for one in found} == {taken.id, other.id}


async def test_what_is_deleted_is_found_by_no_call(catalog: SqlCatalog) -> None:
    found = await uploaded(catalog)
    await catalog.delete_image(found.id)
    for call in (
        catalog.get_image(found.id, ADMIN),
        catalog.change_image(found.id, ImageChange(fields={"name": "x"})),
        catalog.set_tag(found.id, "x", limit=-1),
        catalog.drop_tag(found.id, "x"),
        catalog.delete_image(found.id),
        catalog.advance(found.id, Event.DEACTIVATE),
        catalog.start_upload(attempt_at(found.id), lease=60),
    ):
        with pytest.raises(NotFound):
            await call
    assert await catalog.list_images(ImageQuery(viewer=ADMIN, visibility="all")) == []


async def test_bytes_of_a_deleted_image_are_written_down_for_removal(catalog: SqlCatalog) -> None:
    found = await uploaded(catalog)
    (removal,) = await catalog.delete_image(found.id)
    assert (removal.store, removal.key) == (found.locations[0].store, found.locations[0].key)
    assert [due.id for due in await catalog.due_removals(lease=60)] == [removal.id]


async def test_bytes_that_another_image_uses_are_not_removed(catalog: SqlCatalog) -> None:
    found = await uploaded(catalog)
    await catalog.create_image(image(status=Status.ACTIVE, size=5, locations=found.locations))
    assert await catalog.delete_image(found.id) == []


async def test_bytes_that_are_not_ours_are_not_removed(catalog: SqlCatalog) -> None:
    remote = Location("http", "https://a.example/x", own=False)
    found = await catalog.create_image(image(status=Status.ACTIVE, locations=(remote,)))
    assert await catalog.delete_image(found.id) == []


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize(
    "event", [Event.DEACTIVATE, Event.REACTIVATE, Event.STAGE, Event.UNSTAGE, Event.REFUSE]
)
async def test_an_event_is_applied_from_its_sources_alone(
    catalog: SqlCatalog, status: Status, event: Event
) -> None:
    found = await in_status(catalog, status)
    row = TRANSITIONS[event]
    if status in row.sources:
        assert (await catalog.advance(found.id, event)).status is row.target
    else:
        with pytest.raises((BadTransition, NotFound)):
            await catalog.advance(found.id, event)


# locations


def adding(url: str = "https://a.example/x", **more: object) -> ImageChange:
    step = AddLocation(location=Location("http", url, own=False), **more)
    return ImageChange(locations=[step])


async def test_the_first_location_makes_a_queued_image_active(catalog: SqlCatalog) -> None:
    found = await catalog.create_image(image())
    learnt = {"size": 7, "checksum": "a" * 32}
    after, _ = await catalog.change_image(found.id, adding(learnt=learnt))
    assert (after.status, after.size, after.checksum) == (Status.ACTIVE, 7, "a" * 32)
    assert after.was_active


async def test_a_location_needs_the_formats(catalog: SqlCatalog) -> None:
    found = await catalog.create_image(image(disk_format=None))
    with pytest.raises(Invalid):
        await catalog.change_image(found.id, adding())
    assert (await catalog.get_image(found.id, ADMIN)).locations == ()


@pytest.mark.parametrize("learnt", [{"size": 9}, {"checksum": "b" * 32}])
async def test_what_is_known_is_not_overwritten_by_a_location(
    catalog: SqlCatalog, learnt: dict[str, object]
) -> None:
    found = await uploaded(catalog)
    with pytest.raises(Conflict):
        await catalog.change_image(found.id, adding(learnt=learnt))
    same = {"size": found.size, "checksum": found.checksum}
    after, _ = await catalog.change_image(found.id, adding(learnt=same))
    assert (after.size, after.checksum) == (found.size, found.checksum)
    assert len(after.locations) == 2


async def test_locations_keep_their_order(catalog: SqlCatalog) -> None:
    found = await catalog.create_image(image())
    await catalog.change_image(found.id, adding("https://a.example/2"))
    await catalog.change_image(found.id, adding("https://a.example/1", position=0))
    after, _ = await catalog.change_image(found.id, adding("https://a.example/3", position=99))
    assert [place.key[-1] for place in after.locations] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("position", "expected"), [(0, "4235"), (1, "2435"), (2, "2345"), (3, "2354"), (None, "2354")]
)
async def test_where_one_was_removed_the_places_of_the_others_are_counted_anew(
    catalog: SqlCatalog, position: int | None, expected: str
) -> None:
    found = await catalog.create_image(image())
    for number in "1235":
        await catalog.change_image(found.id, adding(f"https://a.example/{number}"))
    new = Location("http", "https://a.example/4", own=False)
    steps = [RemoveLocation(0), AddLocation(location=new, position=position)]
    after, _ = await catalog.change_image(found.id, ImageChange(locations=steps))
    assert "".join(place.key[-1] for place in after.locations) == expected


async def test_a_location_is_there_once_and_their_number_is_limited(catalog: SqlCatalog) -> None:
    found = await catalog.create_image(image())
    await catalog.change_image(found.id, adding())
    with pytest.raises(Invalid):
        await catalog.change_image(found.id, adding())
    with pytest.raises(TooLarge):
        await catalog.change_image(found.id, adding("https://a.example/2", limit=1))


async def test_removing_the_last_location_empties_the_image(catalog: SqlCatalog) -> None:
    found = await uploaded(catalog)
    after, removals = await catalog.change_image(
        found.id, ImageChange(locations=[RemoveLocation(-1)])
    )
    assert (after.status, after.size, after.checksum, after.hash_value, after.crc64nvme) == (
        Status.QUEUED, None, None, None, None,
    )  # fmt: skip
    assert after.was_active
    assert [removal.key for removal in removals] == [found.locations[0].key]


async def test_the_last_location_of_a_protected_image_stays(catalog: SqlCatalog) -> None:
    found = await uploaded(catalog)
    await catalog.change_image(found.id, ImageChange(fields={"protected": True}))
    with pytest.raises(Forbidden):
        await catalog.change_image(found.id, ImageChange(locations=[RemoveLocation(0)]))


async def test_a_location_can_be_described_anew(catalog: SqlCatalog) -> None:
    found = await uploaded(catalog)
    place = found.locations[0]
    step = DescribeLocation(place.store, place.key, {"a": [1]})
    after, _ = await catalog.change_image(found.id, ImageChange(locations=[step]))
    assert after.locations[0].metadata == {"a": [1]}


# uploads


async def test_of_many_uploads_to_one_image_one_begins(
    catalog: SqlCatalog, other: SqlCatalog
) -> None:
    found = await catalog.create_image(image())
    tries = [which.start_upload(attempt_at(found.id), lease=60) for which in (catalog, other) * 5]
    answers = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(answer, Image) for answer in answers) == 1
    assert sum(isinstance(answer, BadTransition) for answer in answers) == 9


async def test_an_upload_needs_the_formats(catalog: SqlCatalog) -> None:
    found = await catalog.create_image(image(container_format=None))
    with pytest.raises(Invalid):
        await catalog.start_upload(attempt_at(found.id), lease=60)


async def test_publishing_writes_what_was_measured(catalog: SqlCatalog) -> None:
    upload = await saving(catalog)
    await catalog.upload_began(upload.id, "u-1")
    await catalog.renew_upload(upload.id, 3, lease=60)
    await catalog.upload_completing(upload.id, SENT)
    found = await catalog.publish_upload(upload.id, SENT)
    assert (found.status, found.size, found.checksum) == (Status.ACTIVE, 5, "0" * 32)
    assert (found.hash_algo, found.hash_value) == ("sha512", "2" * 128)
    assert (found.crc64nvme, found.virtual_size) == (2**64 - 1, 7)
    assert found.locations == (Location("main", upload.key),)
    (record,) = await catalog.uploads_of(found.id)
    assert (record.state, record.upload_id, record.sent) == (UploadState.DONE, "u-1", SENT)
    assert record.ended_at is not None


async def test_an_unknown_virtual_size_leaves_what_was_announced(catalog: SqlCatalog) -> None:
    upload = await saving(catalog, virtual_size=9)
    found = await catalog.publish_upload(upload.id, replace(SENT, virtual_size=None))
    assert found.virtual_size == 9


async def test_publishing_may_be_repeated(catalog: SqlCatalog) -> None:
    upload = await saving(catalog)
    first = await catalog.publish_upload(upload.id, SENT)
    assert await catalog.publish_upload(upload.id, SENT) == first


async def test_progress_is_recorded(catalog: SqlCatalog) -> None:
    upload = await saving(catalog)
    await catalog.renew_upload(upload.id, 123, lease=60)
    (record,) = await catalog.uploads_of(upload.image_id)
    assert (record.received, record.state) == (123, UploadState.STARTED)


@pytest.mark.parametrize(
    ("event", "status"), [(Event.BREAK, Status.KILLED), (Event.RELEASE, Status.QUEUED)]
)
async def test_a_failure_is_recorded_and_the_image_ends(
    catalog: SqlCatalog, event: Event, status: Status
) -> None:
    upload = await saving(catalog)
    removals = await catalog.fail_upload(upload.id, BROKEN, event, leftovers=["u-1", None])
    assert [(removal.key, removal.upload_id) for removal in removals] == [
        (upload.key, "u-1"),
        (upload.key, None),
    ]
    assert (await catalog.get_image(upload.image_id, ADMIN)).status is status
    (record,) = await catalog.uploads_of(upload.image_id)
    assert (record.state, record.failure) == (UploadState.FAILED, BROKEN)
    assert await catalog.fail_upload(upload.id, BROKEN, event, leftovers=["u-1"]) == []


async def test_an_upload_whose_image_is_deleted_notices(catalog: SqlCatalog) -> None:
    upload = await saving(catalog)
    await catalog.delete_image(upload.image_id)
    for call in (
        catalog.renew_upload(upload.id, 1, lease=60),
        catalog.upload_began(upload.id, "u"),
        catalog.upload_completing(upload.id, SENT),
        catalog.publish_upload(upload.id, SENT),
    ):
        with pytest.raises(BadTransition) as caught:
            await call
        assert caught.value.status == Status.DELETED


async def test_a_failed_attempt_does_not_touch_the_next_one(catalog: SqlCatalog) -> None:
    first = await saving(catalog)
    await catalog.fail_upload(first.id, BROKEN, Event.RELEASE, leftovers=[])
    second = attempt_at(first.image_id)
    await catalog.start_upload(second, lease=60)
    with pytest.raises(BadTransition):
        await catalog.publish_upload(first.id, SENT)
    await catalog.fail_upload(first.id, BROKEN, Event.BREAK, leftovers=[])
    assert (await catalog.get_image(first.image_id, ADMIN)).claim == second.id


async def test_a_live_lease_is_not_taken_over(catalog: SqlCatalog, other: SqlCatalog) -> None:
    await saving(catalog)
    assert await other.take_over_expired("node", lease=60) == []


async def test_an_expired_lease_is_taken_over_by_one(
    catalog: SqlCatalog, other: SqlCatalog
) -> None:
    upload = await saving(catalog, lease=-1)
    (taken,) = await other.take_over_expired("node", lease=60)
    assert (taken.id, taken.node) == (upload.id, "node")
    assert await other.take_over_expired("node", lease=60) == []


async def test_who_was_given_up_can_change_nothing_more(
    catalog: SqlCatalog, other: SqlCatalog
) -> None:
    upload = await saving(catalog, lease=-1)
    await other.take_over_expired("node", lease=60)
    for call in (
        catalog.renew_upload(upload.id, 1, lease=60),
        catalog.upload_completing(upload.id, SENT),
        catalog.publish_upload(upload.id, SENT),
    ):
        with pytest.raises(BadTransition):
            await call
    with pytest.raises(BadTransition):
        await catalog.fail_upload(upload.id, BROKEN, Event.BREAK, leftovers=[None])
    assert await catalog.due_removals(lease=60) == []
    assert (await catalog.get_image(upload.image_id, ADMIN)).status is Status.SAVING
    await other.publish_upload(upload.id, SENT)
    assert (await catalog.get_image(upload.image_id, ADMIN)).status is Status.ACTIVE


async def test_ones_own_running_attempt_is_not_taken_over(catalog: SqlCatalog) -> None:
    upload = await saving(catalog, lease=-1)
    assert await catalog.take_over_expired("node", lease=60) == []
    catalog.let_go(upload.id)
    assert [taken.id for taken in await catalog.take_over_expired("node", lease=60)] == [upload.id]


async def test_attempts_are_found_by_their_ids(catalog: SqlCatalog) -> None:
    first = await saving(catalog)
    found = await catalog.open_uploads([first.id, "0" * 32])
    assert list(found) == [first.id]


# removals


async def test_a_removal_is_reserved_for_one(catalog: SqlCatalog, other: SqlCatalog) -> None:
    found = await uploaded(catalog)
    await catalog.delete_image(found.id)
    (removal,) = await catalog.due_removals(lease=60)
    assert await other.due_removals(lease=60) == []
    await catalog.removal_done(removal.id)
    assert await catalog.due_removals(lease=-1) == []


async def test_a_removal_that_failed_comes_again_later(catalog: SqlCatalog) -> None:
    found = await uploaded(catalog)
    (removal,) = await catalog.delete_image(found.id)
    await catalog.removal_failed(removal.id, "refused", retry_in=60)
    assert await catalog.due_removals(lease=60) == []
    await catalog.removal_failed(removal.id, "refused", retry_in=-1)
    assert [due.attempts for due in await catalog.due_removals(lease=60)] == [2]


# lists


async def listed(catalog: SqlCatalog, **query: object) -> list[str | None]:
    given: dict[str, object] = {"viewer": ADMIN, **query}
    return [found.name for found in await catalog.list_images(ImageQuery(**given))]


async def test_a_list_begins_with_the_newest(catalog: SqlCatalog) -> None:
    for name in "abc":
        await catalog.create_image(image(name=name))
    assert await listed(catalog) == ["c", "b", "a"]


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("column", ["name", "size", "created_at", "id", "status", "disk_format"])
async def test_pages_join_to_the_whole_list(
    catalog: SqlCatalog, column: str, descending: bool
) -> None:
    for number in range(7):
        name = None if number % 3 == 0 else f"n{number % 2}"
        await catalog.create_image(image(name=name, size=None if number % 2 else number))
    sort = [(column, descending)]
    whole = await catalog.list_images(ImageQuery(viewer=ADMIN, sort=sort))
    found: list[Image] = []
    while page := await catalog.list_images(
        ImageQuery(viewer=ADMIN, sort=sort, limit=2, marker=found[-1].id if found else None)
    ):
        found += page
    assert [one.id for one in found] == [one.id for one in whole]
    assert len(found) == 7


async def test_a_marker_must_be_seen(catalog: SqlCatalog) -> None:
    hidden = await catalog.create_image(image(owner="p1", visibility=Visibility.PRIVATE))
    for marker in (hidden.id, str(uuid4())):
        with pytest.raises(Invalid):
            await catalog.list_images(ImageQuery(viewer=Viewer(project="p2"), marker=marker))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (Condition(column="name", op="eq", value="a"), ["a"]),
        (Condition(column="name", op="ne", value="a"), ["c", "b"]),
        (Condition(column="name", op="in", value=["a", "c"]), ["c", "a"]),
        (Condition(column="min_disk", op="ge", value=2), ["c", "b"]),
        (Condition(column="min_disk", op="le", value=1), ["a"]),
        (Condition(column="min_disk", op="within", value=(1, 3)), ["b", "a"]),
        (Condition(column="min_disk", op="outside", value=(1, 3)), ["c"]),
        (Condition(column="property:k", op="eq", value="b"), ["b"]),
        (Condition(column="property:missing", op="eq", value="b"), []),
        (Condition(column="tag", op="eq", value="t-c"), ["c"]),
        (Condition(column="size", op="ge", value=0), []),
    ],
)
async def test_conditions(catalog: SqlCatalog, condition: Condition, expected: list[str]) -> None:
    for number, name in enumerate("abc", 1):
        await catalog.create_image(
            image(name=name, min_disk=number, properties={"k": name}, tags=(f"t-{name}",))
        )
    assert await listed(catalog, conditions=[condition]) == expected


async def test_hidden_images_are_listed_on_demand(catalog: SqlCatalog) -> None:
    await catalog.create_image(image(name="seen"))
    await catalog.create_image(image(name="hidden", hidden=True))
    assert await listed(catalog) == ["seen"]
    assert await listed(catalog, hidden=True) == ["hidden"]
    assert await listed(catalog, hidden=None) == ["hidden", "seen"]


async def test_who_sees_what_in_a_list(catalog: SqlCatalog) -> None:
    for owner in ("p1", "p2"):
        for visibility in Visibility:
            await catalog.create_image(
                image(name=f"{owner}-{visibility}", owner=owner, visibility=visibility)
            )
    own = {f"p1-{visibility}" for visibility in Visibility}
    viewer = Viewer(project="p1")
    assert set(await listed(catalog, viewer=viewer)) == own | {"p2-public"}
    assert set(await listed(catalog, viewer=viewer, visibility="all")) == own | {
        "p2-public",
        "p2-community",
    }
    assert set(await listed(catalog, viewer=viewer, visibility="community")) == {
        "p1-community",
        "p2-community",
    }
    assert len(await listed(catalog)) == 8


# the database


async def test_what_was_written_is_there_after_a_restart(catalog: SqlCatalog, url: str) -> None:
    found = await uploaded(catalog)
    await catalog.close()
    again = SqlCatalog(url)
    await again.open()
    assert await again.get_image(found.id, ADMIN) == found
    await again.close()


async def test_a_ping_of_a_catalog_that_is_there_is_silent(catalog: SqlCatalog) -> None:
    await catalog.ping()


# lists, as API v1 asks for them


async def names(catalog: SqlCatalog, **query: object) -> list[str]:
    return sorted(name or "" for name in await listed(catalog, **query))


async def test_an_admin_may_be_shown_what_a_user_is(catalog: SqlCatalog) -> None:
    for name, owner, visibility in (
        ("mine", "p", Visibility.PRIVATE),
        ("public", "q", Visibility.PUBLIC),
        ("theirs", "q", Visibility.PRIVATE),
        ("community", "q", Visibility.COMMUNITY),
        ("ownerless", None, Visibility.SHARED),
    ):
        await catalog.create_image(image(name=name, owner=owner, visibility=visibility))
    of_p = Viewer(project="p", admin=True)
    assert await names(catalog, viewer=of_p, as_user=True) == ["mine", "public"]
    assert await names(catalog, viewer=of_p) == ["mine", "ownerless", "public", "theirs"]
    assert await names(catalog, viewer=ADMIN, as_user=True) == ["ownerless", "public"]
    assert await names(catalog, viewer=Viewer(), as_user=True) == ["public"]


@pytest.mark.parametrize(
    ("least", "found"), [(0, ["declared", "measured", "unknown"]), (4, ["declared", "measured"]),
                         (5, ["measured"])],
)  # fmt: skip
async def test_any_size_is_the_announced_one_before_there_is_data(
    catalog: SqlCatalog, least: int, found: list[str]
) -> None:
    await catalog.create_image(image(name="unknown"))
    await catalog.create_image(image(name="declared", declared_size=4))
    filled = await uploaded(catalog)  # of 5 bytes
    await catalog.change_image(filled.id, ImageChange(fields={"name": "measured"}))
    conditions = [Condition(column="any_size", op="ge", value=least)]
    assert await names(catalog, conditions=conditions) == found


async def test_a_page_of_what_is_gone_goes_on_behind_what_is_gone(catalog: SqlCatalog) -> None:
    made = [(await catalog.create_image(image())).id for _ in range(3)]
    await catalog.delete_image(made[1])
    every = ImageQuery(viewer=ADMIN, without=frozenset(), limit=1, sort=[("created_at", False)])
    (second,) = await catalog.list_images(replace(every, marker=made[0]))
    assert (second.id, second.status) == (made[1], Status.DELETED)
    (third,) = await catalog.list_images(replace(every, marker=made[1]))
    assert third.id == made[2]
    with pytest.raises(Invalid):
        await catalog.list_images(ImageQuery(viewer=ADMIN, marker=made[1]))


@pytest.mark.parametrize("status", sorted(Status))
async def test_what_is_gone_can_be_asked_for(catalog: SqlCatalog, status: Status) -> None:
    image_id = (await in_status(catalog, status)).id
    assert (await catalog.get_image_or_gone(image_id, ADMIN)).status is status
    if status in GONE:
        with pytest.raises(NotFound):
            await catalog.get_image(image_id, ADMIN)


async def test_what_is_gone_is_still_for_some_eyes_only(catalog: SqlCatalog) -> None:
    new = image(owner="p", visibility=Visibility.PRIVATE)
    image_id = (await catalog.create_image(new)).id
    await catalog.delete_image(image_id)
    assert (await catalog.get_image_or_gone(image_id, Viewer(project="p"))).gone
    with pytest.raises(NotFound):
        await catalog.get_image_or_gone(image_id, Viewer(project="q"))
