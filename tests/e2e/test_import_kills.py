"""Kill -9 at every step of staging and of each kind of import: what another server makes of it."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.e2e.bucket import MIB, Bucket
from tests.kit.gateway import DATA
from tests.kit.origins import Origin, Service, serving
from tests.kit.server import Remote, Server, gone, until
from tests.kit.sources import pattern

from tidegate.seaweedfs import free_ports

pytestmark = pytest.mark.thorough

BODY = pattern(7 * MIB)  # two parts
LEASE = 2.0
T = 2 * LEASE + 20
"""Seconds after a death in which everything must be at rest."""

ELSEWHERE = "5b1fae2c-6d0e-4a43-9c1b-2f6c1d0a7e11"
REMOTE = {"name": "glance-download", "glance_region": "there", "glance_image_id": ELSEWHERE}
ENDS = ("success", "failure")
POINTS = {
    "direct": ("task_claimed", "import_begun", "staged_published", "import_noted", "after_part"),
    "web": ("import_begun", "after_claim", "after_complete", "import_noted"),
    "copy": ("after_part", "after_complete", "after_commit", "task_done_uncommitted"),
    "glance": ("import_begun", "after_part", "after_complete", "import_noted"),
}
STAGING = {
    "before_claim": "queued",
    "after_claim": "queued",
    "after_part": "queued",
    "after_complete": "uploading",
    "after_commit": "uploading",
}
"""How an image is settled whose staging dies at this point."""

CASES = [(kind, point) for kind, points in POINTS.items() for point in points]


@pytest.fixture(scope="module")
def port() -> int:
    """Of the other image service."""
    (found,) = free_ports(1)
    return found


@pytest.fixture(scope="module")
def config(bucket: Bucket, port: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gateway")
    regions = {"there": f"http://127.0.0.1:{port}/v2"}
    return bucket.configure(
        folder, second=True, uploads={"lease": f"{LEASE}s"}, **{"import.regions": regions}
    )


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with serving(BODY) as found:
        yield found


@pytest.fixture
async def service(port: int) -> AsyncIterator[Service]:
    async with serving(BODY, kind=Service, port=port) as found:
        assert isinstance(found, Service)
        found.record = found.describe(ELSEWHERE)
        yield found


async def send(remote: Remote, image_id: str, path: str) -> int:
    headers = {"Content-Type": DATA}
    body = io.BytesIO(BODY)
    answer = await remote.ask("PUT", f"/v2/images/{image_id}/{path}", data=body, headers=headers)
    return answer.status


async def prepared(gate: Remote, kind: str) -> str:
    image_id = await gate.create()
    path = {"direct": "stage", "copy": "file"}.get(kind)
    if path is not None:
        assert await send(gate, image_id, path) == 204
    return image_id


async def ask(remote: Remote, image_id: str, kind: str, url: str) -> None:
    method = {"direct": {"name": "glance-direct"}, "copy": {"name": "copy-image"},
              "web": {"name": "web-download", "uri": url}, "glance": REMOTE}[kind]  # fmt: skip
    with suppress(aiohttp.ClientError):  # it may die before it answers
        answer = await remote.ask(
            "POST", f"/v2/images/{image_id}/import", json={"method": method, "all_stores": True}
        )
        assert answer.status == 202, answer.body


async def task_of(gate: Remote, image_id: str) -> dict[str, Any] | None:
    answer = await gate.ask("GET", f"/v2/images/{image_id}/tasks")
    found: list[dict[str, Any]] = answer.json["tasks"]
    return found[-1] if found else None


async def end_of(gate: Remote, image_id: str) -> dict[str, Any]:
    seen: list[str] = []

    async def ended() -> dict[str, Any] | None:
        task = await task_of(gate, image_id)
        assert task is not None
        if seen[-1:] != [task["status"]]:
            seen.append(task["status"])
        return task if task["status"] in ENDS else None

    task = await until(ended, f"the import of {image_id} to end", T)
    assert seen == [one for one in ("pending", "processing", task["status"]) if one in seen]
    return task


async def dies(
    config: Path, folder: Path, point: str, tell: Callable[[Remote], Awaitable[bool]]
) -> None:
    """A server that dies at the point; ``tell`` gives it something to do, again while it lives
    and somebody else was quicker."""
    dying = Server(folder, "--config", str(config))
    dying.start(TIDEGATE_KILL=f"{point}:1")
    try:
        async with aiohttp.ClientSession() as session:
            (worker,) = dying.workers
            remote = Remote(dying.port, session)

            async def dead() -> bool:
                return gone(worker) or (await tell(remote) and gone(worker))

            await until(dead, "the worker to be dead")
    finally:
        dying.kill()


async def settled(bucket: Bucket, image_id: str, count: int) -> list[str]:
    async def clean() -> bool:
        return len(bucket.of(image_id)) == count

    await until(clean, f"{count} objects, not {bucket.of(image_id)}", T)
    return bucket.of(image_id)


@pytest.mark.parametrize(("kind", "point"), CASES)
async def test_a_server_that_dies_in_an_import(
    gate: Remote,
    bucket: Bucket,
    config: Path,
    tmp_path: Path,
    origin: Origin,
    service: Service,
    kind: str,
    point: str,
) -> None:
    image_id = ""

    async def tell(remote: Remote) -> bool:
        nonlocal image_id
        task = await task_of(gate, image_id) if image_id else None
        if task is None or task["status"] in ENDS:
            image_id = await prepared(gate, kind)
            await ask(remote, image_id, kind, origin.url)
        return True

    await dies(config, tmp_path, point, tell)
    task = await end_of(gate, image_id)
    assert task["status"] == "success", task["message"]
    image = await gate.show(image_id)
    assert (image["status"], len(image["locations"])) == ("active", 2)
    assert "os_glance_import_task" not in image
    assert image["os_glance_importing_to_stores"] == image["os_glance_failed_import"] == ""
    assert [bucket.get(key) for key in await settled(bucket, image_id, 2)] == [BODY, BODY]


async def test_a_server_that_dies_while_it_gives_an_import_up(
    gate: Remote, bucket: Bucket, config: Path, tmp_path: Path
) -> None:
    image_id = ""
    async with serving(b"", status=500) as missing:

        async def tell(remote: Remote) -> bool:
            nonlocal image_id
            task = await task_of(gate, image_id) if image_id else None
            if task is None or task["status"] in ENDS:
                image_id = await prepared(gate, "web")
                await ask(remote, image_id, "web", missing.url)
            return True

        await dies(config, tmp_path, "task_failing", tell)
        task = await end_of(gate, image_id)
    assert task["status"] == "failure"
    image = await gate.show(image_id)
    assert (image["status"], image["size"]) == ("queued", None)
    assert image["os_glance_failed_import"] == "main,other"
    await settled(bucket, image_id, 0)


@pytest.mark.parametrize("point", STAGING)
async def test_a_server_that_dies_while_data_is_staged(
    gate: Remote, bucket: Bucket, config: Path, tmp_path: Path, point: str
) -> None:
    image_id = await gate.create()

    async def tell(remote: Remote) -> bool:
        with suppress(aiohttp.ClientError):
            await send(remote, image_id, "stage")
        return True

    await dies(config, tmp_path, point, tell)
    wanted = STAGING[point]

    async def rests() -> bool:
        answer = await gate.ask("GET", f"/v2/images/{image_id}/uploads")
        ended = all(one["ended_at"] is not None for one in answer.json["uploads"])
        return ended and await gate.status(image_id) == wanted

    await until(rests, f"the image to be {wanted}", T)
    await settled(bucket, image_id, 1 if wanted == "uploading" else 0)
    if wanted == "queued":
        assert await send(gate, image_id, "stage") == 204
    await ask(gate, image_id, "direct", "")
    assert (await end_of(gate, image_id))["status"] == "success"
    assert len(await settled(bucket, image_id, 2)) == 2


async def test_a_server_that_is_stopped_hands_its_import_to_another(
    gate: Remote, bucket: Bucket, config: Path, tmp_path: Path
) -> None:
    stopping = Server(tmp_path, "--config", str(config))
    stopping.start()
    async with (
        serving(BODY, pause=asyncio.Event(), pause_at=6 * MIB) as origin,
        aiohttp.ClientSession() as session,
    ):
        image_id = await gate.create()
        await ask(Remote(stopping.port, session), image_id, "web", origin.url)

        async def moving() -> bool:
            answer = await gate.ask("GET", f"/v2/images/{image_id}/uploads")
            return any(upload["received"] > 5 * MIB for upload in answer.json["uploads"])

        await until(moving, "bytes to come")
        held, origin.pause = origin.pause, None
        assert await asyncio.to_thread(stopping.stop) == 0
        assert await gate.status(image_id) == "importing"
        assert held is not None
        held.set()
        ended = await end_of(gate, image_id)
    assert ended["status"] == "success", ended["message"]
    assert [bucket.get(key) for key in await settled(bucket, image_id, 2)] == [BODY, BODY]
