"""Finding the versions, and what every answer has."""

import pytest
from tests.kit.gateway import Gateway, raw

POST = b"POST /v2/images HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "path", ["/", "", "/v2", "/v2/", "/v3/images", "/foo", "/v1", "/V2/images"]
)
async def test_what_names_no_version_gets_the_choices(gate: Gateway, path: str) -> None:
    answer = await gate.ask("GET", path)
    assert answer.status == 300
    entry = answer.json["versions"][0]
    assert entry["status"] == "CURRENT"
    assert entry["links"] == [{"rel": "self", "href": f"{gate.url}/v2/"}]


async def test_versions_is_200(gate: Gateway) -> None:
    answer = await gate.ask("GET", "/versions")
    assert answer.status == 200
    assert {entry["status"] for entry in answer.json["versions"]} == {
        "CURRENT",
        "SUPPORTED",
        "DEPRECATED",
    }


@pytest.mark.parametrize("path", ["/v2.3/images", "//v2/images", "/v2//images", "/v2.0/images"])
async def test_minor_versions_and_slashes_mean_nothing(gate: Gateway, path: str) -> None:
    found = await raw(
        gate.port,
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode(),
    )
    assert found.startswith(b"HTTP/1.1 200 OK")


async def test_a_version_may_stand_in_accept(gate: Gateway) -> None:
    headers = {"Accept": "application/vnd.openstack.images-v2.1"}
    answer = await gate.ask("GET", "/images", headers=headers)
    assert "images" in answer.json


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
        POST + b"A" + b"x" * 20000 + b": b\r\n\r\n",
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


async def test_health(gate: Gateway) -> None:
    assert (await gate.ask("GET", "/healthz")).status == 200
    assert (await gate.ask("GET", "/healthcheck")).status == 200
    ready = await gate.ask("GET", "/readyz")
    assert (ready.status, ready.json["ready"]) == (200, True)
    assert b"tidegate_requests_total" in (await gate.ask("GET", "/metrics")).body
