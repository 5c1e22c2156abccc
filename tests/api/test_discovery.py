"""Finding the versions, and what every answer has."""

import json
from pathlib import Path
from uuid import uuid4

import pytest
from tests.kit.gateway import Gateway, raw, running
from tests.kit.stores import FaultyStore
from tests.kit.tokens import issue

POST = b"POST /v2/images HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "path",
    ["/", "", "/v2", "/v2/", "/v2.7", "/v3/images", "/foo", "/v1", "/V2/images", "/v2.99/images",
     "/v2.07/images", "/versionsx"],
)  # fmt: skip
async def test_what_names_no_version_gets_the_choices(gate: Gateway, path: str) -> None:
    answer = await gate.ask("GET", path)
    assert (answer.status, answer.headers["Content-Type"]) == (300, "application/json")
    entry = answer.json["versions"][0]
    assert entry["status"] == "CURRENT"
    assert entry["links"] == [{"rel": "self", "href": f"{gate.url}/v2/"}]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_versions_is_200(gate: Gateway, method: str) -> None:
    for path in ("/versions", "/versions/", "/versions/v2"):
        answer = await gate.ask(method, path)
        assert answer.status == 200
        assert {entry["status"] for entry in answer.json["versions"]} == {
            "CURRENT",
            "SUPPORTED",
            "DEPRECATED",
        }
    assert (await gate.ask(method, "/")).status == 300


async def test_only_versions_whose_features_are_served_are_told_of(gate: Gateway) -> None:
    ids = {entry["id"] for entry in (await gate.ask("GET", "/")).json["versions"]}
    assert ids >= {"v2.0", "v2.7"}
    answer = await gate.ask("POST", f"/v2/images/{uuid4()}/locations")
    known = answer.message != "The resource could not be found."
    assert ("v2.17" in ids) == known
    assert "v2.14" not in ids  # the cache is off


async def test_versions_are_found_without_a_token(store: FaultyStore, tmp_path: Path) -> None:
    issue(tmp_path / "tokens.toml", "one", "p", "member")
    auth = {"mode": "tokens", "tokens_file": str(tmp_path / "tokens.toml")}
    async with running(store, tmp_path, auth=auth) as gate:
        for path, status in {
            "/": 300, "/v2": 300, "/v2/": 300, "/v1": 300, "/v3/images": 300, "/foo": 300,
            "/versions": 200, "/versions/x": 200, "/v2/images": 401, "/v2/nope": 401,
            "/v1/images": 401, "/v2.7/images": 401, "/v2/images/": 401,
        }.items():  # fmt: skip
            assert (path, (await gate.ask("GET", path)).status) == (path, status)
        bad = {"X-Auth-Token": "bad"}
        assert (await gate.ask("GET", "/foo", headers=bad)).status == 300


@pytest.mark.parametrize(
    ("headers", "link"),
    [
        ({"Forwarded": "for=1.2.3.4;proto=https;host=img.example"}, "https://img.example"),
        ({"Forwarded": 'host="img.example:8443";proto=https, host=inner'},
         "https://img.example:8443"),
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "img.example"}, "https://img.example"),
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "img.example",
          "X-Forwarded-Prefix": "/image/"}, "https://img.example/image"),
        ({"Forwarded": "for=1.2.3.4;host=img.example", "X-Forwarded-Prefix": "/image",
          "X-Forwarded-Proto": "https"}, "http://img.example/image"),
        ({"X-Forwarded-Proto": "https"}, "https://{own}"),
        ({"X-Forwarded-Proto": "javascript", "X-Forwarded-Host": "a b\"<"}, "http://{own}"),
        ({"X-Forwarded-Prefix": "//evil.example/"}, "http://{own}"),
        ({"Forwarded": "nonsense"}, "http://{own}"),
        ({}, "http://{own}"),
    ],
)  # fmt: skip
async def test_links_heed_a_proxy_that_is_trusted(
    store: FaultyStore, tmp_path: Path, headers: dict[str, str], link: str
) -> None:
    for proxies, heeded in (
        (["10.0.0.0/8", "127.0.0.1"], True),
        (["10.0.0.0/8"], False),
        ([], False),
    ):
        server = {"drain_timeout": "1s", "proxies": proxies}
        async with running(store, tmp_path, server=server) as gate:
            own = f"127.0.0.1:{gate.port}"
            expected = (link if heeded else "http://{own}").format(own=own)
            found = (await gate.ask("GET", "/", headers=headers)).json["versions"][0]["links"]
            assert found == [{"rel": "self", "href": f"{expected}/v2/"}]
            made = await gate.ask("POST", "/v2/images", json={}, headers=headers)
            assert made.headers["Location"] == f"{expected}/v2/images/{made.json['id']}"


async def test_the_public_url_is_what_links_say(store: FaultyStore, tmp_path: Path) -> None:
    server = {"public_url": "https://img.example/image/", "proxies": ["127.0.0.1"]}
    async with running(store, tmp_path, server={"drain_timeout": "1s", **server}) as gate:
        answer = await gate.ask("GET", "/", headers={"X-Forwarded-Host": "other.example"})
        link = answer.json["versions"][0]["links"][0]["href"]
        assert link == "https://img.example/image/v2/"


@pytest.mark.parametrize("path", ["/v2.3/images", "//v2/images", "/v2//images", "/v2.0/images"])
async def test_minor_versions_and_slashes_mean_nothing(gate: Gateway, path: str) -> None:
    found = await raw(
        gate.port,
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode(),
    )
    assert found.startswith(b"HTTP/1.1 200 OK")


async def test_what_is_asked_of_the_server_as_a_whole_names_no_version(gate: Gateway) -> None:
    request = b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    assert (await raw(gate.port, request)).startswith(b"HTTP/1.1 300 ")


async def test_a_version_may_stand_in_accept(gate: Gateway) -> None:
    headers = {"Accept": "application/vnd.openstack.images-v2.1"}
    answer = await gate.ask("GET", "/images", headers=headers)
    assert "images" in answer.json
    headers = {"Accept": "application/vnd.openstack.images-v2.99"}
    assert (await gate.ask("GET", "/images", headers=headers)).status == 300


async def test_a_version_inside_a_path_is_no_version(gate: Gateway) -> None:
    image_id = await gate.create()
    for path in (f"//v2/images/{image_id}/tags/v2.1", f"/v2.3/images/{image_id}/tags/v2.2"):
        request = f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n"
        found = await raw(gate.port, f"{request}Connection: close\r\n\r\n".encode())
        assert found.startswith(b"HTTP/1.1 204 No Content")
    assert (await gate.show(image_id))["tags"] == ["v2.1", "v2.2"]


@pytest.mark.parametrize("path", ["/v2/nope", "/v2/images/", "/v2/schemas/nope", "/v1/nope"])
async def test_an_unknown_path_of_a_version_is_404(gate: Gateway, path: str) -> None:
    answer = await gate.ask("GET", path)
    assert answer.status == 404
    assert answer.message


async def test_every_answer_has_a_request_id(gate: Gateway) -> None:
    for path in ("/v2/images", "/v2/images/nope", "/v2/nope", "/"):
        assert (await gate.ask("GET", path)).headers["x-openstack-request-id"].startswith("req-")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("req-abc-1", True), ("abc", False), ("req-" + "x" * 61, False), ("req-\u00e9", False)],
)
async def test_sec_58_a_sound_request_id_is_kept(gate: Gateway, sent: str, kept: bool) -> None:
    answer = await gate.ask("GET", "/v2/images", headers={"X-Openstack-Request-Id": sent})
    assert (answer.headers["x-openstack-request-id"] == sent) is kept


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/json, */*;q=0.5", "application/json"),
        ("image/png", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
    ],
)
async def test_errors_are_json_unless_html_is_preferred(
    gate: Gateway, accept: str | None, kind: str
) -> None:
    headers = {} if accept is None else {"Accept": accept}
    answer = await gate.ask("GET", "/v2/images/<script>", headers=headers)
    assert answer.status == 404
    assert answer.headers["Content-Type"].startswith(kind)
    if kind == "text/html":
        assert b"<script>" not in answer.body


@pytest.mark.parametrize("accept", [b"*/*", b"text/html"])
async def test_sec_52_bytes_of_a_header_that_are_no_text_are_repeated_in_no_form(
    gate: Gateway, accept: bytes
) -> None:
    found = await raw(
        gate.port,
        b"PATCH /v2/images/x HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        b"Accept: " + accept + b"\r\nContent-Type: x/\xff\r\nContent-Length: 2\r\n\r\n[]",
    )
    assert found.startswith(b"HTTP/1.1 415 ")
    assert b"x/?" in found


@pytest.mark.parametrize("path", [b"/v2/images", b"/v2/nope"])
@pytest.mark.parametrize("expectation", [b"miracles", b"\xff"], ids=["text", "bytes"])
async def test_sec_57_an_expectation_that_nobody_knows_is_417_in_our_form(
    gate: Gateway, path: bytes, expectation: bytes
) -> None:
    found = await raw(
        gate.port,
        b"GET " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: " + expectation + b"\r\n\r\n",
    )
    assert found.startswith(b"HTTP/1.1 417 ")
    assert b"x-openstack-request-id: req-" in found
    assert expectation not in found
    assert b"aiohttp" not in found


async def test_sec_54_55_57_headers_of_every_answer(gate: Gateway) -> None:
    answer = await gate.ask("GET", "/v2/images")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert answer.headers["Vary"] == "X-Auth-Token"
    assert answer.headers["Server"] == "tidegate"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost:1"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_sec_59_other_sites_are_refused(
    gate: Gateway, headers: dict[str, str], status: int
) -> None:
    answer = await gate.ask("GET", "/v2/images", headers=headers)
    assert answer.status == status
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /v2/images<script> HTTP/9\r\n\r\n",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        POST + b"Content-Length: +5\r\n\r\nhello",
        POST + b"A: b\r\n c\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
async def test_sec_57_what_is_no_http_is_400_without_an_echo(
    gate: Gateway, request_bytes: bytes
) -> None:
    answer = await raw(gate.port, request_bytes)
    assert answer.split(b" ", 2)[1] == b"400"
    assert b"<script>" not in answer
    assert b"aiohttp" not in answer
    assert b'"error"' in answer


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"GET /v2/images?name=" + b"a" * 9000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n", 414),
        (POST + b"A: /" + b"x" * 9000 + b"\r\n", 431),
        (POST + b"A" + b"x" * 9000 + b": b\r\n", 431),
        (POST + b"".join(b"A%d: b\r\n" % number for number in range(200)), 431),
    ],
)
async def test_what_is_too_long_says_so(gate: Gateway, lines: bytes, status: int) -> None:
    head, _, body = (await raw(gate.port, lines + b"\r\n")).partition(b"\r\n\r\n")
    assert head.split(b" ", 2)[1] == b"%d" % status
    assert json.loads(body)["error"]["code"] == status


async def test_health(gate: Gateway) -> None:
    assert (await gate.ask("GET", "/healthz")).status == 200
    assert (await gate.ask("GET", "/healthcheck")).status == 200
    ready = await gate.ask("GET", "/readyz")
    assert (ready.status, ready.json["ready"]) == (200, True)
    assert b"tidegate_requests_total" in (await gate.ask("GET", "/metrics")).body
