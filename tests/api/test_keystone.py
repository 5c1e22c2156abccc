"""Auth mode ``keystone`` over HTTP, before an identity service that answers as told."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.kit.gateway import DATA, Gateway, running
from tests.kit.keystone_fake import PASSWORD, FakeKeystone, fake_keystone, token_of
from tests.kit.server import until
from tests.kit.stores import FaultyStore

from tidegate.api.journal import OPEN

GOOD = {"X-Auth-Token": "gAAAAgood-token"}


@pytest.fixture
async def fake() -> AsyncIterator[FakeKeystone]:
    async with fake_keystone() as found:
        found.tokens[GOOD["X-Auth-Token"]] = token_of()
        yield found


@pytest.fixture
async def gate(fake: FakeKeystone, store: FaultyStore, tmp_path: Path) -> AsyncIterator[Gateway]:
    keystone = {"url": fake.url, "username": "tidegate", "password": PASSWORD, "timeout": "2s"}
    async with running(store, tmp_path, auth={"mode": "keystone", "keystone": keystone}) as found:
        yield found


async def test_a_known_token_is_let_in(gate: Gateway) -> None:
    assert (await gate.ask("GET", "/v2/images", headers=GOOD)).status == 200


@pytest.mark.parametrize("headers", [{}, {"X-Auth-Token": "bad"}, {"X-Roles": "admin"}])
async def test_others_are_told_where_tokens_are_given(
    gate: Gateway, fake: FakeKeystone, headers: dict[str, str]
) -> None:
    answer = await gate.ask("GET", "/v2/images", headers=headers)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == f'Keystone uri="{fake.url}"'
    assert answer.message == "The request you have made requires authentication."


async def test_a_bad_token_moves_no_data(gate: Gateway, store: FaultyStore) -> None:
    answer = await gate.put("11111111-2222-3333-4444-555555555555", b"x" * 100_000)
    assert answer.status == 401
    assert store.calls == []


@pytest.mark.parametrize("path", sorted(OPEN))
async def test_what_machines_ask_needs_no_keystone(
    gate: Gateway, fake: FakeKeystone, path: str
) -> None:
    fake.status = 500
    assert (await gate.ask("GET", path, headers={"X-Auth-Token": "new"})).status in (200, 300)


@pytest.mark.parametrize("silent", [False, True], ids=["fails", "hangs"])
async def test_while_keystone_is_down_new_callers_are_told_to_come_again(
    gate: Gateway, fake: FakeKeystone, silent: bool
) -> None:
    assert (await gate.ask("GET", "/v2/images", headers=GOOD)).status == 200
    fake.status = 500
    if silent:
        fake.open.clear()
    new = {"X-Auth-Token": "new"}
    async with asyncio.timeout(10):
        answer = await gate.ask("GET", "/v2/images", headers=new)
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "5"
    assert "WWW-Authenticate" not in answer.headers
    assert answer.message == "The identity service does not answer now; try again later."
    # and those who are known are served
    assert (await gate.ask("GET", "/v2/images", headers=GOOD)).status == 200
    fake.open.set()


async def test_data_is_not_answered_503(gate: Gateway, fake: FakeKeystone) -> None:
    fake.status = 500
    answer = await gate.put(
        "11111111-2222-3333-4444-555555555555", b"x", headers={"X-Auth-Token": "new"}
    )
    assert answer.status == 502


async def test_access_rules_see_the_path_as_it_is_served(gate: Gateway, fake: FakeKeystone) -> None:
    rule = {"id": "r", "service": "image", "method": "GET", "path": "/v2/images"}
    credential = {"id": "a", "name": "a", "access_rules": [rule]}
    fake.tokens["ruled"] = token_of(application_credential=credential)
    ruled = {"X-Auth-Token": "ruled"}
    statuses = {
        path: (await gate.ask("GET", path, headers=ruled)).status
        for path in (
            "/v2/images?limit=1",
            "/v2.7/images",
            "//v2//images",
            "/v2/images/x",
            "/v1/images",
        )
    }
    assert statuses == {
        "/v2/images?limit=1": 200,
        "/v2.7/images": 200,
        "//v2//images": 200,
        "/v2/images/x": 401,
        "/v1/images": 401,
    }


async def test_no_token_is_written_to_the_log(gate: Gateway, fake: FakeKeystone) -> None:
    with capture_logs() as logs:
        for token in (GOOD["X-Auth-Token"], "gAAAAbad-token"):
            headers = {"X-Auth-Token": token, "X-Service-Token": "gAAAAservice-token"}
            answer = await gate.ask("GET", "/v2/images", headers=headers)
            assert b"gAAAA" not in answer.body
        fake.status = 500
        await gate.ask("GET", "/v2/images", headers={"X-Auth-Token": "gAAAAthird-token"})

        async def written() -> bool:
            return sum(entry["event"] == "request" for entry in logs) == 3

        await until(written, "the requests' lines")
    assert "gAAAA" not in str(logs)
    assert PASSWORD not in str(logs)
    first = next(entry for entry in logs if entry["event"] == "request")
    assert len(first["token"]) == 8


async def test_an_upload_outlives_its_token(gate: Gateway, fake: FakeKeystone) -> None:
    image_id = (
        await gate.ask(
            "POST", "/v2/images", headers=GOOD,
            json={"disk_format": "raw", "container_format": "bare"},
        )
    ).json["id"]  # fmt: skip

    async def taken() -> bool:
        return any(token == "late" for token, _ in fake.asked)

    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        await until(taken, "the token to be asked for")
        fake.tokens["late"]["expires_at"] = "2026-01-01T00:00:00Z"
        yield b"second"

    fake.tokens["late"] = token_of()
    headers = {"X-Auth-Token": "late", "Content-Type": DATA}
    path = f"/v2/images/{image_id}/file"
    answer = await gate.ask("PUT", path, data=body(), headers=headers)
    assert answer.status == 204
    answer = await gate.ask("GET", path, headers=GOOD)
    assert answer.body == b"firstsecond"
