"""Kill -9 at every named point of a task, and at random: what another server then makes of it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from tests.e2e.bucket import MIB, Bucket
from tests.e2e.task_kills import Harness, Options
from tests.kit.origins import Origin, serving
from tests.kit.server import Remote, Server, gone, until
from tests.kit.sources import pattern

from tidegate.seaweedfs import SeaweedFS

pytestmark = pytest.mark.thorough

BODY = pattern(7 * MIB)  # two parts
LEASE = 2.0
T = 2 * LEASE + 15
"""Seconds after a death in which everything must be at rest."""

FORMATS = {"x-image-meta-disk_format": "raw", "x-image-meta-container_format": "bare"}
IMPORTS = {
    "task_claimed": "success",
    "task_image_named": "success",
    "task_image_made": "success",
    "before_claim": "success",
    "after_claim": "failure",
    "after_part": "failure",
    "after_complete": "success",
    "task_done_uncommitted": "success",
}
"""How an import task ends whose server dies at this point."""

COPIES = {
    "task_claimed": "success",
    "after_claim": "failure",
    "before_commit": "success",
    "task_done_uncommitted": "success",
}
CLONES = {
    "task_claimed": "success",
    "task_image_made": "success",
    "before_claim": "success",
    "after_claim": "failure",
    "after_create": "failure",
    "after_create_recorded": "failure",
    "after_part": "failure",
    "after_verify": "failure",
    "before_complete": "failure",
    "after_complete": "success",
    "before_commit": "success",
    "after_commit": "success",
    "task_done_uncommitted": "success",
}
"""Of those that the store copies."""

SENT_CLONES = {"after_claim": "failure", "after_part": "failure", "before_commit": "success"}
ENDS = ("success", "failure")
FAILING = ("task_refusing", "task_removing", "task_failing")


@pytest.fixture(scope="module")
def config(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bucket.configure(tmp_path_factory.mktemp("gateway"), uploads={"lease": f"{LEASE}s"})


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with serving(BODY) as found:
        yield found


async def asked(remote: Remote, kind: str, url: str) -> dict[str, Any]:
    """A task: an import, a clone (whose ``url`` is its source's id), or the copy into an image."""
    if kind != "copy":
        properties = {"disk_format": "raw", "container_format": "bare"}
        given = {"import_from": url, "import_from_format": "raw", "image_properties": properties}
        if kind == "clone":
            given = {"image_id": url}
        answer = await remote.ask("POST", "/v2/tasks", json={"type": kind, "input": given})
        assert answer.status == 201, answer.body
        task: dict[str, Any] = answer.json
        return task
    headers = {**FORMATS, "x-glance-api-copy-from": url, "x-image-meta-size": str(len(BODY))}
    answer = await remote.ask("POST", "/v1/images", headers=headers)
    assert answer.status == 201, answer.body
    image_id = answer.json["image"]["id"]
    found: dict[str, Any] = (await remote.ask("GET", f"/v2/images/{image_id}/tasks")).json["tasks"][
        0
    ]
    return found


async def shown(gate: Remote, task_id: str) -> dict[str, Any]:
    task: dict[str, Any] = (await gate.ask("GET", f"/v2/tasks/{task_id}")).json
    return task


async def end_of(gate: Remote, task_id: str) -> dict[str, Any]:
    async def ended() -> dict[str, Any] | None:
        task = await shown(gate, task_id)
        return task if task["status"] in ENDS else None

    return await until(ended, f"task {task_id} to end", T)


async def dies_of(
    gate: Remote, config: Path, folder: Path, kind: str, point: str, url: str
) -> dict[str, Any]:
    """Ask a server that dies at the point for a task; what becomes of it by another's doing.

    Both look for tasks. The doomed one is told of it, and so nearly always there first; if it was
    not, it is asked for another.
    """
    dying = Server(folder, "--config", str(config))
    dying.start(TIDEGATE_KILL=f"{point}:1")
    try:
        async with aiohttp.ClientSession() as session:
            (worker,) = dying.workers
            task: dict[str, Any] = {}

            async def dead() -> bool:
                nonlocal task
                if gone(worker):
                    return True
                if not task or (await shown(gate, task["id"]))["status"] in ENDS:
                    try:
                        task = await asked(Remote(dying.port, session), kind, url)
                    except aiohttp.ClientError:  # it died before it answered
                        task = (await gate.ask("GET", "/v2/tasks?limit=1")).json["tasks"][0]
                return False

            await until(dead, "the worker to be dead")
    finally:
        dying.kill()
    return await end_of(gate, task["id"])


async def judge(gate: Remote, bucket: Bucket, kind: str, task: dict[str, Any]) -> None:
    image_id = task["image_id"]
    answer = await gate.ask("GET", f"/v2/images/{image_id}")
    kept = 1 if task["status"] == "success" else 0

    async def clean() -> bool:  # what a dead one left is swept by the janitor
        return len(bucket.of(image_id)) == kept

    await until(clean, "the bucket to be clean", T)
    if task["status"] == "success":
        assert answer.json["status"] == "active"
        assert [bucket.get(key) for key in bucket.of(image_id)] == [BODY]
        return
    assert task["message"]
    assert answer.json["status"] == "killed" if kind == "copy" else answer.status == 404


@pytest.mark.parametrize("point", IMPORTS)
async def test_a_server_that_dies_in_an_import(
    gate: Remote, bucket: Bucket, config: Path, tmp_path: Path, origin: Origin, point: str
) -> None:
    task = await dies_of(gate, config, tmp_path, "import", point, origin.url)
    assert task["status"] == IMPORTS[point], task["message"]
    await judge(gate, bucket, "import", task)


@pytest.mark.parametrize("point", COPIES)
async def test_a_server_that_dies_in_a_copy(
    gate: Remote, bucket: Bucket, config: Path, tmp_path: Path, origin: Origin, point: str
) -> None:
    task = await dies_of(gate, config, tmp_path, "copy", point, origin.url)
    assert task["status"] == COPIES[point], task["message"]
    await judge(gate, bucket, "copy", task)


@pytest.mark.parametrize("point", CLONES)
async def test_a_server_that_dies_in_a_clone(
    gate: Remote, bucket: Bucket, config: Path, tmp_path: Path, point: str
) -> None:
    source = await gate.active(BODY)
    task = await dies_of(gate, config, tmp_path, "clone", point, source)
    assert task["status"] == CLONES[point], task["message"]
    await judge(gate, bucket, "clone", task)
    assert [bucket.get(key) for key in bucket.of(source)] == [BODY]


@pytest.mark.parametrize("point", SENT_CLONES)
async def test_a_server_that_dies_in_a_clone_that_is_sent(
    gate: Remote, bucket: Bucket, config: Path, tmp_path: Path, point: str
) -> None:
    sending = tmp_path / "sending.toml"
    sending.write_text(config.read_text() + "copy_parts = false\n")  # its store comes last
    source = await gate.active(BODY)
    task = await dies_of(gate, sending, tmp_path, "clone", point, source)
    assert task["status"] == SENT_CLONES[point], task["message"]
    await judge(gate, bucket, "clone", task)
    assert [bucket.get(key) for key in bucket.of(source)] == [BODY]


@pytest.mark.parametrize("point", FAILING)
async def test_a_server_that_dies_while_it_gives_up(
    gate: Remote, bucket: Bucket, config: Path, tmp_path: Path, point: str
) -> None:
    kind = "copy" if point == "task_refusing" else "import"
    async with serving(b"", status=500) as missing:
        task = await dies_of(gate, config, tmp_path, kind, point, missing.url)
    assert task["status"] == "failure"
    await judge(gate, bucket, kind, task)


async def test_a_server_that_dies_before_the_task_is_written_has_made_no_image(
    gate: Remote, bucket: Bucket, config: Path, tmp_path: Path, origin: Origin
) -> None:
    image_id = str(uuid4())
    headers = {**FORMATS, "x-glance-api-copy-from": origin.url, "x-image-meta-id": image_id}
    dying = Server(tmp_path, "--config", str(config))
    dying.start(TIDEGATE_KILL="before_task:1")
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await Remote(dying.port, session).ask("POST", "/v1/images", headers=headers)
    dying.kill()
    assert (await gate.ask("HEAD", f"/v1/images/{image_id}")).status == 404
    answer = await gate.ask("POST", "/v1/images", headers=headers)  # as its client will say again
    assert answer.status == 201
    await gate.wait_for_status(image_id, "active", within=T)


async def test_a_server_that_is_stopped_hands_its_copy_to_another(
    gate: Remote, bucket: Bucket, config: Path, tmp_path: Path
) -> None:
    stopping = Server(tmp_path, "--config", str(config))
    stopping.start()
    async with (
        serving(BODY, pause=asyncio.Event(), pause_at=6 * MIB) as origin,
        aiohttp.ClientSession() as session,
    ):
        task = await asked(Remote(stopping.port, session), "copy", origin.url)

        async def moving() -> bool:
            answer = await gate.ask("GET", f"/v2/images/{task['image_id']}/uploads")
            return any(upload["received"] > 5 * MIB for upload in answer.json["uploads"])

        await until(moving, "bytes to come")
        held, origin.pause = origin.pause, None
        assert await asyncio.to_thread(stopping.stop) == 0
        assert held is not None
        held.set()
        ended = await end_of(gate, task["id"])
    assert ended["status"] == "success", ended["message"]
    await judge(gate, bucket, "copy", ended)


async def test_random_kills(seaweedfs: SeaweedFS, tmp_path: Path) -> None:
    report = await Harness(Options(count=3, seed=2, clients=3), tmp_path, seaweedfs).run()
    assert report.violations == []
    assert report.kills == 3
    assert sum(count for end, count in report.ends.items() if "success" in end) > 0
