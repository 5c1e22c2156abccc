"""What is imported is looked into and counted like what is uploaded."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit import formats as f
from tests.kit.formats import GIB, MIB
from tests.kit.gateway import Gateway, running
from tests.kit.imports import COPY, DIRECT, ask, empty, imported, stage, staged
from tests.kit.origins import serving
from tests.kit.stores import FaultyStore, objects, unfinished

from tidegate.stores.memory import MemoryStore
from tidegate.transfer.inspect import HEAD, TAIL

REFUSED = [
    ("qcow2", f.raw(3 * MIB), "data"),
    ("raw", f.qcow2(), "data"),
    ("qcow2", f.qcow2(backing=512), "backing file"),
    ("vmdk", f.vmdk(directory=f.AT_END, length=20 * MIB), "data"),
    ("vhd", f.raw(20 * MIB), "data"),
]
TAKEN = [
    ("qcow2", f.qcow2(3 * GIB), 3 * GIB),
    ("vmdk", f.vmdk(directory=f.AT_END, length=20 * MIB, footer=f.vmdk_footer()), MIB),
    ("vhd", f.raw(40 * MIB) + f.vhd_footer(40 * MIB), 40 * MIB),
    ("raw", f.raw(1000), 1000),
]


@pytest.fixture
def second() -> FaultyStore:
    return FaultyStore(MemoryStore("second"))


@pytest.fixture
async def gate(store: FaultyStore, second: FaultyStore, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(store, tmp_path, others=[second], uploads={"lease": "2s"}) as found:
        yield found


@pytest.fixture
async def small(store: FaultyStore, second: FaultyStore, tmp_path: Path) -> AsyncIterator[Gateway]:
    """Whose projects may have ten bytes."""
    async with running(
        store, tmp_path, others=[second], uploads={"lease": "2s"}, quotas={"bytes": "10B"}
    ) as found:
        yield found


def refused(image: dict[str, Any], task: dict[str, Any], word: str) -> None:
    assert (image["status"], image["size"], image["virtual_size"]) == ("queued", None, None)
    assert task["status"] == "failure"
    assert word in task["message"]


# the format


@pytest.mark.parametrize("place", ["memory", "second"])
@pytest.mark.parametrize(("declared", "data", "word"), REFUSED)
async def test_staged_data_that_is_not_what_its_image_says_is_not_imported(
    gate: Gateway,
    store: FaultyStore,
    second: FaultyStore,
    declared: str,
    data: bytes,
    word: str,
    place: str,
) -> None:
    image_id = await staged(gate, data, {"disk_format": declared})
    refused(*await imported(gate, image_id, DIRECT, stores=[place]), word)
    await empty(store, second)


@pytest.mark.parametrize(("declared", "data", "word"), REFUSED)
async def test_nor_is_what_comes_from_elsewhere(
    gate: Gateway, store: FaultyStore, declared: str, data: bytes, word: str
) -> None:
    image_id = await gate.create(disk_format=declared)
    async with serving(data) as origin:
        method = {"name": "web-download", "uri": origin.url}
        refused(*await imported(gate, image_id, method), word)
    await empty(store)


@pytest.mark.parametrize("place", ["memory", "second"])
@pytest.mark.parametrize(("declared", "data", "size"), TAKEN)
async def test_the_size_of_the_disk_inside_is_known_wherever_the_data_goes(
    gate: Gateway, declared: str, data: bytes, size: int, place: str
) -> None:
    image_id = await staged(gate, data, {"disk_format": declared})
    assert (await gate.show(image_id))["virtual_size"] is None
    image, _ = await imported(gate, image_id, DIRECT, stores=[place])
    assert (image["status"], image["virtual_size"]) == ("active", size)


async def test_of_staged_data_only_both_ends_are_read_to_look_into_it(
    gate: Gateway, store: FaultyStore
) -> None:
    size = 64 * MIB
    image_id = await staged(gate, f.raw(size) + f.vhd_footer(size), {"disk_format": "vhd"})
    image, _ = await imported(gate, image_id, DIRECT)
    assert image["virtual_size"] == size
    head, tail = store.read_ranges
    assert head == (0, HEAD)
    assert tail == (size + 512 - TAIL, size + 512)


# quotas


async def test_what_does_not_fit_is_not_staged(small: Gateway, store: FaultyStore) -> None:
    image_id = await small.create()
    answer = await stage(small, image_id, b"x" * 11)
    assert (answer.status, "10 bytes" in answer.message) == (413, True)
    assert (await small.show(image_id))["status"] == "queued"
    assert await objects(store) == {}


async def test_staged_bytes_count_until_they_are_gone(small: Gateway, store: FaultyStore) -> None:
    image_id = await staged(small, b"x" * 10)
    other = await small.create()
    assert (await small.put(other, b"y")).status == 413
    await small.ask("DELETE", f"/v2/images/{image_id}")
    await empty(store)
    assert (await small.put(other, b"y")).status == 204


async def test_staged_bytes_become_the_images_and_count_once(small: Gateway) -> None:
    image_id = await staged(small, b"x" * 9)
    image, _ = await imported(small, image_id, DIRECT)
    assert image["status"] == "active"
    assert (await small.put(await small.create(), b"y")).status == 204
    assert (await small.put(await small.create(), b"y")).status == 413


async def test_a_copy_that_does_not_fit_fails_and_the_image_stays(
    small: Gateway, second: FaultyStore
) -> None:
    image_id = await small.active(b"x" * 6)
    image, task = await imported(small, image_id, COPY, stores=["second"])
    assert (image["status"], len(image["locations"]), task["status"]) == ("active", 1, "failure")
    assert "10 bytes" in task["message"]
    assert (await objects(second), await unfinished(second)) == ({}, [])


async def test_an_import_that_does_not_fit_fails(small: Gateway, store: FaultyStore) -> None:
    image_id = await small.create()
    async with serving(b"x" * 11) as origin:
        method = {"name": "web-download", "uri": origin.url}
        refused(*await imported(small, image_id, method), "10 bytes")
    assert (await ask(small, image_id, DIRECT)).status == 409
    await empty(store)
