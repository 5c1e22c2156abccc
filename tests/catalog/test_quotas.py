"""What every catalog promises of the quotas of projects."""

import asyncio
from dataclasses import replace

import pytest
from tests.catalog.test_contract import ADMIN, BROKEN, attempt_at, catalog, image, other, url

from tidegate.catalog.base import AddLocation, ImageChange, RemoveLocation
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import BadTransition, TooLarge
from tidegate.domain.image import Image, Location
from tidegate.domain.quota import Allowance
from tidegate.domain.status import Event, Status
from tidegate.domain.upload import Removal, Sent, Upload

__all__ = ["catalog", "other", "url"]  # fixtures

TEN = Allowance(bytes=10)


async def start(
    catalog: SqlCatalog, size: int | None, allowance: Allowance = TEN, owner: str | None = "p"
) -> Upload:
    """An attempt to fill a new image with so many bytes."""
    made = await catalog.create_image(image(owner=owner))
    attempt = replace(attempt_at(made.id), expected_size=size)
    await catalog.start_upload(attempt, lease=60, allowance=allowance)
    return attempt


async def filled(catalog: SqlCatalog, size: int, owner: str | None = "p") -> Image:
    attempt = await start(catalog, size, owner=owner)
    return await catalog.publish_upload(attempt.id, Sent(size))


async def room(catalog: SqlCatalog, owner: str | None = "p") -> int:
    """Bytes that the project of ten can still take; what asks for them is then removed."""
    attempt = await start(catalog, None, Allowance(), owner)
    try:
        found = await catalog.reserve_bytes(attempt.id, 100, TEN)
    except TooLarge:
        found = 0
    await catalog.fail_upload(attempt.id, BROKEN, Event.BREAK, leftovers=[], received=0)
    return found


async def remove(catalog: SqlCatalog, removals: list[Removal]) -> None:
    for removal in removals:
        await catalog.removal_done(removal.id)


# images


async def test_one_image_more_than_allowed_is_not_made(catalog: SqlCatalog) -> None:
    allowance = Allowance(images=2)
    images = [await catalog.create_image(image(owner="p"), allowance=allowance) for _ in "ab"]
    refused = image(owner="p")
    with pytest.raises(TooLarge, match="Attempted: 3, Maximum: 2"):
        await catalog.create_image(refused, allowance=allowance)
    await catalog.create_image(image(owner="q"), allowance=allowance)
    await catalog.create_image(image(), allowance=allowance)
    await catalog.delete_image(images[0].id)
    assert (await catalog.create_image(refused, allowance=allowance)).id == refused.id


async def test_images_without_an_owner_count_together(catalog: SqlCatalog) -> None:
    await catalog.create_image(image(), allowance=Allowance(images=1))
    with pytest.raises(TooLarge):
        await catalog.create_image(image(), allowance=Allowance(images=1))


async def test_of_fifty_racers_for_the_last_images_only_as_many_win(
    catalog: SqlCatalog, other: SqlCatalog
) -> None:
    async def race(number: int) -> bool:
        try:
            await (catalog, other)[number % 2].create_image(
                image(owner="p"), allowance=Allowance(images=3)
            )
        except TooLarge:
            return False
        return True

    assert sum(await asyncio.gather(*map(race, range(50)))) == 3


# bytes


async def test_an_attempt_holds_what_it_expects_and_its_image_what_came(
    catalog: SqlCatalog,
) -> None:
    assert await room(catalog) == 10
    attempt = await start(catalog, 7)
    assert await room(catalog) == 3
    await catalog.publish_upload(attempt.id, Sent(6))
    assert await room(catalog) == 4
    assert await room(catalog, "q") == 10


async def test_what_does_not_fit_is_not_begun(catalog: SqlCatalog) -> None:
    await filled(catalog, 6)
    made = await catalog.create_image(image(owner="p"))
    attempt = replace(attempt_at(made.id), expected_size=5)
    with pytest.raises(TooLarge, match="10 bytes"):
        await catalog.start_upload(attempt, lease=60, allowance=TEN)
    assert (await catalog.get_image(made.id, ADMIN)).status is Status.QUEUED
    assert await catalog.uploads_of(made.id) == []
    attempt = replace(attempt, expected_size=4)
    await catalog.start_upload(attempt, lease=60, allowance=TEN)


@pytest.mark.parametrize(("size", "fits"), [(0, True), (1, False), (None, False)])
async def test_where_there_is_no_room_only_nothing_fits(
    catalog: SqlCatalog, size: int | None, fits: bool
) -> None:
    await filled(catalog, 10)
    if fits:
        await start(catalog, size)
    else:
        with pytest.raises(TooLarge):
            await start(catalog, size)


async def test_an_unknown_length_reserves_in_steps(catalog: SqlCatalog) -> None:
    attempt = await start(catalog, None)
    assert await catalog.reserve_bytes(attempt.id, 4, TEN) == 4
    assert await room(catalog) == 6
    assert await catalog.reserve_bytes(attempt.id, 100, TEN) == 6
    with pytest.raises(TooLarge):
        await catalog.reserve_bytes(attempt.id, 1, TEN)
    await catalog.publish_upload(attempt.id, Sent(2))
    assert await room(catalog) == 8
    with pytest.raises(BadTransition):
        await catalog.reserve_bytes(attempt.id, 1, TEN)


async def test_sec_41_of_fifty_racers_for_the_last_bytes_one_wins(
    catalog: SqlCatalog, other: SqlCatalog
) -> None:
    await filled(catalog, 5)

    async def race(number: int) -> bool:
        try:
            await start((catalog, other)[number % 2], 5)
        except TooLarge:
            return False
        return True

    assert sum(await asyncio.gather(*map(race, range(50)))) == 1


async def test_every_location_counts(catalog: SqlCatalog) -> None:
    found = await filled(catalog, 4)
    step = AddLocation(location=Location("http", "http://h/1", own=False))
    change = ImageChange(locations=[step], allowance=TEN)
    await catalog.change_image(found.id, change)
    assert await room(catalog) == 2
    step = AddLocation(location=Location("http", "http://h/2", own=False))
    with pytest.raises(TooLarge):
        await catalog.change_image(found.id, replace(change, locations=[step]))
    assert len((await catalog.get_image(found.id, ADMIN)).locations) == 2
    await catalog.change_image(found.id, ImageChange(fields={"name": "x"}, allowance=TEN))


async def test_what_is_registered_at_once_counts(catalog: SqlCatalog) -> None:
    there = Location("http", "http://h/1", own=False)
    new = image(owner="p", status=Status.ACTIVE, size=11, locations=(there,))
    with pytest.raises(TooLarge):
        await catalog.create_image(new, allowance=TEN)
    await catalog.create_image(new._replace(size=10), allowance=TEN)
    assert await room(catalog) == 0


# given back


@pytest.mark.parametrize("delayed", [False, True])
async def test_a_deleted_image_holds_its_bytes_until_they_are_gone(
    catalog: SqlCatalog, delayed: bool
) -> None:
    found = await filled(catalog, 4)
    removals = await catalog.delete_image(found.id, delayed=delayed)
    assert await room(catalog) == 6
    if delayed:
        _, removals = await catalog.begin_scrubs(delay=0, lease=60)
        assert await room(catalog) == 6
    await remove(catalog, removals)
    await catalog.finish_scrubs()
    assert await room(catalog) == 10


async def test_so_does_a_location_that_was_removed(catalog: SqlCatalog) -> None:
    found = await filled(catalog, 10)
    _, removals = await catalog.change_image(found.id, ImageChange(locations=[RemoveLocation(0)]))
    assert await room(catalog) == 0
    await remove(catalog, removals)
    assert await room(catalog) == 10


async def test_a_broken_attempt_holds_what_came_until_it_is_gone(catalog: SqlCatalog) -> None:
    attempt = await start(catalog, 10)
    removals = await catalog.fail_upload(
        attempt.id, BROKEN, Event.BREAK, leftovers=[None], received=3
    )
    assert await room(catalog) == 7
    await remove(catalog, removals)
    assert await room(catalog) == 10


async def test_sec_41_deleting_during_an_upload_frees_nothing(catalog: SqlCatalog) -> None:
    attempt = await start(catalog, 10)
    await catalog.delete_image(attempt.image_id)
    assert await room(catalog) == 0
    await catalog.fail_upload(attempt.id, BROKEN, Event.BREAK, leftovers=[], received=9)
    assert await room(catalog) == 10


async def test_what_a_dead_node_reserved_is_given_back_by_who_takes_over(
    catalog: SqlCatalog, other: SqlCatalog
) -> None:
    made = await catalog.create_image(image(owner="p"))
    attempt = replace(attempt_at(made.id), expected_size=10)
    await catalog.start_upload(attempt, lease=-1, allowance=TEN)
    assert await room(other) == 0
    (taken,) = await other.take_over_expired("another", lease=60)
    await other.fail_upload(taken.id, BROKEN, Event.BREAK, leftovers=[])
    assert await room(other) == 10


async def test_a_smaller_quota_than_what_is_held_stops_only_what_adds(catalog: SqlCatalog) -> None:
    found = await filled(catalog, 10)
    less = Allowance(images=0, bytes=5)
    change = ImageChange(fields={"name": "x"}, allowance=less)
    assert (await catalog.change_image(found.id, change))[0].name == "x"
    with pytest.raises(TooLarge):
        await start(catalog, 0, less)
