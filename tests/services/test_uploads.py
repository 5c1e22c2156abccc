"""The commit protocol: what comes in whole is active, and of what does not come nothing stays."""

import asyncio
import hashlib
from typing import Any
from uuid import uuid4

import pytest
from tests.kit.sources import Bytes, pattern
from tests.kit.stores import objects, read_all, unfinished
from tests.services.conftest import ADMIN, MIB, World

from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import (
    BadPart,
    BadTransition,
    Busy,
    CatalogDown,
    ClientGone,
    Conflict,
    DigestMismatch,
    Draining,
    Gone,
    Invalid,
    SizeMismatch,
    StoreBroke,
    StoreDown,
    StoreError,
    StoreFull,
    TooLarge,
)
from tidegate.domain.expected import Expected
from tidegate.domain.image import Image
from tidegate.domain.status import Event, Status
from tidegate.domain.upload import Sent, UploadState

SIZES = [0, 1, 4 * MIB, 4 * MIB + 1, 11 * MIB]
DOWN = StoreDown("memory", "it answered 503")
BROKE = StoreBroke("memory", "the connection broke")


async def assert_clean(world: World, image_id: str, status: Status = Status.KILLED) -> None:
    image = await world.image(image_id)
    assert image.status is status
    assert (image.size, image.checksum, image.hash_value, image.locations) == (None, None, None, ())
    assert await objects(world.store) == {}
    assert await unfinished(world.store) == []
    assert world.arena.in_use == 0


@pytest.mark.parametrize("framed", [True, False])
@pytest.mark.parametrize("size", SIZES)
async def test_what_comes_whole_is_active_and_measured(
    world: World, size: int, framed: bool
) -> None:
    body, image_id = pattern(size), await world.queued()
    expected = Expected(length=size if framed else None)
    image = await world.upload(image_id, Bytes(body), expected)
    assert (image.status, image.size) == (Status.ACTIVE, size)
    assert image.checksum == hashlib.md5(body).hexdigest()
    assert (image.hash_algo, image.hash_value) == ("sha512", hashlib.sha512(body).hexdigest())
    (location,) = image.locations
    assert await read_all(world.store, location.key) == body
    assert await objects(world.store) == {location.key: size}
    assert world.arena.in_use == 0


async def test_an_image_is_saving_while_bytes_move(world: World) -> None:
    image_id = await world.queued()
    seen: list[Status] = []

    async def look() -> None:
        seen.append((await world.image(image_id)).status)

    await world.upload(image_id, Bytes(pattern(9 * MIB), at_byte=(5 * MIB, look)))
    assert seen == [Status.SAVING]


async def test_the_object_is_named_by_image_and_attempt(world: World) -> None:
    image = await world.upload(await world.queued(), Bytes(b"x"))
    (attempt,) = await world.catalog.uploads_of(image.id)
    assert image.locations[0].key == f"{image.id}/{attempt.id}"
    assert attempt.state is UploadState.DONE


# refused before anything begins: the image stays queued


async def test_a_second_upload_is_refused_and_the_first_goes_on(world: World) -> None:
    image_id = await world.queued()
    refused: list[Exception] = []

    async def intrude() -> None:
        try:
            await world.upload(image_id, Bytes(b"other"))
        except BadTransition as error:
            refused.append(error)

    await world.upload(image_id, Bytes(pattern(9 * MIB), at_byte=(5 * MIB, intrude)))
    assert len(refused) == 1
    assert await read_all(world.store, (await world.image(image_id)).locations[0].key) == pattern(
        9 * MIB
    )


@pytest.mark.parametrize(
    ("expected", "changes", "error"),
    [
        (Expected(length=2 * MIB), {"max_image_size": MIB}, TooLarge),
        (Expected(size=2 * MIB), {"max_image_size": MIB}, TooLarge),
    ],
)
async def test_what_cannot_be_taken_is_refused_before_the_claim(
    world: World, expected: Expected, changes: dict[str, int], error: type[Exception]
) -> None:
    image_id = await world.queued()
    source = Bytes(pattern(2 * MIB))
    with pytest.raises(error):
        await world.upload(image_id, source, expected, **changes)
    assert source.at == 0
    assert (await world.image(image_id)).status is Status.QUEUED


async def test_past_the_waiting_limit_nothing_is_claimed(world: World) -> None:
    first, second = await world.queued(), await world.queued()
    everything = await world.arena.reserve(32 * MIB)
    waiting = asyncio.ensure_future(world.upload(first, Bytes(b"abc")))
    async with asyncio.timeout(10):
        while not world.arena.waiting:
            await asyncio.sleep(0)
    source = Bytes(b"abc")
    with pytest.raises(Busy):
        await world.upload(second, source, max_waiting=1)
    assert source.at == 0
    assert (await world.image(second)).status is Status.QUEUED
    everything.release()
    await waiting


async def test_a_draining_server_takes_nothing_new(world: World) -> None:
    image_id = await world.queued()
    attempts = world.attempts()
    attempts.drain()
    with pytest.raises(Draining):
        await world.uploads(attempts).upload(ADMIN, image_id, Bytes(b"x"), Expected())
    assert (await world.image(image_id)).status is Status.QUEUED


async def test_an_unknown_store_is_refused(world: World) -> None:
    image_id = await world.queued()
    with pytest.raises(Invalid):
        await world.uploads().upload(ADMIN, image_id, Bytes(b"x"), Expected(), store_id="nope")
    assert (await world.image(image_id)).status is Status.QUEUED


async def test_sec_30_an_image_that_was_active_is_not_filled_again(world: World) -> None:
    image = await world.upload(await world.queued(), Bytes(b"x"))
    with pytest.raises(BadTransition):
        await world.upload(image.id, Bytes(b"y"))
    await world.catalog.advance(image.id, Event.DEACTIVATE)
    with pytest.raises((BadTransition, Conflict)):
        await world.upload(image.id, Bytes(b"y"))


# broken by the client


@pytest.mark.parametrize("percent", [0, 1, 50, 99])
@pytest.mark.parametrize("size", [3 * MIB, 13 * MIB])
async def test_a_client_that_goes_kills_the_image(world: World, size: int, percent: int) -> None:
    image_id = await world.queued()
    breaks_at = size * percent // 100
    with pytest.raises(ClientGone):
        await world.upload(image_id, Bytes(pattern(size), breaks_at=breaks_at))
    await assert_clean(world, image_id)
    failure = await world.failure(image_id)
    assert (failure.reason, failure.request_id) == ("client_gone", "req-1")
    (attempt,) = await world.catalog.uploads_of(image_id)
    assert breaks_at <= attempt.received <= size


async def test_on_broken_queued_the_user_may_try_again(world: World) -> None:
    image_id = await world.queued()
    with pytest.raises(ClientGone):
        await world.upload(image_id, Bytes(pattern(9 * MIB), breaks_at=5 * MIB), on_broken="queued")
    await assert_clean(world, image_id, Status.QUEUED)
    image = await world.upload(image_id, Bytes(b"again"))
    assert (image.status, image.size) == (Status.ACTIVE, 5)


@pytest.mark.parametrize("announced", [0, 5 * MIB - 1, 5 * MIB + 1])
@pytest.mark.parametrize("framed", [True, False])
async def test_another_size_than_announced_kills_the_image(
    world: World, announced: int, framed: bool
) -> None:
    image_id = await world.queued()
    expected = Expected(length=5 * MIB if framed else None, size=announced)
    with pytest.raises(SizeMismatch):
        await world.upload(image_id, Bytes(pattern(5 * MIB)), expected)
    await assert_clean(world, image_id)
    assert (await world.failure(image_id)).reason == "size_mismatch"


@pytest.mark.parametrize("algorithm", ["md5", "sha256", "sha512"])
@pytest.mark.parametrize("size", [1, 9 * MIB])
async def test_another_digest_than_announced_kills_the_image(
    world: World, algorithm: str, size: int
) -> None:
    image_id = await world.queued()
    width = hashlib.new(algorithm).digest_size * 2
    with pytest.raises(DigestMismatch):
        await world.upload(
            image_id, Bytes(pattern(size)), Expected(digests={algorithm: "0" * width})
        )
    await assert_clean(world, image_id)
    assert (await world.failure(image_id)).reason == "digest_mismatch"


async def test_digests_that_agree_are_checked_and_pass(world: World) -> None:
    body = pattern(9 * MIB)
    digests = {name: hashlib.new(name, body).hexdigest() for name in ("md5", "sha256", "sha512")}
    image = await world.upload(await world.queued(), Bytes(body), Expected(digests=digests))
    assert image.status is Status.ACTIVE


async def test_more_than_allowed_kills_the_image_when_it_has_come(world: World) -> None:
    image_id = await world.queued()
    with pytest.raises(TooLarge):
        await world.upload(image_id, Bytes(pattern(6 * MIB)), max_image_size=5 * MIB)
    await assert_clean(world, image_id)


async def test_deleting_during_an_upload_ends_it(world: World) -> None:
    image_id = await world.queued()
    never = asyncio.Event()

    async def delete() -> None:
        await world.catalog.delete_image(image_id)

    async def hang(*_: object) -> None:
        await never.wait()

    world.store.before["complete"] = hang
    with pytest.raises(Gone):
        await world.upload(image_id, Bytes(pattern(9 * MIB), at_byte=(5 * MIB, delete)))
    assert await objects(world.store) == {}
    assert await unfinished(world.store) == []


async def test_deleting_just_before_the_end_removes_the_object(world: World) -> None:
    image_id = await world.queued()

    async def delete(*_: object) -> None:
        await world.catalog.delete_image(image_id)

    world.store.after["complete"] = delete
    with pytest.raises(Gone):
        await world.upload(image_id, Bytes(pattern(9 * MIB)))
    assert await objects(world.store) == {}


async def test_a_cancelled_upload_is_put_back(world: World) -> None:
    image_id = await world.queued()
    half, never = asyncio.Event(), asyncio.Event()

    async def stall() -> None:
        half.set()
        await never.wait()

    running = asyncio.ensure_future(
        world.upload(image_id, Bytes(pattern(9 * MIB), at_byte=(5 * MIB, stall)))
    )
    await half.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await assert_clean(world, image_id)
    assert (await world.failure(image_id)).reason == "drained"


async def test_what_can_be_had_once_more_is_queued_again_when_its_server_stops(
    world: World,
) -> None:
    image_id, attempt = await world.queued(), uuid4().hex
    half, never = asyncio.Event(), asyncio.Event()

    async def stall() -> None:
        half.set()
        await never.wait()

    source = Bytes(pattern(9 * MIB), at_byte=(5 * MIB, stall))
    running = asyncio.ensure_future(
        world.uploads().upload(
            ADMIN, image_id, source, Expected(), attempt=attempt, repeatable=True
        )
    )
    await half.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await assert_clean(world, image_id, Status.QUEUED)
    assert [one.id for one in await world.catalog.uploads_of(image_id)] == [attempt]
    assert (await world.failure(image_id)).reason == "drained"
    assert (await world.upload(image_id, Bytes(b"again"))).status is Status.ACTIVE


async def test_what_can_be_had_once_more_and_breaks_is_killed_as_any_other(world: World) -> None:
    image_id = await world.queued()
    with pytest.raises(ClientGone):
        await world.uploads().upload(
            ADMIN, image_id, Bytes(b"", breaks_at=0), Expected(), repeatable=True
        )
    await assert_clean(world, image_id)


# broken by the store


CALLS = {"put": 2 * MIB, "begin": 9 * MIB, "put_part": 9 * MIB, "complete": 9 * MIB}


@pytest.mark.parametrize("error", [DOWN, BROKE, BadPart("memory", "x"), StoreFull("memory", "x")])
@pytest.mark.parametrize("call", CALLS)
async def test_a_store_that_fails_kills_the_image(
    world: World, call: str, error: StoreError
) -> None:
    image_id = await world.queued()
    world.store.fail(call, error)
    with pytest.raises(StoreError) as caught:
        await world.upload(image_id, Bytes(pattern(CALLS[call])))
    assert not isinstance(caught.value, StoreDown), "would be answered 503"
    await assert_clean(world, image_id)
    failure = await world.failure(image_id)
    assert failure.reason == "store"
    assert failure.message.startswith("Store 'memory': ")
    assert failure.where in {"begin", "complete", "part 1", "part 2", "part 3"}


@pytest.mark.parametrize("call", ["put", "complete"])
async def test_an_answer_that_was_lost_leaves_no_object(world: World, call: str) -> None:
    image_id = await world.queued()
    world.store.fail_after(call, DOWN)
    with pytest.raises(StoreError):
        await world.upload(image_id, Bytes(pattern(CALLS[call])))
    await assert_clean(world, image_id)


@pytest.mark.parametrize("call", ["abort", "delete"])
async def test_what_a_store_refuses_to_remove_is_the_janitors(world: World, call: str) -> None:
    image_id = await world.queued()
    world.store.fail("complete", BROKE)
    world.store.fail(call, DOWN)
    with pytest.raises(StoreError):
        await world.upload(image_id, Bytes(pattern(9 * MIB)))
    assert (await world.image(image_id)).status is Status.KILLED
    world.store.before.clear()
    assert await world.removals.carry_out_due() > 0
    await assert_clean(world, image_id)


async def test_a_store_that_is_down_for_long_is_cleaned_when_it_answers(world: World) -> None:
    image_id = await world.queued()
    for call in ("put_part", "abort", "delete"):
        world.store.fail(call, DOWN)
    with pytest.raises(StoreError):
        await world.upload(image_id, Bytes(pattern(9 * MIB)))
    assert (await world.image(image_id)).status is Status.KILLED
    assert len(await unfinished(world.store)) == 1
    world.store.before.clear()
    await world.removals.carry_out_due()
    await assert_clean(world, image_id)


# broken by the catalog


@pytest.mark.parametrize("call", ["upload_began", "upload_completing"])
async def test_a_catalog_that_fails_ends_the_upload(
    world: World, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = await world.queued()

    async def fail(*_: object) -> None:
        raise CatalogDown("The catalog is locked.")

    monkeypatch.setattr(world.catalog, call, fail)
    with pytest.raises(CatalogDown):
        await world.upload(image_id, Bytes(pattern(9 * MIB)))
    await assert_clean(world, image_id)


async def test_a_commit_of_unknown_outcome_is_said_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, lost = world.catalog.publish_upload, []

    async def lose_first_answer(*given: Any) -> object:
        image = await publish(*given)
        if not lost:
            lost.append(image)
            raise CatalogDown("The connection broke.")
        return image

    monkeypatch.setattr(world.catalog, "publish_upload", lose_first_answer)
    image = await world.upload(await world.queued(), Bytes(b"hello"))
    assert image.status is Status.ACTIVE


async def test_a_stop_just_after_the_publishing_is_a_stop_and_takes_nothing_back(
    world: World,
) -> None:
    image_id, published = await world.queued(), asyncio.Event()
    publish = world.catalog.publish_upload

    async def late(attempt: str, sent: Sent) -> Image:
        await publish(attempt, sent)
        published.set()
        return await asyncio.get_running_loop().create_future()

    world.catalog.publish_upload = late  # type: ignore[method-assign]
    running = asyncio.ensure_future(world.upload(image_id, Bytes(b"abc")))
    await published.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    assert (await world.image(image_id)).status is Status.ACTIVE
    assert len(await objects(world.store)) == 1


async def test_a_taken_over_attempt_can_publish_nothing(world: World) -> None:
    image_id = await world.queued()

    async def steal() -> None:
        async with world.catalog._database.transaction() as connection:
            await connection.exec_driver_sql("UPDATE uploads SET fence = fence + 1")

    with pytest.raises(BadTransition):
        await world.upload(image_id, Bytes(pattern(9 * MIB), at_byte=(5 * MIB, steal)))
    assert (await world.image(image_id)).status is Status.SAVING
    assert await objects(world.store) == {}


# taken over by another node


async def test_who_was_given_up_leaves_the_object_that_its_successor_published(
    world: World,
) -> None:
    image_id = await world.queued()
    other = SqlCatalog(world.url)
    await other.open()

    async def lose_the_answer(*_: object) -> None:
        (upload,) = await world.catalog.uploads_of(image_id)
        await world.catalog.renew_upload(upload.id, upload.received, lease=-1)
        assert await world.reaping(other).reap() == 1
        raise BROKE

    world.store.after["complete"] = lose_the_answer
    with pytest.raises(BadTransition):
        await world.upload(image_id, Bytes(pattern(9 * MIB)))
    await other.close()
    image = await world.image(image_id)
    assert image.status is Status.ACTIVE
    assert await read_all(world.store, image.locations[0].key) == pattern(9 * MIB)


async def test_a_renewal_that_comes_behind_the_publishing_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, renew = world.catalog.publish_upload, world.catalog.renew_upload
    renewing, published = asyncio.Event(), asyncio.Event()

    async def renew_late(attempt: str, received: int, *, lease: float) -> None:
        renewing.set()
        await published.wait()
        await renew(attempt, received, lease=lease)

    async def publish_first(attempt: str, sent: Sent) -> Image:
        await renewing.wait()
        image = await publish(attempt, sent)
        published.set()
        return image

    monkeypatch.setattr(world.catalog, "renew_upload", renew_late)
    monkeypatch.setattr(world.catalog, "publish_upload", publish_first)
    image = await world.upload(await world.queued(), Bytes(b"abc"), lease=1)
    assert image.status is Status.ACTIVE
