"""The one place that opens connections to addresses chosen by users.

A URL is refused unless it is plainly harmless: http or https, a public address, port 80 or 443.
Names are judged by the address that is really connected to, at each connection and each redirect,
so that neither a name server nor a redirect leads inside. ``[fetch] allow`` names the exceptions:
host names, or networks.
"""

import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from yarl import URL

from tidegate.domain.errors import LocationRefused, ObjectMissing, StoreDown
from tidegate.settings import Fetch as FetchSettings
from tidegate.telemetry import log

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL = 2048
MAX_REDIRECTS = 3
_REDIRECTS = {301, 302, 303, 307, 308}
_PORTS = {80, 443}
_UNSAFE = re.compile(r"[^\x21-\x5b\x5d-\x7e]")
_HEADERS = {"User-Agent": "tidegate", "Accept": "*/*", "Accept-Encoding": "identity"}
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_SITE_LOCAL = ipaddress.IPv6Network("fec0::/10")
_BROKEN = (aiohttp.ClientError, TimeoutError, OSError, ValueError)

UNREACHABLE = "the source is not reachable"


def is_public(address: Address) -> bool:
    """Whether everybody on the internet may know this address, after unwrapping what hides an
    IPv4 address in an IPv6 one (RFC 4291, 6052, 3056, 4380)."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _inner(address)
        if any(not is_public(hidden) for hidden in inner):
            return False
        if address in _SITE_LOCAL:
            return False
        if address.ipv4_mapped is not None or address in _NAT64:
            return True  # what they hide was judged above
    return address.is_global and not address.is_multicast and not address.is_unspecified


def _inner(address: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or address in _COMPATIBLE:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [hidden for hidden in found if hidden is not None]


_MAY_BE_ALLOWED = ", unless whoever runs this server allows it by fetch.allow."


class Fetcher:
    """``timeout`` is seconds for a connection, and for each silence of the source."""

    def __init__(self, settings: FetchSettings, *, timeout: float) -> None:
        self._names, self._networks = _exceptions(settings.allow)
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=timeout, sock_read=timeout, connect=timeout
        )
        self._guarded: aiohttp.ClientSession | None = None
        self._named: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        self._guarded = self._session(self._socket)
        self._named = self._session(None)

    async def close(self) -> None:
        for session in (self._guarded, self._named):
            if session is not None:
                await session.close()

    def check(self, text: str) -> URL:
        """What can be judged without a connection. LocationRefused never repeats the URL."""
        if len(text) > MAX_URL or _UNSAFE.search(text):
            raise LocationRefused(
                "The URL is too long or holds characters that it may not: "
                "white space, controls, backslashes, or anything but ASCII."
            )
        try:
            url = URL(text)
            host, port = url.host, url.port
        except ValueError:
            raise LocationRefused("The URL cannot be read.") from None
        if url.scheme not in ("http", "https"):
            raise LocationRefused(
                "External sources are not supported but by http and https: "
                f"{url.scheme[:20] or 'no scheme'} is refused."
            )
        # the parser does not tell an empty user from none
        authority = re.split(r"[/?#]", text.partition("://")[2], maxsplit=1)[0]
        if not host or "%" in host or "@" in authority:
            raise LocationRefused("The URL must have a host, and no user, password or zone.")
        if url.raw_fragment or "#" in text:
            raise LocationRefused("The URL must have no fragment.")
        self._check_place(host, port)
        return url

    @asynccontextmanager
    async def request(
        self,
        store: str,
        method: str,
        text: str,
        headers: Mapping[str, str] | None = None,
        secret: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer of the source, after at most three redirects, each judged like the first;
        ``secret`` are headers that no redirect takes along.

        LocationRefused, ObjectMissing (404, 410), StoreDown: whatever else is wrong, in the same
        words, so that nobody can map a network with them; the log says more.
        """
        url = self.check(text)
        sent = {**_HEADERS, **(headers or {}), **(secret or {})}
        for _ in range(MAX_REDIRECTS + 1):
            try:
                session = self._session_for(url)
                async with session.request(
                    method, url, headers=sent, allow_redirects=False
                ) as response:
                    if response.status not in _REDIRECTS:
                        _judge(store, response.status)
                        yield response
                        return
                    url = self._follow(store, url, response)
                    sent = {**_HEADERS, **(headers or {})}
            except _BROKEN as error:
                log.info("source not reachable", store=store, host=url.host,
                         error=type(error).__name__)  # fmt: skip
                raise StoreDown(store, UNREACHABLE) from error
        raise StoreDown(store, UNREACHABLE)

    def _follow(self, store: str, url: URL, response: aiohttp.ClientResponse) -> URL:
        target = response.headers.get("Location", "")
        try:
            if _UNSAFE.search(target):  # before the parser mends it
                raise LocationRefused("The redirect's target holds characters that it may not.")
            next_url = self.check(str(url.join(URL(target))))
        except LocationRefused as error:
            log.info("redirect refused", store=store, host=url.host, error=error.message)
            raise StoreDown(store, UNREACHABLE) from error
        if url.scheme == "https" and next_url.scheme != "https":
            raise StoreDown(store, UNREACHABLE)
        return next_url

    def _check_place(self, host: str, port: int | None) -> None:
        if host.lower().rstrip(".") in self._names:
            return
        address = _address(host)
        if address is not None:
            if not self._open_to(address, port):
                raise LocationRefused(
                    f"The URL's address or port may not be reached from here{_MAY_BE_ALLOWED}"
                )
        elif port not in _PORTS and not self._networks:
            raise LocationRefused(
                f"The URL's port may not be reached from here; use 80 or 443{_MAY_BE_ALLOWED}"
            )

    def _open_to(self, address: Address, port: int | None) -> bool:
        if any(address in network for network in self._networks):
            return True
        return is_public(address) and port in _PORTS

    def _session_for(self, url: URL) -> aiohttp.ClientSession:
        session = self._named if (url.host or "").rstrip(".") in self._names else self._guarded
        assert session is not None
        return session

    def _session(self, socket_factory: Any) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, use_dns_cache=False, socket_factory=socket_factory
            ),
            timeout=self._timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    def _socket(self, info: Any) -> socket.socket:
        """Called with the very address that will be connected to."""
        family, kind, protocol, _, place = info
        if not self._open_to(ipaddress.ip_address(place[0].partition("%")[0]), place[1]):
            raise OSError("the address is not allowed")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


def _address(host: str) -> Address | None:
    """The address that a host is, also in the shortened and numeric forms that resolvers take."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _exceptions(allow: Iterable[str]) -> tuple[frozenset[str], tuple[Network, ...]]:
    names: set[str] = set()
    networks: list[Network] = []
    for entry in filter(lambda entry: entry.strip("."), allow):
        try:
            networks.append(ipaddress.ip_network(entry, strict=False))
        except ValueError:
            names.add(entry.lower().rstrip("."))
    return frozenset(names), tuple(networks)


def _judge(store: str, status: int) -> None:
    if status in (404, 410):
        raise ObjectMissing(store, UNREACHABLE)
    if status not in (200, 206):
        log.info("source refused", store=store, status=status)
        raise StoreDown(store, UNREACHABLE)
