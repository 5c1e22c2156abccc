"""Image API v2: what each call answers in each status, as one table.

A cell is the code, or ``owner's / admin's``; ``→`` names the status after it, which else stays as
it was. ``GONE`` is pending_delete and deleted. The image belongs to the caller, is shared
with another project, and is not protected; locations are shown. An import is
asked for, and nobody does it.
"""

import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from uuid import uuid4

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer
from tests.kit.gateway import DATA, V21, Answer, Gateway, running
from tests.kit.server import until
from tests.kit.stores import FaultyStore

from tidegate.api import keys
from tidegate.catalog.base import AddLocation, ImageChange
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.image import Location
from tidegate.domain.policy import Caller
from tidegate.domain.status import GONE, Event, Status
from tidegate.domain.upload import Upload
from tidegate.identity.base import Anyone
from tidegate.stores.memory import MemoryStore

MATRIX = """
call             | queued       | saving    | uploading | importing | active             | deactivated | killed    | GONE
show             | 200          | 200       | 200       | 200       | 200                | 200         | 200       | 404
in the list      | yes          | yes       | yes       | yes       | yes                | yes         | yes       | no
attempts         | 200          | 200       | 200       | 200       | 200                | 200         | 200       | 404
change a field   | 200          | 200       | 200       | 200       | 200                | 200         | 200       | 404
change a format  | 200          | 403       | 403       | 200       | 403                | 403         | 403       | 404
upload           | 204 → active | 409       | 409       | 409       | 409                | 409         | 409       | 404
upload, no type  | 415          | 415       | 415       | 415       | 415                | 415         | 415       | 415
stage            | 204 → uploading | 409    | 409       | 409       | 409                | 409         | 409       | 404
stage, no type   | 415          | 415       | 415       | 415       | 415                | 415         | 415       | 415
import, direct   | 409          | 409       | 202       | 409       | 409                | 409         | 409       | 404
import, web      | 202          | 409       | 409       | 409       | 409                | 409         | 409       | 404
import, remote   | 202          | 409       | 409       | 409       | 409                | 409         | 409       | 404
import, copy     | 409          | 409       | 409       | 409       | 403 / 202          | 409         | 409       | 404
import, nothing  | 400          | 400       | 400       | 400       | 400                | 400         | 400       | 400
download         | 204          | 204       | 204       | 204       | 200                | 403 / 200   | 404       | 404
HEAD of the data | 204          | 204       | 204       | 204       | 200                | 403 / 200   | 404       | 404
a range of it    | 204          | 204       | 204       | 204       | 206                | 403 / 206   | 404       | 404
add a location   | 200 → active | 409       | 409       | 409       | 200                | 409         | 409       | 404
remove the last  | 403 / 409    | 403 / 409 | 403 / 409 | 403 / 409 | 403 / 200 → queued | 403 / 409   | 403 / 409 | 404
post a location  | 202 → active | 409       | 409       | 409       | 409                | 409         | 409       | 404
its locations    | 403 / 200    | 403 / 200 | 403 / 200 | 403 / 200 | 403 / 200          | 403 / 200   | 403 / 200 | 404
drop its copy    | 403 / 409    | 403 / 409 | 403 / 409 | 403 / 409 | 403 / 204          | 403 / 409   | 403 / 409 | 404
drop the only    | 403 / 409    | 403 / 409 | 403 / 409 | 403 / 409 | 403                | 403 / 409   | 403 / 409 | 404
locations: []    | 403          | 403       | 403       | 403       | 403                | 403         | 403       | 404
set the status   | 403          | 403       | 403       | 403       | 403                | 403         | 403       | 403
deactivate       | 403          | 403       | 403       | 403       | 204 → deactivated  | 204         | 403       | 404
reactivate       | 403          | 403       | 403       | 403       | 204                | 204 → active | 403      | 404
its members      | 200          | 200       | 200       | 200       | 200                | 200         | 200       | 404
a member         | 200          | 200       | 200       | 200       | 200                | 200         | 200       | 404
add a member     | 200          | 200       | 200       | 200       | 200                | 200         | 200       | 404
no new member    | 400          | 400       | 400       | 400       | 400                | 400         | 400       | 404
accept for it    | 403 / 200    | 403 / 200 | 403 / 200 | 403 / 200 | 403 / 200          | 403 / 200   | 403 / 200 | 404
drop a member    | 204          | 204       | 204       | 204       | 204                | 204         | 204       | 404
its tasks        | 200          | 200       | 200       | 200       | 200                | 200         | 200       | 404
put a tag        | 204          | 204       | 204       | 204       | 204                | 204         | 204       | 404
drop a tag       | 204          | 204       | 204       | 204       | 204                | 204         | 204       | 404
delete           | 204 → gone   | 204 → gone | 204 → gone | 204 → gone | 204 → gone      | 204 → gone  | 204 → gone | 404
"""  # noqa: E501

PATH = "/v2/images/{id}"
OWNER, ADMIN = ({"X-Caller": name} for name in ("owner", "admin"))
CALLERS = {
    "owner": Caller(project="p", roles=frozenset({"member", "reader"})),
    "admin": Caller(project="p", roles=frozenset({"admin"})),
}


class Cells:
    """The table, cell by cell."""

    def __init__(self, text: str) -> None:
        head, *rows = (
            [cell.strip() for cell in line.split("|")] for line in text.split("\n") if line
        )
        self.rows = {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}

    def expected(self, call: str, status: Status, *, admin: bool) -> tuple[str, str]:
        """The answer, and the status after it."""
        column = "GONE" if status in GONE else str(status)
        owners, _, admins = self.rows[call][column].partition(" / ")
        answer, _, after = ((admins if admin else owners) or owners).partition(" → ")
        return answer, after or str(status)


CELLS = Cells(MATRIX)


class World:
    """A gateway that takes a caller at its word, and the way of an image into each status."""

    def __init__(self, gate: Gateway, catalog: SqlCatalog, database: Path, elsewhere: str) -> None:
        self.gate = gate
        self.catalog = catalog
        self.database = database
        self.elsewhere = elsewhere

    async def image(self, status: Status) -> str:
        """By the API's own calls; by the catalog's where no call leads there, or where another
        worker has to do something meanwhile."""
        image_id = await self.gate.create(owner="p", tags=["old"])
        await self.catalog.put_member(image_id, "guest")
        match status:
            case Status.SAVING:
                attempt = uuid4().hex
                key = f"{image_id}/{attempt}"
                upload = Upload(id=attempt, image_id=image_id, store=self.gate.store.id, key=key)
                await self.catalog.start_upload(upload, lease=60)
            case Status.UPLOADING:
                assert (await self.gate.put(image_id, b"abc", path="stage")).status == 204
            case Status.IMPORTING:
                await self.catalog.advance(image_id, Event.IMPORT)
            case Status.KILLED:
                await self.gate.put(image_id, b"abc", {"x-openstack-image-size": "4"})
            case Status.ACTIVE | Status.DEACTIVATED | Status.PENDING_DELETE:
                assert (await self.gate.put(image_id, b"abc")).status == 204
            case Status.DELETED:
                await self.gate.ask("DELETE", PATH.format(id=image_id))
        if status is Status.DEACTIVATED:
            await self.catalog.advance(image_id, Event.DEACTIVATE)
        if status is Status.PENDING_DELETE:
            await self.catalog.advance(image_id, Event.DELETE_LATER)
        assert self.status(image_id) == status
        return image_id

    def status(self, image_id: str) -> str:
        """As it stands in the catalog, also where no caller may see it any more."""
        database = sqlite3.connect(self.database)
        ((status,),) = database.execute("SELECT status FROM images WHERE id = ?", (image_id,))
        database.close()
        return str(status)


Call = Callable[[World, str, Mapping[str, str]], Awaitable[Answer]]


def request(method: str, path: str = "", data: bytes | None = None, **headers: str) -> Call:
    async def call(world: World, image_id: str, caller: Mapping[str, str]) -> Answer:
        sent = {**caller, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return await world.gate.ask(
            method, PATH.format(id=image_id) + path, data=data, headers=sent
        )

    return call


async def post_location(world: World, image_id: str, caller: Mapping[str, str]) -> Answer:
    body = json.dumps({"url": world.elsewhere}).encode()
    answer = await request("POST", "/locations", body)(world, image_id, caller)

    async def registered() -> bool:
        return world.status(image_id) == Status.ACTIVE

    if answer.status == 202:
        await until(registered, "the location to be registered")
    return answer


def drop(*, copies: int) -> Call:
    async def call(world: World, image_id: str, caller: Mapping[str, str]) -> Answer:
        if copies > 1 and world.status(image_id) == Status.ACTIVE:
            where = Location("http", world.elsewhere, own=False)
            change = ImageChange(locations=[AddLocation(location=where)])
            await world.catalog.change_image(image_id, change)
        path = f"/v2/stores/{world.gate.store.id}/{image_id}"
        return await world.gate.ask("DELETE", path, headers=caller)

    return call


def patch(op: str, path: str, value: object = None) -> Call:
    """``value`` may name the world's elsewhere."""

    async def call(world: World, image_id: str, caller: Mapping[str, str]) -> Answer:
        step = {"op": op, "path": path, **({} if op == "remove" else {"value": value})}
        body = json.dumps([step]).replace("ELSEWHERE", world.elsewhere)
        return await request("PATCH", data=body.encode(), Content_Type=V21)(world, image_id, caller)

    return call


def importing(**method: str) -> Call:
    body = json.dumps({"method": method, "stores": ["second"]}).encode()
    ask = request("POST", "/import", body, Content_Type="application/json")

    async def call(world: World, image_id: str, caller: Mapping[str, str]) -> Answer:
        world.gate.app[keys.TASKS].drain()
        return await ask(world, image_id, caller)

    return call


CALLS: dict[str, Call] = {
    "show": request("GET"),
    "attempts": request("GET", "/uploads"),
    "change a field": patch("replace", "/name", "new"),
    "change a format": patch("replace", "/disk_format", "qcow2"),
    "upload": request("PUT", "/file", b"abc", Content_Type=DATA),
    "upload, no type": request("PUT", "/file", b"abc", Content_Type="text/plain"),
    "stage": request("PUT", "/stage", b"abc", Content_Type=DATA),
    "stage, no type": request("PUT", "/stage", b"abc", Content_Type="text/plain"),
    "import, direct": importing(name="glance-direct"),
    "import, web": importing(name="web-download", uri="https://example.com/"),
    "import, remote": importing(
        name="glance-download", glance_region="north", glance_image_id=str(uuid4())
    ),
    "import, copy": importing(name="copy-image"),
    "import, nothing": importing(),
    "download": request("GET", "/file"),
    "HEAD of the data": request("HEAD", "/file"),
    "a range of it": request("GET", "/file", Range="bytes=0-0"),
    "add a location": patch("add", "/locations/-", {"url": "ELSEWHERE", "metadata": {}}),
    "remove the last": patch("remove", "/locations/0"),
    "post a location": post_location,
    "its locations": request("GET", "/locations"),
    "drop its copy": drop(copies=2),
    "drop the only": drop(copies=1),
    "locations: []": patch("replace", "/locations", []),
    "set the status": patch("replace", "/status", "active"),
    "deactivate": request("POST", "/actions/deactivate"),
    "reactivate": request("POST", "/actions/reactivate"),
    "its members": request("GET", "/members"),
    "a member": request("GET", "/members/guest"),
    "add a member": request("POST", "/members", b'{"member": "new"}'),
    "no new member": request("POST", "/members", b'{"member": ""}'),
    "accept for it": request("PUT", "/members/guest", b'{"status": "accepted"}'),
    "drop a member": request("DELETE", "/members/guest"),
    "its tasks": request("GET", "/tasks"),
    "put a tag": request("PUT", "/tags/new"),
    "drop a tag": request("DELETE", "/tags/old"),
    "delete": request("DELETE"),
}


SAID_BEFORE = {"upload, no type", "stage, no type", "import, nothing", "set the status"}
"""What is refused before anybody looks for the image."""


@pytest.fixture
async def world(
    store: FaultyStore,
    tmp_path: Path,
    aiohttp_server: AiohttpServer,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    async def caller(self: Anyone, headers: Mapping[str, str], *rest: object) -> Caller:
        return CALLERS[headers.get("X-Caller", "admin")]

    monkeypatch.setattr(Anyone, "caller", caller)

    async def serve(request: web.Request) -> web.Response:
        return web.Response(body=b"abc")

    server = web.Application()
    server.router.add_get("/image.raw", serve)
    elsewhere = str((await aiohttp_server(server)).make_url("/image.raw"))
    database = tmp_path / "tidegate.db"
    catalog = SqlCatalog(f"sqlite:///{database}")
    regions = {"import": {"regions": {"north": elsewhere}}}
    async with running(store, tmp_path, others=[MemoryStore("second")], **regions) as gate:
        await catalog.open()
        yield World(gate, catalog, database, elsewhere)
        await catalog.close()


def test_every_call_of_the_table_is_made_and_the_other_way_round() -> None:
    assert CELLS.rows.keys() == {"in the list", *CALLS}


@pytest.mark.parametrize("admin", [False, True], ids=["owner", "admin"])
@pytest.mark.parametrize("call", CALLS)
async def test_a_call_in_every_status(world: World, call: str, admin: bool) -> None:
    expected = {status: CELLS.expected(call, status, admin=admin) for status in Status}
    found = {}
    for status in Status:
        image_id = await world.image(status)
        answer = await CALLS[call](world, image_id, ADMIN if admin else OWNER)
        after = world.status(image_id)
        if expected[status][1] == "gone" and after in GONE:
            after = "gone"
        found[status] = (str(answer.status), after)
        if answer.status >= 400 and answer.body:
            assert answer.message
    assert found == expected


@pytest.mark.parametrize("admin", [False, True], ids=["owner", "admin"])
async def test_what_a_list_shows(world: World, admin: bool) -> None:
    images = {status: await world.image(status) for status in Status}
    answer = await world.gate.ask("GET", "/v2/images", headers=ADMIN if admin else OWNER)
    listed = {image["id"] for image in answer.json["images"]}
    assert {status for status in Status if images[status] in listed} == {
        status
        for status in Status
        if CELLS.expected("in the list", status, admin=admin)[0] == "yes"
    }


async def test_a_killed_image_says_to_its_owner_why_it_has_no_data(world: World) -> None:
    image_id = await world.image(Status.KILLED)
    answer = await CALLS["download"](world, image_id, OWNER)
    assert "size_mismatch" in answer.message


async def test_another_projects_private_image_is_not_there_in_any_status(world: World) -> None:
    for status in Status:
        image_id = await world.image(status)
        if status not in GONE:
            await world.gate.patch(
                image_id,
                {"op": "replace", "path": "/owner", "value": "another"},
                {"op": "replace", "path": "/visibility", "value": "private"},
            )
        for name in CALLS.keys() - SAID_BEFORE:
            answer = await CALLS[name](world, image_id, OWNER)
            assert (status, name, answer.status) == (status, name, 404)
        assert world.status(image_id) == status
