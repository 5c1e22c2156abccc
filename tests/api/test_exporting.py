"""Exports of images, as administrators ask for them by ``/v2/tasks``."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit.gateway import ABSENT, Answer, Gateway, running
from tests.kit.identity import Named, of
from tests.kit.server import until
from tests.kit.sources import pattern
from tests.kit.stores import FaultyStore, objects, read_all, unfinished
from tests.kit.targets import Target, taking

BODY = pattern(300_000)
KEY = "exports/disk.qcow2"
STORE = {"store": "memory", "key": KEY}


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    async with taking() as found:
        yield found


@pytest.fixture
async def gate(store: FaultyStore, tmp_path: Path, target: Target) -> AsyncIterator[Gateway]:
    allowed = {"stores": ["memory/exports"], "urls": [target.url]}
    async with running(store, tmp_path, export=allowed) as found:
        yield found


async def ask(gate: Gateway, image_id: Any, **given: Any) -> Answer:
    body = {"type": "export", "input": {"image_id": image_id, **given}}
    return await gate.ask("POST", "/v2/tasks", json=body)


async def exported(gate: Gateway, image_id: str, **given: Any) -> dict[str, Any]:
    """The task, once it has ended."""
    answer = await ask(gate, image_id, **given)
    assert answer.status == 201, answer.body
    made = answer.json
    assert (made["status"], made["type"], made["result"]) == ("pending", "export", None)
    assert made["image_id"] == image_id
    assert answer.headers["Location"] == f"{gate.url}/v2/tasks/{made['id']}"

    async def ended() -> dict[str, Any] | None:
        task: dict[str, Any] = (await gate.ask("GET", f"/v2/tasks/{made['id']}")).json
        return task if task["status"] in ("success", "failure") else None

    return await until(ended, "the export to end")


@pytest.mark.parametrize("to_url", [False, True], ids=["store", "url"])
async def test_an_export_has_the_images_bytes_and_says_what_they_are(
    gate: Gateway, store: FaultyStore, target: Target, to_url: bool
) -> None:
    image_id = await gate.active(BODY, name="disk")
    image = await gate.show(image_id)
    where = {"url": target.url + "disk.raw"} if to_url else STORE
    task = await exported(gate, image_id, **where)
    assert task["status"] == "success", task["message"]
    assert task["result"] == {
        "image_id": image_id,
        "location": target.url + "disk.raw" if to_url else f"memory://memory/{KEY}",
        "size": len(BODY),
        "checksum": hashlib.md5(BODY).hexdigest(),
        "os_hash_algo": image["os_hash_algo"],
        "os_hash_value": image["os_hash_value"],
    }
    found = target.files["/images/disk.raw"] if to_url else await read_all(store, KEY)
    assert found == BODY
    assert await gate.show(image_id) == image


async def test_an_export_outlives_its_image(gate: Gateway, store: FaultyStore) -> None:
    image_id = await gate.active(BODY)
    await exported(gate, image_id, **STORE)
    assert (await gate.ask("DELETE", f"/v2/images/{image_id}")).status == 204
    assert await objects(store) == {KEY: len(BODY)}


async def test_exports_are_found_by_their_type_and_by_their_image(gate: Gateway) -> None:
    image_id = await gate.active(BODY)
    task = await exported(gate, image_id, **STORE)
    found = (await gate.ask("GET", "/v2/tasks?type=export&status=success")).json["tasks"]
    assert [one["id"] for one in found] == [task["id"]]
    assert (await gate.ask("GET", "/v2/tasks?type=clone")).json["tasks"] == []
    of_image = (await gate.ask("GET", f"/v2/images/{image_id}/tasks")).json["tasks"]
    assert [one["id"] for one in of_image] == [task["id"]]
    schema = (await gate.ask("GET", "/v2/schemas/task")).json
    assert "export" in schema["properties"]["type"]["enum"]


# what is refused at once


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "'store'"),
        ({"store": "memory"}, "'key'"),
        ({"key": KEY}, "'store'"),
        ({**STORE, "url": "https://h/a"}, "not both"),
        ({"store": "memory", "key": "a"}, "<folder>/<name>"),
        ({"store": "memory", "key": "exports/../x"}, "<folder>/<name>"),
        ({"store": "memory", "key": "exports/.x"}, "<folder>/<name>"),
        ({"store": 7, "key": KEY}, "'store'"),
        ({"url": "file:///etc/passwd"}, "http:// or https://"),
        ({"url": "http://u:p@127.0.0.1/images/a"}, "http:// or https://"),
        ({"url": "http://127.0.0.1/images/a?b"}, "no query"),
        ({"url": None}, "http:// or https://"),
        ({**STORE, "image_properties": {"name": "x"}}, "image_properties"),
    ],
    ids=["nothing", "no key", "no store", "both", "no folder", "dots", "hidden", "number", "file",
         "user", "query", "null", "more"],
)  # fmt: skip
async def test_an_input_that_names_no_place_is_400(
    gate: Gateway, given: dict[str, Any], words: str
) -> None:
    answer = await ask(gate, await gate.active(BODY), **given)
    assert (answer.status, words in answer.message) == (400, True), answer.message
    assert (await gate.ask("GET", "/v2/tasks")).json["tasks"] == []


@pytest.mark.parametrize("image_id", [None, 7, "", "x", ["a"]], ids=ascii)
async def test_what_is_no_id_is_400(gate: Gateway, image_id: Any) -> None:
    answer = await ask(gate, image_id, **STORE)
    assert (answer.status, "'image_id'" in answer.message) == (400, True)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"store": "memory", "key": "images/x"}, "export.stores"),
        ({"store": "http", "key": KEY}, "export.stores"),
        ({"url": "http://169.254.169.254/images/x"}, "export.urls"),
        ({"url": "http://127.0.0.1/images/x"}, "export.urls"),
    ],
    ids=["folder", "store", "host", "port"],
)
async def test_a_place_that_is_not_allowed_is_403_and_not_told_what_is(
    gate: Gateway, target: Target, given: dict[str, Any], rule: str
) -> None:
    answer = await ask(gate, await gate.active(BODY), **given)
    assert (answer.status, rule in answer.message) == (403, True)
    assert "exports" not in answer.message
    assert str(target.port) not in answer.message


async def test_where_nothing_is_allowed_it_is_403_and_says_what_would_be_set(
    shared_gate: Gateway,
) -> None:
    image_id = await shared_gate.active(BODY)
    answer = await shared_gate.ask(
        "POST", "/v2/tasks", json={"type": "export", "input": {"image_id": image_id, **STORE}}
    )
    assert (answer.status, "export.stores or export.urls" in answer.message) == (403, True)


async def test_exports_are_for_administrators(
    store: FaultyStore, tmp_path: Path, target: Target
) -> None:
    allowed = {"stores": ["memory/exports"]}
    async with running(store, tmp_path, identity=Named(), export=allowed) as gate:
        image_id = await gate.active(BODY, visibility="public")
        body = {"type": "export", "input": {"image_id": image_id, **STORE}}
        answer = await gate.ask("POST", "/v2/tasks", json=body, headers=of("p1"))
        assert answer.status == 403
        assert (await gate.ask("POST", "/v2/tasks", json=body)).status == 201


async def test_callers_without_a_token_are_401(tmp_path: Path, store: FaultyStore) -> None:
    tokens = tmp_path / "tokens.toml"
    tokens.touch(mode=0o600)
    auth = {"mode": "tokens", "tokens_file": str(tokens)}
    async with running(store, tmp_path, auth=auth, export={"stores": ["memory/exports"]}) as gate:
        assert (await ask(gate, ABSENT, **STORE)).status == 401


async def test_an_image_that_is_missing_or_has_no_data_is_not_exported(gate: Gateway) -> None:
    assert (await ask(gate, ABSENT, **STORE)).status == 404
    answer = await ask(gate, await gate.create(), **STORE)
    assert (answer.status, "active" in answer.message) == (409, True)
    gone = await gate.active(BODY)
    await gate.ask("DELETE", f"/v2/images/{gone}")
    assert (await ask(gate, gone, **STORE)).status == 404
    assert (await gate.ask("GET", "/v2/tasks")).json["tasks"] == []


async def test_a_deactivated_image_is_not_exported_by_an_administrator_either(
    gate: Gateway,
) -> None:
    image_id = await gate.active(BODY)
    await gate.ask("POST", f"/v2/images/{image_id}/actions/deactivate")
    answer = await ask(gate, image_id, **STORE)
    assert (answer.status, "deactivated" in answer.message) == (403, True)
    await gate.ask("POST", f"/v2/images/{image_id}/actions/reactivate")
    assert (await exported(gate, image_id, **STORE))["status"] == "success"


# what the task says


async def test_nothing_is_written_over(gate: Gateway, store: FaultyStore) -> None:
    first, second = await gate.active(BODY), await gate.active(BODY[1:])
    assert (await exported(gate, first, **STORE))["status"] == "success"
    task = await exported(gate, second, **STORE)
    assert (task["status"], task["result"]) == ("failure", None)
    assert task["message"] == "There is already an object; choose another key, or remove it."
    assert await read_all(store, KEY) == BODY
    assert await unfinished(store) == []


async def test_a_target_that_refuses_is_told_by_its_status(gate: Gateway, target: Target) -> None:
    target.answers = [403]
    task = await exported(gate, await gate.active(BODY), url=target.url + "a")
    assert (task["status"], task["message"]) == ("failure", "The target answered 403.")
