"""What machines ask: does it live, is it ready, how much did it do."""

import asyncio
from pathlib import Path

import pytest
from tests.kit.gateway import Gateway, running
from tests.kit.stores import FaultyStore

from tidegate import app as parts
from tidegate.domain.errors import StoreDown
from tidegate.stores.memory import MemoryStore


async def test_healthz_says_that_the_process_lives(gate: Gateway, store: FaultyStore) -> None:
    store.fail("ping", StoreDown(store.id, "it answered 503"))
    answer = await gate.ask("GET", "/healthz")
    assert (answer.status, answer.body) == (200, b"ok\n")


@pytest.mark.parametrize(("method", "body"), [("GET", b"OK"), ("HEAD", b"")])
async def test_healthcheck_answers_as_glance_does(gate: Gateway, method: str, body: bytes) -> None:
    answer = await gate.ask(method, "/healthcheck")
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["Content-Type"].startswith("text/plain")


async def test_readyz_names_the_parts_that_answer(gate: Gateway) -> None:
    answer = await gate.ask("GET", "/readyz")
    assert answer.status == 200
    assert answer.json == {"ready": True, "parts": ["catalog", "store memory"], "failed": {}}


async def test_readyz_is_503_and_says_what_failed_and_why(
    gate: Gateway, store: FaultyStore
) -> None:
    store.fail("ping", StoreDown(store.id, "it answered 503"))
    answer = await gate.ask("GET", "/readyz")
    assert answer.status == 503
    assert answer.json["ready"] is False
    assert answer.json["failed"] == {"store memory": "it answered 503"}


async def test_readyz_comes_back_with_the_store(gate: Gateway, store: FaultyStore) -> None:
    store.fail("ping", StoreDown(store.id, "it answered 503"), times=1)
    assert (await gate.ask("GET", "/readyz")).status == 503
    assert (await gate.ask("GET", "/readyz")).status == 200


async def test_readyz_does_not_wait_for_a_silent_store(
    gate: Gateway, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(parts, "READY_WITHIN", 0.05)
    store.before["ping"] = hang
    answer = await gate.ask("GET", "/readyz")
    assert answer.status == 503
    assert answer.json["failed"] == {"store memory": "it does not answer"}


async def test_readyz_notices_a_catalog_that_is_gone(tmp_path: Path) -> None:
    store = FaultyStore(MemoryStore())
    async with running(store, tmp_path) as gate:
        for path in tmp_path.glob("tidegate.db*"):
            path.write_bytes(b"no database any more" * 500)
        answer = await gate.ask("GET", "/readyz")
    assert answer.status == 503
    assert set(answer.json["failed"]) == {"catalog"}


async def test_metrics_count_what_was_done(gate: Gateway) -> None:
    def value(text: bytes, name: str) -> float:
        lines = [line for line in text.decode().splitlines() if line.startswith(name)]
        return float(lines[0].rpartition(" ")[2])

    before = (await gate.ask("GET", "/metrics")).body
    image_id = await gate.active(b"12345")
    await gate.ask("GET", f"/v2/images/{image_id}/file")
    answer = await gate.ask("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    for name in ("tidegate_received_bytes_total", "tidegate_sent_bytes_total"):
        assert value(answer.body, name) - value(before, name) == 5
    started = "tidegate_uploads_started_total"
    assert value(answer.body, started) - value(before, started) == 1


async def test_sec_65_metrics_name_no_image_and_no_address(gate: Gateway) -> None:
    image_id = await gate.active(b"x", name="secret-name")
    await gate.ask("GET", f"/v2/images/{image_id}/file?token=secret-token")
    await gate.ask("GET", "/v2/secret-path")
    text = (await gate.ask("GET", "/metrics")).body.decode()
    for word in (image_id, "secret-name", "secret-token", "secret-path", "127.0.0.1"):
        assert word not in text
    assert 'route="/v2/images/{image_id}/file"' in text


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_they_are_only_read(gate: Gateway, method: str, path: str) -> None:
    assert (await gate.ask(method, path)).status == 405
