"""Exports of a whole gateway: to S3, to a folder and to a URL; what they take, and what stops
them."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.bucket import MIB, Bucket
from tests.kit.command import run
from tests.kit.gateway import DATA
from tests.kit.server import Remote, Server, until
from tests.kit.sources import pattern
from tests.kit.targets import Target, taking

from tidegate.seaweedfs import free_ports

BODY = pattern(12 * MIB)
BLOCK = pattern(MIB)
CUT_WITHIN = 10.0
LARGE = 256 * MIB


@pytest.fixture(scope="module")
def port() -> int:
    """Of the target."""
    (found,) = free_ports(1)
    return found


@pytest.fixture(scope="module")
def config(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory, port: int) -> Path:
    folder = tmp_path_factory.mktemp("gateway")
    allowed = {
        "stores": ["main/exports", "files/exports"],
        "urls": [f"http://127.0.0.1:{port}/images/"],
    }
    path = bucket.configure(folder, uploads={"memory_budget": "32MiB"}, export=allowed)
    files = f'[[stores]]\ntype = "filesystem"\nid = "files"\npath = "{folder / "files"}"\n'
    path.write_text(path.read_text() + files)
    return path


async def blocks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // MIB):
        yield BLOCK


async def large(gate: Remote, size: int) -> str:
    """An image of so many bytes."""
    image_id = await gate.create()
    headers = {"Content-Type": DATA}
    path = f"/v2/images/{image_id}/file"
    assert (await gate.ask("PUT", path, data=blocks(size), headers=headers)).status == 204
    return image_id


async def asked(gate: Remote, image_id: str, **where: str) -> str:
    body = {"type": "export", "input": {"image_id": image_id, **where}}
    answer = await gate.ask("POST", "/v2/tasks", json=body)
    assert answer.status == 201, answer.body
    task_id: str = answer.json["id"]
    return task_id


async def end_of(gate: Remote, task_id: str, within: float = 60) -> dict[str, Any]:
    async def ended() -> dict[str, Any] | None:
        task: dict[str, Any] = (await gate.ask("GET", f"/v2/tasks/{task_id}")).json
        return task if task["status"] in ("success", "failure") else None

    return await until(ended, "the export to end", within)


async def test_to_s3_to_a_folder_and_to_a_url(
    gate: Remote, bucket: Bucket, config: Path, port: int
) -> None:
    image_id = await gate.active(BODY)
    where: list[dict[str, str]] = [
        {"store": "main", "key": "exports/disk.raw"},
        {"store": "files", "key": "exports/disk.raw"},
        {"url": f"http://127.0.0.1:{port}/images/a/disk.raw"},
    ]
    async with taking(port=port) as target:
        tasks = [await end_of(gate, await asked(gate, image_id, **one)) for one in where]
    assert [task["message"] for task in tasks if task["status"] != "success"] == []
    file = config.parent / "files" / "exports" / "disk.raw"
    assert [task["result"]["location"] for task in tasks] == [
        f"s3://{bucket.name}/exports/disk.raw", f"file://{file}", where[2]["url"],
    ]  # fmt: skip
    assert bucket.get("exports/disk.raw") == BODY
    assert file.read_bytes() == BODY
    assert target.files == {"/images/a/disk.raw": BODY}
    # and once only
    for one in where[:2]:
        task = await end_of(gate, await asked(gate, image_id, **one))
        assert (task["status"], "already an object" in task["message"]) == ("failure", True)
    assert bucket.unfinished() == []
    assert list((config.parent / "files" / ".unfinished").iterdir()) == []


async def test_an_export_is_cut_soon_after_its_image_is_deactivated(
    gate: Remote, port: int
) -> None:
    image_id = await large(gate, 24 * MIB)  # more than sockets hold
    held = Target(pause=asyncio.Event(), after=MIB)
    async with taking(held, port=port) as target:
        task_id = await asked(gate, image_id, url=target.url + "a")
        await held.paused.wait()
        answer = await gate.ask("POST", f"/v2/images/{image_id}/actions/deactivate")
        assert answer.status == 204
        ordered = time.monotonic()
        task = await end_of(gate, task_id, CUT_WITHIN)
        assert time.monotonic() - ordered < CUT_WITHIN
        assert held.pause is not None
        held.pause.set()
    assert (task["status"], "deactivated" in task["message"]) == ("failure", True)
    assert target.files == {}


@pytest.mark.parametrize("to_url", [False, True], ids=["store", "url"])
async def test_memory_is_bounded_by_the_budget(
    gate: Remote, server: Server, port: int, to_url: bool
) -> None:
    image_id = await large(gate, LARGE)
    (worker,) = server.workers
    before = peak(worker)
    async with taking(Target(keep=False), port=port) as target:
        where = {"url": target.url + "a"} if to_url else {"store": "main", "key": "exports/large"}
        task = await end_of(gate, await asked(gate, image_id, **where), 240)
        assert target.received == ([LARGE] if to_url else [])
    assert task["status"] == "success", task["message"]
    assert task["result"]["size"] == LARGE
    # all that an upload of the same size took counts as before
    assert peak(worker) - before < 32 * MIB


def peak(pid: int) -> int:
    """The most memory that a process ever held, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the system does not say")


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ('stores = ["other/exports"]', "'other' is no store"),
        ('stores = ["local/00000000-0000-4000-8000-000000000000"]', "image's data"),
        ('urls = ["https://user:secret@files.example/"]', "without a user"),
    ],
    ids=["no such store", "an image's folder", "no url"],
)
def test_a_server_does_not_start_on_what_cannot_be_exported_to(
    tmp_path: Path, section: str, words: str
) -> None:
    (tmp_path / "bad.toml").write_text(f"[export]\n{section}\n")
    done = run("serve", "--config", "bad.toml", folder=tmp_path)
    assert done.code == 1
    assert words in done.line
    assert "secret" not in done.line
