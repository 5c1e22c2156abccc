"""Whole objects to addresses that the operator allowed: one PUT each, of a length said before.

The operator vouches for the host, so that it may be a private one. No redirect is followed, no
proxy of the environment asked, and nothing of the answer but its status read.
"""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
from yarl import URL

from tidegate.domain.errors import TargetBroke, TargetRefused
from tidegate.telemetry import log

_HEADERS = {"User-Agent": "tidegate", "Content-Type": "application/octet-stream"}


class HttpPut:
    """``timeout`` is seconds for a connection, for the target to take a block, and for its
    answer."""

    def __init__(self, *, timeout: float) -> None:
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(
            # a connection that was used before might break, and be tried again with half a body
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._timeout),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def put(self, url: str, size: int, blocks: AsyncIterator[bytes]) -> None:
        """``blocks`` are ``size`` bytes, for which no time counts; where they end early, so does
        the request, incomplete. TargetBroke: another time it may go well; TargetRefused."""
        assert self._session is not None
        loop = asyncio.get_running_loop()
        whole = False

        async def body() -> AsyncIterator[bytes]:
            nonlocal whole
            deadline.reschedule(None)
            async for block in blocks:
                deadline.reschedule(loop.time() + self._timeout)
                yield block
                deadline.reschedule(None)
            deadline.reschedule(loop.time() + self._timeout)
            whole = True

        headers = {**_HEADERS, "Content-Length": str(size)}
        try:
            async with (
                asyncio.timeout(self._timeout) as deadline,
                self._session.put(
                    URL(url, encoded=True), data=body(), headers=headers, allow_redirects=False
                ) as response,
            ):
                status = response.status
                response.close()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.info("target broke off", host=URL(url).host, error=type(error).__name__)
            raise TargetBroke(_words(error)) from error
        _judge(status, whole=whole)


def _judge(status: int, *, whole: bool) -> None:
    if 200 <= status < 300:
        if not whole:
            raise TargetBroke(f"The target answered {status} before it had all of the data.")
    elif 300 <= status < 400:
        raise TargetRefused(f"The target answered {status}; redirects are not followed.")
    elif status < 500:
        raise TargetRefused(f"The target answered {status}.")
    else:
        raise TargetBroke(f"The target answered {status}.")


def _words(error: BaseException) -> str:
    """Without addresses, or anything that a peer wrote."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "The target's certificate is not one that is trusted."
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return "The target cannot be reached."
    if isinstance(error, TimeoutError):
        return "The target takes too long."
    return "The target broke off."
