"""Kill -9 at every step of an export: what another server makes of it."""

import asyncio
import io
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from tests.e2e.bucket import MIB, Bucket
from tests.e2e.test_import_kills import dies
from tests.kit.gateway import DATA
from tests.kit.server import Remote, Server, until
from tests.kit.sources import pattern
from tests.kit.targets import Target, taking

from tidegate.seaweedfs import SeaweedFS, free_ports

pytestmark = pytest.mark.thorough

BODY = pattern(7 * MIB)  # two parts
LEASE = 2.0
T = 2 * LEASE + 20
"""Seconds after a death in which everything must be at rest."""

ENDS = ("success", "failure")
TO_STORE = (
    "task_claimed", "export_claimed", "after_create", "after_create_recorded", "after_part",
    "export_completing", "before_complete", "after_complete", "task_done_uncommitted",
)  # fmt: skip
TO_URL = ("task_claimed", "export_sending", "task_done_uncommitted")
FAILING = ("export_aborted", "task_failing")


@pytest.fixture(scope="module")
def port() -> int:
    """Of the target."""
    (found,) = free_ports(1)
    return found


@pytest.fixture(scope="module")
def config(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory, port: int) -> Path:
    folder = tmp_path_factory.mktemp("gateway")
    allowed = {"stores": ["other/exports"], "urls": [f"http://127.0.0.1:{port}/images/"]}
    return bucket.configure(folder, second=True, uploads={"lease": f"{LEASE}s"}, export=allowed)


@pytest.fixture
async def target(port: int) -> AsyncIterator[Target]:
    async with taking(port=port) as found:
        yield found


class Asked:
    """An export that is asked for again, under another name, as long as its server lives and the
    other one was quicker."""

    def __init__(self, gate: Remote, image_id: str, target: Target | None = None) -> None:
        self._gate = gate
        self._image_id = image_id
        self._target = target
        self.task_id = ""
        self.name = ""

    async def tell(self, remote: Remote) -> bool:
        if self.task_id and (await self.shown())["status"] not in ENDS:
            return True
        self.name = f"{uuid4().hex}.raw"
        where = {"store": "other", "key": f"exports/{self.name}"}
        if self._target is not None:
            where = {"url": self._target.url + self.name}
        body = {"type": "export", "input": {"image_id": self._image_id, **where}}
        with suppress(aiohttp.ClientError):  # it may die before it answers
            answer = await remote.ask("POST", "/v2/tasks", json=body)
            assert answer.status == 201, answer.body
        answer = await self._gate.ask("GET", "/v2/tasks?type=export&limit=1")
        self.task_id = answer.json["tasks"][0]["id"]
        return True

    async def shown(self) -> dict[str, Any]:
        task: dict[str, Any] = (await self._gate.ask("GET", f"/v2/tasks/{self.task_id}")).json
        return task

    async def end(self) -> dict[str, Any]:
        async def ended() -> dict[str, Any] | None:
            task = await self.shown()
            return task if task["status"] in ENDS else None

        return await until(ended, "the export to end", T)


async def at_rest(bucket: Bucket, name: str, count: int) -> list[str]:
    """Keys of what lies, or is on its way, under a name."""

    async def clean() -> bool:
        return len(bucket.of(name)) == count

    await until(clean, f"{count} objects, not {bucket.of(name)}", T)
    return bucket.of(name)


@pytest.mark.parametrize("point", TO_STORE)
async def test_a_server_that_dies_in_an_export_to_a_store(
    gate: Remote, bucket: Bucket, config: Path, tmp_path: Path, point: str
) -> None:
    asked = Asked(gate, await gate.active(BODY))
    await dies(config, tmp_path, point, asked.tell)
    task = await asked.end()
    assert task["status"] == "success", task["message"]
    (key,) = await at_rest(bucket, asked.name, 1)
    assert key == f"other/exports/{asked.name}"
    assert bucket.get(key) == BODY
    assert task["result"]["location"] == f"s3://{bucket.name}/{key}"


@pytest.mark.parametrize("point", TO_URL)
async def test_a_server_that_dies_in_an_export_to_a_url(
    gate: Remote, config: Path, tmp_path: Path, target: Target, point: str
) -> None:
    asked = Asked(gate, await gate.active(BODY), target)
    await dies(config, tmp_path, point, asked.tell)
    task = await asked.end()
    assert task["status"] == "success", task["message"]
    assert target.files[f"/images/{asked.name}"] == BODY


@pytest.mark.parametrize("point", FAILING)
async def test_a_server_that_dies_while_it_gives_up(
    gate: Remote, bucket: Bucket, config: Path, tmp_path: Path, point: str
) -> None:
    image_id = await gate.active(BODY)
    (key,) = bucket.of(image_id)
    bucket.put(key, BODY[:-1] + b"x")
    asked = Asked(gate, image_id)
    await dies(config, tmp_path, point, asked.tell)
    task = await asked.end()
    assert task["status"] == "failure"
    assert "is not what it must be; it was not exported" in task["message"]
    await at_rest(bucket, asked.name, 0)
    # the key is free
    where = {"store": "other", "key": f"exports/{asked.name}"}
    body = {"type": "export", "input": {"image_id": await gate.active(BODY), **where}}
    asked.task_id = (await gate.ask("POST", "/v2/tasks", json=body)).json["id"]
    assert (await asked.end())["status"] == "success"


async def test_a_janitor_that_dies_while_it_tidies_up_is_followed_by_another(
    seaweedfs: SeaweedFS, tmp_path: Path
) -> None:
    with Bucket(seaweedfs) as bucket:
        config = bucket.configure(tmp_path, export={"stores": ["main/exports"]})
        server = Server(tmp_path, "--config", str(config))
        server.start()
        server.kill()
        left, theirs = bucket.begin("exports/a.raw"), bucket.begin("exports/b.raw")
        with closing(sqlite3.connect(tmp_path / "tidegate.db")) as catalog, catalog:
            catalog.execute(
                "INSERT INTO exports (store, key, task_id, upload_id, created_at) VALUES "
                "('main', 'exports/a.raw', ?, ?, 0)",
                (str(uuid4()), left),
            )

        async def rows() -> int:
            with closing(sqlite3.connect(tmp_path / "tidegate.db")) as catalog:
                (count,) = catalog.execute("SELECT count(*) FROM exports").fetchone()
            return int(count)

        async def dead() -> bool:
            return "was killed" in server.log or bucket.unfinished() == [("exports/b.raw", theirs)]

        server.launch(TIDEGATE_KILL="export_tidied:1")
        await until(dead, "the upload to be aborted", T)
        assert await rows() == 1
        server.kill()
        server.start()

        async def none() -> bool:
            return await rows() == 0

        await until(none, "the key to be free", T)
        assert bucket.unfinished() == [("exports/b.raw", theirs)]
        server.kill()


async def test_a_server_that_is_stopped_hands_its_export_to_another(
    gate: Remote, config: Path, tmp_path: Path, port: int
) -> None:
    big = pattern(24 * MIB)  # more than sockets hold
    image_id = await gate.create()
    headers = {"Content-Type": DATA}
    await gate.ask("PUT", f"/v2/images/{image_id}/file", data=io.BytesIO(big), headers=headers)
    stopping = Server(tmp_path, "--config", str(config))
    stopping.start()
    held = Target(pause=asyncio.Event(), after=MIB)
    async with taking(held, port=port) as target, aiohttp.ClientSession() as session:
        asked = Asked(gate, image_id, target)
        await asked.tell(Remote(stopping.port, session))
        await held.paused.wait()
        assert await asyncio.to_thread(stopping.stop) == 0
        # whoever takes it up is held as well
        assert (await asked.shown())["status"] == "processing"
        assert target.files == {}
        assert held.pause is not None
        held.pause.set()
        task = await asked.end()
    assert task["status"] == "success", task["message"]
    assert target.files == {f"/images/{asked.name}": big}
