"""A store that fails in a download: it is ended right or cut, never short and never wrong."""

import asyncio
from pathlib import Path

import aiohttp
import pytest
from tests.e2e.bucket import Bucket
from tests.e2e.conftest import BIG, SMALL, TIMEOUT
from tests.kit.proxy import Fault, FaultProxy
from tests.kit.server import Remote, Server, until
from tests.kit.sources import pattern

from tidegate.seaweedfs import SeaweedFS

LATE = Fault(late=TIMEOUT * 1.5)


@pytest.fixture(scope="module")
def server(behind_proxy: Server) -> Server:
    return behind_proxy


def key_of(bucket: Bucket, image_id: str) -> str:
    (key,) = bucket.of(image_id)
    return key


async def read(gate: Remote, image_id: str) -> bytes:
    """The whole body; raises when it does not end regularly."""
    answer = await gate.ask("GET", f"/v2/images/{image_id}/file")
    assert answer.status == 200, answer.body
    return answer.body


@pytest.mark.parametrize("data", [SMALL, BIG], ids=["small", "big"])
@pytest.mark.parametrize(
    "fault",
    [
        Fault(truncate_answer=0.5),
        Fault(reset_answer=0.5),
        Fault(status=503, code="SlowDown"),
        Fault(lost=True),
        LATE,
    ],
    ids=["truncated", "reset", "503", "lost", "late"],
)
async def test_a_read_that_breaks_once_is_taken_up_again(
    gate: Remote, proxy: FaultProxy, fault: Fault, data: bytes
) -> None:
    image_id = await gate.active(data)
    proxy.on("get", fault, times=1)
    assert await read(gate, image_id) == data
    assert proxy.failed("get") == 1
    assert proxy.seen("get") > 1


@pytest.mark.parametrize(
    "fault",
    [Fault(truncate_answer=0.5), Fault(reset_answer=0.5)],
    ids=["truncated", "reset"],
)
async def test_a_body_that_cannot_be_had_whole_never_ends_well(
    gate: Remote, server: Server, proxy: FaultProxy, fault: Fault
) -> None:
    image_id = await gate.active(BIG)
    proxy.on("get", fault, times=1)
    proxy.on("get", Fault(status=503, code="SlowDown"))
    await expect_cut(gate, server, image_id)
    proxy.clear()
    assert await read(gate, image_id) == BIG


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
async def test_a_body_with_a_wrong_byte_never_ends_well(
    gate: Remote, server: Server, proxy: FaultProxy, at: float
) -> None:
    image_id = await gate.active(BIG)
    proxy.on("get", Fault(flip_answer=at))
    await expect_cut(gate, server, image_id)
    proxy.clear()
    assert await read(gate, image_id) == BIG


async def expect_cut(gate: Remote, server: Server, image_id: str) -> None:
    """The download breaks off, and the image is as it was."""
    with pytest.raises(aiohttp.ClientPayloadError):
        await read(gate, image_id)
    assert any(
        event["event"] == "download broke" and event["image"] == image_id for event in server.events
    )
    assert await gate.status(image_id) == "active"


async def test_a_small_body_with_a_wrong_byte_is_not_begun(gate: Remote, proxy: FaultProxy) -> None:
    image_id = await gate.active(SMALL)
    proxy.on("get", Fault(flip_answer=0.5))
    answer = await gate.ask("GET", f"/v2/images/{image_id}/file")
    assert answer.status == 502
    assert "not the ones that were uploaded" in answer.message


async def test_a_store_that_is_down_for_a_read_is_503(gate: Remote, proxy: FaultProxy) -> None:
    image_id = await gate.active(SMALL)
    proxy.down()
    try:
        answer = await gate.ask("GET", f"/v2/images/{image_id}/file")
    finally:
        proxy.up()
    assert answer.status == 503
    assert "Retry-After" in answer.headers
    assert await gate.status(image_id) == "active"
    assert await read(gate, image_id) == SMALL


@pytest.mark.parametrize("data", [SMALL, BIG], ids=["small", "big"])
async def test_an_object_that_is_missing_is_said(gate: Remote, bucket: Bucket, data: bytes) -> None:
    image_id = await gate.active(data)
    bucket.delete(key_of(bucket, image_id))
    answer = await gate.ask("GET", f"/v2/images/{image_id}/file")
    assert answer.status == 502
    assert "no such object" in answer.message
    assert await gate.status(image_id) == "active"


@pytest.mark.parametrize("data", [SMALL, BIG], ids=["small", "big"])
@pytest.mark.parametrize("change", ["shorter", "longer"])
async def test_an_object_replaced_by_one_of_another_size_is_not_served(
    gate: Remote, bucket: Bucket, data: bytes, change: str
) -> None:
    image_id = await gate.active(data)
    other = {"shorter": data[:-1], "longer": data + b"x"}[change]
    bucket.put(key_of(bucket, image_id), other)
    answer = await gate.ask("GET", f"/v2/images/{image_id}/file")
    assert answer.status == 502
    assert await gate.status(image_id) == "active"


async def test_an_object_replaced_by_other_bytes_is_cut(gate: Remote, bucket: Bucket) -> None:
    image_id = await gate.active(BIG)
    bucket.put(key_of(bucket, image_id), pattern(len(BIG), seed=1))
    with pytest.raises(aiohttp.ClientPayloadError):
        await read(gate, image_id)


async def test_an_object_replaced_while_it_is_read_is_not_mixed(
    gate: Remote, bucket: Bucket, proxy: FaultProxy
) -> None:
    image_id = await gate.active(BIG)
    key = key_of(bucket, image_id)
    proxy.on("get", Fault(truncate_answer=0.5), times=1)
    proxy.on("get", Fault(late=TIMEOUT / 2))
    reading = asyncio.ensure_future(read(gate, image_id))

    async def again() -> bool:
        return proxy.seen("get") == 2

    await until(again, "the reading to be taken up again")
    bucket.put(key, pattern(len(BIG), seed=1))
    with pytest.raises(aiohttp.ClientPayloadError):
        await reading


async def test_bits_that_rot_at_rest_are_never_served(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    with SeaweedFS(tmp_path / "s3") as storage, Bucket(storage) as bucket:
        path = bucket.configure(tmp_path, store={"timeout": "500ms"})
        with Server(tmp_path, "--config", str(path)) as server:
            gate = Remote(server.port, session)
            image_id = await gate.active(SMALL)
            storage.kill()  # nothing of it stays in its memory
            assert rot(tmp_path / "s3", SMALL[:1000]) > 0
            storage.start()
            # as the store notices it or not
            assert await outcome(gate, image_id) in (502, 503, "cut")
            assert await gate.status(image_id) == "active"


async def outcome(gate: Remote, image_id: str) -> int | str:
    """The status of a download, or that it did not end regularly."""
    try:
        return (await gate.ask("GET", f"/v2/images/{image_id}/file")).status
    except aiohttp.ClientPayloadError:
        return "cut"


def rot(folder: Path, data: bytes) -> int:
    """Flip a bit of each copy of ``data`` in the files of a store; how many there were."""
    found = 0
    for path in folder.rglob("*.dat"):
        whole = path.read_bytes()
        at = whole.find(data)
        if at >= 0:
            with path.open("r+b") as file:
                file.seek(at)
                file.write(bytes([data[0] ^ 1]))
            found += 1
    return found
