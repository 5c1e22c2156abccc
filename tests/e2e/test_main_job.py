"""What it is all for: from an empty folder to an image in a bucket and back, by the clients people
have. Also: what is registered or empty is active at once, and what was kept outlives a restart."""

import asyncio
import hashlib
import json
import random
import shutil
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from tests.e2e.bucket import MIB, Bucket
from tests.e2e.crowd import ELSEWHERE, origin
from tests.kit.command import run
from tests.kit.server import Remote, Server, until

from tidegate.dev import BUCKET
from tidegate.seaweedfs import SeaweedFS

SIZE = 21 * MIB + 4711  # two parts, the second one smaller


def qcow2(path: Path) -> bytes:
    """A real image: qemu-img's, where that is installed, else a header by its specification
    (version 3, a virtual size of 1 GiB) and clusters of random bytes."""
    clusters = random.Random(3).randbytes(SIZE)
    if shutil.which("qemu-img"):
        raw = path.with_suffix(".raw")
        raw.write_bytes(clusters)
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path], check=True)
        return path.read_bytes()
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        b"QFI\xfb", 3, 0, 0, 16, 2**30, 0, 2, 0x30000, 0x10000, 1, 0, 0, 0, 0, 0, 4, 104,
    )  # fmt: skip
    data = header + clusters[len(header) :]
    path.write_bytes(data)
    return data


class Home:
    """A folder with a gateway of ``dev`` in it, an image file, and what looks into its bucket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = Server(folder, command="dev")
        self.file = folder / "disk.qcow2"
        self.data = qcow2(self.file)

    def bucket(self) -> Bucket:
        """With the credentials that ``dev`` keeps in its folder."""
        kept = json.loads((self.folder / ".tidegate/seaweedfs/seaweedfs.json").read_text())
        storage = SeaweedFS(self.folder)
        storage.port = kept["ports"]["s3.port"]
        storage.access_key = kept["keys"]["access"]
        storage.secret_key = kept["keys"]["secret"]
        return Bucket(storage, BUCKET)

    def image(self, *arguments: str, given: bytes = b"") -> bytes:
        """``tidegate image``, which must succeed and say nothing beside its output."""
        found = run(
            "image", *arguments, folder=self.folder, given=given,
            environ={"TIDEGATE_URL": self.server.url},
        )  # fmt: skip
        assert (found.code, found.err) == (0, "")
        return found.out

    def push(self, *arguments: str, given: bytes = b"") -> dict[str, Any]:
        image: dict[str, Any] = json.loads(self.image("push", *arguments, "--json", given=given))
        return image


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    found = Home(tmp_path_factory.mktemp("home"))
    with found.server:
        yield found


@pytest.fixture
def server(home: Home) -> Server:
    return home.server


@pytest.fixture
async def elsewhere() -> AsyncIterator[str]:
    async with origin() as url:
        yield url


def digests(data: bytes) -> tuple[int, str, str, str]:
    """Of the bytes, in the form of ``shown``."""
    return (
        len(data),
        hashlib.md5(data).hexdigest(),
        "sha512",
        hashlib.sha512(data).hexdigest(),
    )


def shown(image: dict[str, Any]) -> tuple[int, str, str, str]:
    return image["size"], image["checksum"], image["os_hash_algo"], image["os_hash_value"]


def in_bucket(home: Home, image_id: str) -> bytes:
    """The bytes of the one object of an image."""
    with home.bucket() as bucket:
        (key,) = bucket.of(image_id)
        return bucket.get(key)


async def test_a_file_is_pushed_and_pulled_and_lies_in_the_bucket(home: Home, gate: Remote) -> None:
    image = home.push("disk.qcow2", "--name", "disk")
    assert (image["status"], image["disk_format"]) == ("active", "qcow2")
    assert shown(image) == digests(home.data)
    assert in_bucket(home, image["id"]) == home.data
    home.image("pull", "disk", "-o", "again.qcow2")
    assert (home.folder / "again.qcow2").read_bytes() == home.data


async def test_what_comes_through_a_pipe(home: Home) -> None:
    image = home.push("-", "--name", "piped", given=home.data)
    assert shown(image) == digests(home.data)
    assert in_bucket(home, image["id"]) == home.data
    assert home.image("pull", image["id"], "-o", "-") == home.data


async def test_curl(home: Home, gate: Remote) -> None:
    image_id = await gate.create(disk_format="qcow2")
    url = f"{gate.url}/v2/images/{image_id}/file"
    sent = subprocess.run(
        ["curl", "-fsS", "-X", "PUT", "-H", "Content-Type: application/octet-stream",
         "-T", home.file, "-w", "%{http_code}", url],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert sent.stdout == b"204"
    assert shown(await gate.show(image_id)) == digests(home.data)
    got = subprocess.run(["curl", "-fsS", url], capture_output=True, check=True, timeout=60)
    assert got.stdout == home.data
    assert in_bucket(home, image_id) == home.data


async def test_it_is_saving_while_bytes_move_and_active_after(home: Home, gate: Remote) -> None:
    half_sent, go_on = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        for at in range(0, len(home.data), MIB):
            if at > len(home.data) // 2 and not half_sent.is_set():
                half_sent.set()
                await go_on.wait()
            yield home.data[at : at + MIB]

    image_id = await gate.create(disk_format="qcow2")
    assert await gate.status(image_id) == "queued"
    sending = asyncio.ensure_future(gate.put(image_id, body()))
    await half_sent.wait()
    await gate.wait_for_status(image_id, "saving")
    image = await gate.show(image_id)
    assert (image["size"], image["checksum"]) == (None, None)
    assert (await gate.ask("GET", f"/v2/images/{image_id}/file")).status == 204  # no data yet
    assert await received(gate, image_id) > 0
    go_on.set()
    assert (await sending).status == 204
    assert await gate.status(image_id) == "active"
    assert shown(await gate.show(image_id)) == digests(home.data)


async def received(gate: Remote, image_id: str) -> int:
    """What the record of the attempt says, which is written now and then."""

    async def bytes_so_far() -> int:
        answer = await gate.ask("GET", f"/v2/images/{image_id}/uploads")
        count: int = answer.json["uploads"][-1]["received"]
        return count

    return await until(bytes_so_far, "progress to be seen")


class Watch:
    """Every status in which an image was seen, asked for without a pause."""

    def __init__(self, gate: Remote, image_id: str) -> None:
        self._gate = gate
        self._image_id = image_id
        self.seen: list[str] = []
        self.looks = 0

    async def __aenter__(self) -> "Watch":
        self._task = asyncio.ensure_future(self._look())
        return self

    async def __aexit__(self, *failure: object) -> None:
        looks = self.looks

        async def looked_again() -> bool:
            return self.looks > looks + 1

        await until(looked_again, "two more looks")
        self._task.cancel()

    async def _look(self) -> None:
        while True:
            answer = await self._gate.ask("GET", f"/v2/images/{self._image_id}")
            status = answer.json["status"] if answer.status == 200 else "absent"
            if self.seen[-1:] != [status]:
                self.seen.append(status)
            self.looks += 1


@pytest.fixture
async def permissive(
    bucket: Bucket, session: aiohttp.ClientSession, tmp_path: Path
) -> AsyncIterator[Remote]:
    """A gateway that may fetch from loopback."""
    path = bucket.configure(tmp_path)
    with Server(tmp_path, "--config", str(path)) as server:
        yield Remote(server.port, session)


async def test_what_is_registered_is_active_and_never_saving(
    permissive: Remote, bucket: Bucket, elsewhere: str
) -> None:
    gate = permissive
    by_header = str(uuid4())
    meta = {"id": by_header, "disk_format": "raw", "container_format": "bare",
            "location": elsewhere, "name": "registered"}  # fmt: skip
    async with Watch(gate, by_header) as watch:
        answer = await gate.ask(
            "POST",
            "/v1/images",
            headers={f"x-image-meta-{name}": value for name, value in meta.items()},
        )
        assert answer.status == 201
        assert answer.json["image"]["status"] == "active"
    assert watch.seen[-1] == "active"
    assert set(watch.seen) <= {"absent", "active"}

    by_patch = await gate.create()
    async with Watch(gate, by_patch) as watch:
        step = {"op": "add", "path": "/locations/-", "value": {"url": elsewhere, "metadata": {}}}
        answer = await gate.patch(by_patch, step)
        assert answer.status == 200, answer.body
        assert answer.json["status"] == "active"
    assert watch.seen[-1] == "active"
    assert set(watch.seen) <= {"queued", "active"}

    for image_id in (by_header, by_patch):
        image = await gate.show(image_id)
        assert (image["status"], image["size"]) == ("active", len(ELSEWHERE))
        assert (await gate.ask("GET", f"/v2/images/{image_id}/file")).body == ELSEWHERE
    # nothing of it was copied
    assert bucket.objects() == {}


async def test_a_size_of_0_on_creation_is_active(gate: Remote) -> None:
    meta = {"name": "empty", "disk_format": "raw", "container_format": "bare", "size": "0"}
    answer = await gate.ask(
        "POST",
        "/v1/images",
        headers={f"x-image-meta-{name}": value for name, value in meta.items()},
    )
    assert answer.status == 201
    image = answer.json["image"]
    assert (image["status"], image["size"]) == ("active", 0)
    assert (await gate.ask("GET", f"/v2/images/{image['id']}/file")).body == b""
    # what says nothing of its size waits for data
    assert await gate.status(await gate.create()) == "queued"


def test_a_second_run_on_the_same_folder_has_the_images(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.server as server:
        image = home.push("disk.qcow2", "--name", "kept")
        assert server.stop() == 0
        server.start()
        again = json.loads(home.image("show", "kept", "--json"))
        assert again == image
        assert home.image("pull", "kept", "-o", "-") == home.data
        assert in_bucket(home, image["id"]) == home.data


def test_serve_in_an_empty_folder_keeps_images_as_files(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with Server(tmp_path) as server:
        home.server = server
        image = home.push("disk.qcow2", "--name", "file")
        assert image["status"] == "active"
        assert shown(image) == digests(home.data)
        (kept,) = (path for path in (tmp_path / "images").rglob("*") if path.is_file())
        assert kept.read_bytes() == home.data
        piped = home.push("-", "--name", "piped", given=home.data)
        assert shown(piped) == digests(home.data)
        assert home.image("pull", "file", "-o", "-") == home.data
        home.image("delete", "file", "piped")
        assert [path for path in (tmp_path / "images").rglob("*") if path.is_file()] == []
        assert server.stop() == 0
