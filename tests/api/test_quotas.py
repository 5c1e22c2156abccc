"""The quotas of projects, over both APIs: here three images and ten bytes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer
from tests.kit.gateway import DATA, V21, Answer, Gateway, running
from tests.kit.identity import Named, of
from tests.kit.stores import FaultyStore, objects

from tidegate.stores.memory import MemoryStore

P1, P2 = of("p1"), of("p2")
FORMATS = {"disk_format": "raw", "container_format": "bare"}


@pytest.fixture
async def small(store: FaultyStore, tmp_path: Path) -> AsyncIterator[Gateway]:
    quotas = {"images": 3, "bytes": "10B"}
    async with running(store, tmp_path, identity=Named(), quotas=quotas) as found:
        yield found


async def create(gate: Gateway, who: dict[str, str] = P1, **fields: Any) -> Answer:
    return await gate.ask("POST", "/v2/images", json={**FORMATS, **fields}, headers=who)


async def queued(gate: Gateway, who: dict[str, str] = P1) -> str:
    answer = await create(gate, who)
    assert answer.status == 201
    image_id: str = answer.json["id"]
    return image_id


async def fill(gate: Gateway, image_id: str, data: bytes, *, known: bool = True) -> Answer:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 3):
            yield data[at : at + 3]

    return await gate.ask(
        "PUT",
        f"/v2/images/{image_id}/file",
        data=data if known else pieces(),
        headers={**P1, "Content-Type": DATA},
    )


async def status(gate: Gateway, image_id: str) -> str:
    answer = await gate.ask("GET", f"/v2/images/{image_id}", headers=P1)
    found: str = answer.json["status"]
    return found


async def test_one_image_too_many_is_413_in_both_apis(small: Gateway) -> None:
    first = await queued(small)
    for _ in range(2):
        await queued(small)
    refused = await create(small)
    assert refused.status == 413
    assert "Attempted: 4, Maximum: 3" in refused.message
    headers = {**P1, "x-image-meta-name": "x"}
    assert (await small.ask("POST", "/v1/images", headers=headers)).status == 413
    assert (await create(small, P2)).status == 201
    assert len((await small.ask("GET", "/v2/images", headers=P1)).json["images"]) == 3
    assert (await small.ask("DELETE", f"/v2/images/{first}", headers=P1)).status == 204
    await queued(small)


@pytest.mark.parametrize("known", [True, False])
async def test_what_fits_exactly_is_taken(small: Gateway, known: bool) -> None:
    image_id = await queued(small)
    assert (await fill(small, image_id, b"0123456789", known=known)).status == 204
    assert await status(small, image_id) == "active"


async def test_a_known_length_that_does_not_fit_is_413_before_the_first_byte(
    small: Gateway,
) -> None:
    image_id = await queued(small)
    refused = await fill(small, image_id, b"01234567890")
    assert (refused.status, "10 bytes" in refused.message) == (413, True)
    assert await status(small, image_id) == "queued"
    assert (await fill(small, image_id, b"0123456789")).status == 204


async def test_an_unknown_length_is_cut_off_where_the_room_ends(
    small: Gateway, store: FaultyStore
) -> None:
    image_id = await queued(small)
    assert (await fill(small, image_id, b"01234567890", known=False)).status == 413
    assert await status(small, image_id) == "killed"
    assert (await small.failure(image_id))["reason"] == "too_large"
    assert await objects(store) == {}
    other = await queued(small)
    assert (await fill(small, other, b"0123456789", known=False)).status == 204
    third = await queued(small)
    assert (await fill(small, third, b"", known=False)).status == 413


async def test_a_deleted_image_gives_its_bytes_back(small: Gateway) -> None:
    for _ in range(3):
        image_id = await queued(small)
        assert (await fill(small, image_id, b"0123456789")).status == 204
        assert (await small.ask("DELETE", f"/v2/images/{image_id}", headers=P1)).status == 204


async def test_a_location_counts_as_its_data_would(
    small: Gateway, aiohttp_server: AiohttpServer
) -> None:
    async def serve(request: web.Request) -> web.Response:
        return web.Response(body=bytes(int(request.match_info["size"])))

    server = web.Application()
    server.router.add_get("/{size}", serve)
    elsewhere = await aiohttp_server(server)
    image_id = await queued(small)

    async def add(size: int) -> int:
        value = {"url": str(elsewhere.make_url(f"/{size}")), "metadata": {}}
        step = {"op": "add", "path": "/locations/-", "value": value}
        answer = await small.ask(
            "PATCH", f"/v2/images/{image_id}", json=[step], headers={**P1, "Content-Type": V21}
        )
        return answer.status

    assert await add(11) == 413
    assert await status(small, image_id) == "queued"
    assert await add(10) == 200


async def test_the_limits_are_told_beside_what_is_held(tmp_path: Path) -> None:
    store = FaultyStore(MemoryStore())
    async with running(store, tmp_path, quotas={"images": 3, "bytes": "10MiB"}) as gate:
        await gate.create()
        usage = (await gate.ask("GET", "/v2/info/usage")).json["usage"]
    assert usage["image_count_total"] == {"usage": 1, "limit": 3}
    assert usage["image_size_total"] == {"usage": 0, "limit": 10}
    assert usage["image_count_uploading"]["limit"] == -1
