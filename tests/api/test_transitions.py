"""Each way of an image through its statuses, as a row: where it was, what was asked, what was
answered, and every status that it passed through.

The catalog's database writes the way down by itself, so nothing in between is missed.
"""

import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer
from tests.kit.gateway import DATA, V21, Answer, Gateway, running
from tests.kit.server import until
from tests.kit.stores import FaultyStore, objects

from tidegate.domain.errors import StoreDown
from tidegate.domain.status import INITIAL, TRANSITIONS, Status

WATCH = """
CREATE TABLE way (image_id TEXT, status TEXT);
CREATE TRIGGER born AFTER INSERT ON images
  BEGIN INSERT INTO way VALUES (new.id, new.status); END;
CREATE TRIGGER moved AFTER UPDATE OF status ON images WHEN old.status <> new.status
  BEGIN INSERT INTO way VALUES (new.id, new.status); END;
"""
V1_META = {f"x-image-meta-{name}": value for name, value in {
    "name": "n", "disk_format": "raw", "container_format": "bare",
}.items()}  # fmt: skip
WRONG_MD5 = "0" * 32


@dataclass
class World:
    gate: Gateway
    store: FaultyStore
    database: Path
    elsewhere: str

    def way(self, image_id: str) -> str:
        """Every status it was in, in order."""
        database = sqlite3.connect(self.database)
        rows = database.execute("SELECT status FROM way WHERE image_id = ?", (image_id,)).fetchall()
        database.close()
        return " → ".join(status for (status,) in rows)

    async def queued(self) -> str:
        return await self.gate.create()

    async def active(self) -> str:
        return await self.gate.active(b"elsewhere")

    async def killed(self) -> str:
        image_id = await self.gate.create()
        await self.gate.put(image_id, b"abc", {"x-openstack-image-size": "4"})
        return image_id

    async def deactivated(self) -> str:
        image_id = await self.active()
        await DEACTIVATE(self, image_id)
        return image_id

    async def new(self) -> str:
        """The id of an image that is still to be made."""
        return str(uuid4())


Call = Callable[[World, str], Awaitable[Answer]]


def v1(method: str, data: bytes | None = None, **headers: str) -> Call:
    """``{elsewhere}`` in a header is the URL of 9 bytes on another server."""

    async def call(world: World, image_id: str) -> Answer:
        sent = {name.replace("_", "-", 3): value for name, value in headers.items()}
        sent = {name: value.format(elsewhere=world.elsewhere) for name, value in sent.items()}
        path = "/v1/images" if method == "POST" else f"/v1/images/{image_id}"
        if method == "POST":
            sent = {**V1_META, "x-image-meta-id": image_id, **sent}
        if data is not None:
            sent = {"Content-Type": DATA, **sent}
        return await world.gate.ask(method, path, data=data, headers=sent)

    return call


def v2(
    method: str, path: str = "", data: bytes | None = None, body: object = None, **headers: str
) -> Call:
    async def call(world: World, image_id: str) -> Answer:
        place = "/v2/images" if method == "POST" and not path else f"/v2/images/{image_id}{path}"
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        content = data
        if body is not None:
            text = json.dumps(body).replace("ELSEWHERE", world.elsewhere).replace("ID", image_id)
            content = text.encode()
            sent["Content-Type"] = V21 if method == "PATCH" else "application/json"
        elif data is not None:
            sent["Content-Type"] = DATA
        return await world.gate.ask(method, place, data=content, headers=sent)

    return call


def patched(op: str, path: str, value: object = None) -> Call:
    step = {"op": op, "path": path} | ({} if value is None else {"value": value})
    return v2("PATCH", body=[step])


async def deleted_meanwhile(world: World, image_id: str, put: Call) -> Answer:
    async def delete(*args: object) -> None:
        world.store.before.clear()
        await world.gate.ask("DELETE", f"/v2/images/{image_id}")

    world.store.before["put"] = delete
    return await put(world, image_id)


async def v2_deleted_meanwhile(world: World, image_id: str) -> Answer:
    return await deleted_meanwhile(world, image_id, PUT)


async def v1_deleted_meanwhile(world: World, image_id: str) -> Answer:
    return await deleted_meanwhile(world, image_id, v1("PUT", b"abc"))


async def v2_store_down(world: World, image_id: str) -> Answer:
    world.store.fail("put", StoreDown(world.store.id, "it answered 503"))
    return await PUT(world, image_id)


def copied(method: str, **headers: str) -> Call:
    """To the end of the task."""
    asked = v1(method, **headers)

    async def call(world: World, image_id: str) -> Answer:
        answer = await asked(world, image_id)

        async def ended() -> bool:
            return world.way(image_id).endswith(("active", "killed"))

        await until(ended, "the copying to end")
        return answer

    return call


PLACE = {"url": "ELSEWHERE", "metadata": {}}
PUT = v2("PUT", "/file", b"abc")
ADD = patched("add", "/locations/-", PLACE)
REPLACE = patched("replace", "/locations", [PLACE])
WRONG_DIGEST = v2("PUT", "/file", b"abc", Content_MD5=WRONG_MD5)
WRONG_SIZE = v2("PUT", "/file", b"abc", x_openstack_image_size="4")
SIZE_0 = {"x_image_meta_size": "0"}
SUM = {"x_image_meta_checksum": WRONG_MD5}
TEXT = {"Content_Type": "text/plain"}
ELSEWHERE = {"x_image_meta_location": "{elsewhere}"}
MADE = {"id": "ID", "disk_format": "raw", "container_format": "bare"}

COPY = {"x-glance-api-copy-from": "{elsewhere}"}
GONE = {"x-glance-api-copy-from": "{elsewhere}x", "x_image_meta_size": "9"}
DEACTIVATE = v2("POST", "/actions/deactivate")
REACTIVATE = v2("POST", "/actions/reactivate")

FILLED = "queued → saving → active"
BROKEN = "queued → saving → killed"
CLOSED = f"{FILLED} → deactivated"

ROWS = [
    # from      what is asked                call                       answer  the whole way
    ("new",    "v1 POST without data",       v1("POST"),                   201, "queued"),
    ("new",    "v2 POST",                    v2("POST", body=MADE),        201, "queued"),
    ("new",    "v1 POST with size 0",        v1("POST", **SIZE_0),         201, "active"),
    ("new",    "v1 POST with data",          v1("POST", b"abc"),           201, FILLED),
    ("new",    "v1 POST with a location",    v1("POST", **ELSEWHERE),      201, "active"),
    ("queued", "v1 PUT of data",             v1("PUT", b"abc"),            200, FILLED),
    ("queued", "v2 PUT of data",             PUT,                          204, FILLED),
    ("queued", "v2 PUT of no bytes",         v2("PUT", "/file", b""),      204, FILLED),
    ("new",    "v1 POST, copy-from",         copied("POST", **COPY),       201, FILLED),
    ("new",    "v1 POST, copy from nothing", copied("POST", **GONE),       201,
     "queued → killed"),
    ("queued", "v1 PUT, copy-from",          copied("PUT", **COPY),        200, FILLED),
    ("queued", "v1 PUT of a location",       v1("PUT", **ELSEWHERE),       200, "queued → active"),
    ("queued", "v2 PATCH, first location",   ADD,                          200, "queued → active"),
    ("queued", "v2 PATCH, all locations",    REPLACE,                      200, "queued → active"),
    ("queued", "v1 PUT, other checksum",     v1("PUT", b"abc", **SUM),     400, BROKEN),
    ("queued", "v2 PUT, other digest",       WRONG_DIGEST,                 400, BROKEN),
    ("queued", "v2 PUT, other size",         WRONG_SIZE,                   400, BROKEN),
    ("queued", "v2 PUT, store is down",      v2_store_down,                502, BROKEN),
    ("queued", "v1 PUT of a wrong type",     v1("PUT", b"abc", **TEXT),    400, "queued → killed"),
    ("queued", "v1 PUT, deleted meanwhile",  v1_deleted_meanwhile,         412,
     "queued → saving → deleted"),
    ("queued", "v2 PUT, deleted meanwhile",  v2_deleted_meanwhile,         410,
     "queued → saving → deleted"),
    ("active", "v2 PATCH, last location",    patched("remove", "/locations/0"), 200,
     f"{FILLED} → queued"),
    ("active", "v2 PATCH, second location",  ADD,                          200, FILLED),
    ("active", "v2 PUT of other data",       PUT,                          409, FILLED),
    ("killed", "v2 PUT of data",             PUT,                          409, BROKEN),
    ("active", "v2 deactivate",              DEACTIVATE,                   204, CLOSED),
    ("deactivated", "v2 deactivate",         DEACTIVATE,                   204, CLOSED),
    ("deactivated", "v2 reactivate",         REACTIVATE,                   204,
     f"{CLOSED} → active"),
    ("active", "v2 reactivate",              REACTIVATE,                   204, FILLED),
    ("queued", "v2 deactivate",              DEACTIVATE,                   403, "queued"),
    ("killed", "v2 reactivate",              REACTIVATE,                   403, BROKEN),
    ("deactivated", "v2 PATCH, last location", patched("remove", "/locations/0"), 409, CLOSED),
    ("deactivated", "v1 DELETE",             v1("DELETE"),                 200,
     f"{CLOSED} → deleted"),
    ("deactivated", "v2 DELETE",             v2("DELETE"),                 204,
     f"{CLOSED} → deleted"),
    ("queued", "v1 DELETE",                  v1("DELETE"),                 200, "queued → deleted"),
    ("queued", "v2 DELETE",                  v2("DELETE"),                 204, "queued → deleted"),
    ("active", "v1 DELETE",                  v1("DELETE"),                 200,
     f"{FILLED} → deleted"),
    ("active", "v2 DELETE",                  v2("DELETE"),                 204,
     f"{FILLED} → deleted"),
    ("killed", "v1 DELETE",                  v1("DELETE"),                 200,
     f"{BROKEN} → deleted"),
    ("killed", "v2 DELETE",                  v2("DELETE"),                 204,
     f"{BROKEN} → deleted"),
]  # fmt: skip

TRIES_AGAIN = [
    ("v2 PUT, other digest", WRONG_DIGEST, 400),
    ("v2 PUT, store is down", v2_store_down, 502),
]
"""With ``on_broken = "queued"``."""


@pytest.fixture
async def elsewhere(aiohttp_server: AiohttpServer) -> str:
    async def serve(request: web.Request) -> web.Response:
        return web.Response(body=b"elsewhere")

    server = web.Application()
    server.router.add_get("/image.raw", serve)
    return str((await aiohttp_server(server)).make_url("/image.raw"))


@pytest.fixture
async def world(store: FaultyStore, tmp_path: Path, elsewhere: str) -> AsyncIterator[World]:
    async with running(store, tmp_path) as gate:
        yield watched(gate, store, tmp_path, elsewhere)


def watched(gate: Gateway, store: FaultyStore, folder: Path, elsewhere: str) -> World:
    path = folder / "tidegate.db"
    database = sqlite3.connect(path)
    database.executescript(WATCH)
    database.close()
    return World(gate, store, path, elsewhere)


@pytest.mark.parametrize(
    ("start", "call", "code", "way"),
    [(start, call, code, way) for start, _, call, code, way in ROWS],
    ids=[f"{start}: {asked}" for start, asked, *_ in ROWS],
)
async def test_a_row(world: World, start: str, call: Call, code: int, way: str) -> None:
    image_id: str = await getattr(world, start)()
    answer = await call(world, image_id)
    assert answer.status == code, answer.body
    assert world.way(image_id) == way
    if way.endswith(("killed", "deleted", "active → queued")):
        assert await objects(world.store) == {}


@pytest.mark.parametrize(
    ("call", "code"),
    [(call, code) for _, call, code in TRIES_AGAIN],
    ids=[asked for asked, *_ in TRIES_AGAIN],
)
async def test_where_a_broken_upload_may_be_tried_again(
    store: FaultyStore, tmp_path: Path, elsewhere: str, call: Call, code: int
) -> None:
    async with running(store, tmp_path, uploads={"on_broken": "queued"}) as gate:
        world = watched(gate, store, tmp_path, elsewhere)
        image_id = await world.queued()
        assert (await call(world, image_id)).status == code
        assert world.way(image_id) == "queued → saving → queued"
        assert await objects(store) == {}
        store.before.clear()
        assert (await PUT(world, image_id)).status == 204
        assert world.way(image_id) == "queued → saving → queued → saving → active"


@pytest.mark.parametrize("start", ["active", "deactivated"])
@pytest.mark.parametrize("delete", [v1("DELETE"), v2("DELETE")], ids=["v1", "v2"])
async def test_a_delete_that_waits(
    store: FaultyStore, tmp_path: Path, elsewhere: str, start: str, delete: Call
) -> None:
    async with running(store, tmp_path, deletion={"delayed": True}) as gate:
        world = watched(gate, store, tmp_path, elsewhere)
        image_id: str = await getattr(world, start)()
        assert (await delete(world, image_id)).status in (200, 204)
        assert world.way(image_id).endswith(f"{start} → pending_delete")
        assert len(await objects(store)) == 1
        empty = await world.queued()
        await delete(world, empty)
        assert world.way(empty) == "queued → deleted"


def test_every_step_of_the_rows_is_an_edge_of_the_table() -> None:
    edges = {(source, row.target) for row in TRANSITIONS.values() for source in row.sources}
    for *_, way in ROWS:
        steps = [Status(status) for status in way.split(" → ")]
        assert steps[0] in INITIAL
        assert set(pairwise(steps)) <= edges
