"""Clients of all kinds at once, who remember what they were told about each image."""

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any
from uuid import UUID

import aiohttp
from aiohttp import web
from tests.kit.server import client

MIB = 2**20
DATA = "application/octet-stream"
_V21 = "application/openstack-images-v2.1-json-patch"
_UNIT = random.Random(7).randbytes(MIB)
_STEP = 64 * 1024


class Said(Enum):
    """What a client knows of a request."""

    NOTHING = "nothing"  # not sent
    SENT = "sent"  # no answer: it may have happened or not
    DONE = "done"
    REFUSED = "refused"


@dataclass
class Record:
    """One image, as its client knows it. ``code`` is the answer to its data."""

    id: str
    size: int
    way: str
    by_location: bool = False
    created: Said = Said.NOTHING
    filled: Said = Said.NOTHING
    deleted: Said = Said.NOTHING
    code: int = 0
    seed: int = 0

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for piece in pieces(self.seed, self.size):
            digest.update(piece)
        return digest.hexdigest()


def pieces(seed: int, size: int) -> list[memoryview]:
    """Bytes of an image, which are another one's only at another place."""
    start = seed * 7919 % (MIB // 2)
    head = seed.to_bytes(8, "big")
    found = [memoryview(head)[:size]]
    left = size - len(found[0])
    while left > 0:
        piece = memoryview(_UNIT)[start : start + min(left, _STEP)]
        found.append(piece)
        left -= len(piece)
        start = (start + _STEP) % (MIB - _STEP)
    return found


class Crowd:
    """``clients`` of them, each doing one thing after the other while ``open`` is set. Uploads
    that are slow last longer than ``lease`` seconds."""

    def __init__(
        self, url: str, origin: str, *, clients: int, lease: float, rng: random.Random
    ) -> None:
        self._url = url
        self._origin = origin
        self._clients = clients
        self._lease = lease
        self._rng = rng
        self.records: dict[str, Record] = {}
        self.open = asyncio.Event()
        self.up = asyncio.Event()
        self.up.set()
        self.running = 0
        self.quiet = asyncio.Event()
        self.quiet.set()
        self.outcomes: dict[str, int] = {}
        self.strange: list[str] = []

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator["Crowd"]:
        async with client(timeout=aiohttp.ClientTimeout(total=120)) as session:
            self._session = session
            tasks = [asyncio.ensure_future(self._client()) for _ in range(self._clients)]
            try:
                yield self
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _client(self) -> None:
        while True:
            await self.up.wait()
            await self.open.wait()
            if not self.up.is_set():
                continue
            self.running += 1
            self.quiet.clear()
            try:
                await self._something()
            except Exception as error:
                self.strange.append(f"a client failed: {type(error).__name__}: {error}")
            finally:
                self.running -= 1
                if not self.running:
                    self.quiet.set()
            await asyncio.sleep(self._rng.uniform(0, 0.1))

    async def _something(self) -> None:
        done = [
            record
            for record in self.records.values()
            if record.filled is Said.DONE and record.deleted is Said.NOTHING
        ]
        what = self._rng.random()
        if what < 0.12 and done:
            await self._delete(self._rng.choice(done))
        elif what < 0.22 and done:
            await self._read(self._rng.choice(done))
        elif what < 0.34:
            await self._register()
        else:
            await self._upload()

    # what a client does

    async def _upload(self) -> None:
        rng = self._rng
        size = rng.choice(
            (0, rng.randint(1, 65536), rng.randint(2**18, 2 * MIB), rng.randint(5, 17) * MIB + 1,
             rng.randint(5 * MIB, 12 * MIB))
        )  # fmt: skip
        slow = size > _STEP and rng.random() < 0.2
        chunked = rng.random() < 0.5
        version = rng.choice(("v1", "v2"))
        record = self._new(size, f"{version} {'chunked' if chunked else 'length'}"
                                 f"{' slow' if slow else ''}")  # fmt: skip
        body = self._body(record, self._lease * rng.uniform(1.2, 1.8) if slow else 0.0)
        headers = {"Content-Type": DATA}
        if not chunked:
            headers["Content-Length"] = str(size)
        deleting = None
        if rng.random() < 0.08:
            deleting = asyncio.ensure_future(self._delete_later(record, rng.uniform(0.0, 1.0)))
        try:
            if version == "v1" and (size or chunked):
                await self._fill_v1(record, headers, body)
            else:
                await self._fill_v2(record, headers, body)
        finally:
            if deleting is not None:
                await deleting

    async def _fill_v1(self, record: Record, headers: dict[str, str], body: Any) -> None:
        meta = {"name": record.way, "id": record.id, "disk_format": "raw",
                "container_format": "bare"}  # fmt: skip
        headers |= {f"x-image-meta-{name}": value for name, value in meta.items()}
        record.created = record.filled = Said.SENT
        record.code = await self._ask("POST", "/v1/images", data=body, headers=headers)
        if record.code:
            record.created = Said.DONE
            record.filled = _said(record.code)
        self._count("upload", record.code)

    async def _fill_v2(self, record: Record, headers: dict[str, str], body: Any) -> None:
        if not await self._create(record):
            return
        record.filled = Said.SENT
        path = f"/v2/images/{record.id}/file"
        record.code = await self._ask("PUT", path, data=body, headers=headers)
        if record.code:
            record.filled = _said(record.code)
        self._count("upload", record.code)

    async def _create(self, record: Record) -> bool:
        fields = {"id": record.id, "name": record.way, "disk_format": "raw",
                  "container_format": "bare"}  # fmt: skip
        record.created = Said.SENT
        code = await self._ask("POST", "/v2/images", json=fields)
        if code:
            record.created = _said(code)
        if code not in (0, 201):
            self.strange.append(f"creating {record.id} was answered {code}")
        return code == 201

    async def _register(self) -> None:
        if self._rng.random() < 0.5:
            record = self._new(len(ELSEWHERE), "v1 location", by_location=True)
            meta = {"name": record.way, "id": record.id, "disk_format": "raw",
                    "container_format": "bare", "location": self._origin,
                    "size": str(record.size)}  # fmt: skip
            headers = {f"x-image-meta-{name}": value for name, value in meta.items()}
            record.created = record.filled = Said.SENT
            code = await self._ask("POST", "/v1/images", headers=headers)
            if code:
                record.created = record.filled = _said(code)
        else:
            record = self._new(len(ELSEWHERE), "v2 location", by_location=True)
            if not await self._create(record):
                return
            steps = [{"op": "add", "path": "/locations/-",
                      "value": {"url": self._origin, "metadata": {}}}]  # fmt: skip
            record.filled = Said.SENT
            code = await self._ask("PATCH", f"/v2/images/{record.id}", data=json.dumps(steps),
                                   headers={"Content-Type": _V21})  # fmt: skip
            if code:
                record.filled = _said(code)
        record.code = code
        self._count("register", code)

    async def _delete_later(self, record: Record, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._delete(record)

    async def _delete(self, record: Record) -> None:
        before, record.deleted = record.deleted, Said.SENT
        code = await self._ask("DELETE", f"/v2/images/{record.id}")
        if code == 404:  # not made yet, or another one's delete came first
            record.deleted = before if before is not Said.NOTHING else Said.SENT
        elif code:
            record.deleted = _said(code)
        self._count("delete", code)

    async def _read(self, record: Record) -> None:
        deleted = record.deleted
        try:
            async with self._session.get(f"{self._url}/v2/images/{record.id}/file") as answer:
                body = await answer.read()
                code = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            self._count("read", 0)
            return
        self._count("read", code)
        wrong = code == 200 and hashlib.sha256(body).hexdigest() != self.expected(record)
        missing = code != 200 and deleted is Said.NOTHING and record.deleted is Said.NOTHING
        if wrong or missing:
            self.strange.append(f"reading {record.id} gave {code} with {len(body)} bytes")

    def expected(self, record: Record) -> str:
        if record.by_location:
            return hashlib.sha256(ELSEWHERE).hexdigest()
        return record.sha256

    # how it does it

    def _new(self, size: int, way: str, *, by_location: bool = False) -> Record:
        found = str(UUID(int=self._rng.getrandbits(128), version=4))
        record = Record(found, size, way, by_location, seed=self._rng.getrandbits(40))
        self.records[record.id] = record
        return record

    async def _ask(self, method: str, path: str, **options: Any) -> int:
        """The status of the answer; 0: there was none."""
        try:
            async with self._session.request(method, self._url + path, **options) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0

    async def _body(self, record: Record, seconds: float) -> AsyncIterator[bytes]:
        parts = pieces(record.seed, record.size)
        for piece in parts:
            yield bytes(piece)
            if seconds:
                await asyncio.sleep(seconds / len(parts))

    def _count(self, what: str, code: int) -> None:
        name = f"{what} {code or 'cut'}"
        self.outcomes[name] = self.outcomes.get(name, 0) + 1


def _said(code: int) -> Said:
    return Said.DONE if code < 300 else Said.REFUSED


ELSEWHERE = bytes(pieces(99, 100_000)[1])
"""What lies behind the registered URL."""


@asynccontextmanager
async def origin() -> AsyncIterator[str]:
    """The URL of bytes on another server."""

    async def serve(request: web.Request) -> web.Response:
        return web.Response(body=ELSEWHERE)

    app = web.Application()
    app.router.add_get("/image.raw", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/image.raw"
    await runner.cleanup()
