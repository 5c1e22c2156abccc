"""What every catalog promises to those who read stored bytes again, or adopt them."""

from uuid import uuid4

import pytest
from tests.catalog.test_contract import (
    ADMIN,
    BROKEN,
    attempt_at,
    catalog,
    image,
    other,
    uploaded,
    url,
)

from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import BadTransition, Conflict, Forbidden
from tidegate.domain.image import Location
from tidegate.domain.scrub import Copy
from tidegate.domain.status import Event, Status
from tidegate.domain.upload import Upload, UploadState, wrong_bytes

__all__ = ["catalog", "other", "url"]

EVER = 2**62
WRONG = wrong_bytes("scrub", "the bytes are others")


async def copy_of(catalog: SqlCatalog, image_id: str) -> Copy:
    (copy,) = await catalog.copies_to_scrub(["main"], before=EVER, image_id=image_id)
    return copy


async def condemn(catalog: SqlCatalog, copy: Copy) -> None:
    await catalog.condemn(copy.image_id, copy.store, copy.key, WRONG)


async def repairing(catalog: SqlCatalog, bad: Copy, *, lease: float = 60) -> Upload:
    repair = attempt_at(bad.image_id)
    await catalog.start_repair(repair, bad, lease=lease)
    return repair


async def test_copies_come_by_their_age_page_by_page(catalog: SqlCatalog) -> None:
    ids = [(await uploaded(catalog)).id for _ in range(3)]
    first = await catalog.copies_to_scrub(["main"], before=EVER, limit=2)
    assert [copy.image_id for copy in first] == ids[:2]
    rest = await catalog.copies_to_scrub(["main"], before=EVER, after=first[-1])
    assert [copy.image_id for copy in rest] == ids[2:]
    assert await catalog.copies_to_scrub(["elsewhere"], before=EVER) == []
    assert await catalog.copies_to_scrub(["main"], before=first[0].since) == []


async def test_a_copy_is_taken_by_one_until_it_is_left(
    catalog: SqlCatalog, other: SqlCatalog
) -> None:
    copy = await copy_of(catalog, (await uploaded(catalog)).id)
    assert await catalog.take_copy(copy, lease=60)
    assert not await other.take_copy(copy, lease=60)
    await catalog.leave_copy(copy, good=False)
    assert await other.take_copy(copy, lease=-1)
    assert await catalog.take_copy(copy, lease=60)  # the other's lease has run out


async def test_a_copy_found_good_since_is_not_taken_from_an_old_list(
    catalog: SqlCatalog, other: SqlCatalog
) -> None:
    copy = await copy_of(catalog, (await uploaded(catalog)).id)
    await catalog.take_copy(copy, lease=60)
    await catalog.leave_copy(copy, good=True)
    assert not await other.take_copy(copy, lease=60)
    assert (await copy_of(catalog, copy.image_id)).since > copy.since


async def test_a_condemned_image_is_deactivated_and_says_why(catalog: SqlCatalog) -> None:
    copy = await copy_of(catalog, (await uploaded(catalog)).id)
    for _ in range(2):  # said again, nothing is added
        await condemn(catalog, copy)
        assert (await catalog.get_image(copy.image_id, ADMIN)).status is Status.DEACTIVATED
        _, last = await catalog.uploads_of(copy.image_id)
        assert (last.state, last.failure) == (UploadState.FAILED, WRONG)
    await catalog.reactivate(copy.image_id, by_admin=True)
    await condemn(catalog, copy)  # and is wrong again
    assert len(await catalog.uploads_of(copy.image_id)) == 3


async def test_damage_of_what_its_owner_deactivated_is_told_and_locks_it(
    catalog: SqlCatalog,
) -> None:
    copy = await copy_of(catalog, (await uploaded(catalog)).id)
    await catalog.deactivate(copy.image_id, by_admin=False)
    await condemn(catalog, copy)
    assert (await catalog.uploads_of(copy.image_id))[-1].failure == WRONG
    with pytest.raises(Forbidden):
        await catalog.reactivate(copy.image_id, by_admin=False)


@pytest.mark.parametrize("status", [Status.PENDING_DELETE, Status.DELETED])
async def test_what_is_deleted_is_not_condemned(catalog: SqlCatalog, status: Status) -> None:
    copy = await copy_of(catalog, (await uploaded(catalog)).id)
    await catalog.delete_image(copy.image_id, delayed=status is Status.PENDING_DELETE)
    with pytest.raises(BadTransition):
        await condemn(catalog, copy)
    assert len(await catalog.uploads_of(copy.image_id)) == 1


async def test_an_image_with_other_data_by_now_is_not_condemned(catalog: SqlCatalog) -> None:
    copy = await copy_of(catalog, (await uploaded(catalog)).id)
    repair = await repairing(catalog, copy)
    await catalog.finish_repair(repair, copy, 5)
    with pytest.raises(BadTransition):
        await condemn(catalog, copy)
    assert (await catalog.get_image(copy.image_id, ADMIN)).status is Status.ACTIVE


@pytest.mark.parametrize("deactivated", [False, True])
async def test_a_repair_swaps_the_key_and_leaves_all_else(
    catalog: SqlCatalog, deactivated: bool
) -> None:
    before = await uploaded(catalog)
    if deactivated:
        before = await catalog.advance(before.id, Event.DEACTIVATE)
    bad = await copy_of(catalog, before.id)
    repair = await repairing(catalog, bad)
    await catalog.repair_began(repair, "at-the-store")
    (removal,) = await catalog.finish_repair(repair, bad, 5)
    assert (removal.store, removal.key) == ("main", bad.key)
    after = await catalog.get_image(before.id, ADMIN)
    assert after == before._replace(locations=(Location("main", repair.key),))
    assert (await catalog.uploads_of(before.id))[-1].state is UploadState.DONE
    assert await catalog.finish_repair(repair, bad, 5) == []  # said again
    assert len(await catalog.due_removals(lease=1)) == 1


async def test_what_another_image_points_to_stays(catalog: SqlCatalog) -> None:
    bad = await copy_of(catalog, (await uploaded(catalog)).id)
    await catalog.create_image(
        image(status=Status.ACTIVE, size=5, locations=(Location("main", bad.key),))
    )
    assert await catalog.finish_repair(await repairing(catalog, bad), bad, 5) == []


async def test_a_repair_of_what_was_deleted_begins_and_swaps_nothing(catalog: SqlCatalog) -> None:
    bad = await copy_of(catalog, (await uploaded(catalog)).id)
    repair = await repairing(catalog, bad)
    await catalog.delete_image(bad.image_id)
    with pytest.raises(BadTransition):
        await catalog.finish_repair(repair, bad, 5)
    with pytest.raises(BadTransition):
        await repairing(catalog, bad)


async def test_a_repair_that_was_taken_over_can_do_nothing_more(
    catalog: SqlCatalog, other: SqlCatalog
) -> None:
    bad = await copy_of(catalog, (await uploaded(catalog)).id)
    repair = await repairing(catalog, bad, lease=-1)
    (taken,) = await other.take_over_expired("janitor", lease=60)
    assert taken.id == repair.id
    with pytest.raises(BadTransition):
        await catalog.repair_began(repair, "at-the-store")
    with pytest.raises(BadTransition):
        await catalog.finish_repair(repair, bad, 5)
    (removal,) = await other.fail_upload(repair.id, BROKEN, Event.BREAK, leftovers=[None])
    assert removal.key == repair.key
    found = await catalog.get_image(bad.image_id, ADMIN)
    assert (found.status, found.locations[0].key) == (Status.ACTIVE, bad.key)


async def test_an_object_is_adopted_once(catalog: SqlCatalog) -> None:
    key = f"old/{uuid4().hex}"
    new = [
        image(status=Status.ACTIVE, size=5, locations=(Location("main", key, own=False),))
        for _ in range(2)
    ]
    assert await catalog.image_at("main", key) is None
    await catalog.adopt(new[0])
    assert await catalog.image_at("main", key) == new[0].id
    with pytest.raises(Conflict, match=new[0].id):
        await catalog.adopt(new[1])
    await catalog.delete_image(new[0].id)
    assert await catalog.image_at("main", key) is None
    await catalog.adopt(new[1])
