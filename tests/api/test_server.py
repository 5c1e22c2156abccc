"""HTTP itself: what cannot be read is refused in our form, and nothing hides behind it.

``Snn`` are the attacks of the security catalog, ``SEC-nn`` its rules.
"""

import asyncio
import json
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.kit.gateway import ABSENT, DATA, Gateway, raw, running
from tests.kit.stores import FaultyStore, objects

HOST = b"Host: 127.0.0.1\r\n"
LAST = b"Connection: close\r\n"
REQUEST_ID = re.compile(rb"(?i)\r\nx-openstack-request-id: (req-[0-9A-Za-z-]+)\r\n")


class Reply:
    """An answer as it came over the wire."""

    def __init__(self, text: bytes) -> None:
        assert text.startswith(b"HTTP/1."), text[:200]
        self.head, _, self.body = text.partition(b"\r\n\r\n")
        self.status = int(text.split(b" ", 2)[1])
        found = REQUEST_ID.search(self.head + b"\r\n")
        self.request_id = found[1].decode() if found else ""

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.body)["error"]
        return error


async def ask(gate: Gateway, *pieces: bytes) -> Reply:
    return Reply(await raw(gate.port, *pieces))


def sound(reply: Reply, *, echo: bytes = b"") -> None:
    """An error in our form: code, title, message and the request's id, and nothing else."""
    error = reply.error
    assert set(error) == {"code", "title", "message", "request_id"}
    assert error["code"] == reply.status
    assert error["message"]
    assert reply.request_id.startswith("req-")
    assert error["request_id"] == reply.request_id
    assert b"aiohttp" not in reply.head + reply.body
    assert b"Python" not in reply.head + reply.body
    assert not echo or echo not in reply.body


def get(path: str, *lines: str, method: str = "GET") -> bytes:
    head = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1")


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST /v2/images HTTP/1.1", b"Host: 127.0.0.1", *lines, b"", body])


BODY = b'{"name": "smuggled"}'

# framing (S1 to S4)


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 20", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 20"],
        [b"Content-Length: 20", b"Content-Length: 20"],
        [b"Content-Length: 20", b"Content-Length: 21"],
        [b"Content-Length: 20, 20"],
        [b"Content-Length: +20"],
        [b"Content-Length: 0x14"],
        [b"Content-Length: -1"],
        [b"Content-Length: 18446744073709551616"],
        [b"Content-Length: \xd9\xa2\xd9\xa0"],
        [b"Content-Length: "],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding: chunked, identity"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked, chunked"],
        [b"Transfer-Encoding : chunked"],
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: gzip"],
        [b"Transfer-Encoding:\x0bchunked"],
    ],
)
async def test_s1_to_s4_a_body_that_two_servers_would_frame_differently(
    gate: Gateway, lines: list[bytes]
) -> None:
    reply = await ask(gate, post(*lines, body=BODY))
    assert reply.status in (400, 413, 501)
    sound(reply)
    assert (await gate.ask("GET", "/v2/images")).json["images"] == []


async def test_s4_chunks_in_a_version_that_has_none(gate: Gateway) -> None:
    request = (b"POST /v2/images HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
               b"Transfer-Encoding: chunked\r\n\r\n14\r\n" + BODY + b"\r\n0\r\n\r\n")  # fmt: skip
    reply = await ask(gate, request)
    assert reply.status in (400, 501)
    assert (await gate.ask("GET", "/v2/images")).json["images"] == []


# lines and headers (S5, S6, S8)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /v2/images HTTP/1.1\nHost: 127.0.0.1\n\n",
        b"GET /v2/images HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n",
        b"GET /v2/images HTTP/1.1\r\n" + HOST + b"A: b\0c\r\n\r\n",
        b"GET /v2/images HTTP/1.1\r\n" + HOST + b"A: b\rc\r\n\r\n",
        b"GET /v2/images HTTP/1.1\r\n" + HOST + b"A\r\n\r\n",
        b"GET /v2/images HTTP/1.1\r\n" + HOST + b": b\r\n\r\n",
        b"GET /v2/images HTTP/1.1\r\n" + HOST + b"A<script>: b\r\n\r\n",
        b"GET /v2/images<script> HTTP/9\r\n" + HOST + b"\r\n",
        b"GET /v2/images HTTP/0.9\r\n" + HOST + b"\r\n",
        b"GET /v2/images HTTP/2.0\r\n" + HOST + b"\r\n",
        b"GET /v2/images HTTP/1.1 x\r\n" + HOST + b"\r\n",
        b"GET\t/v2/images HTTP/1.1\r\n" + HOST + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"get /v2/images HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /v2/images HTTP/1.1\r\n" + HOST + b"A: " + b"x" * 65536 + b"\r\n\r\n",
        b"GET /" + b"x" * 65536 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /v2/images HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 10_000 + b"\r\n",
    ],
    ids=lambda value: repr(value[:60]),
)
async def test_s5_s6_s8_sec_57_what_is_no_http_is_refused_in_our_form(
    gate: Gateway, request_bytes: bytes
) -> None:
    reply = await ask(gate, request_bytes)
    assert reply.status in (400, 405, 414, 431, 505)
    sound(reply, echo=b"<script>")


# trailing requests (S9)


async def test_s9_many_requests_in_one_go_are_answered_in_order(gate: Gateway) -> None:
    ids = [f"req-{number}" for number in range(100)]
    start = b"GET /healthz HTTP/1.1\r\n" + HOST
    requests = [start + f"X-Openstack-Request-Id: {one}\r\n\r\n".encode() for one in ids[:-1]]
    answer = await raw(
        gate.port, b"".join(requests) + get("/healthz", f"X-Openstack-Request-Id: {ids[-1]}")
    )
    assert [found.decode() for found in REQUEST_ID.findall(answer)] == ids


async def test_s9_a_request_hidden_in_image_data_is_data(gate: Gateway, store: FaultyStore) -> None:
    victim, image_id = await gate.active(b"x"), await gate.create()
    hidden = get(f"/v2/images/{victim}", method="DELETE")
    head = (
        f"PUT /v2/images/{image_id}/file HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: {DATA}\r\nContent-Length: {len(hidden)}\r\n\r\n"
    )
    reply = await ask(gate, head.encode() + hidden)
    assert reply.status == 204
    assert (await gate.show(victim))["status"] == "active"
    assert (await gate.ask("GET", f"/v2/images/{image_id}/file")).body == hidden


@pytest.mark.parametrize("kind", [DATA, "text/plain"])
async def test_s9_a_request_behind_a_refused_body_is_not_one(gate: Gateway, kind: str) -> None:
    victim = await gate.active(b"x")
    hidden = get(f"/v2/images/{victim}", method="DELETE")
    head = (
        f"PUT /v2/images/{victim}/file HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(hidden)}\r\n\r\n"
    )
    answer = await raw(gate.port, head.encode() + hidden + get("/healthz"))
    assert Reply(answer).status in (409, 415)
    assert (await gate.show(victim))["status"] == "active"


# hosts and origins (S10, SEC-59)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /v2/images HTTP/1.1\r\n" + LAST + b"\r\n",
        b"GET /v2/images HTTP/1.1\r\n" + HOST + HOST + LAST + b"\r\n",
        b"GET /v2/images HTTP/1.1\r\nHost: evil.example\r\n" + HOST + LAST + b"\r\n",
        b"GET /v2/images HTTP/1.1\r\nHost: a b/../@c\r\n" + LAST + b"\r\n",
        b"GET /v2/images HTTP/1.1\r\nHost: evil.example\r\n" + LAST + b"\r\n",
        b"GET /v2/images HTTP/1.1\r\nHost: 127.0.0.1@evil.example\r\n" + LAST + b"\r\n",
        b"GET /v2/images HTTP/1.1\r\nHost: evil.example:80#127.0.0.1\r\n" + LAST + b"\r\n",
        b"GET /v2/images HTTP/1.1\r\nHost: [::1\r\n" + LAST + b"\r\n",
        b"GET /v2/images HTTP/1.1\r\nHost: \r\n" + LAST + b"\r\n",
        b"GET /v2/images HTTP/1.1\r\nHost: 127.0.0.1:port\r\n" + LAST + b"\r\n",
        b"GET http://evil.example/v2/images HTTP/1.1\r\n" + HOST + LAST + b"\r\n",
        b"GET http://evil.example/v2/images HTTP/1.1\r\nHost: evil.example\r\n" + LAST + b"\r\n",
    ],
    ids=lambda value: repr(value[24:90]),
)
async def test_s10_sec_59_another_host_is_refused(gate: Gateway, request_bytes: bytes) -> None:
    reply = await ask(gate, request_bytes)
    assert reply.status in (400, 403)
    sound(reply, echo=b"evil.example")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]:9292", "LOCALHOST:80"])
async def test_this_machines_names_are_served(gate: Gateway, host: str) -> None:
    answer = await gate.ask("GET", "/v2/images", headers={"Host": host})
    assert answer.status == 200


async def test_the_public_name_is_served_and_is_the_one_in_links(
    store: FaultyStore, tmp_path: Path
) -> None:
    public = {"public_url": "https://images.example.org/", "drain_timeout": "1s"}
    async with running(store, tmp_path, server=public) as gate:
        for host in ("images.example.org", "127.0.0.1"):
            answer = await gate.ask("GET", "/versions", headers={"Host": host})
            assert answer.status == 200
            links = {entry["links"][0]["href"] for entry in answer.json["versions"]}
            assert links == {"https://images.example.org/v1/", "https://images.example.org/v2/"}
        own = {"Origin": "https://images.example.org"}
        assert (await gate.ask("GET", "/v2/images", headers=own)).status == 200


async def test_what_a_proxy_might_say_is_not_believed(gate: Gateway) -> None:
    headers = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https",
               "Forwarded": "host=evil.example"}  # fmt: skip
    answer = await gate.ask("GET", "/versions", headers=headers)
    assert b"evil.example" not in answer.body


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1.evil", "file://"],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
async def test_sec_59_other_sites_are_refused(gate: Gateway, method: str, origin: str) -> None:
    answer = await gate.ask(method, "/v2/images", headers={"Origin": origin})
    assert answer.status == 403
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


async def test_our_own_site_is_no_other(gate: Gateway) -> None:
    answer = await gate.ask("GET", "/v2/images", headers={"Origin": gate.url})
    assert answer.status == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
async def test_s43_a_form_makes_no_image(gate: Gateway, kind: str) -> None:
    answer = await gate.ask("POST", "/v2/images", data=BODY, headers={"Content-Type": kind})
    assert answer.status == 415
    assert (await gate.ask("GET", "/v2/images")).json["images"] == []


# paths (S18)


@pytest.mark.parametrize(
    "name",
    ["..%2f..%2fetc%2fpasswd", "%2e%2e", "%2e%2e%2f%2e%2e", "..;", "%00", "%c0%ae%c0%ae", "a%00b",
     "..%5c..", "%252e%252e", "\xff", "{image_id}", "'%20or%201=1--", "0" * 5000],
)  # fmt: skip
@pytest.mark.parametrize("tail", ["", "/file"])
async def test_s18_a_path_leads_nowhere_else(gate: Gateway, name: str, tail: str) -> None:
    reply = await ask(gate, get(f"/v2/images/{name}{tail}"))
    assert reply.status in (400, 404)
    sound(reply)


@pytest.mark.parametrize("path", ["/..%2f..%2fetc%2fpasswd", "/v2/../../etc/passwd", "/%2e%2e/etc"])
async def test_s18_beside_the_api_there_is_nothing(gate: Gateway, path: str) -> None:
    reply = await ask(gate, get(path))
    assert reply.status in (300, 400, 404)
    assert b"root:" not in reply.body


async def test_s18_data_for_a_path_that_is_none_reaches_no_store(
    gate: Gateway, store: FaultyStore
) -> None:
    lines = (f"Content-Type: {DATA}", "Content-Length: 3")
    reply = await ask(gate, get("/v2/images/..%2f..%2fx/file", *lines, method="PUT") + b"abc")
    assert reply.status == 404
    assert await objects(store) == {}
    assert store.calls == []


@pytest.mark.parametrize(
    "path",
    [
        "/v2.0/images",
        "/v2.5/images",
        "/v2.17/images",
        "//v2/images",
        "/v2//images",
        "///v2///images",
    ],
)
async def test_minor_versions_and_slashes_mean_nothing(gate: Gateway, path: str) -> None:
    reply = await ask(gate, get(f"{path}?limit=1"))
    assert reply.status == 200
    assert b'"images"' in reply.body


async def test_a_slash_in_a_query_is_kept(gate: Gateway) -> None:
    image_id = await gate.create(name="a//b/v2.1/c")
    answer = await gate.ask("GET", "/v2/images?name=a//b/v2.1/c")
    assert [image["id"] for image in answer.json["images"]] == [image_id]


# methods (S48)


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "FOO", "M-SEARCH"])
@pytest.mark.parametrize("path", ["/v2/images", "/v2/images/x/file", "/"])
async def test_s48_methods_that_mean_nothing_here(gate: Gateway, method: str, path: str) -> None:
    target = "127.0.0.1:80" if method == "CONNECT" else path
    reply = await ask(gate, get(target, "X-Secret: s3cr3t", method=method))
    assert reply.status in (300, 400, 404, 405, 501)
    assert b"s3cr3t" not in reply.body


@pytest.mark.parametrize(
    "lines",
    [("Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA", "Connection: Upgrade"),
     ("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + "A" * 22 + "=="),
     ("X-HTTP-Method-Override: DELETE",), ("X-HTTP-Method: DELETE",),
     ("X-Method-Override: DELETE",)],
)  # fmt: skip
async def test_s48_nothing_turns_a_request_into_another(
    gate: Gateway, lines: tuple[str, ...]
) -> None:
    image_id = await gate.active(b"abc")
    reply = await ask(gate, get(f"/v2/images/{image_id}/file", *lines))
    assert reply.status == 200
    assert reply.body == b"abc"
    assert (await gate.show(image_id))["status"] == "active"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_a_method_that_is_not_allowed_names_those_that_are(
    gate: Gateway, method: str
) -> None:
    answer = await gate.ask(method, "/v2/images")
    assert answer.status == 405
    assert set(answer.headers["Allow"].replace(" ", "").split(",")) >= {"GET", "POST"}
    assert method in answer.message


# codings (S12) and splitting (S40)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
async def test_s12_nothing_is_expanded(gate: Gateway, store: FaultyStore, coding: str) -> None:
    image_id = await gate.create()
    answer = await gate.ask(
        "PUT", f"/v2/images/{image_id}/file", data=b"\x1f\x8b\x08" + bytes(100),
        headers={"Content-Type": DATA, "Content-Encoding": coding},
    )  # fmt: skip
    assert answer.status == 415
    assert await objects(store) == {}


@pytest.mark.parametrize(
    "name",
    ["a\r\nX-Evil: 1", 'a";filename="evil.html', "a\0b", "\u202eevil", "é\U0001f600", "<img>"],
)
async def test_s40_a_name_splits_no_answer(gate: Gateway, name: str) -> None:
    created = await gate.ask(
        "POST", "/v2/images",
        json={"name": name, "disk_format": "raw", "container_format": "bare"},
    )  # fmt: skip
    if "\0" in name:  # which databases refuse
        assert created.status == 400
        return
    image_id = created.json["id"]
    assert (await gate.put(image_id, b"x")).status == 204
    for method, path in (
        ("GET", f"/v2/images/{image_id}"),
        ("GET", f"/v2/images/{image_id}/file"),
        ("HEAD", f"/v1/images/{image_id}"),
        ("GET", f"/v1/images/{image_id}"),
    ):
        reply = await ask(gate, get(path, method=method))
        assert reply.status == 200
        assert b"\r\nX-Evil" not in reply.head
        assert b"evil.html" not in reply.head.partition(b"Content-Disposition")[2].split(b"\r\n")[0]


@pytest.mark.parametrize(
    "given", ["req-a\x1b[31m", "req-%0aX", "req-" + "x" * 10_000, "req-\xe9", '"']
)
async def test_s41_a_request_id_injects_nothing(gate: Gateway, given: str) -> None:
    reply = await ask(gate, get("/v2/images/none", f"X-Openstack-Request-Id: {given}"))
    assert reply.status in (400, 404, 431)
    sound(reply)
    assert reply.request_id != given


# the form of every answer


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", f"/v2/images/{ABSENT}", 404), ("PUT", "/v2/images", 405), ("GET", "/v2/nope", 404),
     ("POST", "/v2/images", 415), ("GET", "/v2/images?limit=x", 400)],
)  # fmt: skip
async def test_every_error_has_one_shape(
    gate: Gateway, method: str, path: str, status: int
) -> None:
    reply = await ask(gate, get(path, "Content-Length: 0", method=method))
    assert reply.status == status or (method == "POST" and reply.status == 400)
    sound(reply)


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("text/html", True),
        ("text/html, */*;q=0.1", True),
        ("application/json;q=0.5, text/html;q=0.6", True),
        ("application/json;q=0.6, text/html;q=0.5", False),
        ("text/html;q=0", False),
        ("text/html;q=x", False),
        ("text/*", False),
        ("," * 8000, False),
        (";;;=;q=;,text/plain", False),
    ],
)
async def test_html_is_for_who_prefers_it(gate: Gateway, accept: str, html: bool) -> None:
    reply = await ask(gate, get(f"/v2/images/{uuid4()}<b>", f"Accept: {accept}"))
    assert reply.status == 404
    assert (b"text/html" in reply.head) is html
    assert b"<b>" not in reply.body or not html


async def test_a_failure_of_ours_says_nothing_of_itself(gate: Gateway, store: FaultyStore) -> None:
    image_id = await gate.active(b"x")
    store.fail("read", RuntimeError("an inner secret at /some/path"))
    reply = await ask(gate, get(f"/v2/images/{image_id}/file"))
    assert reply.status == 500
    sound(reply, echo=b"secret")


async def test_s11_slow_clients_hold_up_nobody(gate: Gateway) -> None:
    slow = [await asyncio.open_connection("127.0.0.1", gate.port) for _ in range(200)]
    for _, writer in slow:
        writer.write(b"GET /v2/images HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
    async with asyncio.timeout(2):
        assert (await gate.ask("GET", "/healthz")).status == 200
    for _, writer in slow:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in slow), return_exceptions=True)


async def test_a_head_that_never_ends_is_cut(gate: Gateway) -> None:
    async def send() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        try:
            writer.write(b"GET / HTTP/1.1\r\n")
            while True:
                writer.write(b"A: b\r\n" * 1000)
                await writer.drain()
        finally:
            writer.close()

    async with asyncio.timeout(10):
        with pytest.raises(ConnectionError):
            await send()
