"""A client of the Image API for the command line: bytes both ways, checked both ways."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, BinaryIO
from urllib.parse import quote

import aiohttp

CHUNK = 2**20
TRIES = 5
"""How often a broken download is taken up again without one byte of progress."""

Progress = Callable[[int], None]
"""Told how many bytes moved."""


class ClientError(Exception):
    """What the server said, or why it could not be asked; one line for a person."""


class Client:
    """One server. ``token`` is sent as ``X-Auth-Token`` if there is one."""

    def __init__(self, url: str, token: str = "") -> None:
        self._url = url.rstrip("/")
        self._headers = {"Accept": "application/json"}
        if token:
            self._headers["X-Auth-Token"] = token
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Client":
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=300),
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *failure: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._json("POST", "/v2/images", body)

    async def show(self, image_id: str) -> dict[str, Any]:
        return await self._json("GET", f"/v2/images/{quote(image_id, safe='')}")

    async def delete(self, image_id: str) -> None:
        async with self._request("DELETE", f"/v2/images/{image_id}"):
            pass

    async def change(self, image_id: str, operations: list[dict[str, Any]]) -> dict[str, Any]:
        return await self._json(
            "PATCH",
            f"/v2/images/{image_id}",
            operations,
            media_type="application/openstack-images-v2.1-json-patch",
        )

    async def register(self, url: str, headers: Mapping[str, str]) -> dict[str, Any]:
        """A new image whose bytes lie at ``url``."""
        given = {**headers, "x-image-meta-location": url}
        async with self._request("POST", "/v1/images", headers=given) as response:
            answer = await response.json()
        return await self.show(answer["image"]["id"])

    async def list(self, query: Mapping[str, str], *, limit: int) -> list[dict[str, Any]]:
        """At most ``limit`` images, over as many pages as it takes."""
        found: list[dict[str, Any]] = []
        path: str | None = "/v2/images"
        parameters: Mapping[str, str] | None = {**query, "limit": str(min(limit, 1000))}
        while path is not None and len(found) < limit:
            async with self._request("GET", path, params=parameters) as response:
                page = await response.json()
            found += page["images"]
            path, parameters = page.get("next"), None
        return found[:limit]

    async def find(self, name_or_id: str) -> dict[str, Any]:
        """An image by its id, or else by its name, if that is one image's alone."""
        try:
            return await self.show(name_or_id)
        except ClientError as error:
            named = await self.list({"name": f"eq:{name_or_id}"}, limit=2)
            if not named:
                raise ClientError(f"there is no image {name_or_id!r}") from error
            if len(named) > 1:
                raise ClientError(f"{name_or_id!r} names more than one image; use its id") from None
            return named[0]

    async def upload(
        self, image_id: str, source: BinaryIO, size: int | None, progress: Progress, first: bytes
    ) -> dict[str, Any]:
        """Send ``first`` and then the rest of ``source`` (``size`` bytes in all; None: to its
        end), and see that the server hashed the same bytes."""
        digests = _Digests()
        headers = {"Content-Type": "application/octet-stream", "Expect": "100-continue"}
        if size is not None:
            headers["Content-Length"] = str(size)
        path = f"/v2/images/{image_id}/file"
        body = _read(source, digests, progress, first)
        try:
            async with self._request("PUT", path, headers=headers, data=body):
                pass
        except ClientError as error:
            raise ClientError(await self._why(image_id, str(error))) from error
        image = await self.show(image_id)
        digests.compare(image)
        return image

    async def download(
        self, image: Mapping[str, Any], target: BinaryIO, progress: Progress
    ) -> None:
        """All of an image's bytes, taken up again where a connection breaks, and checked."""
        digests = _Digests()
        done, failures, etag = 0, 0, ""
        while True:
            before = done
            try:
                async with self._data(image["id"], done, etag) as response:
                    if response.status == 204:
                        raise ClientError(f"image {image['id']} has no data yet")
                    if done and response.status != 206:
                        raise ClientError("the image changed while it was read")
                    etag = response.headers.get("ETag", "")
                    async for chunk in response.content.iter_chunked(CHUNK):
                        await asyncio.to_thread(_write, target, chunk, digests)
                        done += len(chunk)
                        progress(len(chunk))
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                failures = 1 if done > before else failures + 1
                if failures > TRIES or not etag:
                    raise ClientError(f"the download broke off: {error}") from error
                await asyncio.sleep(0.2 * 2**failures)
            else:
                break
        digests.compare(image)

    @asynccontextmanager
    async def _data(
        self, image_id: str, start: int, etag: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Range": f"bytes={start}-", "If-Range": etag} if start else {}
        async with self._request("GET", f"/v2/images/{image_id}/file", headers=headers) as found:
            yield found

    async def _why(self, image_id: str, said: str) -> str:
        """What the server recorded of the failed upload, where it could not say it."""
        try:
            uploads = await self._json("GET", f"/v2/images/{image_id}/uploads")
        except ClientError:
            return said
        failure = uploads["uploads"][-1]["failure"] if uploads["uploads"] else None
        if failure is None:
            return said
        return (
            f"the upload broke at {failure['where']} after {failure['bytes_received']} bytes: "
            f"{failure['message']}"
        )

    async def _json(
        self, method: str, path: str, body: Any = None, *, media_type: str = "application/json"
    ) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": media_type}
        async with self._request(method, path, data=data, headers=headers) as response:
            answer: dict[str, Any] = await response.json()
            return answer

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None
        try:
            async with self._session.request(method, self._url + path, **options) as response:
                if response.status >= 400:
                    raise ClientError(await _said(response))
                yield response
        except aiohttp.ClientConnectorError as error:
            raise ClientError(f"no server answers at {self._url}: {error.strerror}") from error
        except aiohttp.InvalidURL as error:
            raise ClientError(f"{self._url} is not a URL of a server") from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if method == "GET":
                raise  # a download is taken up again
            raise ClientError(f"the connection broke: {error}") from error


class _Digests:
    """What the catalog keeps by default, of the bytes that passed here."""

    def __init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha512 = hashlib.sha512()

    def update(self, data: bytes) -> None:
        self._md5.update(data)
        self._sha512.update(data)

    def compare(self, image: Mapping[str, Any]) -> None:
        pairs = [("md5", image.get("checksum"), self._md5.hexdigest())]
        if image.get("os_hash_algo") == "sha512":
            pairs.append(("sha512", image.get("os_hash_value"), self._sha512.hexdigest()))
        for name, theirs, ours in pairs:
            if theirs is not None and theirs != ours:
                raise ClientError(f"the {name} digests differ: {theirs} there, {ours} here")


async def _read(
    source: BinaryIO, digests: _Digests, progress: Progress, first: bytes
) -> AsyncIterator[bytes]:
    def step() -> bytes:
        data = source.read(CHUNK)
        digests.update(data)
        return data

    digests.update(first)
    chunk = first
    while chunk:
        yield chunk
        progress(len(chunk))
        chunk = await asyncio.to_thread(step)


def _write(target: BinaryIO, chunk: bytes, digests: _Digests) -> None:
    target.write(chunk)
    digests.update(chunk)


async def _said(response: aiohttp.ClientResponse) -> str:
    try:
        answer = json.loads(await response.text())
        return f"{response.status}: {answer['error']['message']}"
    except (ValueError, KeyError, TypeError, aiohttp.ClientError):
        return f"the server answered {response.status}"
