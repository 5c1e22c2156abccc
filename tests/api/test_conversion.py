"""With ``[import] convert_to``, disks become raw on their way into an image; the rest does not."""

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit import formats as f
from tests.kit.formats import MIB
from tests.kit.gateway import Gateway, running
from tests.kit.imports import COPY, DIRECT, empty, imported, staged
from tests.kit.origins import Service, serving
from tests.kit.server import until
from tests.kit.sources import pattern
from tests.kit.stores import FaultyStore, objects

from tidegate.stores.memory import MemoryStore
from tidegate.transfer import qemu

pytestmark = pytest.mark.skipif(not f.HAS_QEMU, reason="qemu-img is not installed")

ELSEWHERE = "5b1fae2c-6d0e-4a43-9c1b-2f6c1d0a7e11"
SIZE = 40 * MIB
DISK = (pattern(3 * MIB) + bytes(20 * MIB) + pattern(MIB)).ljust(SIZE, b"\0")
FORMATS = {"qcow2": "qcow2", "vmdk": "vmdk", "vdi": "vdi", "vhd": "vpc", "vhdx": "vhdx"}


def made(folder: Path, disk_format: str, *options: str) -> bytes:
    (folder / "disk.raw").write_bytes(DISK)
    name = FORMATS[disk_format]
    f.qemu_img("convert", "-f", "raw", "-O", name, *options, "disk.raw", "disk", folder=folder)
    return (folder / "disk").read_bytes()


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


@pytest.fixture
def second() -> FaultyStore:
    return FaultyStore(MemoryStore("second"))


def settings(scratch: Path, size: str = "100MiB") -> dict[str, Any]:
    return {"convert_to": "raw", "scratch": str(scratch), "scratch_size": size}


@pytest.fixture
async def gate(
    store: FaultyStore, second: FaultyStore, tmp_path: Path, scratch: Path
) -> AsyncIterator[Gateway]:
    async with running(store, tmp_path, others=[second], **{"import": settings(scratch)}) as found:
        yield found


async def is_raw(gate: Gateway, image: dict[str, Any], disk: bytes = DISK) -> None:
    assert (image["status"], image["disk_format"]) == ("active", "raw")
    assert (image["container_format"], image["size"]) == ("bare", len(disk))
    assert image["virtual_size"] == len(disk)
    assert image["checksum"] == hashlib.md5(disk, usedforsecurity=False).hexdigest()
    assert image["os_hash_value"] == hashlib.sha512(disk).hexdigest()
    answer = await gate.ask("GET", f"/v2/images/{image['id']}/file")
    assert (answer.status, answer.body == disk) == (200, True)


def is_empty(scratch: Path) -> bool:
    return os.listdir(scratch) == ["lock"]


@pytest.mark.parametrize("disk_format", [name for name in FORMATS if name != "vhd"])
async def test_a_staged_disk_becomes_raw(
    gate: Gateway, tmp_path: Path, scratch: Path, disk_format: str
) -> None:
    image_id = await staged(gate, made(tmp_path, disk_format), {"disk_format": disk_format})
    image, task = await imported(gate, image_id, DIRECT)
    assert task["status"] == "success", task["message"]
    await is_raw(gate, image)
    assert is_empty(scratch)


async def test_a_vhd_is_as_large_as_qemu_makes_it(
    gate: Gateway, tmp_path: Path, scratch: Path
) -> None:
    image_id = await staged(gate, made(tmp_path, "vhd"), {"disk_format": "vhd"})
    image, task = await imported(gate, image_id, DIRECT)
    assert task["status"] == "success", task["message"]
    await is_raw(gate, image, DISK.ljust(image["size"], b"\0"))


async def test_a_compressed_vmdk_becomes_raw(gate: Gateway, tmp_path: Path) -> None:
    data = made(tmp_path, "vmdk", "-o", "subformat=streamOptimized")
    image, task = await imported(gate, await staged(gate, data, {"disk_format": "vmdk"}), DIRECT)
    assert task["status"] == "success", task["message"]
    await is_raw(gate, image)


async def test_each_store_has_the_raw_disk_and_what_was_staged_goes(
    gate: Gateway, store: FaultyStore, second: FaultyStore, tmp_path: Path
) -> None:
    image_id = await staged(gate, made(tmp_path, "qcow2"), {"disk_format": "qcow2"})
    image, task = await imported(gate, image_id, DIRECT, all_stores=True)
    assert task["status"] == "success", task["message"]
    await is_raw(gate, image)

    async def alone() -> bool:
        return len(await objects(store)) == len(await objects(second)) == 1

    await until(alone, "the staged data to be gone")
    assert list((await objects(store)).values()) == list((await objects(second)).values())


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_disk_from_a_url_becomes_raw(gate: Gateway, tmp_path: Path, chunked: bool) -> None:
    image_id = await gate.create(disk_format="qcow2")
    async with serving(made(tmp_path, "qcow2"), chunked=chunked) as origin:
        method = {"name": "web-download", "uri": origin.url}
        image, task = await imported(gate, image_id, method)
    assert task["status"] == "success", task["message"]
    await is_raw(gate, image)


async def test_a_disk_from_another_service_becomes_raw(
    store: FaultyStore, tmp_path: Path, scratch: Path
) -> None:
    async with serving(made(tmp_path, "qcow2"), kind=Service) as service:
        assert isinstance(service, Service)
        service.record = service.describe(ELSEWHERE) | {"disk_format": "qcow2"}
        there = {"regions": {"north": f"http://127.0.0.1:{service.port}"}}
        async with running(store, tmp_path, **{"import": settings(scratch) | there}) as gate:
            remote = {"glance_region": "north", "glance_image_id": ELSEWHERE}
            method = {"name": "glance-download", **remote}
            image, task = await imported(gate, await gate.create(), method)
            assert task["status"] == "success", task["message"]
            await is_raw(gate, image)
    assert is_empty(scratch)


async def test_the_digest_that_was_announced_is_that_of_what_comes(
    gate: Gateway, store: FaultyStore, second: FaultyStore, tmp_path: Path, scratch: Path
) -> None:
    data = made(tmp_path, "qcow2")
    right = hashlib.md5(data, usedforsecurity=False).hexdigest()
    async with serving(data) as origin:
        for checksum, status in (("0" * 32, "failure"), (right, "success")):
            meta = {"disk_format": "qcow2", "container_format": "bare", "checksum": checksum}
            headers = {f"x-image-meta-{name}": value for name, value in meta.items()}
            answer = await gate.ask("POST", "/v1/images", headers=headers)
            method = {"name": "web-download", "uri": origin.url}
            image, task = await imported(gate, answer.json["image"]["id"], method)
            assert task["status"] == status, task["message"]
            assert is_empty(scratch)
            if status == "failure":
                assert "md5" in task["message"]
                assert (image["status"], image["disk_format"]) == ("queued", "qcow2")
                await empty(store, second)
    await is_raw(gate, image)


async def test_a_full_scratch_folder_is_said_to_be_full(
    store: FaultyStore, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = made(tmp_path, "qcow2")
    full = tmp_path / "bin" / "qemu-img"
    full.parent.mkdir()
    real = qemu.find()
    full.write_text(
        f"#!/bin/sh\n[ $1 = info ] && exec {real} \"$@\"\necho 'No space left on device'; false\n"
    )
    full.chmod(0o755)
    monkeypatch.setenv("PATH", str(full.parent), prepend=os.pathsep)
    async with running(store, tmp_path, **{"import": settings(scratch)}) as gate:
        image_id = await staged(gate, data, {"disk_format": "qcow2"})
        image, task = await imported(gate, image_id, DIRECT)
        assert (image["status"], task["status"]) == ("queued", "failure")
        assert "No space left on device" in task["message"]
        assert is_empty(scratch)
        await empty(store)


async def test_the_import_task_converts_too(gate: Gateway, tmp_path: Path) -> None:
    async with serving(made(tmp_path, "qcow2")) as origin:
        given = {"import_from": origin.url, "import_from_format": "qcow2", "image_properties": {}}
        answer = await gate.ask("POST", "/v2/tasks", json={"type": "import", "input": given})
        assert answer.status == 201

        async def over() -> dict[str, Any] | None:
            task = (await gate.ask("GET", f"/v2/tasks/{answer.json['id']}")).json
            return task if task["status"] in ("success", "failure") else None

        task = await until(over, "the task to end")
    assert task["status"] == "success", task["message"]
    await is_raw(gate, await gate.show(task["result"]["image_id"]))


async def test_an_upload_and_its_copies_stay_what_they_are(
    gate: Gateway, second: FaultyStore, tmp_path: Path
) -> None:
    data = made(tmp_path, "qcow2")
    image_id = await gate.active(data, disk_format="qcow2")
    image, task = await imported(gate, image_id, COPY, stores=[second.id])
    assert task["status"] == "success", task["message"]
    assert (image["disk_format"], image["size"]) == ("qcow2", len(data))
    assert await objects(second) != {}


@pytest.mark.parametrize(
    ("disk_format", "container"), [("raw", "bare"), ("iso", "bare"), ("qcow2", "ovf")]
)
async def test_other_data_stays_what_it_is(gate: Gateway, disk_format: str, container: str) -> None:
    data = f.iso() if disk_format == "iso" else f.raw(1000)
    fields = {"disk_format": disk_format, "container_format": container}
    image, task = await imported(gate, await staged(gate, data, fields), DIRECT)
    assert task["status"] == "success", task["message"]
    assert (image["disk_format"], image["size"]) == (disk_format, len(data))


BAD = {
    "a backing file": (f.qcow2(backing=512), "backing file"),
    "another format": (f.raw(3 * MIB), "data is"),
    "more than there is room for": (f.qcow2(10**9), "scratch_size"),
    "nothing qemu can read": (f.qcow2(MIB), "cannot be"),
}


@pytest.mark.parametrize("what", BAD)
async def test_what_cannot_be_converted_leaves_nothing(
    gate: Gateway, store: FaultyStore, second: FaultyStore, scratch: Path, what: str
) -> None:
    data, word = BAD[what]
    image_id = await staged(gate, data, {"disk_format": "qcow2"})
    image, task = await imported(gate, image_id, DIRECT)
    assert task["status"] == "failure"
    assert word in task["message"]
    assert (image["status"], image["disk_format"]) == ("queued", "qcow2")
    assert is_empty(scratch)
    await empty(store, second)


async def test_a_disk_in_a_disk_is_not_taken_for_raw(gate: Gateway, tmp_path: Path) -> None:
    (tmp_path / "inner").write_bytes(f.qcow2(backing=512))
    f.qemu_img("convert", "-f", "raw", "-O", "qcow2", "inner", "outer", folder=tmp_path)
    data = (tmp_path / "outer").read_bytes()
    image, task = await imported(gate, await staged(gate, data, {"disk_format": "qcow2"}), DIRECT)
    assert (task["status"], image["status"]) == ("failure", "queued")
    assert "but its data is qcow2" in task["message"]


async def test_a_start_removes_what_the_dead_left(
    store: FaultyStore, tmp_path: Path, scratch: Path
) -> None:
    scratch.mkdir()
    for name in ("one.source", "one.raw"):
        (scratch / name).write_bytes(b"left")
    (scratch / "of somebody else").touch()
    async with running(store, tmp_path, **{"import": settings(scratch)}):
        assert sorted(os.listdir(scratch)) == ["lock", "of somebody else"]
