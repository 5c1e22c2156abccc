"""What comes after a delete, as the catalog records it."""

import time

import pytest
from sqlalchemy import create_engine, insert, select, update
from tests.catalog.test_contract import (
    ADMIN,
    BROKEN,
    SENT,
    attempt_at,
    catalog,
    image,
    in_status,
    other,
    saving,
    uploaded,
    url,
)

from tidegate.catalog import engine, rows, tables
from tidegate.catalog.base import ImageChange, ImageQuery, RemoveLocation
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import Conflict, Forbidden, NotFound
from tidegate.domain.image import Location
from tidegate.domain.status import Event, Status

__all__ = ["catalog", "other", "url"]

DAY = 86400.0


def statuses(url: str) -> dict[str, str]:
    engine = create_engine(url)
    with engine.connect() as connection:
        found = dict(connection.execute(select(tables.images.c.id, tables.images.c.status)).all())
    engine.dispose()
    return found


async def scrubbed(catalog: SqlCatalog, *, delay: float = 0) -> list[str]:
    """Ids of the images that one look of a scrubber finished, all stores willing."""
    _, removals = await catalog.begin_scrubs(delay=delay, lease=60)
    for removal in removals:
        await catalog.removal_done(removal.id)
    return await catalog.finish_scrubs()


# the delete


@pytest.mark.parametrize("status", [Status.ACTIVE, Status.DEACTIVATED])
async def test_data_outlives_a_delayed_delete(
    catalog: SqlCatalog, url: str, status: Status
) -> None:
    found = await in_status(catalog, status)
    assert await catalog.delete_image(found.id, delayed=True) == []
    assert statuses(url) == {found.id: "pending_delete"}
    assert await catalog.due_removals(lease=60) == []


@pytest.mark.parametrize("status", [Status.QUEUED, Status.SAVING, Status.KILLED, Status.UPLOADING])
async def test_without_data_there_is_nothing_to_wait_for(
    catalog: SqlCatalog, url: str, status: Status
) -> None:
    found = await in_status(catalog, status)
    await catalog.delete_image(found.id, delayed=True)
    assert statuses(url) == {found.id: "deleted"}


async def test_an_empty_image_has_no_data(catalog: SqlCatalog, url: str) -> None:
    found = await catalog.create_image(image(status=Status.ACTIVE, size=0))
    await catalog.delete_image(found.id, delayed=True)
    assert statuses(url) == {found.id: "deleted"}


async def test_a_protected_image_is_not_deleted_later_either(catalog: SqlCatalog) -> None:
    found = await uploaded(catalog)
    await catalog.change_image(found.id, ImageChange(fields={"protected": True}))
    with pytest.raises(Forbidden):
        await catalog.delete_image(found.id, delayed=True)
    assert (await catalog.get_image(found.id, ADMIN)).status is Status.ACTIVE


async def test_no_call_finds_or_revives_an_image_that_waits(catalog: SqlCatalog) -> None:
    found = await in_status(catalog, Status.PENDING_DELETE)
    for call in (
        catalog.get_image(found.id, ADMIN),
        catalog.change_image(found.id, ImageChange(fields={"name": "x"})),
        catalog.change_image(found.id, ImageChange(locations=[RemoveLocation(0)])),
        catalog.set_tag(found.id, "x", limit=-1),
        catalog.delete_image(found.id),
        catalog.delete_image(found.id, delayed=True),
        catalog.start_upload(attempt_at(found.id), lease=60),
        *(catalog.advance(found.id, event) for event in Event if event is not Event.SCRUB),
    ):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(Conflict):
        await catalog.create_image(image(id=found.id))
    assert await catalog.list_images(ImageQuery(viewer=ADMIN, visibility="all")) == []


# the scrub


async def test_the_data_goes_when_its_time_has_come(catalog: SqlCatalog, url: str) -> None:
    found = await in_status(catalog, Status.PENDING_DELETE)
    assert await catalog.begin_scrubs(delay=60, lease=60) == (0, [])
    taken, (removal,) = await catalog.begin_scrubs(delay=0, lease=60)
    assert (taken, removal.key) == (1, found.locations[0].key)
    assert await catalog.finish_scrubs() == []
    assert statuses(url) == {found.id: "pending_delete"}
    await catalog.removal_done(removal.id)
    assert await catalog.finish_scrubs() == [found.id]
    assert statuses(url) == {found.id: "deleted"}


async def test_an_image_is_scrubbed_by_one(catalog: SqlCatalog, other: SqlCatalog) -> None:
    await in_status(catalog, Status.PENDING_DELETE)
    assert (await catalog.begin_scrubs(delay=0, lease=60))[0] == 1
    assert await other.begin_scrubs(delay=0, lease=60) == (0, [])
    assert await other.due_removals(lease=60) == []


async def test_data_that_a_live_image_uses_stays(catalog: SqlCatalog, url: str) -> None:
    found = await uploaded(catalog)
    sharing = await catalog.create_image(
        image(status=Status.ACTIVE, size=5, locations=found.locations)
    )
    await catalog.delete_image(found.id, delayed=True)
    assert await catalog.begin_scrubs(delay=0, lease=60) == (1, [])
    assert await catalog.finish_scrubs() == [found.id]
    assert await catalog.purge(after=0) == 1
    (removal,) = await catalog.delete_image(sharing.id)
    assert removal.key == found.locations[0].key


@pytest.mark.parametrize("together", [True, False])
async def test_data_that_only_deleted_images_share_goes_once(
    catalog: SqlCatalog, together: bool
) -> None:
    found = await uploaded(catalog)
    sharing = await catalog.create_image(
        image(status=Status.ACTIVE, size=5, locations=found.locations)
    )
    for one in (found, sharing):
        await catalog.delete_image(one.id, delayed=True)
    removals = []
    for _ in range(1 if together else 2):
        removals += (await catalog.begin_scrubs(delay=0, lease=60, limit=2 if together else 1))[1]
    assert [removal.key for removal in removals] == [found.locations[0].key]


async def test_a_delete_at_once_leaves_data_to_an_image_that_waits(catalog: SqlCatalog) -> None:
    found = await uploaded(catalog)
    sharing = await catalog.create_image(
        image(status=Status.ACTIVE, size=5, locations=found.locations)
    )
    await catalog.delete_image(sharing.id, delayed=True)
    assert await catalog.delete_image(found.id) == []
    assert len((await catalog.begin_scrubs(delay=0, lease=60))[1]) == 1


async def test_data_that_is_not_ours_stays(catalog: SqlCatalog) -> None:
    remote = Location("http", "https://a.example/x", own=False)
    found = await catalog.create_image(image(status=Status.ACTIVE, locations=(remote,)))
    await catalog.delete_image(found.id, delayed=True)
    assert await catalog.begin_scrubs(delay=0, lease=60) == (1, [])
    assert await catalog.finish_scrubs() == [found.id]


async def test_a_location_edit_leaves_data_that_another_image_uses(catalog: SqlCatalog) -> None:
    found = await uploaded(catalog)
    sharing = await catalog.create_image(
        image(status=Status.ACTIVE, size=5, locations=found.locations)
    )
    edit = ImageChange(locations=[RemoveLocation(0)])
    assert (await catalog.change_image(found.id, edit))[1] == []
    await catalog.delete_image(sharing.id, delayed=True)
    assert len((await catalog.begin_scrubs(delay=0, lease=60))[1]) == 1


# the clocks


@pytest.mark.parametrize("jump", [-400 * DAY, 400 * DAY])
async def test_a_step_of_the_wall_clock_changes_nothing(
    catalog: SqlCatalog, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    await in_status(catalog, Status.PENDING_DELETE)
    deleted = await in_status(catalog, Status.DELETED)
    stepped = time.time_ns() // 1000 + int(jump * 1e6)
    monkeypatch.setattr("tidegate.catalog.deletions.now", lambda: stepped)
    assert await catalog.begin_scrubs(delay=7 * DAY, lease=60) == (0, [])
    assert await catalog.purge(after=7 * DAY) == 0
    assert (await catalog.begin_scrubs(delay=0, lease=60))[0] == 1
    for removal in await catalog.due_removals(lease=60):
        await catalog.removal_done(removal.id)
    assert deleted.id
    assert await catalog.purge(after=0) == 1


async def test_after_a_reboot_the_wall_clock_decides(
    catalog: SqlCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_status(catalog, Status.PENDING_DELETE)
    catalog._database.clock = engine.Clock("another boot")
    assert await catalog.begin_scrubs(delay=7 * DAY, lease=60) == (0, [])
    later = rows.now() + int(8 * DAY * 1e6)
    monkeypatch.setattr("tidegate.catalog.deletions.now", lambda: later)
    assert (await catalog.begin_scrubs(delay=7 * DAY, lease=60))[0] == 1


# the purge


def left(url: str, image_id: str) -> list[str]:
    """Tables in which an image is still to be found."""
    engine = create_engine(url)
    found = []
    with engine.connect() as connection:
        for table in tables.metadata.sorted_tables:
            column = table.c.get("image_id", table.c.get("id"))
            if column is None:
                continue
            if connection.execute(select(table).where(column == image_id)).first():
                found.append(table.name)
    engine.dispose()
    return found


def add_side_rows(url: str, image_id: str) -> None:
    """A member, and a task that is over."""
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            insert(tables.members).values(
                image_id=image_id, member="m", status="pending", can_share=False,
                created_at=1, updated_at=1,
            )
        )  # fmt: skip
        add_task(url, image_id, "success", connection)
    engine.dispose()


def add_task(url: str, image_id: str, status: str, connection: object = None) -> None:
    row = insert(tables.tasks).values(
        id=f"{status}-{image_id}"[:36], type="import", status=status, message="",
        image_id=image_id, fence=0, created_at=1, updated_at=1,
    )  # fmt: skip
    if connection is not None:
        connection.execute(row)
        return
    engine = create_engine(url)
    with engine.begin() as own:
        own.execute(row)
    engine.dispose()


async def test_of_a_purged_image_the_id_is_left(catalog: SqlCatalog, url: str) -> None:
    found = await uploaded(catalog)
    await catalog.change_image(found.id, ImageChange(put={"a": "b"}, tags=("t",)))
    add_side_rows(url, found.id)
    for removal in await catalog.delete_image(found.id):
        await catalog.removal_done(removal.id)
    assert await catalog.purge(after=60) == 0
    assert await catalog.purge(after=0) == 1
    assert left(url, found.id) == ["tombstones"]
    with pytest.raises(NotFound):
        await catalog.get_image(found.id, ADMIN)


async def test_the_id_of_a_purged_image_is_never_used_again(catalog: SqlCatalog) -> None:
    found = await in_status(catalog, Status.QUEUED)
    await catalog.delete_image(found.id)
    assert await catalog.purge(after=0) == 1
    with pytest.raises(Conflict):
        await catalog.create_image(image(id=found.id))


async def test_nothing_is_purged_whose_bytes_are_still_to_go(catalog: SqlCatalog) -> None:
    found = await uploaded(catalog)
    (removal,) = await catalog.delete_image(found.id)
    assert await catalog.purge(after=0) == 0
    await catalog.removal_done(removal.id)
    assert await catalog.purge(after=0) == 1


async def test_nothing_is_purged_whose_broken_uploads_bytes_are_still_to_go(
    catalog: SqlCatalog,
) -> None:
    upload = await saving(catalog)
    (removal,) = await catalog.fail_upload(upload.id, BROKEN, Event.BREAK, leftovers=[None])
    await catalog.delete_image(upload.image_id)
    assert await catalog.purge(after=0) == 0
    await catalog.removal_done(removal.id)
    assert await catalog.purge(after=0) == 1


async def test_nothing_is_purged_that_somebody_works_on(catalog: SqlCatalog, url: str) -> None:
    upload = await saving(catalog)
    await catalog.delete_image(upload.image_id)
    assert await catalog.purge(after=0) == 0
    await catalog.fail_upload(upload.id, BROKEN, Event.BREAK, leftovers=[])
    add_task(url, upload.image_id, "processing")
    assert await catalog.purge(after=0) == 0


async def test_an_image_that_waits_is_not_purged(catalog: SqlCatalog) -> None:
    await in_status(catalog, Status.PENDING_DELETE)
    assert await catalog.purge(after=0) == 0
    await scrubbed(catalog)
    assert await catalog.purge(after=60) == 0  # counted from when it became deleted
    assert await catalog.purge(after=0) == 1


async def test_the_wait_for_the_purge_begins_when_the_data_is_gone(
    catalog: SqlCatalog, url: str
) -> None:
    await in_status(catalog, Status.PENDING_DELETE)
    for removal in (await catalog.begin_scrubs(delay=0, lease=60))[1]:
        await catalog.removal_done(removal.id)
    engine = create_engine(url)
    with engine.begin() as connection:  # it took the store long
        connection.execute(update(tables.deletions).values(tick=tables.deletions.c.tick - 100))
    engine.dispose()
    await catalog.finish_scrubs()
    assert await catalog.purge(after=60) == 0


async def test_a_purge_goes_in_pages(catalog: SqlCatalog) -> None:
    for _ in range(5):
        await catalog.delete_image((await catalog.create_image(image())).id)
    assert [await catalog.purge(after=0, limit=2) for _ in range(4)] == [2, 2, 1, 0]


async def test_a_late_attempt_of_a_purged_image_changes_nothing(catalog: SqlCatalog) -> None:
    upload = await saving(catalog)
    await catalog.publish_upload(upload.id, SENT)
    for removal in await catalog.delete_image(upload.image_id):
        await catalog.removal_done(removal.id)
    await catalog.purge(after=0)
    assert await catalog.uploads_of(upload.image_id) == []


# turns


async def test_a_turn_is_one_callers(catalog: SqlCatalog, other: SqlCatalog) -> None:
    assert await catalog.take_turn("scrubber", 60)
    assert not await other.take_turn("scrubber", 60)
    assert await other.take_turn("purger", -1)
    assert await catalog.take_turn("purger", 60)


async def test_removals_are_counted_by_store(catalog: SqlCatalog) -> None:
    assert await catalog.removals_waiting() == {}
    await catalog.delete_image((await uploaded(catalog)).id)
    await catalog.delete_image((await uploaded(catalog)).id)
    assert await catalog.removals_waiting() == {"main": 2}
