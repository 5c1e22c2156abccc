"""Tasks, and bytes that they copy from elsewhere."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.kit.formats import qcow2
from tests.kit.gateway import ABSENT, Answer, Gateway, running
from tests.kit.origins import Origin, serving
from tests.kit.server import until
from tests.kit.sources import pattern
from tests.kit.stores import FaultyStore, objects, unfinished

from tidegate.domain.errors import StoreDown

MIB = 2**20
BODY = pattern(300_000)
BIG = pattern(40 * MIB)
FORMATS = {"x-image-meta-disk_format": "raw", "x-image-meta-container_format": "bare"}
EARLY = "2020-01-01T00:00:00Z"


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with serving(BODY) as found:
        yield found


def wanted(url: Any, **properties: Any) -> dict[str, Any]:
    image = {"disk_format": "raw", **properties}
    given = {"import_from": url, "import_from_format": "raw", "image_properties": image}
    return {"type": "import", "input": given}


async def make(gate: Gateway, url: str, **properties: Any) -> dict[str, Any]:
    answer = await gate.ask("POST", "/v2/tasks", json=wanted(url, **properties))
    assert answer.status == 201, answer.body
    task: dict[str, Any] = answer.json
    return task


async def show(gate: Gateway, task_id: str) -> dict[str, Any]:
    answer = await gate.ask("GET", f"/v2/tasks/{task_id}")
    assert answer.status == 200, answer.body
    task: dict[str, Any] = answer.json
    return task


async def end_of(gate: Gateway, task_id: str) -> dict[str, Any]:
    async def ended() -> dict[str, Any] | None:
        task = await show(gate, task_id)
        return task if task["status"] in ("success", "failure") else None

    return await until(ended, "the task to end")


async def tasks_of(gate: Gateway, image_id: str) -> list[dict[str, Any]]:
    answer = await gate.ask("GET", f"/v2/images/{image_id}/tasks")
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json["tasks"]
    return found


async def copy(gate: Gateway, url: str, data: Any = None, **meta: str) -> Answer:
    headers = {**FORMATS, "x-glance-api-copy-from": url}
    headers |= {f"x-image-meta-{name}": value for name, value in meta.items()}
    return await gate.ask("POST", "/v1/images", data=data, headers=headers)


async def copied(gate: Gateway, url: str, **meta: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The image and its task, once that has ended."""
    answer = await copy(gate, url, **meta)
    assert answer.status == 201, answer.body
    image = answer.json["image"]
    assert image["status"] == "queued"
    (task,) = await tasks_of(gate, image["id"])
    task = await end_of(gate, task["id"])
    return await gate.show(image["id"]), task


# the import task


async def test_an_import_makes_an_active_image(gate: Gateway, origin: Origin) -> None:
    made = await make(gate, origin.url, name="disk", disk_format="raw", os_distro="debian")
    assert (made["status"], made["type"], made["message"]) == ("pending", "import", "")
    assert made["result"] is None
    assert "expires_at" not in made
    task = await end_of(gate, made["id"])
    assert task["status"] == "success"
    assert task["expires_at"] > task["created_at"]
    image = await gate.show(task["result"]["image_id"])
    assert (image["status"], image["size"], image["name"]) == ("active", len(BODY), "disk")
    assert (image["disk_format"], image["container_format"]) == ("raw", "bare")
    assert image["os_distro"] == "debian"
    assert image["checksum"] == hashlib.md5(BODY).hexdigest()
    assert (await gate.ask("GET", f"/v2/images/{image['id']}/file")).body == BODY


async def test_an_import_without_properties_is_a_qcow2(gate: Gateway, origin: Origin) -> None:
    origin.data = qcow2()
    given = {"import_from": origin.url, "import_from_format": "qcow2", "image_properties": {}}
    made = await gate.ask("POST", "/v2/tasks", json={"type": "import", "input": given})
    task = await end_of(gate, made.json["id"])
    image = await gate.show(task["result"]["image_id"])
    assert (image["disk_format"], image["container_format"]) == ("qcow2", "bare")


async def test_where_a_task_is_found(gate: Gateway, origin: Origin) -> None:
    answer = await gate.ask(
        "POST", "/v2/tasks", json=wanted(origin.url), headers={"X-Openstack-Request-ID": "req-7"}
    )
    task_id = answer.json["id"]
    assert answer.headers["Location"] == f"{gate.url}/v2/tasks/{task_id}"
    task = await show(gate, task_id)
    assert task["self"] == f"/v2/tasks/{task_id}"
    assert task["schema"] == "/v2/schemas/task"
    assert task["request_id"] == "req-7"
    assert task["input"]["import_from"] == origin.url
    assert (await gate.ask("GET", f"/v2/tasks/{uuid4()}")).status == 404


async def test_of_an_import_that_fails_nothing_is_left(
    gate: Gateway, store: FaultyStore, origin: Origin
) -> None:
    origin.length = len(BODY) + 1  # more than it has
    origin.etag = None
    task = await end_of(gate, (await make(gate, origin.url, protected=True))["id"])
    assert task["status"] == "failure"
    assert "broke off" in task["message"]
    assert task["result"] is None
    assert (await gate.ask("GET", f"/v2/images/{task['image_id']}")).status == 404
    assert await objects(store) == {}
    assert await unfinished(store) == []


async def test_an_import_from_what_is_not_there_fails(gate: Gateway, origin: Origin) -> None:
    origin.status = 404
    task = await end_of(gate, (await make(gate, origin.url))["id"])
    assert (task["status"], task["message"]) == ("failure", "The source is not reachable.")
    assert (await gate.ask("GET", "/v2/images")).json["images"] == []


async def test_a_store_that_fails_ends_the_task(gate: Gateway, store: FaultyStore) -> None:
    store.fail("put", StoreDown(store.id, "it answered 503"))
    async with serving(BODY) as origin:
        task = await end_of(gate, (await make(gate, origin.url))["id"])
    assert task["status"] == "failure"
    assert "it answered 503" in task["message"]
    assert (await gate.ask("GET", "/v2/images")).json["images"] == []


@pytest.mark.parametrize("missing", ["import_from_format", "image_properties"])
async def test_an_input_that_lacks_something_fails(
    gate: Gateway, origin: Origin, missing: str
) -> None:
    body = wanted(origin.url)
    del body["input"][missing]
    answer = await gate.ask("POST", "/v2/tasks", json=body)
    assert answer.status == 201
    task = await end_of(gate, answer.json["id"])
    assert task["status"] == "failure"
    assert task["message"] == f"Input does not contain '{missing}' field"


URL = "http://127.0.0.1/x"
REFUSED = [
    (None, "Body expected in request."),
    ({"input": {}}, "Task 'type' is required"),
    ({"type": "import"}, "Task 'input' is required"),
    ({"type": "no such", "input": {}}, "Provided object does not match schema 'task': "),
    ({"type": "import", "input": []}, "Provided object does not match schema 'task': "),
    (wanted(URL) | {"foo": 1}, "Additional properties are not allowed ('foo' was unexpected)"),
    ({"type": "import", "input": {}}, "Invalid location: None"),
    ({"type": "import", "input": None}, "Invalid location: None"),
    (wanted(""), "Invalid location: "),
    (wanted(7), "Invalid location: 7"),
    (wanted("file:///etc/passwd"), "File based imports are not allowed."),
    (wanted("FileSystem:///etc/passwd"), "File based imports are not allowed."),
    (wanted("ftp://127.0.0.1/x"), "The given uri is not valid."),
    (wanted("swift+config://x/y"), "The given uri is not valid."),
    (wanted("http://10.0.0.1/x"), "URI for legacy import task does not pass filtering: "),
    (wanted("http://u:p@8.8.8.8/x"), "URI for legacy import task does not pass filtering: "),
    (wanted("http:///x"), "URI for legacy import task does not pass filtering: "),
    (wanted(URL, disk_format="floppy"), "disk_format"),
    (wanted(URL, id=str(uuid4())), "the image's id is chosen"),
    ({"type": "api_image_import", "input": {}}, "cannot be made by this call"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "words"), REFUSED)
async def test_what_is_refused_makes_no_task(gate: Gateway, body: Any, words: str) -> None:
    answer = await gate.ask("POST", "/v2/tasks", json=body) if body is not None else (
        await gate.ask("POST", "/v2/tasks")
    )  # fmt: skip
    assert answer.status == 400
    assert words in answer.message
    assert "10.0.0.1" not in answer.message
    assert "u:p@" not in answer.message
    assert (await gate.ask("GET", "/v2/tasks")).json["tasks"] == []


async def test_known_members_that_are_not_a_clients_are_ignored(
    gate: Gateway, origin: Origin
) -> None:
    body = wanted(origin.url) | {"status": "success", "id": str(uuid4()), "owner": "me"}
    answer = await gate.ask("POST", "/v2/tasks", json=body)
    assert (answer.status, answer.json["status"]) == (201, "pending")
    assert answer.json["id"] != body["id"]


async def test_a_task_is_not_deleted(gate: Gateway, origin: Origin) -> None:
    task = await make(gate, origin.url)
    answer = await gate.ask("DELETE", f"/v2/tasks/{task['id']}")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET")
    assert answer.message.startswith("This operation is currently not permitted on Glance Tasks.")


async def test_schemas(gate: Gateway) -> None:
    one = (await gate.ask("GET", "/v2/schemas/task")).json
    many = (await gate.ask("GET", "/v2/schemas/tasks")).json
    assert one["name"] == "task"
    assert set(one["properties"]["status"]["enum"]) == {
        "pending", "processing", "success", "failure",
    }  # fmt: skip
    assert "input" not in many["properties"]["tasks"]["items"]["properties"]


# lists


async def test_pages_join_to_the_whole(gate: Gateway, origin: Origin) -> None:
    made = [(await make(gate, origin.url))["id"] for _ in range(5)]
    found: list[str] = []
    path = "/v2/tasks?limit=2"
    while path:
        page = (await gate.ask("GET", path)).json
        assert page["first"] == "/v2/tasks?limit=2"
        assert page["schema"] == "/v2/schemas/tasks"
        found += [task["id"] for task in page["tasks"]]
        path = page.get("next", "")
    assert found == made[::-1]
    assert not {"input", "result", "message"} & set(page["tasks"][0])


async def test_filters_of_a_list(gate: Gateway, origin: Origin) -> None:
    good = await end_of(gate, (await make(gate, origin.url))["id"])
    origin.status = 500
    bad = await end_of(gate, (await make(gate, origin.url))["id"])

    async def listed(query: str) -> list[str]:
        return [one["id"] for one in (await gate.ask("GET", f"/v2/tasks?{query}")).json["tasks"]]

    assert await listed("status=success") == [good["id"]]
    assert await listed("status=failure&type=import") == [bad["id"]]
    assert await listed(f"image_id={good['image_id']}") == [good["id"]]
    assert await listed("owner=nobody") == []
    assert await listed(f"created_at={EARLY}") == []
    assert await listed("sort_key=status&sort_dir=asc") == [bad["id"], good["id"]]
    assert await listed("unknown=1&sort_dir=asc") == [good["id"], bad["id"]]
    empty = (await gate.ask("GET", "/v2/tasks?limit=0")).json
    assert empty["tasks"] == []
    assert "next" not in empty


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=x", "limit param must be an integer"),
        ("limit=-1", "limit param must be positive"),
        ("marker=x", "Invalid marker format"),
        (f"marker={ABSENT}", "Task with the given id"),
        ("sort_key=input", "Sort key supplied was not valid."),
        ("sort_dir=up", "Invalid sort direction: up"),
        ("status=done", "Invalid status value: done"),
        ("type=copy_from", "Invalid type value: copy_from"),
    ],
)
async def test_a_list_is_refused(gate: Gateway, query: str, words: str) -> None:
    answer = await gate.ask("GET", f"/v2/tasks?{query}")
    assert answer.status == 400
    assert words in answer.message


async def test_the_tasks_of_an_image(gate: Gateway, origin: Origin) -> None:
    _, task = await copied(gate, origin.url)
    (row,) = await tasks_of(gate, task["image_id"])
    assert set(row) == {
        "id", "type", "status", "owner", "expires_at", "created_at", "updated_at", "deleted_at",
        "deleted", "image_id", "request_id", "user_id", "input", "result", "message",
    }  # fmt: skip
    assert (row["id"], row["deleted"], row["deleted_at"]) == (task["id"], False, None)
    assert len(row["created_at"]) == len("2026-03-01T10:20:30.123456")
    assert (await gate.ask("GET", f"/v2/images/{uuid4()}/tasks")).status == 404
    assert await tasks_of(gate, await gate.create()) == []


async def test_an_ended_task_is_gone_after_its_time(
    store: FaultyStore, tmp_path: Path, origin: Origin
) -> None:
    async with running(store, tmp_path, tasks={"keep": 0}) as gate:
        task = await make(gate, origin.url)

        async def gone() -> bool:
            return (await gate.ask("GET", f"/v2/tasks/{task['id']}")).status == 404

        await until(gone, "the task to be gone")
        assert (await gate.ask("GET", "/v2/tasks")).json["tasks"] == []
        assert len((await gate.ask("GET", "/v2/images")).json["images"]) == 1


# copy-from


async def test_a_copy_is_queued_and_then_active(gate: Gateway, origin: Origin) -> None:
    image, task = await copied(gate, origin.url, name="copy")
    assert (image["status"], image["size"], image["name"]) == ("active", len(BODY), "copy")
    assert image["checksum"] == hashlib.md5(BODY).hexdigest()
    assert (task["type"], task["status"]) == ("copy_from", "success")
    assert task["result"] == {"image_id": image["id"]}
    assert (await gate.ask("GET", f"/v1/images/{image['id']}")).body == BODY


async def test_put_fills_a_queued_image_by_a_copy(gate: Gateway, origin: Origin) -> None:
    image_id = await gate.create()
    path, headers = f"/v1/images/{image_id}", {"x-glance-api-copy-from": origin.url}
    answer = await gate.ask("PUT", path, headers=headers)
    assert (answer.status, answer.json["image"]["status"]) == (200, "queued")
    (task,) = await tasks_of(gate, image_id)
    assert (await end_of(gate, task["id"]))["status"] == "success"
    assert (await gate.show(image_id))["status"] == "active"
    again = await gate.ask("PUT", path, headers=headers)
    assert again.status == 400
    assert "not in queued status" in again.message


async def test_an_image_is_saving_while_bytes_are_copied(gate: Gateway) -> None:
    async with serving(BIG, pause=asyncio.Event(), pause_at=20 * MIB) as origin:
        image_id = (await copy(gate, origin.url)).json["image"]["id"]
        await origin.paused.wait()
        assert (await gate.show(image_id))["status"] == "saving"
        (task,) = await tasks_of(gate, image_id)
        assert task["status"] == "processing"

        async def told() -> bool:
            return (await show(gate, task["id"]))["message"].startswith("Copied ")

        await until(told, "progress to be told")
        assert origin.pause is not None
        origin.pause.set()
        assert (await end_of(gate, task["id"]))["status"] == "success"
    assert (await gate.ask("GET", f"/v2/images/{image_id}/file")).body == BIG


async def test_a_copy_that_breaks_kills_and_leaves_nothing(
    gate: Gateway, store: FaultyStore
) -> None:
    async with serving(BIG, etag=None, breaks=[20 * MIB]) as origin:
        image, task = await copied(gate, origin.url)
    assert image["status"] == "killed"
    assert task["status"] == "failure"
    failure = await gate.failure(image["id"])
    assert (failure["reason"], failure["message"]) == ("source", task["message"])
    assert await objects(store) == {}
    assert await unfinished(store) == []


async def test_a_source_that_cannot_be_opened_kills_from_queued(gate: Gateway) -> None:
    async with serving(BODY, status=500) as origin:
        image, task = await copied(gate, origin.url, size=str(len(BODY)))
    assert image["status"] == "killed"
    assert (task["status"], task["message"]) == ("failure", "The source is not reachable.")
    assert (await gate.ask("GET", f"/v2/images/{image['id']}/uploads")).json["uploads"] == []


@pytest.mark.parametrize(("name", "value"), [("size", "5"), ("checksum", "0" * 32)])
async def test_other_bytes_than_were_announced_kill(
    gate: Gateway, store: FaultyStore, origin: Origin, name: str, value: str
) -> None:
    image, task = await copied(gate, origin.url, **{name: value})
    assert (image["status"], task["status"]) == ("killed", "failure")
    assert (await gate.failure(image["id"]))["reason"] in ("size_mismatch", "digest_mismatch")
    assert await objects(store) == {}


async def test_a_copy_larger_than_is_allowed_is_refused_or_killed(
    store: FaultyStore, tmp_path: Path, origin: Origin
) -> None:
    async with running(store, tmp_path, uploads={"max_image_size": 1000}) as gate:
        answer = await copy(gate, origin.url)
        assert answer.status == 400
        assert "larger than 1000 bytes" in answer.message
        origin.chunked = True
        image, task = await copied(gate, origin.url)
        assert (image["status"], task["status"]) == ("killed", "failure")
    assert await objects(store) == {}


async def test_a_missing_source_is_404_at_once_and_makes_no_image(
    gate: Gateway, origin: Origin
) -> None:
    origin.status = 404
    assert (await copy(gate, origin.url)).status == 404
    origin.status = 500
    assert (await copy(gate, origin.url)).status == 400
    assert (await gate.ask("GET", "/v2/images")).json["images"] == []
    # who says how long it is learns it later
    assert (await copy(gate, origin.url, size="5")).status == 201


@pytest.mark.parametrize(
    "url", ["", "file:///etc/passwd", "swift://u:p@h/x", "http://10.0.0.1/x", "http://u@8.8.8.8/"]
)
async def test_a_source_that_may_not_be_is_400(gate: Gateway, url: str) -> None:
    answer = await copy(gate, url)
    assert answer.status == 400
    assert "u:p" not in answer.message
    assert (await gate.ask("GET", "/v2/images")).json["images"] == []


async def test_a_copy_and_another_source_at_once_is_400(gate: Gateway, origin: Origin) -> None:
    answer = await copy(gate, origin.url, data=b"x")
    assert answer.status == 400
    assert "multiple image sources" in answer.message
    answer = await copy(gate, origin.url, location=origin.url)
    assert answer.status == 400
    assert "multiple image sources" in answer.message
    assert (await gate.ask("GET", "/v2/images")).json["images"] == []


async def test_a_copy_without_formats_makes_no_image(gate: Gateway, origin: Origin) -> None:
    headers = {"x-glance-api-copy-from": origin.url}
    assert (await gate.ask("POST", "/v1/images", headers=headers)).status == 400
    assert (await gate.ask("GET", "/v2/images")).json["images"] == []


async def test_an_unknown_store_is_400(gate: Gateway, origin: Origin) -> None:
    assert (await copy(gate, origin.url, store="nowhere")).status == 400


async def test_an_image_that_is_deleted_meanwhile_ends_its_task(
    gate: Gateway, store: FaultyStore
) -> None:
    async with serving(BIG, pause=asyncio.Event(), pause_at=20 * MIB) as origin:
        image_id = (await copy(gate, origin.url)).json["image"]["id"]
        (task,) = await tasks_of(gate, image_id)
        await origin.paused.wait()
        assert (await gate.ask("DELETE", f"/v2/images/{image_id}")).status == 204
        ended = await end_of(gate, task["id"])
    assert ended["status"] == "failure"
    assert "deleted" in ended["message"]
    assert await objects(store) == {}
    assert await unfinished(store) == []


async def test_of_two_copies_to_one_image_one_wins(gate: Gateway, origin: Origin) -> None:
    image_id = await gate.create()
    headers = {"x-glance-api-copy-from": origin.url}
    path = f"/v1/images/{image_id}"
    answers = await asyncio.gather(*(gate.ask("PUT", path, headers=headers) for _ in range(2)))
    ends = [await end_of(gate, one["id"]) for one in await tasks_of(gate, image_id)]
    accepted = [answer.status for answer in answers].count(200)
    assert sorted(end["status"] for end in ends) == ["failure", "success"][2 - accepted :]
    assert (await gate.show(image_id))["status"] == "active"


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_size_of_nothing_announces_nothing(
    gate: Gateway, origin: Origin, method: str
) -> None:
    path = "/v1/images" if method == "POST" else f"/v1/images/{await gate.create()}"
    headers = {**FORMATS, "x-glance-api-copy-from": origin.url, "x-image-meta-size": "0"}
    image_id = (await gate.ask(method, path, headers=headers)).json["image"]["id"]
    (task,) = await tasks_of(gate, image_id)
    assert (await end_of(gate, task["id"]))["status"] == "success"
