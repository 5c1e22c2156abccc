"""Registered locations, by v2 PATCH and v1 header: active at once, never saving."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from tests.kit.gateway import Gateway, running
from tests.kit.stores import FaultyStore, objects

from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.image import Image, Location
from tidegate.domain.status import Status

BYTES = b"external bytes" * 1000
NEVER = {"saving", "killed"}


@pytest.fixture
async def elsewhere() -> AsyncIterator[str]:
    """The URL of bytes on another server."""

    async def serve(request: web.Request) -> web.Response:
        start = int(request.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        headers = {"Content-Range": f"bytes {start}-{len(BYTES) - 1}/{len(BYTES)}"}
        if not start:
            return web.Response(body=BYTES)
        return web.Response(status=206, body=BYTES[start:], headers=headers)

    app = web.Application()
    app.router.add_get("/image.raw", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield f"http://127.0.0.1:{port}/image.raw"
    await runner.cleanup()


class Poller:
    """Watches an image's status all along."""

    def __init__(self, gate: Gateway) -> None:
        self.gate = gate
        self.seen: set[str] = set()

    async def __aenter__(self) -> "Poller":
        self.task = asyncio.ensure_future(self._watch())
        return self

    async def _watch(self) -> None:
        while True:
            images = (await self.gate.ask("GET", "/v2/images")).json["images"]
            self.seen |= {image["status"] for image in images}
            await asyncio.sleep(0)

    async def __aexit__(self, *failure: object) -> None:
        async with asyncio.timeout(20):
            while "active" not in self.seen and not self.task.done():
                await asyncio.sleep(0)
        assert not self.task.done(), "it stopped watching"
        self.task.cancel()


def location(url: str, **more: Any) -> dict[str, Any]:
    return {"url": url, "metadata": {}, **more}


def shown(url: str, **metadata: str) -> dict[str, Any]:
    return {"url": url, "metadata": {"store": "http", **metadata}}


def add(url: str, path: str = "/locations/-", **more: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": location(url, **more)}


async def test_the_first_location_by_patch_makes_active(gate: Gateway, elsewhere: str) -> None:
    async with Poller(gate) as poller:
        image_id = await gate.create()
        answer = await gate.patch(image_id, add(elsewhere))
        assert answer.status == 200
        assert answer.json["status"] == "active"
        assert answer.json["locations"] == [shown(elsewhere)]
        got = await gate.ask("GET", f"/v2/images/{image_id}/file")
        assert got.body == BYTES
    assert not poller.seen & NEVER
    assert (await gate.ask("GET", f"/v2/images/{image_id}/uploads")).json == {"uploads": []}


async def test_a_location_by_v1_header_makes_active(gate: Gateway, elsewhere: str) -> None:
    async with Poller(gate) as poller:
        answer = await gate.ask(
            "POST",
            "/v1/images",
            headers={
                "x-image-meta-name": "far",
                "x-image-meta-disk_format": "raw",
                "x-image-meta-container_format": "bare",
                "x-image-meta-location": elsewhere,
            },
        )
        assert answer.status == 201
        image = answer.json["image"]
        assert image["status"] == "active"
        got = await gate.ask("GET", f"/v1/images/{image['id']}")
        assert got.body == BYTES
    assert not poller.seen & NEVER


async def test_a_location_by_v1_header_of_a_queued_image_makes_active(
    gate: Gateway, elsewhere: str
) -> None:
    image_id = await gate.create()
    async with Poller(gate) as poller:
        headers = {"x-image-meta-location": elsewhere}
        answer = await gate.ask("PUT", f"/v1/images/{image_id}", headers=headers)
        assert answer.json["image"]["status"] == "active"
        got = await gate.ask("GET", f"/v1/images/{image_id}")
        assert got.body == BYTES
    assert not poller.seen & NEVER


async def test_what_is_said_of_a_location_is_said_of_no_other(
    gate: Gateway, elsewhere: str, tmp_path: Path
) -> None:
    catalog = SqlCatalog(f"sqlite:///{tmp_path / 'tidegate.db'}")
    await catalog.open()
    remote = Location("http", elsewhere, own=False)
    known = await catalog.create_image(
        Image(
            id=str(uuid4()), status=Status.ACTIVE, size=len(BYTES), disk_format="raw",
            container_format="bare", locations=(Location("switched off", "key"), remote),
        )
    )  # fmt: skip
    await catalog.close()
    said = location(elsewhere, metadata={"rack": "7"})
    operation = {"op": "replace", "path": "/locations", "value": [said]}
    answer = await gate.patch(known.id, operation)
    assert answer.status == 200
    assert answer.json["locations"] == [shown(elsewhere, rack="7")]


async def test_replacing_all_locations_makes_active(gate: Gateway, elsewhere: str) -> None:
    image_id = await gate.create()
    operation = {"op": "replace", "path": "/locations", "value": [location(elsewhere)]}
    assert (await gate.patch(image_id, operation)).json["status"] == "active"


def vouched(**changes: str) -> dict[str, Any]:
    return {"checksum": "a" * 32, "os_hash_algo": "sha512", "os_hash_value": "b" * 128, **changes}


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({"checksum": "x" * 32}, 409, "hexadecimal"),
        ({"checksum": "a" * 31}, 400, "checksum"),
        ({"os_hash_value": "x" * 128}, 409, "hexadecimal"),
        ({"os_hash_value": "b" * 64}, 409, "64 bytes"),
        ({"os_hash_algo": "sha0"}, 409, "sha0"),
        ({"os_hash_algo": "shake_128"}, 409, "shake_128"),
        ({"more": "x"}, 400, "more"),
    ],
)
async def test_what_is_no_digest_is_not_vouched_for(
    gate: Gateway, elsewhere: str, changes: dict[str, str], status: int, word: str
) -> None:
    image_id = await gate.create()
    refused = await gate.patch(image_id, add(elsewhere, validation_data=vouched(**changes)))
    assert (refused.status, word in refused.message) == (status, True)
    assert (await gate.show(image_id))["status"] == "queued"


async def test_who_vouches_for_other_digests_than_before_is_409(
    gate: Gateway, elsewhere: str
) -> None:
    image_id = await gate.create()
    conflicting = [
        location(f"{elsewhere}?{name}", validation_data=vouched(checksum=name * 32))
        for name in "ab"
    ]
    both = {"op": "replace", "path": "/locations", "value": conflicting}
    assert (await gate.patch(image_id, both)).status == 409
    assert (await gate.patch(image_id, add(elsewhere, validation_data=vouched()))).status == 200
    again = elsewhere + "?again"
    same = await gate.patch(image_id, add(again, validation_data=vouched()))
    assert same.status == 200
    other = add(elsewhere + "?other", validation_data=vouched(os_hash_value="c" * 128))
    refused = await gate.patch(image_id, other)
    assert (refused.status, "already set" in refused.message) == (409, True)


async def test_digests_are_not_learnt_once_there_is_data(gate: Gateway, elsewhere: str) -> None:
    image_id = await gate.create()
    assert (await gate.patch(image_id, add(elsewhere))).status == 200
    late = add(elsewhere + "?late", validation_data=vouched())
    refused = await gate.patch(image_id, late)
    assert (refused.status, "'queued'" in refused.message) == (409, True)
    assert (await gate.show(image_id))["checksum"] is None


async def test_validation_data_is_kept(gate: Gateway, elsewhere: str) -> None:
    image_id = await gate.create()
    data = {"checksum": "d" * 32, "os_hash_algo": "sha512", "os_hash_value": "e" * 128}
    answer = await gate.patch(image_id, add(elsewhere, validation_data=data))
    assert answer.status == 200
    image = await gate.show(image_id)
    assert {name: image[name] for name in data} == data


async def test_a_second_location_leaves_it_active_and_one_may_go(
    gate: Gateway, elsewhere: str
) -> None:
    image_id = await gate.create()
    await gate.patch(image_id, add(elsewhere))
    answer = await gate.patch(image_id, add(elsewhere + "?mirror"))
    assert answer.json["status"] == "active"
    assert len(answer.json["locations"]) == 2
    left = await gate.patch(image_id, {"op": "remove", "path": "/locations/0"})
    assert left.json["status"] == "active"
    assert left.json["locations"] == [shown(elsewhere + "?mirror")]


async def test_the_last_location_that_goes_makes_queued(gate: Gateway, store: FaultyStore) -> None:
    image_id = await gate.active(b"some bytes")
    answer = await gate.patch(image_id, {"op": "remove", "path": "/locations/0"})
    assert answer.status == 200
    image = answer.json
    assert image["status"] == "queued"
    assert (image["size"], image["checksum"], image["os_hash_value"]) == (None, None, None)
    assert await objects(store) == {}


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://host/x", "s3://key:secret@host/b/k", "nonsense", "http://", ""],
)
async def test_other_schemes_are_refused_and_leave_it_queued(gate: Gateway, url: str) -> None:
    image_id = await gate.create()
    answer = await gate.patch(image_id, add(url))
    assert answer.status == 400
    assert "secret" not in answer.message
    assert (await gate.show(image_id))["status"] == "queued"


@pytest.mark.parametrize(
    "host",
    ["10.0.0.1", "192.168.1.1", "169.254.169.254", "172.16.0.1", "[::1]", "[fe80::1]",
     "localhost", "0.0.0.0", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]"],
)  # fmt: skip
async def test_private_addresses_are_refused(store: FaultyStore, tmp_path: Path, host: str) -> None:
    async with running(store, tmp_path, fetch={"allow": []}) as gate:
        image_id = await gate.create()
        answer = await gate.patch(image_id, add(f"http://{host}/image.raw"))
        assert answer.status == 400
        assert (await gate.show(image_id))["status"] == "queued"


async def test_without_the_setting_locations_are_neither_shown_nor_taken(
    store: FaultyStore, tmp_path: Path, elsewhere: str
) -> None:
    async with running(store, tmp_path, locations={"show": False}) as gate:
        image_id = await gate.active(b"x")
        assert "locations" not in await gate.show(image_id)
        queued = await gate.create()
        assert (await gate.patch(queued, add(elsewhere))).status == 403
        assert (await gate.show(queued))["status"] == "queued"


async def test_size_zero_on_create_is_active_at_once(gate: Gateway) -> None:
    answer = await gate.ask(
        "POST",
        "/v2/images",
        json={"disk_format": "raw", "container_format": "bare", "size": 0},
    )
    if answer.status == 403:  # v2 calls size read-only; then v1 is the way
        assert "size" in answer.message
    else:
        assert answer.json["status"] == "active"
