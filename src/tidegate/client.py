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

    async def act(self, image_id: str, action: str) -> None:
        """``deactivate`` or ``reactivate``."""
        async with self._request("POST", f"/v2/images/{image_id}/actions/{action}"):
            pass

    async def register(self, url: str, headers: Mapping[str, str]) -> dict[str, Any]:
        """A new image whose bytes lie at ``url``."""
        given = {**headers, "x-image-meta-location": url}
        async with self._request("POST", "/v1/images", headers=given) as response:
            image_id = str(_member(_member(await _answer(response), "image"), "id"))
        return await self.show(image_id)

    async def list(self, query: Mapping[str, str], *, limit: int) -> list[dict[str, Any]]:
        """At most ``limit`` images, over as many pages as it takes."""
        found: list[dict[str, Any]] = []
        path: str | None = "/v2/images"
        parameters: Mapping[str, str] | None = {**query, "limit": str(min(limit, 1000))}
        while path is not None and len(found) < limit:
            async with self._request("GET", path, params=parameters) as response:
                page = await _answer(response)
            found += _member(page, "images")
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
        body = _Body(source, size, first, digests, progress)
        try:
            async with self._request("PUT", path, headers=headers, data=body.chunks()):
                pass
        except ClientError as error:
            said = body.problem or await self._why(image_id, str(error))
            raise ClientError(said) from error
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
            except (aiohttp.ClientError, TimeoutError) as error:
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
        async with self._asked("GET", f"/v2/images/{image_id}/file", headers=headers) as found:
            yield found

    async def _why(self, image_id: str, said: str) -> str:
        """What the server recorded of the failed upload, where it could not say it."""
        try:
            uploads = await self._json("GET", f"/v2/images/{image_id}/uploads")
            failure = uploads["uploads"][-1]["failure"]
            return (
                f"the upload broke at {failure['where']} after {failure['bytes_received']} bytes: "
                f"{failure['message']}"
            )
        except (ClientError, LookupError, TypeError):
            return said

    async def _json(
        self, method: str, path: str, body: Any = None, *, media_type: str = "application/json"
    ) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"Content-Type": media_type}
        async with self._request(method, path, data=data, headers=headers) as response:
            return await _answer(response)

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """ClientError, whatever goes wrong."""
        try:
            async with self._asked(method, path, **options) as response:
                yield response
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise ClientError(f"the connection broke: {error}") from error
        except TimeoutError as error:
            raise ClientError(f"the server at {self._url} does not answer") from error
        except aiohttp.ClientError as error:
            raise _no_image_server(self._url) from error

    @asynccontextmanager
    async def _asked(
        self, method: str, path: str, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """ClientError where the server refuses or there is none; aiohttp's where it breaks off."""
        assert self._session is not None
        try:
            # a redirect could carry the token elsewhere
            async with self._session.request(
                method, self._url + path, allow_redirects=False, **options
            ) as response:
                if response.status >= 300:
                    raise ClientError(await _said(response))
                yield response
        except aiohttp.ClientConnectorError as error:
            raise ClientError(f"no server answers at {self._url}: {error.strerror}") from error
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise ClientError(f"{self._url} is not a URL of a server") from error


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


class _Body:
    """What is sent of a source: ``first`` and the rest, ``size`` bytes of it in all (None: to its
    end). ``problem`` says why it could not go on."""

    def __init__(
        self,
        source: BinaryIO,
        size: int | None,
        first: bytes,
        digests: _Digests,
        progress: Progress,
    ) -> None:
        self._source = source
        self._first = first
        self._left = size
        self._digests = digests
        self._progress = progress
        self.problem = ""

    async def chunks(self) -> AsyncIterator[bytes]:
        chunk = self._hashed(self._first)
        while chunk:
            yield chunk
            self._progress(len(chunk))
            chunk = await asyncio.to_thread(self._read)
        if self._left:
            self.problem = f"the source ended {self._left} bytes before its size"
            raise OSError(self.problem)

    def _read(self) -> bytes:
        try:
            return self._hashed(self._source.read(CHUNK))
        except OSError as error:
            self.problem = f"the source cannot be read: {error.strerror}"
            raise

    def _hashed(self, data: bytes) -> bytes:
        if self._left is not None:
            data = data[: self._left]  # it may have grown
            self._left -= len(data)
        self._digests.update(data)
        return data


def _write(target: BinaryIO, chunk: bytes, digests: _Digests) -> None:
    target.write(chunk)
    digests.update(chunk)


async def _answer(response: aiohttp.ClientResponse) -> dict[str, Any]:
    try:
        answer = json.loads(await response.read())
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise _no_image_server(str(response.url.origin()))
    return answer


def _member(answer: Any, name: str) -> Any:
    if not isinstance(answer, dict) or name not in answer:
        raise ClientError(f"the server's answer has no {name!r}; is it an image server?")
    return answer[name]


def _no_image_server(url: str) -> ClientError:
    return ClientError(f"what answers at {url} cannot be understood; is it an image server?")


async def _said(response: aiohttp.ClientResponse) -> str:
    try:
        answer = json.loads(await response.text())
        return f"{response.status}: {answer['error']['message']}"
    except (ValueError, KeyError, TypeError, aiohttp.ClientError):
        return f"the server answered {response.status}"
