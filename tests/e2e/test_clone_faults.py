"""Clones that the store copies: what goes over the wire, a store that fails, and a source that goes
in the middle."""

import time
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.bucket import MIB, Bucket
from tests.e2e.conftest import BIG, SMALL
from tests.kit.proxy import Fault, FaultProxy
from tests.kit.server import Remote, until
from tests.kit.sources import pattern

pytestmark = pytest.mark.thorough

CUT_WITHIN = 10.0
ONCE = {
    "refused": Fault(status=500),
    "busy": Fault(status=503, code="SlowDown"),
    "error in a 200": Fault(error_in_200="InternalError"),
    "done, error in a 200": Fault(error_in_200="InternalError", done=True),
    "answer lost": Fault(done=True, lost=True),
    "answer cut": Fault(reset_answer=0.5),
    "request lost": Fault(reset_request=0),
}
UNKNOWN = {
    "501": Fault(status=501, code="NotImplemented"),
    "405": Fault(status=405, code="MethodNotAllowed"),
}


@pytest.fixture(scope="module")
def config(
    bucket: Bucket, proxy_of_module: FaultProxy, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return bucket.configure(
        tmp_path_factory.mktemp("gateway"), store={"endpoint": proxy_of_module.endpoint}
    )


async def ask(gate: Remote, source: str) -> str:
    body = {"type": "clone", "input": {"image_id": source}}
    answer = await gate.ask("POST", "/v2/tasks", json=body)
    assert answer.status == 201, answer.body
    task: str = answer.json["id"]
    return task


async def end_of(gate: Remote, task_id: str, within: float = 60) -> dict[str, Any]:
    async def ended() -> dict[str, Any] | None:
        task: dict[str, Any] = (await gate.ask("GET", f"/v2/tasks/{task_id}")).json
        return task if task["status"] in ("success", "failure") else None

    return await until(ended, "the clone to end", within)


async def expect_copy(gate: Remote, bucket: Bucket, task: dict[str, Any], data: bytes) -> None:
    assert task["status"] == "success", task["message"]
    (key,) = bucket.of(task["image_id"])
    assert bucket.get(key) == data
    assert (await gate.show(task["image_id"]))["status"] == "active"


async def expect_nothing(gate: Remote, bucket: Bucket, task: dict[str, Any]) -> None:
    assert task["status"] == "failure"
    assert (await gate.ask("GET", f"/v2/images/{task['image_id']}")).status == 404

    async def clean() -> bool:
        return not bucket.of(task["image_id"])

    await until(clean, "nothing to be left", 25)


@pytest.mark.parametrize("data", [SMALL, BIG], ids=["put", "parts"])
async def test_no_byte_of_an_image_goes_over_the_wire(
    gate: Remote, bucket: Bucket, proxy: FaultProxy, data: bytes
) -> None:
    source = await gate.active(data)
    proxy.clear()
    task = await end_of(gate, await ask(gate, source))
    assert {name: proxy.seen(name) for name in ("get", "put", "part", "copy")} == {
        "get": 0, "put": 0, "part": 0, "copy": 1,
    }  # fmt: skip
    await expect_copy(gate, bucket, task, data)
    image, original = await gate.show(task["image_id"]), await gate.show(source)
    for name in ("checksum", "os_hash_value", "size", "virtual_size"):
        assert image[name] == original[name], name
    assert (await gate.ask("DELETE", f"/v2/images/{source}")).status == 204
    assert (await gate.ask("GET", f"/v2/images/{task['image_id']}/file")).body == data


async def test_more_than_a_part_is_copied_in_parts(
    gate: Remote, bucket: Bucket, proxy: FaultProxy
) -> None:
    data = pattern(130 * MIB)
    source = await gate.active(data)
    proxy.clear()
    task = await end_of(gate, await ask(gate, source))
    assert proxy.seen("copy") == 3
    await expect_copy(gate, bucket, task, data)


@pytest.mark.parametrize("fault", ONCE.values(), ids=ONCE.keys())
async def test_a_copy_that_fails_once_is_asked_for_again(
    gate: Remote, bucket: Bucket, proxy: FaultProxy, fault: Fault
) -> None:
    source = await gate.active(BIG)
    proxy.clear()
    proxy.on("copy", fault, times=1)
    task = await end_of(gate, await ask(gate, source))
    assert (proxy.seen("copy"), proxy.seen("get")) == (2, 0)
    await expect_copy(gate, bucket, task, BIG)


async def test_a_copy_that_always_fails_leaves_nothing(
    gate: Remote, bucket: Bucket, proxy: FaultProxy
) -> None:
    source = await gate.active(BIG)
    proxy.clear()
    proxy.on("copy", Fault(error_in_200="InternalError"))
    await expect_nothing(gate, bucket, await end_of(gate, await ask(gate, source)))
    assert bucket.of(source)


@pytest.mark.parametrize("fault", UNKNOWN.values(), ids=UNKNOWN.keys())
async def test_a_store_that_does_not_know_the_call_has_the_bytes_sent(
    gate: Remote, bucket: Bucket, proxy: FaultProxy, fault: Fault
) -> None:
    source = await gate.active(BIG)
    proxy.clear()
    proxy.on("copy", fault)
    task = await end_of(gate, await ask(gate, source))
    assert proxy.seen("copy") == 1
    assert proxy.seen("get") >= 1
    await expect_copy(gate, bucket, task, BIG)


async def test_a_completion_whose_answer_is_lost_is_looked_at(
    gate: Remote, bucket: Bucket, proxy: FaultProxy
) -> None:
    source = await gate.active(BIG)
    proxy.clear()
    proxy.on("complete", Fault(done=True, lost=True), times=1)
    await expect_copy(gate, bucket, await end_of(gate, await ask(gate, source)), BIG)


@pytest.mark.parametrize("gone", ["deactivated", "deleted"])
async def test_a_source_that_goes_in_the_middle_ends_the_copy(
    gate: Remote, bucket: Bucket, proxy: FaultProxy, gone: str
) -> None:
    source = await gate.active(BIG)
    proxy.clear()
    proxy.on("copy", Fault(late=15))
    asked = await ask(gate, source)

    async def copying() -> bool:
        return proxy.seen("copy") > 0

    await until(copying, "the copy to be asked for")
    began = time.monotonic()
    if gone == "deactivated":
        path = f"/v2/images/{source}/actions/deactivate"
        assert (await gate.ask("POST", path)).status == 204
    else:
        assert (await gate.ask("DELETE", f"/v2/images/{source}")).status == 204
    task = await end_of(gate, asked)
    assert time.monotonic() - began < CUT_WITHIN
    await expect_nothing(gate, bucket, task)
    assert bool(bucket.of(source)) is (gone == "deactivated")
