"""A whole gateway in this process, over real sockets."""

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from tidegate.api import keys
from tidegate.api.server import HttpServer
from tidegate.app import gateway
from tidegate.identity.base import Identity
from tidegate.settings import HttpStore as HttpSettings
from tidegate.settings import Settings
from tidegate.stores.base import Store
from tidegate.stores.fetch import Fetcher
from tidegate.stores.http import HttpStore

V21 = "application/openstack-images-v2.1-json-patch"
V20 = "application/openstack-images-v2.0-json-patch"
DATA = "application/octet-stream"
ABSENT = "00000000-0000-4000-8000-000000000000"
"""The id of nothing."""


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """Of an error."""
        error = self.json["error"]
        assert error["code"] == self.status
        assert error["request_id"] == self.headers["x-openstack-request-id"]
        message: str = error["message"]
        return message


@dataclass
class Gateway:
    """A running gateway, and the shortest way to ask it."""

    app: web.Application
    port: int
    session: aiohttp.ClientSession
    store: Store

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def ask(
        self,
        method: str,
        path: str,
        *,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Answer:
        async with self.session.request(
            method, self.url + path, data=data, headers=headers, allow_redirects=False, **options
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def create(self, **fields: Any) -> str:
        """A queued image; its id."""
        body = {"disk_format": "raw", "container_format": "bare", **fields}
        answer = await self.ask("POST", "/v2/images", json=body)
        assert answer.status == 201, answer.body
        image_id: str = answer.json["id"]
        return image_id

    async def put(
        self,
        image_id: str,
        data: Any,
        headers: Mapping[str, str] | None = None,
        *,
        path: str = "file",
    ) -> Answer:
        return await self.ask(
            "PUT",
            f"/v2/images/{image_id}/{path}",
            data=io.BytesIO(data) if isinstance(data, bytes) else data,
            headers={"Content-Type": DATA, **(headers or {})},
        )

    async def active(self, data: bytes, **fields: Any) -> str:
        """An image with these bytes; its id."""
        image_id = await self.create(**fields)
        answer = await self.put(image_id, data)
        assert answer.status == 204, answer.body
        return image_id

    async def show(self, image_id: str) -> dict[str, Any]:
        answer = await self.ask("GET", f"/v2/images/{image_id}")
        assert answer.status == 200, answer.body
        image: dict[str, Any] = answer.json
        return image

    async def patch(
        self, image_id: str, *operations: dict[str, Any], media_type: str = V21
    ) -> Answer:
        return await self.ask(
            "PATCH",
            f"/v2/images/{image_id}",
            data=json.dumps(operations),
            headers={"Content-Type": media_type},
        )

    async def failure(self, image_id: str) -> dict[str, Any]:
        """The record of the last attempt's failure."""
        answer = await self.ask("GET", f"/v2/images/{image_id}/uploads")
        found: dict[str, Any] = answer.json["uploads"][-1]["failure"]
        return found


@asynccontextmanager
async def running(
    store: Store,
    folder: Path,
    *,
    identity: Identity | None = None,
    others: Sequence[Store] = (),
    look_at_once: bool = False,
    **sections: Any,
) -> AsyncIterator[Gateway]:
    """A gateway on one store (the caller's, open already) and a catalog in ``folder``; who calls
    is found by ``identity`` (None: as configured). ``others`` are more stores, beside the one that
    is the default. Most tests leave nothing for the jobs to find, so that these need not look at
    each start."""
    settings = Settings.model_validate(
        {
            "catalog": {"url": f"sqlite:///{folder / 'tidegate.db'}"},
            "stores": [{"type": "filesystem", "id": store.id, "path": str(folder / "unused")}],
            "locations": {"show": True},
            "fetch": {"allow": ["127.0.0.1"]},
            "server": {"drain_timeout": "1s"},
            **sections,
        }
    )
    fetcher = Fetcher(settings.fetch, timeout=5)
    await fetcher.open()
    remote = HttpStore(HttpSettings(type="http"), fetcher)
    stores = {one.id: one for one in (store, *others, remote)}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with (
            gateway(settings, stores, look_at_once=look_at_once) as app,
            aiohttp.ClientSession(auto_decompress=False) as session,
        ):
            if identity is not None:
                app[keys.IDENTITY] = identity
            server = HttpServer(app, drain_timeout=1)
            await server.start(listener)
            yield Gateway(app, listener.getsockname()[1], session, store)
            await session.close()
            await server.stop()
    await fetcher.close()


async def raw(port: int, *pieces: bytes, end: bool = False, until: bytes = b"") -> bytes:
    """Send these bytes as they are and read until the server closes, or ``until`` has come (a
    server that refused a body waits a while for the rest of it before it closes)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if end:
            writer.write_eof()
        async with asyncio.timeout(20):
            return await (reader.readuntil(until) if until else reader.read())
    finally:
        writer.close()
