"""Data that is not what its image says, or that is not safe to open, becomes no image."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit import formats as f
from tests.kit.formats import GIB, MIB
from tests.kit.gateway import DATA, Gateway, running
from tests.kit.origins import serving
from tests.kit.server import until
from tests.kit.stores import FaultyStore, objects, unfinished
from tests.kit.v1 import meta, post

REFUSED = [
    ("qcow2", f.raw(3 * MIB), "wrong_format"),
    ("raw", f.qcow2(), "wrong_format"),
    ("qcow2", b"", "wrong_format"),
    ("qcow2", f.qcow2(backing=512), "unsafe_format"),
    ("qcow2", f.qcow2(features=4), "unsafe_format"),
    ("vmdk", f.vmdk(descriptor=f.DESCRIPTOR.replace("disk.vmdk", "/etc/passwd")), "unsafe_format"),
    ("vmdk", f.vmdk(directory=f.AT_END, length=20 * MIB), "unsafe_format"),
    ("vhd", f.raw(20 * MIB), "wrong_format"),
    ("raw", f.mbr(), "unsafe_format"),
]


async def nothing_left(store: FaultyStore) -> bool:
    return await objects(store) == {} and await unfinished(store) == []


@pytest.mark.parametrize(("declared", "data", "reason"), REFUSED)
async def test_v2_refuses_it_with_415(
    gate: Gateway, store: FaultyStore, declared: str, data: bytes, reason: str
) -> None:
    image_id = await gate.create(disk_format=declared)
    answer = await gate.put(image_id, data)
    assert answer.status == 415
    image, failure = await gate.show(image_id), await gate.failure(image_id)
    assert (image["status"], image["size"], image["virtual_size"]) == ("killed", None, None)
    assert (failure["reason"], failure["message"]) == (reason, answer.json["error"]["message"])
    assert await nothing_left(store)


@pytest.mark.parametrize(("declared", "data", "reason"), [one for one in REFUSED if one[1]])
async def test_v1_refuses_it_with_400(
    gate: Gateway, store: FaultyStore, declared: str, data: bytes, reason: str
) -> None:
    headers = {"Content-Type": DATA, **meta(disk_format=declared, container_format="bare")}
    answer = await gate.ask("POST", "/v1/images", data=io.BytesIO(data), headers=headers)
    assert answer.status == 400
    assert "data" in answer.json["error"]["message"]
    (image,) = (await gate.ask("GET", "/v2/images")).json["images"]
    assert image["status"] == "killed"
    assert (await gate.failure(image["id"]))["reason"] == reason
    assert await nothing_left(store)


@pytest.mark.parametrize(("declared", "data", "reason"), [one for one in REFUSED if one[1]])
async def test_an_import_of_it_fails_and_leaves_no_image(
    gate: Gateway, store: FaultyStore, declared: str, data: bytes, reason: str
) -> None:
    async with serving(data) as origin:
        task = await imported(gate, origin.url, disk_format=declared)
    assert task["status"] == "failure"
    assert "data" in task["message"]
    assert (await gate.ask("GET", "/v2/images")).json["images"] == []
    assert await nothing_left(store)


async def test_a_copy_of_it_is_killed(gate: Gateway, store: FaultyStore) -> None:
    async with serving(f.qcow2(backing=512)) as origin:
        headers = meta(disk_format="qcow2", container_format="bare")
        headers["x-glance-api-copy-from"] = origin.url
        made = await gate.ask("POST", "/v1/images", headers=headers)
        assert made.status == 201
        image_id = made.json["image"]["id"]

        async def killed() -> bool:
            return bool((await gate.show(image_id))["status"] == "killed")

        await until(killed, "the image to be killed")
    assert (await gate.failure(image_id))["reason"] == "unsafe_format"
    assert await nothing_left(store)


async def imported(gate: Gateway, url: str, **properties: Any) -> dict[str, Any]:
    given = {"import_from": url, "import_from_format": "raw", "image_properties": properties}
    made = await gate.ask("POST", "/v2/tasks", json={"type": "import", "input": given})
    assert made.status == 201, made.body

    async def ended() -> dict[str, Any] | None:
        task: dict[str, Any] = (await gate.ask("GET", f"/v2/tasks/{made.json['id']}")).json
        return task if task["status"] in ("success", "failure") else None

    return await until(ended, "the task to end")


async def test_the_sending_is_cut_at_the_block_that_tells(
    gate: Gateway, store: FaultyStore
) -> None:
    endless = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield f.qcow2(backing=512, length=MIB)
        await endless.wait()

    image_id = await gate.create(disk_format="qcow2")
    answer = await gate.put(image_id, body())
    assert answer.status == 415
    (attempt,) = (await gate.ask("GET", f"/v2/images/{image_id}/uploads")).json["uploads"]
    assert (attempt["received"], attempt["failure"]["where"]) == (MIB, "reading")


@pytest.mark.parametrize(
    ("declared", "data", "size"),
    [
        ("qcow2", f.qcow2(3 * GIB), 3 * GIB),
        ("vmdk", f.vmdk(directory=f.AT_END, length=20 * MIB, footer=f.vmdk_footer()), MIB),
        ("vhd", f.raw(20 * MIB) + f.vhd_footer(20 * MIB), 20 * MIB),
        ("iso", f.iso(100, start=f.PARTITIONED[:512]), 204800),
        ("raw", f.raw(1000), 1000),
        ("raw", b"", None),
        ("ploop", f.raw(1000), None),
    ],
)
async def test_the_size_of_the_disk_inside_is_shown(
    gate: Gateway, declared: str, data: bytes, size: int | None
) -> None:
    image_id = await gate.active(data, disk_format=declared)
    assert (await gate.show(image_id))["virtual_size"] == size


async def test_other_containers_are_not_looked_into(gate: Gateway) -> None:
    image_id = await gate.active(f.raw(1000), disk_format="qcow2", container_format="ovf")
    assert (await gate.show(image_id))["virtual_size"] is None


async def test_a_refused_image_may_be_tried_again_where_broken_ones_are_queued(
    store: FaultyStore, tmp_path: Path
) -> None:
    async with running(store, tmp_path, uploads={"on_broken": "queued"}) as gate:
        image_id = await gate.create(disk_format="qcow2")
        assert (await gate.put(image_id, f.raw(MIB))).status == 415
        assert (await gate.put(image_id, f.qcow2())).status == 204


# what is looked at, and what is taken, are settings


async def test_nothing_is_looked_at_where_that_is_off(store: FaultyStore, tmp_path: Path) -> None:
    async with running(store, tmp_path, uploads={"check_format": False}) as gate:
        image_id = await gate.active(f.qcow2(backing=512), disk_format="iso")
        assert (await gate.show(image_id))["virtual_size"] is None


async def test_another_format_is_taken_where_nobody_minds_but_must_be_safe(
    store: FaultyStore, tmp_path: Path
) -> None:
    async with running(store, tmp_path, image_format={"require_match": False}) as gate:
        image_id = await gate.active(f.qcow2(), disk_format="raw")
        assert (await gate.show(image_id))["virtual_size"] is None
        image_id = await gate.create(disk_format="raw")
        assert (await gate.put(image_id, f.qcow2(backing=512))).status == 415


async def test_the_lists_of_formats_are_what_both_versions_take(
    store: FaultyStore, tmp_path: Path
) -> None:
    lists = {"disk_formats": ["raw", "gpt"], "container_formats": ["bare"]}
    async with running(store, tmp_path, image_format=lists) as gate:
        for path in ("image", "images"):
            schema = (await gate.ask("GET", f"/v2/schemas/{path}")).json
            if path == "images":
                schema = schema["properties"]["images"]["items"]
            assert schema["properties"]["disk_format"]["enum"] == [None, "raw", "gpt"]
            assert schema["properties"]["container_format"]["enum"] == [None, "bare"]
        image_id = await gate.active(f.GPT, disk_format="gpt")
        assert (await gate.show(image_id))["virtual_size"] == len(f.GPT)
        for fields in ({"disk_format": "qcow2"}, {"container_format": "ovf"}):
            ((name, value),) = fields.items()
            assert (await gate.ask("POST", "/v2/images", json=fields)).status == 400
            change = {"op": "replace", "path": f"/{name}", "value": value}
            assert (await gate.patch(await gate.create(), change)).status == 400
            assert (await post(gate, **fields)).status == 400
            given = {"import_from": "http://x.org/", "import_from_format": "raw",
                     "image_properties": fields}  # fmt: skip
            task = {"type": "import", "input": given}
            assert (await gate.ask("POST", "/v2/tasks", json=task)).status == 400
