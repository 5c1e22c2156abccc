"""Auth mode ``tokens`` over HTTP: who is let in, and what the others are told."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.kit.gateway import running
from tests.kit.server import until
from tests.kit.stores import FaultyStore
from tests.kit.tokens import Callers, basic, bearer, everybody, revoke

from tidegate.api.journal import OPEN
from tidegate.api.routes import DATA_ROUTES, ROUTES

Headers = dict[str, str]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.toml"


@pytest.fixture
async def callers(store: FaultyStore, file: Path) -> AsyncIterator[Callers]:
    headers = everybody(file)
    auth = {"mode": "tokens", "tokens_file": str(file)}
    async with running(store, file.parent, auth=auth) as gate:
        yield Callers(gate, headers)


@pytest.mark.parametrize("path", sorted(OPEN))
async def test_what_machines_ask_needs_no_token(callers: Callers, path: str) -> None:
    assert (await callers.gate.ask("GET", path)).status in (200, 300)
    assert (await callers.gate.ask("GET", path, headers={"X-Auth-Token": "bad"})).status in (
        200,
        300,
    )


CLOSED = [(method, path) for method, path, _ in (*ROUTES, *DATA_ROUTES) if path not in OPEN]


@pytest.mark.parametrize("headers", [{}, {"X-Auth-Token": "tg_" + "A" * 49}], ids=["none", "bad"])
async def test_everything_else_does(callers: Callers, headers: Headers) -> None:
    wrong = []
    for method, path in [*CLOSED, ("GET", "/v2/nothing")]:
        answer = await callers.gate.ask(method.replace("*", "GET"), path, headers=headers)
        challenge = answer.headers.get("WWW-Authenticate")
        title = "Unauthorized" if method == "HEAD" else answer.json["error"]["title"]
        if (answer.status, challenge, title) != (401, 'Bearer realm="tidegate"', "Unauthorized"):
            wrong.append((method, path, answer.status))
    assert wrong == []


@pytest.mark.parametrize("path", ["/v3/x", "/x"])
async def test_what_names_no_version_is_told_them_without_a_token(
    callers: Callers, path: str
) -> None:
    assert (await callers.gate.ask("GET", path)).status == 300


async def test_a_body_without_a_token_makes_nothing(callers: Callers, store: FaultyStore) -> None:
    answer = await callers.gate.put("11111111-2222-3333-4444-555555555555", b"x" * 100_000)
    assert answer.status == 401
    assert store.calls == []


@pytest.mark.parametrize("how", [dict, bearer, basic])
async def test_a_token_is_taken_by_each_header(callers: Callers, how: Any) -> None:
    answer = await callers.gate.ask("GET", "/v2/images", headers=how(callers.headers["owner"]))
    assert answer.status == 200


async def test_a_projects_images_are_its_own(callers: Callers) -> None:
    image_id = await callers.queued("owner")
    found = {
        caller: await callers.ask(caller, "GET", f"/v2/images/{image_id}")
        for caller in callers.headers
    }
    assert {caller for caller, answer in found.items() if answer.status == 404} == {"stranger"}
    assert found["reader"].json["owner"] == "p1"


async def test_a_reader_changes_nothing(callers: Callers) -> None:
    body = {"disk_format": "raw", "container_format": "bare"}
    answer = await callers.gate.ask(
        "POST", "/v2/images", json=body, headers=callers.headers["reader"]
    )
    assert answer.status == 403
    image_id = await callers.queued()
    answer = await callers.ask("reader", "DELETE", f"/v2/images/{image_id}")
    assert answer.status == 403


async def test_locations_are_shown_to_the_owners_project_alone(callers: Callers) -> None:
    image_id = await callers.active(b"x", "admin", "public")
    shown = [
        len((await callers.ask(caller, "GET", f"/v2/images/{image_id}")).json["locations"])
        for caller in ("admin", "owner")
    ]
    assert shown == [1, 0]


async def test_a_token_that_was_removed_is_refused(callers: Callers, file: Path) -> None:
    revoke(file, "owner")

    async def refused() -> bool:
        answer = await callers.gate.ask("GET", "/v2/images", headers=callers.headers["owner"])
        return answer.status == 401

    await until(refused, "the token to be refused", 10)
    answer = await callers.gate.ask("GET", "/v2/images", headers=callers.headers["stranger"])
    assert answer.status == 200


async def test_the_log_names_a_token_by_its_id(callers: Callers) -> None:
    with capture_logs() as logs:
        await callers.gate.ask("GET", "/v2/images", headers=callers.headers["owner"])

        async def written() -> bool:
            return any(entry["event"] == "request" for entry in logs)

        await until(written, "the request's line")
    (line,) = [entry for entry in logs if entry["event"] == "request"]
    assert line["token"] == "owner"
    assert callers.headers["owner"]["X-Auth-Token"] not in str(logs)


async def test_other_sites_and_host_names_are_no_matter_where_tokens_are(callers: Callers) -> None:
    answer = await callers.gate.ask(
        "GET",
        "/v2/images",
        headers={
            **callers.headers["owner"],
            "Host": "images.example",
            "Origin": "https://x.example",
        },
    )
    assert answer.status == 200
