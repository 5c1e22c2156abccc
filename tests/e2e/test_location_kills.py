"""Kill -9 while a location is registered, and while a copy is taken out of a store: what another
server then makes of it."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.e2e.bucket import MIB, Bucket
from tests.kit.origins import Origin, serving
from tests.kit.server import Remote, Server, gone, until
from tests.kit.sources import pattern

from tidegate.catalog.base import AddLocation, ImageChange
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.image import Location

pytestmark = pytest.mark.thorough

BODY = pattern(3 * MIB)
SHA512 = hashlib.sha512(BODY).hexdigest()
LEASE = 2.0
T = 2 * LEASE + 15
"""Seconds after a death in which everything must be at rest."""

VOUCHED: dict[str, dict[str, str]] = {
    "none": {},
    "right": {"os_hash_algo": "sha512", "os_hash_value": SHA512},
    "wrong": {"os_hash_algo": "sha512", "os_hash_value": "0" * 128},
}
POINTS = [
    ("none", "task_claimed"),
    ("none", "location_begun"),
    ("none", "location_registered"),
    ("none", "location_measured"),
    ("none", "task_done_uncommitted"),
    ("right", "location_begun"),
    ("right", "location_verified"),
    ("right", "location_measured"),
    ("wrong", "location_begun"),
    ("wrong", "task_failing"),
]
"""What is vouched for, and where the task's server dies."""


@pytest.fixture(scope="module")
def config(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gateway")
    path = bucket.configure(folder, uploads={"lease": f"{LEASE}s"})
    local = f'[[stores]]\ntype = "filesystem"\nid = "local"\npath = "{folder / "images"}"\n'
    path.write_text(path.read_text(encoding="utf-8") + local, encoding="utf-8")
    return path


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with serving(BODY) as found:
        yield found


@pytest.fixture
async def catalog(config: Path) -> AsyncIterator[SqlCatalog]:
    found = SqlCatalog(f"sqlite:///{config.parent / 'tidegate.db'}")
    await found.open()
    yield found
    await found.close()


async def dies_of(
    gate: Remote, config: Path, folder: Path, point: str, url: str, vouched: dict[str, str]
) -> str:
    """Ask a server that dies at the point to register a location; the image that it had in hand.

    Both look for tasks. The doomed one is told of it, and so nearly always there first; if it was
    not, it is asked for another.
    """
    dying = Server(folder, "--config", str(config))
    dying.start(TIDEGATE_KILL=f"{point}:1")
    body = {"url": url, "validation_data": vouched}
    image_id = ""
    try:
        async with aiohttp.ClientSession() as session:
            other, (worker,) = Remote(dying.port, session), dying.workers

            async def dead() -> bool:
                nonlocal image_id
                if gone(worker):
                    return True
                if not image_id or await task_of(gate, image_id):
                    image_id = await gate.create()
                    try:
                        path = f"/v2/images/{image_id}/locations"
                        await other.ask("POST", path, json=body)
                    except aiohttp.ClientError:  # it died before it answered
                        pass
                return False

            await until(dead, "the worker to be dead")
    finally:
        dying.kill()
    return image_id


async def task_of(gate: Remote, image_id: str) -> dict[str, Any] | None:
    """The image's task, if it has ended."""
    answer = await gate.ask("GET", f"/v2/images/{image_id}/tasks")
    ended = [one for one in answer.json["tasks"] if one["status"] in ("success", "failure")]
    return ended[-1] if ended else None


@pytest.mark.parametrize(("kind", "point"), POINTS)
async def test_a_server_that_dies_while_it_registers_a_location(
    gate: Remote, bucket: Bucket, config: Path, tmp_path: Path, origin: Origin, kind: str,
    point: str,
) -> None:  # fmt: skip
    image_id = await dies_of(gate, config, tmp_path, point, origin.url, VOUCHED[kind])
    task = await until(lambda: task_of(gate, image_id), "the task to end", T)
    image = await gate.show(image_id)
    assert "os_glance_import_task" not in image
    assert bucket.of(image_id) == []
    if kind == "wrong":
        assert (task["status"], image["status"]) == ("failure", "queued")
        assert (image["locations"], image["os_hash_value"]) == ([], None)
        return
    assert (task["status"], image["status"]) == ("success", "active"), task["message"]
    assert [one["url"] for one in image["locations"]] == [origin.url]
    assert (image["size"], image["os_hash_value"]) == (len(BODY), SHA512)
    assert (await gate.ask("GET", f"/v2/images/{image_id}/file")).body == BODY


async def test_a_server_that_dies_before_it_has_written_a_task_down_leaves_the_image_free(
    gate: Remote, config: Path, tmp_path: Path, origin: Origin
) -> None:
    image_id = await dies_of(gate, config, tmp_path, "location_asked", origin.url, {})
    image = await gate.show(image_id)
    assert (image["status"], "os_glance_import_task" in image) == ("queued", False)
    path = f"/v2/images/{image_id}/locations"
    assert (await gate.ask("POST", path, json={"url": origin.url})).status == 202
    await gate.wait_for_status(image_id, "active", within=T)


@pytest.mark.parametrize("point", ["copy_dropping", "del_committed", "del_store_done"])
async def test_a_server_that_dies_while_it_takes_a_copy_out_of_a_store(
    gate: Remote, bucket: Bucket, config: Path, tmp_path: Path, catalog: SqlCatalog,
    session: aiohttp.ClientSession, point: str,
) -> None:  # fmt: skip
    image_id = await gate.create()
    headers = {"x-image-meta-store": "local"}
    assert (await gate.put(image_id, BODY, headers)).status == 204
    where = Location("main", f"{image_id}/copy")
    bucket.put(where.key, BODY)
    change = ImageChange(locations=[AddLocation(location=where)])
    await catalog.change_image(image_id, change)
    assert (await gate.show(image_id))["stores"] == "local,main"
    dying = Server(tmp_path, "--config", str(config))
    dying.start(TIDEGATE_KILL=f"{point}:1")
    try:
        with pytest.raises(aiohttp.ClientError):
            await Remote(dying.port, session).ask("DELETE", f"/v2/stores/main/{image_id}")
    finally:
        dying.kill()
    again = await gate.ask("DELETE", f"/v2/stores/main/{image_id}")  # as its client will say
    assert again.status == (204 if point == "copy_dropping" else 403)

    async def clean() -> bool:
        return bucket.of(image_id) == []

    await until(clean, "the copy to be gone", T)
    image = await gate.show(image_id)
    assert (image["status"], image["stores"]) == ("active", "local")
    assert (await gate.ask("GET", f"/v2/images/{image_id}/file")).body == BODY
