"""Staging and the Import API: what an image goes through, and what is left where it fails."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.kit.gateway import Gateway, running
from tests.kit.identity import ADMIN, Named, of
from tests.kit.imports import (
    COPY,
    DIRECT,
    ask,
    empty,
    ended,
    imported,
    stage,
    staged,
    task_of,
)
from tests.kit.origins import Origin, Service, serving
from tests.kit.server import until
from tests.kit.sources import pattern
from tests.kit.stores import FaultyStore, objects, read_all

from tidegate.api import keys
from tidegate.domain.errors import StoreBroke
from tidegate.domain.policy import DEFAULT_RULES, Policy
from tidegate.domain.protections import Protections
from tidegate.domain.task import Task
from tidegate.services.elsewhere import Elsewhere
from tidegate.stores.memory import MemoryStore

MIB = 2**20
BODY = pattern(300_000)
BIG = pattern(40 * MIB)
ELSEWHERE = str(uuid4())


@pytest.fixture
def second() -> FaultyStore:
    return FaultyStore(MemoryStore("second"))


@pytest.fixture
def third() -> FaultyStore:
    return FaultyStore(MemoryStore("third"))


@pytest.fixture
async def gate(
    store: FaultyStore, second: FaultyStore, third: FaultyStore, tmp_path: Path
) -> AsyncIterator[Gateway]:
    async with running(store, tmp_path, others=(second, third), uploads={"lease": "2s"}) as found:
        yield found


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with serving(BODY) as found:
        yield found


async def data_of(gate: Gateway, image_id: str) -> bytes:
    answer = await gate.ask("GET", f"/v2/images/{image_id}/file")
    assert answer.status == 200, answer.body
    return answer.body


async def only(store: FaultyStore) -> bytes:
    """The one object of the store."""
    (key,) = await objects(store)
    return await read_all(store, key)


def lists(image: dict[str, Any]) -> tuple[str | None, str | None]:
    """The stores still to come and those that failed; the lock is gone."""
    assert "os_glance_import_task" not in image
    return image.get("os_glance_importing_to_stores"), image.get("os_glance_failed_import")


# staging


@pytest.mark.parametrize("data", [b"", BODY, BIG], ids=["empty", "one part", "parts"])
async def test_staged_data_is_an_object_that_is_no_location_yet(
    gate: Gateway, store: FaultyStore, data: bytes
) -> None:
    image_id = await staged(gate, data)
    image = await gate.show(image_id)
    assert (image["status"], image["size"], image["checksum"]) == ("uploading", len(data), None)
    assert image["locations"] == []
    assert await only(store) == data
    assert (await gate.ask("GET", f"/v2/images/{image_id}/file")).status == 204
    (attempt,) = (await gate.ask("GET", f"/v2/images/{image_id}/uploads")).json["uploads"]
    assert (attempt["state"], attempt["purpose"]) == ("staged", "stage")


async def test_formats_are_not_needed_to_stage_but_to_import(gate: Gateway) -> None:
    image_id = await gate.create(disk_format=None, container_format=None)
    assert (await stage(gate, image_id, BODY)).status == 204
    answer = await ask(gate, image_id, DIRECT)
    assert answer.status == 409
    assert answer.message == "'container_format' needs to be set before import"


async def test_data_may_be_staged_in_a_store_that_the_client_names(
    gate: Gateway, store: FaultyStore, second: FaultyStore
) -> None:
    await staged(gate, BODY, x_image_meta_store="second")
    assert await objects(store) == {}
    assert await only(second) == BODY


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"x-image-meta-store": "nowhere"}, 400),
        ({"x-openstack-image-size": "x"}, 400),
        ({"Content-Encoding": "gzip"}, 415),
    ],
)
async def test_what_cannot_be_staged_leaves_the_image_queued(
    gate: Gateway, store: FaultyStore, headers: dict[str, str], code: int
) -> None:
    image_id = await gate.create()
    answer = await stage(gate, image_id, BODY, **headers)
    assert (answer.status, (await gate.show(image_id))["status"]) == (code, "queued")
    assert await objects(store) == {}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-openstack-image-size": "7"}, 400),
        ({"Content-MD5": hashlib.md5(b"other").hexdigest()}, 400),
    ],
)
async def test_a_staging_that_breaks_takes_the_image_back_to_queued_and_may_be_repeated(
    gate: Gateway, store: FaultyStore, headers: dict[str, str], code: int
) -> None:
    image_id = await gate.create()
    assert (await stage(gate, image_id, BODY, **headers)).status == code
    image = await gate.show(image_id)
    assert (image["status"], image["size"]) == ("queued", None)
    assert await objects(store) == {}
    assert await gate.failure(image_id)
    assert (await stage(gate, image_id, BODY)).status == 204


async def test_a_store_that_fails_while_data_is_staged(gate: Gateway, store: FaultyStore) -> None:
    image_id = await gate.create()
    store.fail("put_part", StoreBroke(store.id, "no"))
    assert (await stage(gate, image_id, BIG)).status == 502
    assert (await gate.show(image_id))["status"] == "queued"
    await empty(store)


async def test_of_two_stagings_one_wins(gate: Gateway) -> None:
    image_id = await gate.create()
    answers = await asyncio.gather(*(stage(gate, image_id, BODY) for _ in range(2)))
    assert sorted(answer.status for answer in answers) == [204, 409]
    refused = next(answer for answer in answers if answer.status == 409)
    assert "transition from uploading to uploading is not allowed" in refused.message


async def test_without_glance_direct_nothing_is_staged(store: FaultyStore, tmp_path: Path) -> None:
    """… which is said before the type of what comes is looked at."""
    async with running(store, tmp_path, **{"import": {"methods": ["web-download"]}}) as gate:
        answer = await stage(gate, await gate.create(), BODY, Content_Type="text/plain")
        assert answer.status == 404
        assert answer.message == "'glance-direct' method is not available at this site."


async def test_deleting_a_staged_image_removes_the_staged_data(
    gate: Gateway, store: FaultyStore
) -> None:
    image_id = await staged(gate, BODY)
    assert (await gate.ask("DELETE", f"/v2/images/{image_id}")).status == 204
    assert await objects(store) == {}


async def test_deleting_an_image_while_its_data_comes_to_be_staged(
    gate: Gateway, store: FaultyStore
) -> None:
    image_id = await gate.create()
    go = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield BIG
        await go.wait()
        yield BODY

    sending = asyncio.create_task(stage(gate, image_id, body()))

    async def begun() -> bool:
        return (await gate.show(image_id))["status"] == "uploading"

    await until(begun, "the staging to begin")
    assert (await gate.ask("DELETE", f"/v2/images/{image_id}")).status == 204
    go.set()
    assert (await sending).status == 410
    await empty(store)


# what is offered


async def test_the_methods_are_told(gate: Gateway) -> None:
    methods = ["glance-direct", "web-download", "copy-image", "glance-download"]
    found = (await gate.ask("GET", "/v2/info/import")).json["import-methods"]
    assert found["type"] == "array"
    assert found["value"] == methods
    made = await gate.ask("POST", "/v2/images", json={})
    assert made.headers["OpenStack-image-import-methods"] == ",".join(methods)


async def test_without_methods_the_header_is_left_out(store: FaultyStore, tmp_path: Path) -> None:
    async with running(store, tmp_path, **{"import": {"methods": []}}) as gate:
        made = await gate.ask("POST", "/v2/images", json={})
        assert "OpenStack-image-import-methods" not in made.headers
        assert (await gate.ask("GET", "/v2/info/import")).json["import-methods"]["value"] == []


# glance-direct


async def test_staged_data_becomes_a_location_where_it_lies(
    gate: Gateway, store: FaultyStore
) -> None:
    image_id = await staged(gate, BIG)
    before = await objects(store)
    store.calls.clear()
    image, task = await imported(gate, image_id, DIRECT)
    assert (image["status"], image["size"]) == ("active", len(BIG))
    assert image["checksum"] == hashlib.md5(BIG).hexdigest()
    assert image["os_hash_value"] == hashlib.sha512(BIG).hexdigest()
    assert lists(image) == ("", "")
    assert (task["status"], task["result"]) == ("success", {"image_id": image_id})
    assert await objects(store) == before
    assert set(store.calls) <= {"look", "read", "keys"}  # its head is read, to know the format
    assert await data_of(gate, image_id) == BIG


async def test_staged_data_is_copied_to_the_other_stores(
    gate: Gateway, store: FaultyStore, second: FaultyStore, third: FaultyStore
) -> None:
    image_id = await staged(gate, BODY)
    image, task = await imported(gate, image_id, DIRECT, stores=["second", "third"])
    assert (image["status"], task["status"]) == ("active", "success")
    assert len(image["locations"]) == 2
    assert await only(second) == await only(third) == BODY
    await empty(store)  # the staged object is no location
    assert image["checksum"] == hashlib.md5(BODY).hexdigest()


async def test_all_stores_get_it(
    gate: Gateway, store: FaultyStore, second: FaultyStore, third: FaultyStore
) -> None:
    image_id = await staged(gate, BIG, x_image_meta_store="second")
    image, _ = await imported(gate, image_id, DIRECT, all_stores=True)
    assert image["status"] == "active"
    assert [len(await objects(one)) for one in (store, second, third)] == [1, 1, 1]
    assert await only(store) == await only(third) == BIG


async def test_data_that_is_still_coming_cannot_be_imported(gate: Gateway) -> None:
    image_id = await gate.create()
    go = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield BODY
        await go.wait()

    sending = asyncio.create_task(stage(gate, image_id, body()))

    async def begun() -> bool:
        return (await gate.show(image_id))["status"] == "uploading"

    await until(begun, "the staging to begin")
    answer = await ask(gate, image_id, DIRECT)
    assert answer.status == 409
    assert "needs to be staged" in answer.message
    go.set()
    assert (await sending).status == 204


async def test_a_store_that_fails_takes_the_image_back_to_queued_with_nothing_left(
    gate: Gateway, store: FaultyStore, second: FaultyStore, third: FaultyStore
) -> None:
    image_id = await staged(gate, BODY)
    third.fail("put", StoreBroke("third", "no room for it"))
    image, task = await imported(gate, image_id, DIRECT, all_stores=True)
    assert (image["status"], image["size"], image["checksum"]) == ("queued", None, None)
    assert image["locations"] == []
    assert lists(image) == ("", "memory,second,third")
    assert (task["status"], task["result"]) == ("failure", None)
    assert "no room for it" in task["message"]
    await empty(store, second, third)
    third.before.clear()
    assert (await stage(gate, image_id, BODY)).status == 204  # once more
    image, task = await imported(gate, image_id, DIRECT)
    assert (image["status"], lists(image)) == ("active", ("", ""))


async def test_where_not_all_must_succeed_the_first_store_makes_it_active(
    gate: Gateway, second: FaultyStore, third: FaultyStore
) -> None:
    image_id = await staged(gate, BODY)
    go = asyncio.Event()

    async def wait(*_: Any) -> None:
        await go.wait()

    second.before["put"] = wait
    third.fail("put", StoreBroke("third", "no"))
    more = {"all_stores": True, "all_stores_must_succeed": False}
    assert (await ask(gate, image_id, DIRECT, **more)).status == 202

    async def first() -> bool:
        return (await gate.show(image_id))["status"] == "active"

    await until(first, "the image to be active")
    image = await gate.show(image_id)
    assert image["os_glance_importing_to_stores"] == "second,third"
    assert image["os_glance_import_task"] == (await task_of(gate, image_id))["id"]
    assert await data_of(gate, image_id) == BODY
    go.set()
    image, task = await ended(gate, image_id)
    assert (image["status"], task["status"]) == ("active", "success")
    assert lists(image) == ("", "third")
    assert len(image["locations"]) == 2


async def test_where_none_of_those_succeeds_it_failed(
    gate: Gateway, store: FaultyStore, second: FaultyStore, third: FaultyStore
) -> None:
    image_id = await staged(gate, BODY)
    for one in (second, third):
        one.fail("put", StoreBroke(one.id, "no"))
    more = {"stores": ["second", "third"], "all_stores_must_succeed": False}
    image, task = await imported(gate, image_id, DIRECT, **more)
    assert (image["status"], image["size"], task["status"]) == ("queued", None, "failure")
    assert lists(image) == ("", "second,third")
    await empty(store, second, third)


async def test_staged_data_that_was_lost_or_changed_is_not_imported(
    gate: Gateway, store: FaultyStore
) -> None:
    image_id = await staged(gate, BODY)
    (key,) = await objects(store)
    await store.inner.delete(key)
    image, task = await imported(gate, image_id, DIRECT)
    assert (image["status"], task["status"]) == ("queued", "failure")


async def test_deleting_an_image_while_it_is_imported_leaves_nothing(
    gate: Gateway, store: FaultyStore, second: FaultyStore
) -> None:
    image_id = await staged(gate, BODY)
    at, go = asyncio.Event(), asyncio.Event()

    async def wait(*_: Any) -> None:
        at.set()
        await go.wait()

    second.before["put"] = wait
    assert (await ask(gate, image_id, DIRECT, stores=["memory", "second"])).status == 202
    await at.wait()
    task = await task_of(gate, image_id)
    assert (await gate.ask("DELETE", f"/v2/images/{image_id}")).status == 204
    go.set()

    async def over() -> dict[str, Any] | None:
        found: dict[str, Any] = (await gate.ask("GET", f"/v2/tasks/{task['id']}")).json
        return found if found["status"] == "failure" else None

    found = await until(over, "the task to end")
    assert found["message"] == "Image has been deleted, aborting import."
    await empty(store, second)


# web-download


@pytest.mark.parametrize("size", [0, 300_000, 40 * MIB])
async def test_web_download_streams_from_its_source(
    gate: Gateway, store: FaultyStore, size: int
) -> None:
    data = pattern(size)
    async with serving(data) as origin:
        image_id = await gate.create()
        image, task = await imported(gate, image_id, {"name": "web-download", "uri": origin.url})
    assert (image["status"], image["size"], task["status"]) == ("active", size, "success")
    assert await only(store) == data
    assert lists(image) == ("", "")
    assert task["input"]["backend"] == ["memory"]


async def test_the_other_stores_are_filled_from_the_first_not_from_the_source(
    gate: Gateway, origin: Origin, second: FaultyStore, third: FaultyStore
) -> None:
    image_id = await gate.create()
    web = {"name": "web-download", "uri": origin.url}
    image, _ = await imported(gate, image_id, web, all_stores=True)
    assert (image["status"], len(image["locations"])) == ("active", 3)
    assert await only(second) == await only(third) == BODY
    assert [method for method, _ in origin.seen] == ["GET"]


async def test_a_source_that_drops_the_connection_again_and_again_is_gone_on_with(
    gate: Gateway, store: FaultyStore
) -> None:
    async with serving(BIG, breaks=[9 * MIB, 9 * MIB, 100_000]) as origin:
        image_id = await gate.create()
        image, task = await imported(gate, image_id, {"name": "web-download", "uri": origin.url})
    assert (image["status"], task["status"]) == ("active", "success")
    assert await only(store) == BIG
    assert len([method for method, _ in origin.seen if method == "GET"]) == 4


@pytest.mark.parametrize("options", [{"status": 404}, {"length": 400_000, "etag": None}])
async def test_a_source_that_fails_takes_the_image_back_to_queued(
    gate: Gateway, store: FaultyStore, options: dict[str, Any]
) -> None:
    async with serving(BODY, **options) as origin:
        image_id = await gate.create()
        web = {"name": "web-download", "uri": origin.url}
        image, task = await imported(gate, image_id, web, stores=["memory", "second"])
    assert (image["status"], image["size"], task["status"]) == ("queued", None, "failure")
    assert lists(image) == ("", "memory,second")
    assert task["message"]
    assert "127.0.0.1" not in task["message"]
    await empty(store)


async def test_a_redirect_to_where_nobody_may_is_not_followed(
    gate: Gateway, store: FaultyStore
) -> None:
    async with serving(b"", redirect="http://169.254.169.254/latest") as origin:
        image_id = await gate.create()
        image, task = await imported(gate, image_id, {"name": "web-download", "uri": origin.url})
    assert (image["status"], task["status"]) == ("queued", "failure")


async def test_the_digest_that_was_announced_of_an_image_is_compared(
    gate: Gateway, origin: Origin, store: FaultyStore
) -> None:
    meta = {"disk_format": "raw", "container_format": "bare", "checksum": "0" * 32}
    headers = {f"x-image-meta-{name}": value for name, value in meta.items()}
    made = await gate.ask("POST", "/v1/images", headers=headers)
    image_id = made.json["image"]["id"]
    image, task = await imported(gate, image_id, {"name": "web-download", "uri": origin.url})
    assert (image["status"], task["status"]) == ("queued", "failure")
    assert "md5" in task["message"]
    await empty(store)


# copy-image


async def test_an_image_is_copied_into_another_store_and_stays_active(
    gate: Gateway, second: FaultyStore
) -> None:
    image_id = await gate.active(BIG)
    before = await gate.show(image_id)
    more = {"all_stores": False, "all_stores_must_succeed": False, "stores": ["second"]}
    image, task = await imported(gate, image_id, COPY, **more)  # as openstackclient says it
    assert (image["status"], task["status"]) == ("active", "success")
    assert len(image["locations"]) == 2
    assert await only(second) == BIG
    same = ("size", "checksum", "os_hash_value", "created_at")
    assert {name: image[name] for name in same} == {name: before[name] for name in same}


async def test_a_registered_image_can_be_copied_into_a_store(
    gate: Gateway, origin: Origin, second: FaultyStore
) -> None:
    image_id = await gate.create()
    place = {"url": origin.url, "metadata": {}}
    await gate.patch(image_id, {"op": "add", "path": "/locations/-", "value": place})
    image, _ = await imported(gate, image_id, COPY, stores=["second"])
    assert len(image["locations"]) == 2
    assert await only(second) == BODY


async def test_a_copy_that_fails_leaves_no_location_and_no_object(
    gate: Gateway, store: FaultyStore, second: FaultyStore, third: FaultyStore
) -> None:
    image_id = await gate.active(BODY)
    third.fail("put", StoreBroke("third", "no"))
    image, task = await imported(gate, image_id, COPY, stores=["second", "third"])
    assert (image["status"], image["size"], task["status"]) == ("active", len(BODY), "failure")
    assert len(image["locations"]) == 1
    assert lists(image) == ("", "second,third")
    await empty(second, third)
    assert await data_of(gate, image_id) == BODY


async def test_where_not_all_copies_must_succeed_those_that_did_stay(
    gate: Gateway, second: FaultyStore, third: FaultyStore
) -> None:
    image_id = await gate.active(BODY)
    second.fail("put", StoreBroke("second", "no"))
    more = {"all_stores": True, "all_stores_must_succeed": False}
    image, task = await imported(gate, image_id, COPY, **more)
    assert (task["status"], len(image["locations"])) == ("success", 2)
    assert lists(image) == ("", "second")
    assert await only(third) == BODY


async def test_stored_bytes_that_changed_are_not_copied(
    gate: Gateway, store: FaultyStore, second: FaultyStore
) -> None:
    image_id = await gate.active(BODY)
    other = await gate.active(BODY[::-1])
    keys = {key.split("/")[0]: key for key in await objects(store)}
    assert isinstance(store.inner, MemoryStore)
    found = store.inner._objects
    found[keys[image_id]] = found[keys[other]]
    image, task = await imported(gate, image_id, COPY, stores=["second"])
    assert (image["status"], task["status"]) == ("active", "failure")
    assert "digest" in task["message"]
    await empty(second)


async def test_an_image_that_is_everywhere_is_not_copied(gate: Gateway) -> None:
    image_id = await gate.active(BODY)
    await imported(gate, image_id, COPY, all_stores=True)
    answer = await ask(gate, image_id, COPY, all_stores=True)
    assert (answer.status, answer.body) == (202, b"")
    tasks = await gate.ask("GET", f"/v2/images/{image_id}/tasks")
    assert len(tasks.json["tasks"]) == 1


async def test_an_image_is_one_imports_at_a_time(gate: Gateway, second: FaultyStore) -> None:
    image_id = await gate.active(BODY)
    at, go = asyncio.Event(), asyncio.Event()

    async def wait(*_: Any) -> None:
        at.set()
        await go.wait()

    second.before["put"] = wait
    assert (await ask(gate, image_id, COPY, stores=["second"])).status == 202
    await at.wait()
    answer = await ask(gate, image_id, COPY, stores=["third"])
    assert (answer.status, answer.message) == (409, "Image has active task")
    go.set()
    await ended(gate, image_id)
    image, _ = await imported(gate, image_id, COPY, stores=["third"])
    assert len(image["locations"]) == 3


async def test_deleting_an_image_while_it_is_copied_leaves_nothing(
    gate: Gateway, store: FaultyStore, second: FaultyStore
) -> None:
    image_id = await gate.active(BIG)
    at, go = asyncio.Event(), asyncio.Event()

    async def wait(*_: Any) -> None:
        at.set()
        await go.wait()

    second.before["complete"] = wait
    assert (await ask(gate, image_id, COPY, stores=["second"])).status == 202
    await at.wait()
    assert (await gate.ask("DELETE", f"/v2/images/{image_id}")).status == 204
    go.set()
    await empty(store, second)


# deactivated images


class Copying(Policy):
    """Members may copy as well."""

    def __init__(self, protections: Protections | None = None) -> None:
        rules = {**DEFAULT_RULES, "copy_image": DEFAULT_RULES["modify_image"]}
        super().__init__(rules, protections=protections)


@pytest.mark.parametrize("admin", [False, True])
async def test_an_image_that_is_deactivated_before_its_copying_begins_is_copied_for_admins_alone(
    store: FaultyStore,
    second: FaultyStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    admin: bool,
) -> None:
    monkeypatch.setattr("tidegate.app.Policy", Copying)
    caller = ADMIN if admin else of("p1")
    async with running(store, tmp_path, others=[second], identity=Named()) as gate:
        made = await gate.ask(
            "POST",
            "/v2/images",
            json={"disk_format": "raw", "container_format": "bare"},
            headers=of("p1"),
        )
        image_id = made.json["id"]
        await gate.put(image_id, BODY)
        tasks = gate.app[keys.TASKS]
        held: list[Task] = []

        async def take(*_: Any, **__: Any) -> list[Task]:
            return [held.pop()] if held else []

        monkeypatch.setattr(tasks, "take", take)
        body = {"method": COPY, "stores": ["second"]}
        path = f"/v2/images/{image_id}/import"
        assert (await gate.ask("POST", path, json=body, headers=caller)).status == 202
        answer = await gate.ask("POST", f"/v2/images/{image_id}/actions/deactivate")
        assert answer.status == 204
        monkeypatch.undo()
        tasks.wake.set()
        image, task = await ended(gate, image_id)
        assert image["status"] == "deactivated"
        assert task["status"] == ("success" if admin else "failure")
        assert len(await objects(second)) == (1 if admin else 0)
        if not admin:
            assert "deactivated" in task["message"]


# glance-download


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving(BODY, kind=Service) as found:
        assert isinstance(found, Service)
        more = {"disk_format": "ploop", "mine": "not taken over", "name": "other"}
        found.record = found.describe(ELSEWHERE) | more
        yield found


@pytest.fixture
async def near(
    service: Service, store: FaultyStore, second: FaultyStore, tmp_path: Path
) -> AsyncIterator[Gateway]:
    regions = {"north": f"http://127.0.0.1:{service.port}/v2"}
    async with running(
        store, tmp_path, others=[second], **{"import": {"regions": regions}}
    ) as gate:
        yield gate


REMOTE = {"name": "glance-download", "glance_region": "north", "glance_image_id": ELSEWHERE}


async def test_an_image_comes_from_another_service_with_what_it_is_like(
    near: Gateway, service: Service, second: FaultyStore
) -> None:
    image_id = await near.create(name="mine")
    image, task = await imported(near, image_id, REMOTE, all_stores=True)
    assert (image["status"], image["name"], task["status"]) == ("active", "mine", "success")
    assert (image["disk_format"], image["hw_disk_bus"]) == ("ploop", "scsi")
    assert image["os_distro"] == "debian"
    assert "mine" not in image
    assert await only(second) == BODY
    path = f"/v2/images/{ELSEWHERE}"
    assert service.seen == [(path, None), (f"{path}/file", None)]


async def test_it_is_asked_with_the_token_of_who_asked_which_is_written_down_nowhere(
    near: Gateway, service: Service, tmp_path: Path
) -> None:
    image_id = await near.create()
    path, token = f"/v2/images/{image_id}/import", "a-secret-token"
    answer = await near.ask("POST", path, json={"method": REMOTE}, headers={"X-Auth-Token": token})
    assert answer.status == 202
    image, _ = await ended(near, image_id)
    assert (image["status"], [one for _, one in service.seen]) == ("active", [token, token])
    for file in tmp_path.rglob("tidegate.db*"):
        assert token.encode() not in file.read_bytes()


async def test_a_token_that_was_lost_with_its_server_fails_the_import(
    near: Gateway, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Elsewhere, "remember", lambda *_: None)
    monkeypatch.setattr("tidegate.services.elsewhere.TRIES", 1)
    image_id = await near.create()
    path = f"/v2/images/{image_id}/import"
    await near.ask("POST", path, json={"method": REMOTE}, headers={"X-Auth-Token": "t"})
    image, task = await ended(near, image_id)
    assert (image["status"], task["status"]) == ("queued", "failure")
    assert "submit it again" in task["message"]
    assert service.seen == []


@pytest.mark.parametrize(
    "change",
    [{"status": "queued"}, {"size": 1}, {"checksum": "0" * 32}, {"os_hash_value": "0" * 128}],
)
async def test_what_differs_from_what_the_other_service_says_is_refused(
    near: Gateway, service: Service, store: FaultyStore, change: dict[str, Any]
) -> None:
    service.record |= change
    image, task = await imported(near, await near.create(), REMOTE)
    assert (image["status"], image["size"], task["status"]) == ("queued", None, "failure")
    await empty(store)


async def test_a_region_where_nobody_may_is_refused_at_once(
    store: FaultyStore, tmp_path: Path
) -> None:
    regions = {"north": "http://169.254.169.254"}
    async with running(store, tmp_path, **{"import": {"regions": regions}}) as gate:
        answer = await ask(gate, await gate.create(), REMOTE)
        assert answer.status == 400
        assert "cannot be asked" in answer.message


async def test_the_token_goes_to_no_place_that_the_other_service_redirects_to(
    near: Gateway, service: Service
) -> None:
    async with serving(BODY, kind=Service) as third_party:
        assert isinstance(third_party, Service)
        service.data_at = f"http://127.0.0.1:{third_party.port}/file"
        image_id = await near.create()
        path = f"/v2/images/{image_id}/import"
        headers = {"X-Auth-Token": "t"}
        assert (
            await near.ask("POST", path, json={"method": REMOTE}, headers=headers)
        ).status == 202
        image, _ = await ended(near, image_id)
    assert image["status"] == "active"
    assert [token for _, token in service.seen] == ["t", "t"]
    assert third_party.seen == [("/file", None)]
