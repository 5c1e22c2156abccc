"""Clients that go away, stall, or frame their body wrongly: both APIs, at every stage."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.kit.gateway import DATA, Gateway, raw, running
from tests.kit.server import until
from tests.kit.sources import pattern
from tests.kit.stores import FaultyStore, objects, unfinished

MIB = 2**20
SIZE = 24 * MIB


async def wait_until(gate: Gateway, image_id: str, status: str) -> None:
    async def reached() -> bool:
        return bool((await gate.show(image_id))["status"] == status)

    await until(reached, f"the image to be {status}")


def head_v2(image_id: str, *more: str) -> bytes:
    lines = [f"PUT /v2/images/{image_id}/file HTTP/1.1", "Host: 127.0.0.1",
             f"Content-Type: {DATA}", *more]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode()


def head_v1(image_id: str, *more: str) -> bytes:
    lines = [f"PUT /v1/images/{image_id} HTTP/1.1", "Host: 127.0.0.1",
             f"Content-Type: {DATA}", *more]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize("head", [head_v1, head_v2], ids=["v1", "v2"])
@pytest.mark.parametrize("percent", [0, 1, 50, 99])
async def test_a_client_that_goes_leaves_a_killed_image_and_nothing_else(
    gate: Gateway, store: FaultyStore, head: Callable[..., bytes], percent: int
) -> None:
    image_id = await gate.create()
    body = pattern(SIZE * percent // 100)
    _, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(head(image_id, f"Content-Length: {SIZE}") + body)
    await writer.drain()
    await wait_until(gate, image_id, "saving")
    writer.transport.abort()
    await wait_until(gate, image_id, "killed")
    failure = await gate.failure(image_id)
    assert failure["reason"] == "client_gone"
    assert failure["bytes_received"] <= len(body)
    assert failure["request_id"].startswith("req-")
    assert await objects(store) == {}
    assert await unfinished(store) == []


@pytest.mark.parametrize("sent", [0, 5 * MIB])
async def test_a_chunked_body_that_breaks_off_is_no_end(
    gate: Gateway, store: FaultyStore, sent: int
) -> None:
    image_id = await gate.create()
    body = pattern(sent)
    chunk = f"{sent:x}\r\n".encode() + body + b"\r\n" if sent else b""
    _, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(head_v2(image_id, "Transfer-Encoding: chunked") + chunk)
    await writer.drain()
    await wait_until(gate, image_id, "saving")
    writer.close()
    await wait_until(gate, image_id, "killed")
    assert (await gate.failure(image_id))["reason"] == "client_gone"
    assert await objects(store) == {}


@pytest.mark.parametrize("garbage", [b"zz\r\n", b"3\r\nabcd\r\n", b"-1\r\n", b"f" * 17 + b"\r\n"])
async def test_a_badly_framed_chunk_is_400_and_kills(
    gate: Gateway, store: FaultyStore, garbage: bytes
) -> None:
    image_id = await gate.create()
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(head_v2(image_id, "Transfer-Encoding: chunked") + b"3\r\nabc\r\n")
    await wait_until(gate, image_id, "saving")
    writer.write(garbage)
    async with asyncio.timeout(20):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1
    assert (await gate.show(image_id))["status"] == "killed"
    assert (await gate.failure(image_id))["reason"] == "client_gone"
    assert await objects(store) == {}
    writer.close()
    await writer.wait_closed()


async def test_a_body_framed_badly_from_the_start_is_400_and_claims_nothing(gate: Gateway) -> None:
    image_id = await gate.create()
    answer = await raw(gate.port, head_v2(image_id, "Transfer-Encoding: chunked") + b"zz\r\n")
    assert answer.split(b" ")[1] == b"400"
    assert b"x-openstack-request-id: req-" in answer
    assert (await gate.show(image_id))["status"] == "queued"


async def test_a_client_that_ends_its_side_early_gets_an_answer(gate: Gateway) -> None:
    image_id = await gate.create()
    answer = await raw(gate.port, head_v2(image_id, "Content-Length: 100") + b"x" * 50, end=True)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
    await wait_until(gate, image_id, "killed")


@pytest.fixture
async def impatient(store: FaultyStore, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(store, tmp_path, uploads={"idle_timeout": "300ms"}) as found:
        yield found


@pytest.mark.parametrize("sent", [0, 10, 6 * MIB])
async def test_a_client_that_sends_no_more_is_408(
    impatient: Gateway, store: FaultyStore, sent: int
) -> None:
    image_id = await impatient.create()
    answer = await raw(
        impatient.port,
        head_v2(image_id, f"Content-Length: {SIZE}", "Connection: close") + pattern(sent),
        until=b"}}",
    )
    assert answer.startswith(b"HTTP/1.1 408")
    await wait_until(impatient, image_id, "killed")
    assert (await impatient.failure(image_id))["reason"] == "client_stalled"
    assert await objects(store) == {}


async def test_who_asks_first_is_told_to_go_on(gate: Gateway) -> None:
    image_id = await gate.create()
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(head_v2(image_id, "Content-Length: 3", "Expect: 100-continue"))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"abc")
    assert (await reader.readline()).startswith(b"HTTP/1.1 204")
    writer.close()
    await writer.wait_closed()


async def test_who_asks_first_is_refused_before_it_sends(gate: Gateway) -> None:
    image_id = await gate.active(b"abc")
    answer = await raw(
        gate.port,
        head_v2(image_id, "Content-Length: 3", "Expect: 100-continue", "Connection: close"),
        until=b"}}",
    )
    assert answer.startswith(b"HTTP/1.1 409")


async def test_an_image_deleted_while_its_data_comes_is_410_and_leaves_nothing(
    gate: Gateway, store: FaultyStore
) -> None:
    image_id = await gate.create()
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(head_v2(image_id, f"Content-Length: {SIZE}") + pattern(SIZE - 1))
    await wait_until(gate, image_id, "saving")
    assert (await gate.ask("DELETE", f"/v2/images/{image_id}")).status == 204
    writer.write(b"!")
    assert (await reader.readline()).startswith(b"HTTP/1.1 410")
    writer.close()
    await writer.wait_closed()
    assert await objects(store) == {}
    assert await unfinished(store) == []


async def test_progress_is_seen_while_bytes_move(store: FaultyStore, tmp_path: Path) -> None:
    go_on = asyncio.Event()
    seen = asyncio.Event()

    async def hold(*_: object) -> None:
        seen.set()
        await go_on.wait()

    async with running(store, tmp_path, uploads={"lease": "1s"}) as gate:
        image_id = await gate.create()
        store.before["put_part"] = hold
        uploading = asyncio.ensure_future(gate.put(image_id, pattern(40 * MIB)))
        await seen.wait()

        async def told() -> dict[str, object] | None:
            found = await only_attempt(gate, image_id)
            return found if found["received"] else None

        attempt = await until(told, "the progress to be told")
        assert attempt["state"] == "writing"
        assert attempt["expected_size"] == 40 * MIB
        assert (await gate.show(image_id))["status"] == "saving"
        go_on.set()
        assert (await uploading).status == 204


async def only_attempt(gate: Gateway, image_id: str) -> dict[str, object]:
    answer = await gate.ask("GET", f"/v2/images/{image_id}/uploads")
    (attempt,) = answer.json["uploads"]
    found: dict[str, object] = attempt
    return found


async def test_too_many_waiting_uploads_are_429_and_stay_queued(
    store: FaultyStore, tmp_path: Path
) -> None:
    go_on = asyncio.Event()

    async def hold(*_: object) -> None:
        await go_on.wait()

    settings = {"memory_budget": "16MiB", "part_size": "8MiB", "max_waiting": 1}
    async with running(store, tmp_path, uploads=settings) as gate:
        first, second = await gate.create(), await gate.create()
        store.before["put_part"] = hold
        uploading = asyncio.ensure_future(gate.put(first, pattern(40 * MIB)))

        async def waits() -> bool:
            return b"tidegate_uploads_waiting 1.0" in (await gate.ask("GET", "/metrics")).body

        await until(waits, "the first to wait")
        answer = await gate.put(second, b"abc")
        assert answer.status == 429
        assert answer.headers["Retry-After"]
        assert (await gate.show(second))["status"] == "queued"
        go_on.set()
        assert (await uploading).status == 204
