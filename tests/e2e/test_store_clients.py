"""The stores and locations of a running gateway, by the client that people use."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.kit.glance import FORMATS, Glance
from tests.kit.origins import Origin, serving
from tests.kit.server import Remote, Server, client, configure, until

from tidegate.catalog.base import AddLocation, ImageChange
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.image import Location

BYTES = b"hello"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("stores")
    (found / "disk").write_bytes(BYTES)
    return found


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    stores = [
        {"type": "filesystem", "id": "fast", "path": str(folder / "fast"), "default": True},
        {"type": "filesystem", "id": "cold", "path": str(folder / "cold"), "description": "slow"},
    ]
    sections = {"locations": {"show": True}, "fetch": {"allow": ["127.0.0.1"]}}
    with Server(folder, "--config", str(configure(folder, stores, **sections))) as found:
        yield found


@pytest.fixture(scope="module")
def glance(server: Server) -> Glance:
    return Glance(server)


@pytest.fixture
async def gate(server: Server) -> AsyncIterator[Remote]:
    async with client() as session:
        yield Remote(server.port, session)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with serving(BYTES) as found:
        yield found


async def run(glance: Glance, *arguments: str) -> str:
    """While this process answers as the origin."""
    return await asyncio.to_thread(glance.run, *arguments)


def test_stores_info(glance: Glance) -> None:
    said = glance.run("stores-info")
    for word in ("fast", "cold", "slow", "read-only"):
        assert word in said
    assert "data_dir" in glance.run("stores-info", "--detail")


def test_usage(glance: Glance) -> None:
    assert "image_count_total" in glance.run("usage")


async def test_an_image_goes_into_the_store_it_is_meant_for_and_out_of_one(
    glance: Glance, gate: Remote, folder: Path
) -> None:
    made = glance.fields("image-create", "--name", "x", *FORMATS, "--file", "disk",
                         "--store", "cold")  # fmt: skip
    image_id = made["id"]
    assert (made["status"], made["stores"]) == ("active", "cold")
    assert "only store containing it" in glance.run(
        "stores-delete", "--store", "cold", image_id, fails=True
    )
    copy = folder / "fast" / image_id / "copy"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(BYTES)
    catalog = SqlCatalog(f"sqlite:///{folder / 'tidegate.db'}")
    await catalog.open()
    where = Location("fast", f"{image_id}/copy")
    await catalog.change_image(image_id, ImageChange(locations=[AddLocation(location=where)]))
    await catalog.close()
    assert glance.fields("image-show", image_id)["stores"] == "cold,fast"
    glance.run("stores-delete", "--store", "cold", image_id)
    assert glance.fields("image-show", image_id)["stores"] == "fast"
    assert glance.run("image-download", image_id) == BYTES.decode()
    refused = glance.run("stores-delete", "--store", "nowhere", image_id, fails=True)
    assert "not available on this node" in refused


async def test_locations_by_patch(glance: Glance, gate: Remote, origin: Origin) -> None:
    image_id = await gate.create()
    await run(glance, "location-add", "--url", origin.url, image_id)
    assert (await gate.show(image_id))["status"] == "active"
    rack = json.dumps({"rack": "7"})
    await run(glance, "location-update", "--url", origin.url, "--metadata", rack, image_id)
    assert (await gate.show(image_id))["locations"][0]["metadata"]["rack"] == "7"
    await run(glance, "location-add", "--url", f"{origin.url}?2", image_id)
    await run(glance, "location-delete", "--url", f"{origin.url}?2", image_id)
    assert [one["url"] for one in (await gate.show(image_id))["locations"]] == [origin.url]


async def test_a_location_by_post(glance: Glance, gate: Remote, origin: Origin) -> None:
    image_id = await gate.create()
    await run(glance, "add-location", "--url", origin.url, image_id)

    async def measured() -> bool:
        return bool((await gate.show(image_id))["checksum"])

    await until(measured, "the location to be measured")
    assert (await gate.show(image_id))["status"] == "active"
