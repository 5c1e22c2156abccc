"""A store that fails in an upload: what clients are told, what images say, what stays behind.

After the claim a store's failure is 502 and ``killed``; never 503, after which clients send a
consumed body again.
"""

import asyncio
from pathlib import Path

import aiohttp
import pytest
from tests.e2e.bucket import MIB, Bucket
from tests.e2e.conftest import BIG, SMALL, TIMEOUT
from tests.kit.gateway import Answer
from tests.kit.proxy import Fault, FaultProxy
from tests.kit.server import Remote, Server, until
from tests.kit.sources import pattern

from tidegate.seaweedfs import SeaweedFS

LATE = Fault(late=TIMEOUT * 1.5)
ONE_LOOK = 15.0
"""Seconds within which the janitor has looked, even where the machine is busy."""


@pytest.fixture(scope="module")
def server(behind_proxy: Server) -> Server:
    return behind_proxy


async def expect_active(gate: Remote, bucket: Bucket, image_id: str, data: bytes) -> None:
    """Active with these bytes, and nothing beside them in the bucket, at the latest after the
    janitor's next look."""
    image = await gate.show(image_id)
    assert (image["status"], image["size"]) == ("active", len(data))
    assert bucket.get(next(key for key in bucket.objects() if image_id in key)) == data

    async def alone() -> bool:
        return len(bucket.of(image_id)) == 1

    await until(alone, "nothing beside the object", ONE_LOOK)
    assert (await gate.ask("GET", f"/v2/images/{image_id}/file")).body == data


async def expect_killed(gate: Remote, image_id: str, answer: Answer, where: str) -> None:
    """502, killed, and a record that says where and why."""
    assert answer.status == 502
    assert await gate.status(image_id) == "killed"
    failure = await gate.failure(image_id)
    assert failure["reason"] == "store"
    assert failure["where"] == where
    assert failure["message"] == answer.message
    assert failure["message"].startswith("Store 'main': ")
    assert failure["request_id"] == answer.headers["x-openstack-request-id"]


async def clean(bucket: Bucket, image_id: str) -> None:
    async def empty() -> bool:
        return not bucket.of(image_id)

    await until(empty, "the bucket to be clean", ONE_LOOK)


# what is mended


@pytest.mark.parametrize(
    ("operation", "data"),
    [("part", BIG), ("create", BIG), ("complete", BIG), ("put", SMALL)],
    ids=["part", "create", "complete", "put"],
)
@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=503, code="SlowDown"),
        Fault(status=500, done=True),
        Fault(lost=True),
        Fault(reset_request=0.5),
        LATE,
    ],
    ids=["500", "503", "500 but done", "lost", "reset", "late"],
)
async def test_a_call_that_fails_once_is_repeated(
    gate: Remote, bucket: Bucket, proxy: FaultProxy, operation: str, data: bytes, fault: Fault
) -> None:
    proxy.on(operation, fault, times=1)
    image_id = await gate.create()
    answer = await gate.put(image_id, data)
    assert proxy.failed(operation) == 1
    assert answer.status == 204, answer.body
    await expect_active(gate, bucket, image_id, data)


@pytest.mark.parametrize(("operation", "data"), [("part", BIG), ("put", SMALL)])
async def test_a_flipped_bit_on_the_way_in_is_noticed_and_sent_again(
    gate: Remote, bucket: Bucket, proxy: FaultProxy, operation: str, data: bytes
) -> None:
    proxy.on(operation, Fault(flip_request=0.5), times=1)
    image_id = await gate.create()
    assert (await gate.put(image_id, data)).status == 204
    assert proxy.failed(operation) == 1
    await expect_active(gate, bucket, image_id, data)


@pytest.mark.parametrize("times", [1, None], ids=["once", "always"])
@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500, done=True),
        Fault(error_in_200="InternalError", done=True),
        Fault(lost=True),
    ],
    ids=["500", "200 with an error", "lost"],
)
async def test_what_was_completed_is_active_whatever_was_answered(
    gate: Remote, bucket: Bucket, proxy: FaultProxy, fault: Fault, times: int | None
) -> None:
    proxy.on("complete", fault, times=times)
    image_id = await gate.create()
    answer = await gate.put(image_id, BIG)
    assert answer.status == 204, answer.body
    await expect_active(gate, bucket, image_id, BIG)


async def test_200_with_an_error_in_it_is_no_success(
    gate: Remote, bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.on("complete", Fault(error_in_200="InternalError"), times=1)
    image_id = await gate.create()
    assert (await gate.put(image_id, BIG)).status == 204
    assert proxy.seen("complete") == 2
    await expect_active(gate, bucket, image_id, BIG)


async def test_an_upload_opened_by_a_lost_create_is_swept(
    gate: Remote, bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.on("create", Fault(lost=True), times=1)
    image_id = await gate.create()
    assert (await gate.put(image_id, BIG)).status == 204
    assert proxy.seen("create") == 2
    await expect_active(gate, bucket, image_id, BIG)
    assert bucket.unfinished() == []


async def test_a_complete_that_outlasts_the_lease_is_not_taken_over(
    gate: Remote, bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.on("complete", Fault(late=TIMEOUT * 0.9, lost=True), times=2)  # the lease is 2 s
    image_id = await gate.create()
    assert (await gate.put(image_id, BIG)).status == 204
    await expect_active(gate, bucket, image_id, BIG)


async def test_a_store_that_takes_its_time_but_takes_bytes_is_not_given_up(
    gate: Remote, bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.on("part", Fault(rate=4 * MIB))  # in all longer than the timeout and the lease
    image_id = await gate.create()
    assert (await gate.put(image_id, BIG)).status == 204
    assert proxy.seen("part") == 3
    await expect_active(gate, bucket, image_id, BIG)


# what is not


@pytest.mark.parametrize(
    ("operation", "data", "where"),
    [
        ("part", BIG, "part 1"),
        ("create", BIG, "begin"),
        ("complete", BIG, "complete"),
        ("put", SMALL, "complete"),
    ],
    ids=["part", "create", "complete", "put"],
)
@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=503, code="SlowDown"),
        Fault(status=403, code="AccessDenied"),
        Fault(status=404, code="NoSuchBucket"),
        Fault(status=404, code="NoSuchUpload"),
        Fault(status=400, code="MalformedXML"),
        Fault(reset_request=0.5),
    ],
    ids=["500", "503", "403", "no bucket", "no upload", "400", "reset"],
)
async def test_a_call_that_always_fails_kills(
    gate: Remote, bucket: Bucket, proxy: FaultProxy, operation: str, data: bytes, where: str,
    fault: Fault,
) -> None:  # fmt: skip
    proxy.on(operation, fault)
    image_id = await gate.create()
    answer = await gate.put(image_id, data)
    # of several parts that fail any may be the first
    failed = (await gate.failure(image_id))["where"]
    if operation == "part" and failed in ("part 2", "part 3"):
        where = failed
    await expect_killed(gate, image_id, answer, where)
    received = (await gate.failure(image_id))["bytes_received"]
    assert 0 < received <= len(data)
    assert bucket.of(image_id) == []


@pytest.mark.parametrize(
    ("operation", "data"), [("part", BIG), ("create", BIG), ("complete", BIG), ("put", SMALL)]
)
async def test_a_store_without_room_is_413(
    gate: Remote, bucket: Bucket, proxy: FaultProxy, operation: str, data: bytes
) -> None:
    proxy.on(operation, Fault(status=507, code="StorageFull"))
    image_id = await gate.create()
    answer = await gate.put(image_id, data)
    assert answer.status == 413
    assert "no room" in answer.message
    assert await gate.status(image_id) == "killed"
    assert bucket.of(image_id) == []


@pytest.mark.parametrize(("operation", "data"), [("part", BIG), ("put", SMALL)])
async def test_bits_that_always_flip_on_the_way_in_kill(
    gate: Remote, bucket: Bucket, proxy: FaultProxy, operation: str, data: bytes
) -> None:
    proxy.on(operation, Fault(flip_request=0.5))
    image_id = await gate.create()
    answer = await gate.put(image_id, data)
    assert answer.status == 502
    assert "other bytes arrived" in answer.message
    assert await gate.status(image_id) == "killed"
    assert bucket.of(image_id) == []


async def test_200_with_an_error_in_it_every_time_kills(
    gate: Remote, bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.on("complete", Fault(error_in_200="InternalError"))
    image_id = await gate.create()
    await expect_killed(gate, image_id, await gate.put(image_id, BIG), "complete")
    assert bucket.of(image_id) == []


@pytest.mark.parametrize(("operation", "data"), [("part", BIG), ("put", SMALL)])
async def test_a_200_that_is_none_is_no_success(
    gate: Remote, bucket: Bucket, proxy: FaultProxy, operation: str, data: bytes
) -> None:
    proxy.on(operation, Fault(error_in_200="InternalError"))
    image_id = await gate.create()
    answer = await gate.put(image_id, data)
    assert answer.status == 502
    assert (await gate.failure(image_id))["reason"] == "store"
    assert bucket.of(image_id) == []


async def test_an_abort_that_fails_changes_no_answer_and_is_made_up_for(
    gate: Remote, bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.on("part", Fault(status=500), nth=2)
    proxy.on("abort", Fault(status=500))
    image_id = await gate.create()
    answer = await gate.put(image_id, BIG)
    assert answer.status == 502
    assert await gate.status(image_id) == "killed"
    assert bucket.of(image_id) != []
    proxy.clear()
    await clean(bucket, image_id)


async def test_a_store_that_fails_in_everything_is_cleaned_when_it_is_well_again(
    gate: Remote, bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.on("everything", Fault(status=503, code="ServiceUnavailable"), nth=3)
    image_id = await gate.create()
    answer = await gate.put(image_id, BIG)
    assert answer.status == 502
    assert await gate.status(image_id) == "killed"
    proxy.clear()
    await clean(bucket, image_id)


async def test_a_store_that_is_down_kills_what_is_sent_to_it(
    gate: Remote, bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.down()
    try:
        for data, where in ((SMALL, "complete"), (BIG, "begin")):
            image_id = await gate.create()
            await expect_killed(gate, image_id, await gate.put(image_id, data), where)
    finally:
        proxy.up()
    assert bucket.of(image_id) == []


async def test_a_store_that_goes_down_amid_an_upload_is_cleaned_when_it_is_back(
    gate: Remote, bucket: Bucket, proxy: FaultProxy
) -> None:
    image_id = await gate.create()
    half_sent, gone = asyncio.Event(), asyncio.Event()

    async def body() -> object:
        yield BIG[: 6 * MIB]
        half_sent.set()
        await gone.wait()
        yield BIG[6 * MIB :]

    putting = asyncio.ensure_future(gate.put(image_id, body()))
    await half_sent.wait()

    async def has_part() -> bool:
        return proxy.seen("part") == 1

    await until(has_part, "the first part to be on its way")
    proxy.down()
    try:
        gone.set()
        answer = await putting
        assert answer.status == 502
        assert await gate.status(image_id) == "killed"
        assert bucket.of(image_id) != []
    finally:
        proxy.up()
    await clean(bucket, image_id)


async def test_a_delete_while_the_store_is_down_is_carried_out_later(
    gate: Remote, bucket: Bucket, proxy: FaultProxy
) -> None:
    image_id = await gate.active(SMALL)
    proxy.down()
    try:
        assert (await gate.ask("DELETE", f"/v2/images/{image_id}")).status == 204
        assert (await gate.ask("GET", f"/v2/images/{image_id}")).status == 404
        assert bucket.of(image_id) != []
    finally:
        proxy.up()
    await clean(bucket, image_id)


async def test_a_store_that_does_not_answer_ends_the_upload(
    gate: Remote, bucket: Bucket, proxy: FaultProxy
) -> None:
    proxy.on("part", Fault(late=60))
    image_id = await gate.create()
    putting = asyncio.ensure_future(gate.put(image_id, BIG))
    await gate.wait_for_status(image_id, "saving")
    # the others are served all the while
    assert (await gate.ask("GET", "/healthz")).status == 200
    async with asyncio.timeout(45):
        answer = await putting
    assert answer.status == 502
    assert await gate.status(image_id) == "killed"
    await clean(bucket, image_id)


async def test_a_store_that_stops_taking_a_part_ends_the_upload(
    seaweedfs: SeaweedFS, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    with Bucket(seaweedfs) as bucket, FaultProxy(seaweedfs.endpoint) as proxy:
        store = {"endpoint": proxy.endpoint, "timeout": "1s", "attempts": 2}
        # a part that is larger than what the sockets hold
        path = bucket.configure(tmp_path, store=store, uploads={"part_size": "16MiB"})
        with Server(tmp_path, "--config", str(path)) as server:
            gate = Remote(server.port, session)
            proxy.on("part", Fault(stall_request=0.1, late=60))
            image_id = await gate.create()
            async with asyncio.timeout(20):
                answer = await gate.put(image_id, pattern(17 * MIB))
            assert answer.status == 502
            assert await gate.status(image_id) == "killed"
            await clean(bucket, image_id)


async def test_what_a_store_does_long_after_it_was_given_up_leaves_nothing(
    gate: Remote, bucket: Bucket, proxy: FaultProxy
) -> None:
    late = TIMEOUT * 2.6  # longer than the two tries together
    proxy.on("put", Fault(late=late))
    proxy.on("complete", Fault(late=late))
    images = [await gate.create() for _ in range(2)]
    answers = await asyncio.gather(gate.put(images[0], SMALL), gate.put(images[1], BIG))
    tries = proxy.seen("put"), proxy.seen("complete")
    for image_id, answer in zip(images, answers, strict=True):
        assert answer.status == 502
        assert await gate.status(image_id) == "killed"
    await asyncio.sleep(late)  # nothing tells when the store has done it: that is the fault
    assert (proxy.seen("put"), proxy.seen("complete")) == tries
    for image_id in images:
        await clean(bucket, image_id)


# what stays on this side


def test_no_log_line_holds_a_secret_or_a_trace(server: Server, bucket: Bucket) -> None:
    log = server.log
    assert "upload broke" in log
    assert bucket.storage.secret_key not in log
    assert "X-Amz-Signature" not in log
    assert "Traceback" not in log


def test_the_folder_holds_no_data(server: Server, tmp_path: Path) -> None:
    """No local spooling: catalog, configuration and log are all there is."""
    large = [
        path.name
        for path in server.folder.rglob("*")
        if path.is_file() and path.stat().st_size > MIB and path.suffix != ".log"
    ]
    assert [name for name in large if not name.startswith("tidegate.db")] == []
