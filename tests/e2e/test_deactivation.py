"""Deactivated while it is sent: two workers, real tokens, each way in which bytes leave.

The worker that sends is held still while another one takes the order, so that it can only have
learnt of it from the catalog.
"""

import asyncio
import os
import signal
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.e2e.bucket import MIB, Bucket
from tests.kit.server import Remote, Server, client, configure, until
from tests.kit.sources import pattern
from tests.kit.tokens import Callers, everybody, ways

DATA = pattern(48 * MIB)  # far more than the kernel holds of it
GIB = 2**30
BLOCK = pattern(MIB)
CUT_WITHIN = 10.0
PATHS = {"blocks": ("main", True), "splice": ("main", False), "sendfile": ("local", False)}


@pytest.fixture(scope="module", params=PATHS)
def way(request: pytest.FixtureRequest) -> str:
    """How bytes leave."""
    return str(request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="module")
def headers(folder: Path) -> dict[str, dict[str, str]]:
    return everybody(folder / "tokens.toml")


@pytest.fixture(scope="module")
def server(
    way: str, folder: Path, bucket: Bucket, headers: dict[str, dict[str, str]]
) -> Iterator[Server]:
    store, verify = PATHS[way]
    stores: list[dict[str, Any]] = [
        {
            "id": "main", "type": "s3", "endpoint": bucket.storage.endpoint, "bucket": bucket.name,
            "access_key": bucket.storage.access_key, "secret_key": bucket.storage.secret_key,
        },
        {"id": "local", "type": "filesystem", "path": str(folder / "images")},
    ]  # fmt: skip
    for one in stores:
        one["default"] = one["id"] == store
    path = configure(
        folder,
        stores,
        server={"workers": 2},
        auth={"mode": "tokens", "tokens_file": str(folder / "tokens.toml")},
        downloads={"verify": verify},
    )
    with Server(folder, "--config", str(path)) as found:
        yield found


@pytest.fixture
async def callers(server: Server, headers: dict[str, dict[str, str]]) -> AsyncIterator[Callers]:
    async with client() as session:
        yield Callers(Remote(server.port, session), headers)


class SlowDownload:
    """A client that takes the bytes as slowly as it likes; ``found`` is what it has of them."""

    def __init__(self, server: Server, image_id: str, headers: dict[str, str], size: int) -> None:
        self._server = server
        self._size = size
        lines = [f"GET /v2/images/{image_id}/file HTTP/1.1", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._request = "\r\n".join([*lines, "", ""]).encode()
        self.found = bytearray()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()

    async def begin(self) -> None:
        """Returns with the head, and some of the body."""
        await self._loop.sock_connect(self._socket, ("127.0.0.1", self._server.port))
        await self._loop.sock_sendall(self._socket, self._request)
        while len(self.found) < MIB:
            self.found += await self._loop.sock_recv(self._socket, 64 * 1024)
        head, _, body = bytes(self.found).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        assert f"Content-Length: {self._size}".encode() in head
        self.found = bytearray(body)

    @property
    def worker(self) -> int | None:
        """Who holds the other end of it, as long as somebody does."""
        port = self._socket.getsockname()[1]
        for pid in self._server.workers:
            for one in psutil.Process(pid).net_connections("tcp"):
                if one.raddr and one.raddr.port == port:
                    return pid
        return None

    async def rest(self, pause: float = 0.0) -> bool:
        """Take what comes, until nothing does; True: all of it came."""
        try:
            while len(self.found) < self._size:
                data = await self._loop.sock_recv(self._socket, 128 * 1024)
                if not data:
                    return False
                self.found += data
                await asyncio.sleep(pause)
        except ConnectionResetError:
            return False
        return True

    def close(self) -> None:
        self._socket.close()


@asynccontextmanager
async def downloading(
    server: Server, image_id: str, headers: dict[str, str], size: int = len(DATA)
) -> AsyncIterator[SlowDownload]:
    download = SlowDownload(server, image_id, headers, size)
    try:
        await download.begin()
        yield download
    finally:
        download.close()


@asynccontextmanager
async def held_still(worker: int | None) -> AsyncIterator[None]:
    """Who connects now is served by another one; the worker does not lock the catalog meanwhile."""
    assert worker is not None
    files = psutil.Process(worker).open_files()
    (catalog,) = {file.path for file in files if file.path.endswith("/tidegate.db")}

    async def stopped() -> bool:
        os.kill(worker, signal.SIGSTOP)
        looking = closing(sqlite3.connect(catalog, timeout=0))
        with suppress(sqlite3.OperationalError), looking as connection:
            connection.execute("BEGIN IMMEDIATE")
            return True
        os.kill(worker, signal.SIGCONT)
        return False

    try:
        await until(stopped, "the worker to stand still without a lock")
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


@pytest.mark.parametrize("client_is", ["slow", "stalled"])
async def test_a_download_is_cut_soon_after_the_order_and_an_admins_is_not(
    server: Server, callers: Callers, client_is: str
) -> None:
    image_id = await callers.active(DATA)
    owner, admin = callers.headers["owner"], callers.headers["admin"]
    async with (
        downloading(server, image_id, owner) as owners,
        downloading(server, image_id, admin) as admins,
    ):
        taking = asyncio.ensure_future(owners.rest(0.05)) if client_is == "slow" else None
        async with held_still(owners.worker):
            answer = await asyncio.wait_for(callers.act("owner", "deactivate", image_id), 20)
            assert answer.status == 204
            ordered = time.monotonic()

        async def cut() -> bool:
            return owners.worker is None

        await until(cut, "the download to be cut", CUT_WITHIN)
        assert time.monotonic() - ordered < CUT_WITHIN
        assert not await (taking or owners.rest())
        assert len(owners.found) < len(DATA)
        assert DATA.startswith(owners.found)
        # an administrator's goes on, and is whole
        assert await admins.rest()
        assert admins.found == DATA
    refused = await callers.ask("owner", "GET", f"/v2/images/{image_id}/file")
    assert refused.status == 403
    cuts = [event for event in server.events if event["event"] == "download cut"]
    assert [event["image"] for event in cuts if event["image"] == image_id] == [image_id]


async def generated() -> AsyncIterator[bytes]:
    """1 GiB."""
    for _ in range(GIB // MIB):
        yield BLOCK


@pytest.mark.thorough
async def test_a_running_download_of_1_gib_is_cut_at_once(server: Server, callers: Callers) -> None:
    image_id = await callers.queued()
    path = f"/v2/images/{image_id}/file"
    kind = {"Content-Type": "application/octet-stream"}
    answer = await callers.ask("owner", "PUT", path, data=generated(), headers=kind)
    assert answer.status == 204
    async with downloading(server, image_id, callers.headers["owner"], GIB) as download:
        taking = asyncio.ensure_future(download.rest(0.002))
        async with held_still(download.worker):
            answer = await asyncio.wait_for(callers.act("owner", "deactivate", image_id), 20)
            assert answer.status == 204
            ordered = time.monotonic()
        assert not await asyncio.wait_for(taking, CUT_WITHIN)
        assert time.monotonic() - ordered < CUT_WITHIN
        assert MIB < len(download.found) < GIB
        for start in range(0, len(download.found), MIB):
            assert BLOCK.startswith(download.found[start : start + MIB])
    await callers.ask("owner", "DELETE", f"/v2/images/{image_id}")


async def test_a_download_of_a_deleted_image_is_cut_and_never_mixed(
    server: Server, callers: Callers
) -> None:
    image_id = await callers.active(DATA)
    async with downloading(server, image_id, callers.headers["admin"]) as download:
        async with held_still(download.worker):
            answer = await callers.ask("owner", "DELETE", f"/v2/images/{image_id}")
            assert answer.status == 204

        async def cut() -> bool:
            return download.worker is None

        await until(cut, "the download to be cut", CUT_WITHIN)
        assert not await download.rest()
        assert DATA.startswith(download.found)


async def test_no_way_to_the_bytes_is_open_on_any_worker(server: Server, callers: Callers) -> None:
    image_id = await callers.active(DATA[:MIB], visibility="community")
    await callers.act("owner", "deactivate", image_id)
    for method, path, headers in ways(image_id).values():
        for caller in ("owner", "manager", "reader", "stranger"):
            for _ in range(4):  # each on a connection of its own
                answer = await callers.ask(caller, method, path, headers=headers)
                assert answer.status == 403, (caller, method, path, headers)
    answer = await callers.ask("admin", "GET", f"/v2/images/{image_id}/file")
    assert answer.body == DATA[:MIB]
