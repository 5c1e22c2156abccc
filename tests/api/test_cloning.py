"""Clones of images, as administrators ask for them by ``/v2/tasks``."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.kit.formats import qcow2
from tests.kit.gateway import ABSENT, Answer, Gateway, running
from tests.kit.identity import of
from tests.kit.server import until
from tests.kit.sources import pattern
from tests.kit.stores import FaultyStore, objects, unfinished

from tidegate import telemetry
from tidegate.domain.errors import NotCopied

BODY = pattern(300_000)
BIG = pattern(40 * 2**20)


async def ask(gate: Gateway, image_id: Any, **given: Any) -> Answer:
    body = {"type": "clone", "input": {"image_id": image_id, **given}}
    return await gate.ask("POST", "/v2/tasks", json=body)


async def cloned(gate: Gateway, image_id: str, **properties: Any) -> dict[str, Any]:
    """The task, once it has ended."""
    answer = await ask(gate, image_id, image_properties=properties)
    assert answer.status == 201, answer.body
    made = answer.json
    assert (made["status"], made["type"], made["result"]) == ("pending", "clone", None)
    assert answer.headers["Location"] == f"{gate.url}/v2/tasks/{made['id']}"

    async def ended() -> dict[str, Any] | None:
        task: dict[str, Any] = (await gate.ask("GET", f"/v2/tasks/{made['id']}")).json
        return task if task["status"] in ("success", "failure") else None

    return await until(ended, "the clone to end")


async def nothing_left(gate: Gateway, store: FaultyStore, task: dict[str, Any]) -> None:
    """Of a clone that failed; the one image that there was is as it was."""
    assert (task["status"], task["result"]) == ("failure", None)
    (image,) = (await gate.ask("GET", "/v2/images")).json["images"]
    assert image["id"] == task["input"]["image_id"]
    assert len(await objects(store)) == 1
    assert await unfinished(store) == []


@pytest.mark.parametrize("data", [b"", BODY, BIG], ids=["empty", "one part", "parts"])
async def test_a_clone_is_an_active_image_of_its_own(
    gate: Gateway, store: FaultyStore, data: bytes
) -> None:
    source_id = await gate.active(data, name="disk", os_distro="debian", tags=["a"], min_ram=2)
    task = await cloned(gate, source_id)
    assert task["status"] == "success", task["message"]
    source, image = await gate.show(source_id), await gate.show(task["result"]["image_id"])
    own = {"id", "self", "file", "locations", "created_at", "updated_at"}
    assert {k: v for k, v in image.items() if k not in own} == {
        k: v for k, v in source.items() if k not in own
    }
    assert (await gate.ask("DELETE", f"/v2/images/{source_id}")).status == 204
    assert len(await objects(store)) == 1
    answer = await gate.ask("GET", f"/v2/images/{image['id']}/file")
    assert (answer.status, answer.body) == (200, data)


async def test_no_byte_of_what_the_store_copies_passes_the_gateway(
    gate: Gateway, store: FaultyStore
) -> None:
    source_id = await gate.active(BIG)
    before = telemetry.BYTES_IN._value.get()
    assert (await cloned(gate, source_id))["status"] == "success"
    assert telemetry.BYTES_IN._value.get() == before
    assert store.read_ranges == []
    assert store.calls.count("put") + store.calls.count("put_part") == 3  # the source's parts


async def test_a_store_that_does_not_copy_after_all_has_the_bytes_sent(
    gate: Gateway, store: FaultyStore
) -> None:
    source_id = await gate.active(BODY)
    store.fail("copy_part", NotCopied("memory", "it does not copy"))
    task = await cloned(gate, source_id)
    assert task["status"] == "success", task["message"]
    image_id = task["result"]["image_id"]
    assert (await gate.ask("GET", f"/v2/images/{image_id}/file")).body == BODY
    uploads = (await gate.ask("GET", f"/v2/images/{image_id}/uploads")).json["uploads"]
    reasons = [one["failure"]["reason"] if one["failure"] else None for one in uploads]
    assert sorted(reasons, key=str) == [None, "not_copied"]
    assert await unfinished(store) == []


async def test_it_may_be_told_to_be_other_than_its_source(gate: Gateway) -> None:
    source_id = await gate.active(BODY, name="disk", a="1", b="1")
    task = await cloned(gate, source_id, name="mine", b="2", visibility="public", protected=True)
    image = await gate.show(task["result"]["image_id"])
    assert (image["name"], image["a"], image["b"]) == ("mine", "1", "2")
    assert (image["visibility"], image["protected"]) == ("public", True)


async def test_without_properties_it_is_like_its_source(gate: Gateway) -> None:
    source_id = await gate.active(BODY)
    for given in ({}, {"image_properties": None}):
        assert (await ask(gate, source_id, **given)).status == 201


async def test_clones_are_found_by_their_type(gate: Gateway) -> None:
    task = await cloned(gate, await gate.active(BODY))
    found = (await gate.ask("GET", "/v2/tasks?type=clone&status=success")).json["tasks"]
    assert [one["id"] for one in found] == [task["id"]]
    assert (await gate.ask("GET", "/v2/tasks?type=import")).json["tasks"] == []
    of_image = (await gate.ask("GET", f"/v2/images/{task['image_id']}/tasks")).json["tasks"]
    assert [one["id"] for one in of_image] == [task["id"]]
    schema = (await gate.ask("GET", "/v2/schemas/task")).json
    assert "clone" in schema["properties"]["type"]["enum"]


# what is refused at once


@pytest.mark.parametrize("image_id", [None, 7, "", "x", ["a"], f"{ABSENT}\0", "\ud800"])
async def test_what_is_no_id_is_400(gate: Gateway, image_id: Any) -> None:
    answer = await ask(gate, image_id)
    assert answer.status == 400
    assert (await gate.ask("GET", "/v2/tasks")).json["tasks"] == []


@pytest.mark.parametrize(
    ("properties", "code"),
    [
        ({"id": str(uuid4())}, 400),
        ({"disk_format": "floppy"}, 400),
        ({"min_ram": "much"}, 400),
        ({"status": "active"}, 403),
        ({"os_glance_x": "1"}, 403),
        ([], 400),
        ("x", 400),
    ],
)
async def test_what_the_clone_may_not_be_is_refused(
    gate: Gateway, properties: Any, code: int
) -> None:
    answer = await ask(gate, await gate.active(BODY), image_properties=properties)
    assert answer.status == code, answer.message
    assert (await gate.ask("GET", "/v2/tasks")).json["tasks"] == []


async def test_an_image_that_is_missing_or_has_no_data_is_not_cloned(gate: Gateway) -> None:
    assert (await ask(gate, ABSENT)).status == 404
    answer = await ask(gate, await gate.create())
    assert (answer.status, "active" in answer.message) == (409, True)
    gone = await gate.active(BODY)
    await gate.ask("DELETE", f"/v2/images/{gone}")
    assert (await ask(gate, gone)).status == 404
    assert (await gate.ask("GET", "/v2/tasks")).json["tasks"] == []


async def test_a_deactivated_image_is_not_cloned_by_an_administrator_either(
    gate: Gateway, store: FaultyStore
) -> None:
    image_id = await gate.active(BODY)
    await gate.ask("POST", f"/v2/images/{image_id}/actions/deactivate")
    answer = await ask(gate, image_id)
    assert (answer.status, "deactivated" in answer.message) == (403, True)
    await gate.ask("POST", f"/v2/images/{image_id}/actions/reactivate")
    assert (await cloned(gate, image_id))["status"] == "success"


async def test_clones_are_for_administrators(shared_gate: Gateway) -> None:
    image_id = await shared_gate.active(BODY, visibility="public")
    body = {"type": "clone", "input": {"image_id": image_id}}
    answer = await shared_gate.ask("POST", "/v2/tasks", json=body, headers=of("p1"))
    assert answer.status == 403


async def test_more_properties_than_the_quota_allows_are_413(
    store: FaultyStore, tmp_path: Path
) -> None:
    async with running(store, tmp_path, quotas={"properties": 2}) as gate:
        image_id = await gate.active(BODY, a="1", b="1")
        answer = await ask(gate, image_id, image_properties={"c": "1"})
        assert (answer.status, "Maximum: 2" in answer.message) == (413, True)


# what the task says


async def test_a_clone_that_the_project_has_no_room_for_fails(
    store: FaultyStore, tmp_path: Path
) -> None:
    async with running(store, tmp_path, quotas={"bytes": "500kB"}) as gate:
        task = await cloned(gate, await gate.active(BODY))
        await nothing_left(gate, store, task)
        assert "bytes" in task["message"]


async def test_a_clone_of_another_format_than_its_data_fails(
    gate: Gateway, store: FaultyStore
) -> None:
    image_id = await gate.active(qcow2(), disk_format="qcow2")
    task = await cloned(gate, image_id, disk_format="vmdk")
    await nothing_left(gate, store, task)
    assert task["message"] == "The image's disk_format is vmdk, but its data is qcow2."


async def test_a_clone_is_queued_and_saving_before_it_is_active(
    gate: Gateway, store: FaultyStore
) -> None:
    image_id = await gate.active(BIG)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def hold(*_: object) -> None:
        begun.set()
        await go_on.wait()

    store.before["copy_part"] = hold
    cloning = asyncio.ensure_future(cloned(gate, image_id))
    await begun.wait()
    (task,) = (await gate.ask("GET", "/v2/tasks")).json["tasks"]
    assert task["status"] == "processing"
    statuses = {one["status"] for one in (await gate.ask("GET", "/v2/images")).json["images"]}
    assert statuses == {"active", "saving"}
    go_on.set()
    assert (await cloning)["status"] == "success"
