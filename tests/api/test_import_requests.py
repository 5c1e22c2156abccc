"""What is said of a request to import, in which order, row by row."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.kit.gateway import DATA, Answer, Gateway, running
from tests.kit.identity import ADMIN, READER, Named, of
from tests.kit.stores import FaultyStore

from tidegate.api import keys
from tidegate.catalog.base import ImageChange
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import Conflict
from tidegate.domain.status import Event, Status
from tidegate.domain.task import LOCK, Task, TaskType
from tidegate.stores.memory import MemoryStore

OWNER, STRANGER = of("p1"), of("p2")
ELSEWHERE = str(uuid4())
WEB = {"name": "web-download", "uri": "https://example.com/disk.raw"}
DIRECT = {"name": "glance-direct"}
COPY = {"name": "copy-image"}
REMOTE = {"name": "glance-download", "glance_region": "north", "glance_image_id": ELSEWHERE}
BAD = {"name": "web-download", "uri": "http://169.254.169.254/"}


@pytest.fixture
async def gate(store: FaultyStore, tmp_path: Path) -> AsyncIterator[Gateway]:
    """Nobody does its tasks."""
    settings = {
        "import": {"regions": {"north": "https://north.example/v2"}},
        "fetch": {"allow": ["north.example"]},
    }
    second = MemoryStore("second")
    async with running(store, tmp_path, others=[second], identity=Named(), **settings) as found:
        found.app[keys.TASKS].draining = True
        yield found


@pytest.fixture
async def catalog(gate: Gateway, tmp_path: Path) -> AsyncIterator[SqlCatalog]:
    """Another worker's."""
    found = SqlCatalog(f"sqlite:///{tmp_path / 'tidegate.db'}")
    await found.open()
    yield found
    await found.close()


async def ask(
    gate: Gateway, image_id: str, body: Any, caller: Mapping[str, str] = OWNER, **headers: str
) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **caller, **named}
    return await gate.ask("POST", f"/v2/images/{image_id}/import", data=data, headers=sent)


async def image(gate: Gateway, status: str = "queued", **fields: Any) -> str:
    body = {"disk_format": "raw", "container_format": "bare", **fields}
    made = await gate.ask("POST", "/v2/images", json=body, headers=OWNER)
    assert made.status == 201, made.body
    image_id: str = made.json["id"]
    path = {"queued": "", "uploading": "/stage", "active": "/file"}[status]
    if path:
        headers = {"Content-Type": DATA, **OWNER}
        answer = await gate.ask("PUT", f"/v2/images/{image_id}{path}", data=b"a", headers=headers)
        assert answer.status == 204, answer.body
    return image_id


BODIES = [
    (b"", "Body expected in request."),
    (b"{", "Malformed JSON in request body."),
    (b"7", "Unexpected body type. Expected list/dict."),
    ([], "Import request requires a 'method' field."),
    ({}, "Import request requires a 'method' field."),
    ({"method": "web-download"}, "Import request requires a 'method' field."),
    ({"method": {}}, "Import request requires a 'name' field."),
    ({"method": {"name": 7}}, "Import request requires a 'name' field."),
    ({"method": {"name": "x"}}, "Unknown import method name 'x'."),
    ({"method": WEB, "all_stores": "yes"}, "'all_stores' must be boolean value only"),
    ({"method": WEB, "all_stores_must_succeed": 1},
     "'all_stores_must_succeed' must be boolean value only"),
    ({"method": WEB, "stores": "second"}, "'stores' must be a list of store identifiers"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "said"), BODIES)
async def test_a_body_that_cannot_be_meant_is_400_before_the_image_is_looked_for(
    gate: Gateway, body: Any, said: str
) -> None:
    answer = await ask(gate, str(uuid4()), body)
    assert (answer.status, answer.message) == (400, said)


async def test_unknown_keys_are_ignored_and_all_stores_false_goes_with_stores(
    gate: Gateway,
) -> None:
    body = {"method": {**WEB, "x": 1}, "y": 2, "all_stores": False, "stores": ["second"]}
    answer = await ask(gate, await image(gate), body)
    assert (answer.status, answer.body) == (202, b"")


@pytest.mark.parametrize("caller", [STRANGER, OWNER])
async def test_2_an_image_that_is_not_there_for_the_caller(
    gate: Gateway, caller: Mapping[str, str]
) -> None:
    image_id = str(uuid4()) if caller is OWNER else await image(gate, visibility="private")
    assert (await ask(gate, image_id, {"method": WEB}, caller)).status == 404


@pytest.mark.parametrize(
    ("status", "method", "said"),
    [
        ("active", WEB, "Image with status active cannot be target for import"),
        ("active", DIRECT, "Image with status active cannot be target for import"),
        ("active", REMOTE, "Image with status active cannot be target for import"),
        ("queued", COPY, "Only images with status active can be targeted for copying"),
        ("uploading", COPY, "Only images with status active can be targeted for copying"),
        ("uploading", WEB, "Image needs to be in 'queued' state to use 'web-download' method"),
        ("uploading", REMOTE,
         "Image needs to be in 'queued' state to use 'glance-download' method"),
        ("queued", DIRECT, "Image needs to be staged before 'glance-direct' method can be used"),
    ],
)  # fmt: skip
async def test_3_to_6_an_image_in_another_status_is_409_before_anything_else_is_said(
    gate: Gateway, status: str, method: dict[str, Any], said: str
) -> None:
    """… as that the caller may not, or that the store is not there."""
    image_id = await image(gate, status, visibility="community")
    answer = await ask(gate, image_id, {"method": method, "stores": ["nowhere"]}, STRANGER)
    assert (answer.status, answer.message) == (409, said)


@pytest.mark.parametrize("name", ["container_format", "disk_format"])
async def test_7_formats_that_are_not_set_are_409(gate: Gateway, name: str) -> None:
    image_id = await image(gate, **{name: None}, visibility="community")
    answer = await ask(gate, image_id, {"method": WEB, "stores": ["nowhere"]}, STRANGER)
    assert (answer.status, answer.message) == (409, f"'{name}' needs to be set before import")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"glance_region": ""},
         "'glance_region' needs to be set for glance-download import method"),
        ({"glance_image_id": None},
         "'glance_image_id' needs to be set for glance-download import method"),
        ({"glance_image_id": "7"}, "Remote image id does not look like a UUID: 7"),
        ({"glance_region": "south"}, "There is no region 'south' here."),
    ],
)  # fmt: skip
async def test_8_an_image_elsewhere_that_cannot_be_asked_for_is_400(
    gate: Gateway, change: dict[str, Any], said: str
) -> None:
    """… before the caller's rights are looked at."""
    image_id = await image(gate, visibility="community")
    answer = await ask(gate, image_id, {"method": {**REMOTE, **change}}, STRANGER)
    assert (answer.status, answer.message) == (400, said)


@pytest.mark.parametrize(
    ("status", "method", "caller", "code"),
    [
        ("queued", WEB, STRANGER, 403),
        ("queued", WEB, READER, 403),
        ("queued", WEB, OWNER, 202),
        ("active", COPY, OWNER, 403),
        ("active", COPY, ADMIN, 202),
    ],
)
async def test_9_who_may(
    gate: Gateway, status: str, method: dict[str, Any], caller: Mapping[str, str], code: int
) -> None:
    image_id = await image(gate, status, visibility="community")
    store = "nowhere" if code == 403 else "second"
    answer = await ask(gate, image_id, {"method": method, "stores": [store]}, caller)
    assert answer.status == code


async def test_9_an_image_that_had_data_once_gets_no_other_from_its_owner(
    gate: Gateway, catalog: SqlCatalog
) -> None:
    image_id = await image(gate, "active")
    await catalog.advance(image_id, Event.UNREGISTER)
    assert (await ask(gate, image_id, {"method": WEB})).status == 409
    assert (await ask(gate, image_id, {"method": WEB}, ADMIN)).status == 202


async def locked(catalog: SqlCatalog, image_id: str, holder: str | None = None) -> None:
    """By a task that nobody does; ``holder``: by one that is not there."""
    task_id = holder or str(uuid4())
    if holder is None:
        await catalog.create_task(Task(id=task_id, type=TaskType.LOCATION_IMPORT))
    await catalog.change_image(image_id, ImageChange(put={LOCK: task_id}))


async def test_10_an_image_that_a_living_task_holds_is_409(
    gate: Gateway, catalog: SqlCatalog
) -> None:
    image_id = await image(gate)
    await locked(catalog, image_id)
    answer = await ask(gate, image_id, {"method": WEB, "stores": ["x"], "all_stores": True})
    assert (answer.status, answer.message) == (409, "Image has active task")


async def test_10_a_lock_whose_task_is_not_there_is_none(
    gate: Gateway, catalog: SqlCatalog
) -> None:
    image_id = await image(gate)
    await locked(catalog, image_id, str(uuid4()))
    assert (await ask(gate, image_id, {"method": WEB})).status == 202


@pytest.mark.parametrize(
    ("body", "header", "code", "said"),
    [
        ({"all_stores": True, "stores": ["nowhere"]}, None, 400, "All_stores parameter can't be"),
        ({"all_stores": True}, "nowhere", 400, "All_stores parameter can't be"),
        ({"stores": ["nowhere"]}, "second", 400, "can't be both specified"),
        ({"stores": ["second", "nowhere"]}, None, 409, "Store for identifier nowhere not found"),
        ({}, "nowhere", 409, "Store for identifier nowhere not found"),
        ({"stores": ["http"]}, None, 409, "Store for identifier http not found"),
    ],
)
async def test_11_to_13_stores_that_cannot_be_meant(
    gate: Gateway, body: dict[str, Any], header: str | None, code: int, said: str
) -> None:
    """… before the URL is looked at."""
    headers = {"x_image_meta_store": header} if header else {}
    answer = await ask(gate, await image(gate), {"method": BAD, **body}, **headers)
    assert answer.status == code
    assert said in answer.message


@pytest.mark.parametrize("stores", [{"stores": ["memory"]}, {"stores": ["second", "memory"]}, {}])
async def test_14_a_store_that_has_the_image_is_400(gate: Gateway, stores: dict[str, Any]) -> None:
    answer = await ask(gate, await image(gate, "active"), {"method": COPY, **stores}, ADMIN)
    assert (answer.status, answer.message) == (400, "Image is already present at store 'memory'")


@pytest.mark.parametrize(
    "uri",
    [None, "", 7, "ftp://example.com/x", "http://0x7f.1:22/x", "https://example.com:22/x",
     "http://10.0.0.1/x", "http://user:secret@example.com/x"],
)  # fmt: skip
async def test_18_a_url_that_nobody_may_fetch_is_400_and_not_repeated(
    gate: Gateway, uri: Any
) -> None:
    answer = await ask(gate, await image(gate), {"method": {"name": "web-download", "uri": uri}})
    assert answer.status == 400
    assert "does not pass filtering" in answer.message
    assert "secret" not in answer.message


async def test_19_of_two_imports_at_once_one_is_taken(gate: Gateway, catalog: SqlCatalog) -> None:
    image_id = await image(gate)
    one, two = (
        Task(id=str(uuid4()), type=TaskType.API_IMAGE_IMPORT, image_id=image_id) for _ in range(2)
    )
    await catalog.ask_for_import(one, Status.QUEUED)
    with pytest.raises(Conflict, match="is not permitted as prior operation is still in progress"):
        await catalog.ask_for_import(two, Status.QUEUED)
