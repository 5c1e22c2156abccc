"""From DELETE to the bare id: no call of either API finds an image on the way, or revives it."""

import asyncio
import re
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import REGISTRY
from tests.kit.gateway import DATA, Gateway, running
from tests.kit.looks import Looks
from tests.kit.sources import pattern
from tests.kit.stores import FaultyStore, objects
from tests.stores.test_contract import s3_settings

from tidegate.api.routes import DATA_ROUTES, ROUTES
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import StoreBroke
from tidegate.domain.status import Event
from tidegate.jobs.purger import Purger
from tidegate.jobs.reaper import Reaper
from tidegate.jobs.scrubber import Scrubber
from tidegate.seaweedfs import SeaweedFS
from tidegate.settings import FilesystemStore as FilesystemSettings
from tidegate.stores.base import Store
from tidegate.stores.filesystem import FilesystemStore
from tidegate.stores.memory import MemoryStore
from tidegate.stores.s3 import S3Store

MIB = 2**20
SHARE = pattern(1000)


@pytest.fixture(params=["filesystem", "seaweedfs"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    found: Store
    if request.param == "filesystem":
        found = FilesystemStore(FilesystemSettings(id="main", path=tmp_path / "images"))
    else:
        server: SeaweedFS = request.getfixturevalue("seaweedfs")
        found = S3Store(s3_settings(server.endpoint, server.access_key, server.secret_key))
    await found.open()
    yield found
    await found.close()


def status(folder: Path, image_id: str) -> str | None:
    """In the catalog; None: there is no such row."""
    with closing(sqlite3.connect(folder / "tidegate.db")) as connection:
        row = connection.execute("SELECT status FROM images WHERE id = ?", (image_id,)).fetchone()
    return None if row is None else str(row[0])


def forget_turns(folder: Path) -> None:
    """So that a job looks at once, however lately another process did."""
    with closing(sqlite3.connect(folder / "tidegate.db")) as connection, connection:
        connection.execute("DELETE FROM turns")


async def deactivate(folder: Path, image_id: str) -> None:
    catalog = SqlCatalog(f"sqlite:///{folder / 'tidegate.db'}")
    await catalog.open()
    await catalog.advance(image_id, Event.DEACTIVATE)
    await catalog.close()


async def wait_until_gone(gate: Gateway, folder: Path, image_id: str) -> None:
    async with asyncio.timeout(20):
        while status(folder, image_id) is not None:
            await is_found_by_no_call(gate, image_id)


async def is_found_by_no_call(gate: Gateway, image_id: str) -> None:
    v2, v1 = f"/v2/images/{image_id}", f"/v1/images/{image_id}"
    patch: dict[str, Any] = {
        "json": [{"op": "replace", "path": "/name", "value": "x"}],
        "headers": {"Content-Type": "application/openstack-images-v2.1-json-patch"},
    }
    locations: dict[str, Any] = {
        **patch,
        "json": [
            {
                "op": "add",
                "path": "/locations/-",
                "value": {"url": "http://127.0.0.1/x", "metadata": {}},
            }
        ],
    }
    data: dict[str, Any] = {"data": b"x", "headers": {"Content-Type": DATA}}
    # API v1 lets an administrator look at what is gone, and change its name while it waits
    seen = {("HEAD", v1): {200}, ("PUT", v1): {200, 403, 409}, ("DELETE", v1): {403}}
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", v2, {}), ("PATCH", v2, patch), ("PATCH", v2, locations), ("DELETE", v2, {}),
        ("GET", f"{v2}/file", {}), ("HEAD", f"{v2}/file", {}), ("PUT", f"{v2}/file", data),
        ("GET", f"{v2}/uploads", {}), ("PUT", f"{v2}/tags/x", {}), ("DELETE", f"{v2}/tags/x", {}),
        ("HEAD", v1, {}), ("GET", v1, {}), ("DELETE", v1, {}),
        ("PUT", v1, {"headers": {"x-image-meta-name": "x"}}),
        ("PUT", v1, data),
    ]  # fmt: skip
    for method, path, options in calls:
        answer = await gate.ask(method, path, **options)
        possible = {404} | seen.get((method, path), set())
        assert answer.status in possible, (method, path, answer.status, answer.body)
        assert b"active" not in answer.body
    for path in ("/v2/images", "/v1/images/detail"):
        assert image_id.encode() not in (await gate.ask("GET", path)).body
    again = {"id": image_id, "disk_format": "raw", "container_format": "bare"}
    assert (await gate.ask("POST", "/v2/images", json=again)).status == 409
    headers = {"x-image-meta-id": image_id, "x-image-meta-name": "again"}
    assert (await gate.ask("POST", "/v1/images", headers=headers)).status == 409


async def is_brought_back_by_no_route(gate: Gateway, folder: Path, image_id: str) -> None:
    """Whatever is asked of it by an administrator, by every route that names an image."""
    gone = ("pending_delete", "deleted", None)
    assert status(folder, image_id) in gone
    asked = 0
    for method, path, _ in (*ROUTES, *DATA_ROUTES):
        if "{image_id" not in path:
            continue
        path = re.sub(r"\{image_id[^}]*\}", image_id, path)
        path = re.sub(r"\{\w+[^}]*\}", "x", path)
        headers = [
            {"x-image-meta-location": "http://127.0.0.1:1/x"},
            {"x-glance-api-copy-from": "http://127.0.0.1:1/x"},
            {"x-image-meta-status": "active", "x-image-meta-deleted": "False"},
        ]
        bodies: list[dict[str, Any]] = [
            {}, {"json": {}}, {"data": b"x", "headers": {"Content-Type": DATA}},
            *({"headers": given} for given in headers),
        ]  # fmt: skip
        for options in bodies:
            answer = await gate.ask(method, path, **options)
            seen = path.startswith("/v1/")  # by administrators, who may change its record
            assert answer.status >= 400 or seen, (method, path, answer.status, answer.body)
            assert status(folder, image_id) in gone, (method, path)
            asked += 1
    assert asked > 60


@pytest.mark.parametrize("was", ["active", "deactivated"])
async def test_a_delayed_delete_goes_on_after_a_restart_and_no_route_ends_it(
    tmp_path: Path, was: str
) -> None:
    store = MemoryStore()
    async with running(store, tmp_path, deletion={"delayed": True, "delay": "1h"}) as gate:
        image_id = await gate.active(SHARE)
        if was == "deactivated":
            await deactivate(tmp_path, image_id)
        assert (await gate.ask("DELETE", f"/v2/images/{image_id}")).status == 204
        await is_brought_back_by_no_route(gate, tmp_path, image_id)
    assert status(tmp_path, image_id) == "pending_delete"
    assert len(await objects(store)) == 1
    # whatever the setting says by now, what waits for its time is not forgotten
    deletion = {"delayed": False, "delay": "0s", "purge_after": "1h"}
    looked = Looks()
    forget_turns(tmp_path)
    with looked.at(Scrubber):
        async with running(store, tmp_path, deletion=deletion) as gate:
            await looked.until(lambda: status(tmp_path, image_id) == "deleted")
            await is_brought_back_by_no_route(gate, tmp_path, image_id)
            assert await objects(store) == {}
    forget_turns(tmp_path)
    with looked.at(Purger):
        async with running(store, tmp_path, deletion={"purge_after": "0s"}) as gate:
            await looked.until(lambda: status(tmp_path, image_id) is None)
            await is_brought_back_by_no_route(gate, tmp_path, image_id)
            await is_found_by_no_call(gate, image_id)
    async with running(store, tmp_path) as gate:
        again = {"id": image_id, "disk_format": "raw", "container_format": "bare"}
        assert (await gate.ask("POST", "/v2/images", json=again)).status == 409


@pytest.mark.parametrize("api", ["v1", "v2"])
@pytest.mark.parametrize("was", ["active", "deactivated"])
async def test_a_delayed_delete_from_its_call_to_the_bare_id(
    store: Store, tmp_path: Path, was: str, api: str
) -> None:
    deletion = {"delayed": True, "delay": "1s", "purge_after": "1s"}
    async with running(store, tmp_path, deletion=deletion) as gate:
        image_id, kept = await gate.active(SHARE), await gate.active(SHARE)
        if was == "deactivated":
            await deactivate(tmp_path, image_id)
        begun = time.monotonic()
        answer = await gate.ask("DELETE", f"/{api}/images/{image_id}")
        assert answer.status == (200 if api == "v1" else 204)
        assert status(tmp_path, image_id) == "pending_delete"
        assert len(await objects(store)) == 2
        await is_found_by_no_call(gate, image_id)
        async with asyncio.timeout(20):
            while len(await objects(store)) == 2:
                await is_found_by_no_call(gate, image_id)
        assert time.monotonic() - begun >= 1
        assert status(tmp_path, image_id) in ("pending_delete", "deleted")
        async with asyncio.timeout(20):
            while status(tmp_path, image_id) == "pending_delete":
                await is_found_by_no_call(gate, image_id)
        await wait_until_gone(gate, tmp_path, image_id)
        assert time.monotonic() - begun >= 2
        await is_found_by_no_call(gate, image_id)
        assert (await gate.ask("GET", f"/v2/images/{kept}/file")).body == SHARE
        assert [key[:36] for key in await objects(store)] == [kept]


async def test_without_a_delay_the_data_goes_at_once(store: Store, tmp_path: Path) -> None:
    async with running(store, tmp_path, deletion={"purge_after": "1s"}) as gate:
        image_id = await gate.active(SHARE)
        await gate.ask("DELETE", f"/v2/images/{image_id}")
        assert status(tmp_path, image_id) == "deleted"
        assert await objects(store) == {}
        await wait_until_gone(gate, tmp_path, image_id)
        await is_found_by_no_call(gate, image_id)


async def test_a_protected_image_stays(tmp_path: Path) -> None:
    store = MemoryStore()
    deletion = {"delayed": True, "delay": "0s"}
    async with running(store, tmp_path, deletion=deletion) as gate:
        image_id = await gate.active(SHARE, protected=True)
        assert (await gate.ask("DELETE", f"/v2/images/{image_id}")).status == 403
        assert (await gate.show(image_id))["status"] == "active"


@pytest.mark.parametrize("verify", [True, False])
async def test_a_download_of_an_image_that_is_deleted_is_whole_or_cut(
    store: Store, tmp_path: Path, verify: bool
) -> None:
    data = pattern(24 * MIB)
    async with running(store, tmp_path, downloads={"verify": verify}) as gate:
        image_id = await gate.active(data)
        async with gate.session.get(f"{gate.url}/v2/images/{image_id}/file") as answer:
            assert answer.status == 200
            got = bytearray(await answer.content.readexactly(MIB))
            assert (await gate.ask("DELETE", f"/v2/images/{image_id}")).status == 204
            assert await objects(store) == {}
            other = await gate.active(bytes(len(data)))  # perhaps where the first one lay
            try:
                async with asyncio.timeout(30):
                    async for piece in answer.content.iter_any():
                        got += piece
            except (OSError, aiohttp.ClientPayloadError):  # as the reset finds the client
                assert len(got) < len(data)  # cut: nobody takes it for whole
            else:
                assert len(got) == len(data)
            assert got == data[: len(got)]
        assert (await gate.ask("GET", f"/v2/images/{image_id}/file")).status == 404
        assert (await gate.show(other))["status"] == "active"


async def test_a_store_that_refuses_deletes_is_counted_and_the_gateway_stays_ready(
    tmp_path: Path,
) -> None:
    store, looked = FaultyStore(MemoryStore()), Looks()
    with looked.at(Reaper):
        await _refuses_for_a_while(store, tmp_path, looked)
    assert REGISTRY.get_sample_value("tidegate_removal_failures_total", {"store": "memory"})


async def _refuses_for_a_while(store: FaultyStore, folder: Path, looked: Looks) -> None:
    async with running(store, folder, uploads={"lease": "1s"}) as gate:
        image_id = await gate.active(SHARE)
        store.fail("delete", StoreBroke("memory", "it answered 403"))
        assert (await gate.ask("DELETE", f"/v2/images/{image_id}")).status == 204
        await looked.until(lambda: waiting() == 1)
        assert b'tidegate_removals_waiting{store="memory"} 1.0' in await metrics(gate)
        assert (await gate.ask("GET", "/readyz")).status == 200
        store.before.clear()
        await looked.until(lambda: waiting() == 0)
        assert await objects(store) == {}


def waiting() -> float | None:
    return REGISTRY.get_sample_value("tidegate_removals_waiting", {"store": "memory"})


async def metrics(gate: Gateway) -> bytes:
    return (await gate.ask("GET", "/metrics")).body
