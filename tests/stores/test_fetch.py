"""What a registered URL may lead to: plainly public places, and what was allowed by name.

``SEC-nn`` are the rules of the security specification, ``S20`` and on its attacks.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from tests.kit.keystone_fake import self_signed
from yarl import URL

from tidegate.domain.errors import LocationRefused, ObjectMissing, StoreDown
from tidegate.settings import Fetch
from tidegate.stores.fetch import MAX_REDIRECTS, MAX_URL, UNREACHABLE, Fetcher, is_public

STORE = "http"

LOOPBACK_NAMES = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f.1", "0x7f000001", "017700000001",
    "0177.0.0.1", "0.0.0.0", "0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::7f00:1]",
    "127.0.0.1.", "localhost.", "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021",
    "\u2460\u2461\u2466.0.0.1",
]  # fmt: skip
"""Ways to write this machine (S20, S23)."""

PRIVATE = [
    "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "169.254.169.254", "100.64.0.1",
    "100.127.255.254", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
    "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "0.1.2.3", "[fd00::1]",
    "[fc00::1]", "[fe80::1]", "[fec0::1]", "[ff02::1]", "[::]", "[2001:db8::1]",
    "[::ffff:10.0.0.1]", "[64:ff9b::a00:1]", "[64:ff9b::a9fe:a9fe]", "[2002:a00:1::1]",
    "[2002:a9fe:a9fe::]", "[::a00:1]", "[2001:0:a00:1::]", "[fd00:ec2::254]", "0xa9fea9fe",
    "2852039166",
]  # fmt: skip

PUBLIC = ["8.8.8.8", "1.1.1.1", "[2001:4860:4860::8888]", "[64:ff9b::808:808]", "[::ffff:8.8.8.8]"]


class Listener:
    """A server on this machine that counts the connections that come."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()

    @asynccontextmanager
    async def running(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator["Listener"]:
        server = await asyncio.start_server(self._take, host, port)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    async with Listener().running() as found:
        yield found


@asynccontextmanager
async def fetching(*allow: str) -> AsyncIterator[Fetcher]:
    fetcher = Fetcher(Fetch(allow=allow), timeout=0.5)
    await fetcher.open()
    try:
        yield fetcher
    finally:
        await fetcher.close()


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    """Nothing is allowed but what is public."""
    async with fetching() as found:
        yield found


async def get(fetcher: Fetcher, url: str, **headers: str) -> bytes:
    async with fetcher.request(STORE, "GET", url, headers) as response:
        return await response.read()


class Names(AbstractResolver):
    """A name server that answers each question with the next address of the name's."""

    def __init__(self, **names: list[str]) -> None:
        self.names = names
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        answers = self.names.get(host.partition(".")[0].lower())
        if answers is None:
            raise OSError(None, "no such name")
        address = answers.pop(0) if len(answers) > 1 else answers[0]
        version = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=version, proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
        ]  # fmt: skip

    async def close(self) -> None: ...


@contextmanager
def names(monkeypatch: pytest.MonkeyPatch, **known: list[str]) -> Iterator[Names]:
    """The only names that anybody can look up."""
    resolver = Names(**known)
    with monkeypatch.context() as patch:
        patch.setattr("aiohttp.connector.DefaultResolver", lambda *_, **__: resolver)
        yield resolver


# addresses (SEC-12)


@pytest.mark.parametrize("address", [host.strip("[]") for host in PUBLIC])
def test_a_public_address_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", [host.strip("[]") for host in PRIVATE if not host.startswith(("0x", "2852"))]
)
def test_sec_12_an_address_that_not_everybody_may_know_is_not(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("host", PUBLIC)
def test_a_url_of_a_public_address_is_fine(fetcher: Fetcher, host: str) -> None:
    assert str(fetcher.check(f"http://{host}/image.raw")).endswith("/image.raw")
    assert fetcher.check(f"https://{host}/image.raw").port == 443


@pytest.mark.parametrize("host", PRIVATE)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_s20_s23_a_private_address_is_refused_before_any_connection(
    fetcher: Fetcher, scheme: str, host: str
) -> None:
    with pytest.raises(LocationRefused):
        fetcher.check(f"{scheme}://{host}/latest/meta-data/")


@pytest.mark.parametrize("host", LOOPBACK_NAMES)
async def test_s20_this_machine_is_not_reached_under_any_of_its_names(
    listener: Listener, host: str
) -> None:
    # every port may be tried here, so that the address alone decides
    async with fetching("192.0.2.0/24") as fetcher:
        with pytest.raises((LocationRefused, StoreDown)):
            await get(fetcher, f"http://{host}:{listener.port}/")
    assert listener.connections == 0


@pytest.mark.parametrize(
    "place",
    [
        "8.8.8.8@127.0.0.1:{port}",
        "user:password@127.0.0.1:{port}",
        "8.8.8.8#@127.0.0.1:{port}",
        "8.8.8.8\\@127.0.0.1:{port}",
        "8.8.8.8%23@127.0.0.1:{port}",
        "8.8.8.8 @127.0.0.1:{port}",
        "127.0.0.1:{port}%2f@8.8.8.8",
        "127.0.0.1\t:{port}",
        "127.0.0.1\r\n.evil:{port}",
        "127.0.0.1%00.evil:{port}",
        "[::1%25lo]:{port}",
        "[fe80::1%25eth0]:80",
    ],
)
async def test_s20_a_url_that_two_parsers_read_differently_is_refused(
    listener: Listener, place: str
) -> None:
    async with fetching("192.0.2.0/24") as fetcher:
        with pytest.raises((LocationRefused, StoreDown)):
            await get(fetcher, f"http://{place.format(port=listener.port)}/")
    assert listener.connections == 0


# forms (SEC-10, SEC-13, SEC-16, SEC-17)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "FILE:///etc/passwd", "file:/etc/passwd", " file:///etc/passwd",
     "filesystem:///etc/passwd", "http+unix://%2frun%2fdocker.sock/x", "gopher://8.8.8.8/x",
     "ftp://8.8.8.8/x", "data:text/plain,x", "s3://bucket/key", "s3+https://a:b@8.8.8.8/b/k",
     "swift://a:b@8.8.8.8/c/o", "swift+config://ref/c/o", "rbd://a/b/c/d", "cinder://x",
     "vsphere://8.8.8.8/x", "ws://8.8.8.8/", "javascript:alert(1)", "//8.8.8.8/x", "/etc/passwd",
     "8.8.8.8/x", "", "http", "http:", "http://", "http:///x", "https://:443/", "http:8.8.8.8",
     "view-source:http://8.8.8.8/"],
)  # fmt: skip
def test_sec_10_17_only_http_and_https_with_a_host(fetcher: Fetcher, url: str) -> None:
    with pytest.raises(LocationRefused):
        fetcher.check(url)


@pytest.mark.parametrize(
    "character", ["\t", "\n", "\r", " ", "\0", "\x7f", "\\", "\u00e9", "\ud800"]
)
@pytest.mark.parametrize("where", ["http://8.8.8.8/a{}b", "http://8.8.{}8.8/", "{}http://8.8.8.8/"])
def test_sec_13_no_character_that_a_parser_may_drop(
    fetcher: Fetcher, where: str, character: str
) -> None:
    with pytest.raises(LocationRefused):
        fetcher.check(where.format(character))


@pytest.mark.parametrize(
    "url",
    ["http://user@8.8.8.8/", "http://user:pw@8.8.8.8/", "http://:pw@8.8.8.8/", "http://@8.8.8.8/",
     "http://8.8.8.8/#", "http://8.8.8.8/#x"],
)  # fmt: skip
def test_sec_16_no_user_and_no_fragment(fetcher: Fetcher, url: str) -> None:
    with pytest.raises(LocationRefused):
        fetcher.check(url)


def test_sec_13_a_url_has_an_end(fetcher: Fetcher) -> None:
    start = "http://8.8.8.8/"
    fetcher.check(start + "x" * (MAX_URL - len(start)))
    with pytest.raises(LocationRefused):
        fetcher.check(start + "x" * (MAX_URL - len(start) + 1))


@pytest.mark.parametrize(
    "port", ["0", "1", "22", "79", "81", "442", "8080", "65535", "65536", "-1", "x"]
)
@pytest.mark.parametrize("host", ["8.8.8.8", "mirror.example", "[2001:4860:4860::8888]"])
def test_sec_15_no_other_ports(fetcher: Fetcher, host: str, port: str) -> None:
    with pytest.raises(LocationRefused):
        fetcher.check(f"http://{host}:{port}/")


@pytest.mark.parametrize("url", ["http://h.example/", "https://h.example/", "http://h.example:443/",
                                 "https://h.example:80/", "http://h.example:/"])  # fmt: skip
def test_sec_15_the_ports_of_the_web(fetcher: Fetcher, url: str) -> None:
    assert fetcher.check(url).port in (80, 443)


@pytest.mark.parametrize(
    "url", ["http://user:s3cr3t@8.8.8.8/", "http://10.0.0.1/s3cr3t", "ftp://8.8.8.8/s3cr3t",
            "http://8.8.8.8:81/s3cr3t", "http://s3cr3t\\@8.8.8.8/"]
)  # fmt: skip
def test_s26_a_refusal_repeats_nothing_of_the_url(fetcher: Fetcher, url: str) -> None:
    with pytest.raises(LocationRefused) as refused:
        fetcher.check(url)
    assert "s3cr3t" not in refused.value.message
    assert "8.8.8.8" not in refused.value.message


# names: the address that is connected to decides (SEC-12, S22)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1"])
async def test_a_name_of_a_private_address_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    with names(monkeypatch, inner=[address]):
        async with fetching() as fetcher:
            assert fetcher.check("http://inner.example/")
            with pytest.raises(StoreDown, match=UNREACHABLE):
                await get(fetcher, "http://inner.example/")


# redirects (SEC-14, S21)


class Site:
    """A server that redirects; ``seen`` are the paths that were asked for."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.headers: list[Any] = []
        self.target = ""
        self.status = 302
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append(request.path)
        self.headers.append(request.headers.copy())
        step = request.path.strip("/")
        if step.isdigit() and int(step) > 0:
            return web.Response(status=302, headers={"Location": f"/{int(step) - 1}"})
        if step == "away":
            headers = {"Location": self.target} if self.target else {}
            return web.Response(status=self.status, headers=headers)
        if step.startswith("status-"):
            return web.Response(status=int(step[7:]), text="an inner secret")
        return web.Response(text="bytes")


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    app = web.Application()
    app.router.add_get("/{path:.*}", site.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield site
    await runner.cleanup()


@pytest.fixture
async def allowed() -> AsyncIterator[Fetcher]:
    """May reach the site, and nothing else that is not public."""
    async with fetching("127.0.0.1") as found:
        yield found


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed(allowed: Fetcher, site: Site, status: int) -> None:
    site.status, site.target = status, "/there?x=1"
    assert await get(allowed, f"{site.url}/away") == b"bytes"
    assert site.seen == ["/away", "/there"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.2:{port}/", "http://[::1]:{port}/",
     "http://[::ffff:127.0.0.2]:{port}/", "//127.0.0.2:{port}/", "http://0.0.0.0:{port}/",
     "http://169.254.169.254/", "http://x@127.0.0.1:{port}/", "file:///etc/passwd",
     "gopher://127.0.0.1:{port}/", "ftp://127.0.0.1:{port}/", "data:,x", "http://8.8.8.8:22/",
     "http://[::1", ""],
)  # fmt: skip
async def test_s21_a_redirect_is_judged_like_the_first(
    allowed: Fetcher, site: Site, listener: Listener, status: int, target: str
) -> None:
    site.status, site.target = status, target.format(port=listener.port)
    with pytest.raises(StoreDown, match=UNREACHABLE):
        await get(allowed, f"{site.url}/away")
    assert listener.connections == 0


@pytest.mark.parametrize("target", ["/a\\b", "/a b", "/a\tb", "http://127.0.0.1\t.evil/"])
async def test_sec_13_a_redirect_has_no_character_that_a_parser_may_drop(
    allowed: Fetcher, site: Site, target: str
) -> None:
    site.target = target
    with pytest.raises(StoreDown, match=UNREACHABLE):
        await get(allowed, f"{site.url}/away")
    assert site.seen == ["/away"]


async def test_s21_redirects_have_an_end(allowed: Fetcher, site: Site) -> None:
    assert await get(allowed, f"{site.url}/{MAX_REDIRECTS}") == b"bytes"
    for hops in (MAX_REDIRECTS + 1, 20):
        site.seen.clear()
        with pytest.raises(StoreDown, match=UNREACHABLE):
            await get(allowed, f"{site.url}/{hops}")
        assert len(site.seen) == MAX_REDIRECTS + 1


@pytest.mark.parametrize("status", [300, 304, 305, 306])
async def test_another_3xx_leads_nowhere(allowed: Fetcher, site: Site, status: int) -> None:
    site.status, site.target = status, "/there"
    with pytest.raises(StoreDown):
        await get(allowed, f"{site.url}/away")
    assert site.seen == ["/away"]


async def test_s22_a_name_that_changes_its_address_is_judged_at_each_connection(
    monkeypatch: pytest.MonkeyPatch, site: Site
) -> None:
    port = int(site.url.rpartition(":")[2])
    with names(monkeypatch, rebind=["127.0.0.1", "127.0.0.2"]) as known:
        async with fetching("127.0.0.1/32") as fetcher, Listener().running("127.0.0.2", port) as no:
            url = f"http://rebind.example:{port}/"
            assert await get(fetcher, url, Connection="close") == b"bytes"
            with pytest.raises(StoreDown, match=UNREACHABLE):
                await get(fetcher, url)
            assert no.connections == 0
    assert known.asked == ["rebind.example"] * 2


# what is allowed by name and by network


@pytest.mark.parametrize(
    ("allow", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:{port}/"),
        ("127.0.0.0/8", "http://127.0.0.1:{port}/"),
        ("mirror.example", "http://mirror.example:{port}/"),
        ("Mirror.Example.", "http://mirror.example:{port}/"),
        ("mirror.example", "http://MIRROR.example.:{port}/"),
        ("127.0.0.0/8", "http://mirror.example:{port}/"),
    ],
)
async def test_what_is_allowed_is_reached(
    monkeypatch: pytest.MonkeyPatch, site: Site, allow: str, url: str
) -> None:
    with names(monkeypatch, mirror=["127.0.0.1"]):
        async with fetching(allow) as fetcher:
            port = site.url.rpartition(":")[2]
            assert await get(fetcher, url.format(port=port)) == b"bytes"


@pytest.mark.parametrize(
    ("allow", "url"),
    [
        ("mirror.example", "http://other.example:{port}/"),
        ("mirror.example", "http://sub.mirror.example:{port}/"),
        ("mirror.example", "http://xmirror.example:{port}/"),
        ("mirror.example", "http://127.0.0.1:{port}/"),
        ("127.0.0.2", "http://127.0.0.1:{port}/"),
        ("127.0.0.2/31", "http://other.example:{port}/"),
        ("8.8.8.0/24", "http://other.example:{port}/"),
    ],
)
async def test_what_is_beside_it_is_not(
    monkeypatch: pytest.MonkeyPatch, listener: Listener, allow: str, url: str
) -> None:
    local = ["127.0.0.1"]
    with names(monkeypatch, mirror=local, other=local, sub=local, xmirror=local):
        async with fetching(allow) as fetcher:
            with pytest.raises((LocationRefused, StoreDown)):
                await get(fetcher, url.format(port=listener.port))
    assert listener.connections == 0


def test_an_empty_entry_allows_nothing() -> None:
    with pytest.raises(LocationRefused):
        Fetcher(Fetch(allow=("",)), timeout=2).check("http://.:8080/")


# nobody maps a network with the answers (SEC-19, S25)


async def test_s25_open_closed_and_silent_are_told_in_the_same_words(
    monkeypatch: pytest.MonkeyPatch, site: Site
) -> None:
    said = set()
    with (
        socket.socket() as closed,
        socket.create_server(("127.0.0.1", 0)) as silent,
        names(monkeypatch, inner=["127.0.0.2"]),
    ):
        closed.bind(("127.0.0.1", 0))
        async with fetching("127.0.0.1") as fetcher:
            for url in (
                f"{site.url}/status-500",
                f"{site.url}/status-403",
                f"http://127.0.0.1:{closed.getsockname()[1]}/",
                f"http://127.0.0.1:{silent.getsockname()[1]}/",
                "http://inner.example:80/",
                "http://no-such-name.example/",
            ):
                with pytest.raises(StoreDown) as refused:
                    await get(fetcher, url)
                said.add(refused.value.message)
    assert len(said) == 1
    assert UNREACHABLE in said.pop()


@pytest.mark.parametrize(
    ("begun", "target", "followed"),
    [
        ("https://8.8.8.8/x", "http://8.8.8.8/y", False),
        ("https://8.8.8.8/x", "https://8.8.8.8/y", True),
        ("https://8.8.8.8/x", "/y", True),
        ("http://8.8.8.8/x", "https://8.8.8.8/y", True),
    ],
)
def test_sec_14_no_redirect_leads_out_of_tls(
    fetcher: Fetcher, begun: str, target: str, followed: bool
) -> None:
    response: Any = SimpleNamespace(headers={"Location": target})
    if followed:
        assert fetcher._follow(STORE, URL(begun), response).path == "/y"
    else:
        with pytest.raises(StoreDown, match=UNREACHABLE):
            fetcher._follow(STORE, URL(begun), response)


@pytest.mark.parametrize("status", [404, 410])
async def test_what_is_not_there_is_missing_in_the_same_words(
    allowed: Fetcher, site: Site, status: int
) -> None:
    with pytest.raises(ObjectMissing, match=UNREACHABLE):
        await get(allowed, f"{site.url}/status-{status}")


# what goes out (SEC-18)


async def test_sec_18_nothing_of_ours_goes_out(allowed: Fetcher, site: Site) -> None:
    site.target = "/there"
    await get(allowed, f"{site.url}/away", Range="bytes=0-")
    for headers in site.headers:
        assert headers["User-Agent"] == "tidegate"
        assert headers["Accept-Encoding"] == "identity"
        assert headers["Range"] == "bytes=0-"
        assert not {"Cookie", "Referer", "Authorization", "X-Auth-Token"} & set(headers)


async def test_sec_70_a_certificate_must_be_of_a_known_authority(
    allowed: Fetcher, tmp_path: Path
) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(self_signed(tmp_path / "certificate.pem"))
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.path)
        return web.Response(body=b"abc")

    server = web.Server(answer)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    with pytest.raises(StoreDown, match=UNREACHABLE):
        await get(allowed, f"https://127.0.0.1:{port}/x")
    assert asked == []
    listening.close()
    await server.shutdown(0.1)


async def test_a_broken_answer_is_told_as_such(allowed: Fetcher) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"220 smtp.example ESMTP\r\n")
        writer.close()

    async with await asyncio.start_server(nonsense, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StoreDown, match=UNREACHABLE):
            await get(allowed, f"http://127.0.0.1:{port}/")
