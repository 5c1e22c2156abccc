"""Attacks on a running gateway that belong to no single call."""

import asyncio
import gzip
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.kit.gateway import ABSENT, Gateway, raw, running
from tests.kit.identity import of
from tests.kit.server import until
from tests.kit.stores import FaultyStore, objects
from tests.kit.tokens import everybody

from tidegate.api import server
from tidegate.catalog import tables

JSON = {"Content-Type": "application/json"}
AT_ONCE = 2.0
"""Seconds: far more than any of these takes, far less than it took where it is not bounded."""


@pytest.mark.parametrize("body", [b'["' + b'\\"' * 20_000, b'"\\' * 20_000, b"[" + b'"' * 39_999])
async def test_sec_50_s13_a_text_without_an_end_takes_no_longer(gate: Gateway, body: bytes) -> None:
    begun = time.monotonic()
    answer = await gate.ask("POST", "/v2/images", data=body, headers=JSON)
    assert answer.status == 400
    assert time.monotonic() - begun < AT_ONCE


async def test_s13_names_that_must_differ_are_compared_at_once(gate: Gateway) -> None:
    names = [name for number in range(10_000) for name in (number, str(number))]
    thing: dict[str, object] = {"name": "o", "required": names}
    body = {"namespace": "n", "objects": [thing]}
    begun = time.monotonic()
    answer = await gate.ask("POST", "/v2/metadefs/namespaces", json=body)
    assert answer.status == 400
    thing["required"] = ["a", "b", "a"]
    answer = await gate.ask("POST", "/v2/metadefs/namespaces", json=body)
    assert answer.status == 400
    assert "non-unique" in answer.message
    assert time.monotonic() - begun < AT_ONCE


async def test_s46_a_key_of_the_order_counts_once(gate: Gateway) -> None:
    ids = [await gate.create(name=name) for name in ("b", "a", "c")]
    begun = time.monotonic()
    for query in ("sort=" + ",".join(["name:asc", *["name:desc"] * 250]), "sort_key=name&" * 24):
        answer = await gate.ask("GET", f"/v2/images?{query}&marker={ids[0]}")
        assert len(answer.json["images"]) == 1
    assert time.monotonic() - begun < AT_ONCE


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "," * 8000},
        {"Accept": "text/html;q=" + "1" * 4000},
        {"Range": "bytes=" + ",".join(["0-1"] * 1500)},
        {"If-None-Match": '"a",' * 1500},
        {"Content-MD5": "\t " * 3000 + "x"},
        {"Repr-Digest": "a=:" * 2500},
    ],
)
async def test_s47_no_header_takes_long(gate: Gateway, headers: dict[str, str]) -> None:
    image_id = await gate.active(b"data")
    begun = time.monotonic()
    for path in ("", "/file"):
        await gate.ask("GET", f"/v2/images/{image_id}{path}", headers=headers)
    await gate.put(image_id, b"data", headers)
    assert time.monotonic() - begun < AT_ONCE


WRITABLE = {"name", "visibility", "protected", "min_disk", "min_ram", "container_format",
            "disk_format", "tags", "os_hidden"}  # fmt: skip
COLUMNS = sorted({column.name for table in tables.metadata.tables.values() for column in table.c})
NOT_COMPARED = {"id", "created_at", "updated_at", "self", "file"}


def odd(name: str) -> set[str]:
    return {name, name.upper(), name.replace("_", "__"), f"images.{name}", f"{name} ", f"_{name}"}


async def test_sec_32_no_column_is_set_by_its_name(shared_gate: Gateway) -> None:
    caller = of("p1")
    plain = (await shared_gate.ask("POST", "/v2/images", json={}, headers=caller)).json
    names = {other for name in COLUMNS for other in odd(name)} - WRITABLE
    assert len(names) > 150
    for name in names:
        answer = await shared_gate.ask("POST", "/v2/images", json={name: "x"}, headers=caller)
        if answer.status == 201:
            made = answer.json
            differing = {key for key in plain if made.get(key) != plain[key]} - NOT_COMPARED
            assert differing == set(), name
            assert set(made) - set(plain) <= {name}
        else:
            assert answer.status in (400, 403), name


@pytest.mark.parametrize("name", ["ＯＳ_glance_x", "oſ_glance_x", "OS_GLANCE_x", "os_glance_x"])
async def test_sec_36_no_other_spelling_of_a_reserved_name(gate: Gateway, name: str) -> None:
    image_id = await gate.create()
    before = await gate.show(image_id)
    assert (await gate.ask("POST", "/v2/images", json={name: "x"})).status == 403
    added = await gate.patch(image_id, {"op": "add", "path": f"/{name}", "value": "x"})
    assert added.status == 403
    assert await gate.show(image_id) == before


@pytest.mark.parametrize("name", ["a\u200bb", "a\u202eb", "a\nb", "ﬁ", "a" * 256])
async def test_sec_36_a_name_is_what_it_looks_like(gate: Gateway, name: str) -> None:
    assert (await gate.ask("POST", "/v2/images", json={name: "x"})).status == 400


async def test_sec_52_bytes_that_are_no_text_are_no_token(
    store: FaultyStore,
    tmp_path: Path,
) -> None:
    everybody(tmp_path / "tokens.toml")
    auth = {"mode": "tokens", "tokens_file": str(tmp_path / "tokens.toml")}
    async with running(store, tmp_path, auth=auth) as gate:
        for header in (b"X-Auth-Token: \xe9\xff", b"Authorization: Bearer \xff",
                       b"X-Auth-Token: a\r\nX-Openstack-Request-ID: req-\xff"):  # fmt: skip
            answer = await raw(
                gate.port,
                b"GET /v2/images HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
                + header
                + b"\r\n\r\n",
            )
            assert b" 401 " in answer.split(b"\r\n")[0]


async def test_sec_68_s41_a_request_writes_little_to_the_log(gate: Gateway) -> None:
    with capture_logs() as lines:
        await gate.ask("GET", f"/v2/images/{'x' * 7000}")
        await gate.ask("GET", f"/v2/images?sort={'%0a' * 2000}")
        await gate.ask("POST", "/v2/images", json={"visibility": "\x1b" * 100_000})
        await gate.ask(
            "GET", f"/v2/images/{ABSENT}", headers={"X-Openstack-Request-ID": "r" * 7000}
        )
        await gate.ask("GET", "/metrics")
    told = [line for line in lines if line["event"] == "request"]
    assert len(told) == 4
    assert max(len(str(line)) for line in told) < 4096


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v2/images/{}/file"), ("HEAD", "/v2/images/{}/file"), ("GET", "/v1/images/{}")],
)
async def test_sec_53_54_55_no_browser_opens_image_data(
    gate: Gateway, method: str, path: str
) -> None:
    image_id = await gate.active(b"<script>alert(1)</script>", name='a";filename="evil.html')
    headers = (await gate.ask(method, path.format(image_id))).headers
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Content-Disposition"] == f'attachment; filename="{image_id}.raw"'
    assert headers["Cache-Control"].startswith("private")


DRIP = b"X: y\r\n"


async def test_s11_a_head_that_drips_is_cut(
    store: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE", 0.2)
    async with running(store, tmp_path) as gate:
        for begun in (b"", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
            writer.write(begun + b"GET /v2/images HTTP/1.1\r\n")
            answered = asyncio.ensure_future(reader.read())
            async with asyncio.timeout(20):
                while not answered.done():
                    writer.write(DRIP)
                    await asyncio.wait([answered], timeout=0.05)
            assert (await answered).count(b"HTTP/1.1 ") == (1 if begun else 0)
            writer.close()


async def test_s9_each_of_many_requests_in_one_go_needs_its_own_token(
    store: FaultyStore, tmp_path: Path
) -> None:
    tokens = everybody(tmp_path / "tokens.toml")
    auth = {"mode": "tokens", "tokens_file": str(tmp_path / "tokens.toml")}
    good, other = (tokens[name]["X-Auth-Token"] for name in ("owner", "stranger"))
    async with running(store, tmp_path, auth=auth) as gate:
        body = {"disk_format": "raw", "container_format": "bare", "visibility": "private"}
        made = await gate.ask("POST", "/v2/images", json=body, headers=tokens["owner"])
        start = f"GET /v2/images/{made.json['id']} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        asked = [(good, 200), ("", 401), (good, 200), (other, 404), ("bad", 401), (good, 200)] * 20
        lines = [f"{start}X-Auth-Token: {token}\r\n" if token else start for token, _ in asked]
        sent = "\r\n".join([*lines, f"{start}Connection: close\r\n", ""])
        answer = await raw(gate.port, sent.encode())
        found = [int(one[:3]) for one in answer.split(b"HTTP/1.1 ")[1:]]
        assert found == [*(status for _, status in asked), 401]


BOMB = gzip.compress(bytes(50 * 2**20))


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip"])
@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/v2/images", "application/json"),
        ("PATCH", "/v2/images/{}", "application/openstack-images-v2.1-json-patch"),
        ("PUT", "/v2/images/{}/file", "application/octet-stream"),
        ("PUT", "/v2/images/{}/stage", "application/octet-stream"),
        ("PUT", "/v1/images/{}", "application/octet-stream"),
        ("POST", "/v2/images/{}/import", "application/json"),
        ("POST", "/v2/tasks", "application/json"),
    ],
)
async def test_s12_a_bomb_is_expanded_nowhere(
    gate: Gateway, store: FaultyStore, method: str, path: str, kind: str, coding: str
) -> None:
    image_id = await gate.create()
    begun = time.monotonic()
    headers = {"Content-Type": kind, "Content-Encoding": coding}
    answer = await gate.ask(method, path.format(image_id), data=BOMB, headers=headers)
    assert answer.status in (400, 413, 415)
    assert time.monotonic() - begun < AT_ONCE
    assert await objects(store) == {}
    assert (await gate.show(image_id))["status"] == "queued"


async def test_s7_a_chunk_with_a_long_extension_holds_up_nobody(gate: Gateway) -> None:
    image_id = await gate.create()
    head = (
        f"PUT /v2/images/{image_id}/file HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"3;" + b"x" * 2**20 + b"\r\nabc\r\n0\r\n\r\n"
    answer = await raw(gate.port, head.encode() + chunk)
    status = (await gate.show(image_id))["status"]
    assert (int(answer[9:12]), status) in ((204, "active"), (400, "killed"), (400, "queued"))
    assert (await gate.ask("GET", "/healthz")).status == 200


@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
async def test_s8_trailers_have_an_end(gate: Gateway, store: FaultyStore, later: bool) -> None:
    image_id = await gate.create()
    head = (
        f"PUT /v2/images/{image_id}/file HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3\r\nabc\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
    writer.write(head.encode())

    async def saving() -> bool:
        return (await gate.show(image_id))["status"] == "saving"

    if later:
        await until(saving, "the upload to begin")
    writer.write(b"0\r\n" + b"A: b\r\n" * 10_000 + b"\r\n")
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    assert int(answer[9:12]) in (400, 431)
    assert (await gate.show(image_id))["status"] == ("killed" if later else "queued")
    assert await objects(store) == {}


async def test_s37_a_token_in_the_url_is_none(store: FaultyStore, tmp_path: Path) -> None:
    token = everybody(tmp_path / "tokens.toml")["admin"]["X-Auth-Token"]
    auth = {"mode": "tokens", "tokens_file": str(tmp_path / "tokens.toml")}
    async with running(store, tmp_path, auth=auth) as gate:
        for name in ("X-Auth-Token", "token", "access_token"):
            assert (await gate.ask("GET", f"/v2/images?{name}={token}")).status == 401
        there = f"http://x:{token}@127.0.0.1:{gate.port}/v2/images"
        sent = f"GET {there} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        assert (await raw(gate.port, sent.encode())).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("origin", ["null", "https://images.example.evil", "https://x.example"])
@pytest.mark.parametrize("method", ["OPTIONS", "GET"])
async def test_s44_no_other_site_is_told_that_it_may_read(
    store: FaultyStore, tmp_path: Path, method: str, origin: str
) -> None:
    headers = everybody(tmp_path / "tokens.toml")["owner"]
    auth = {"mode": "tokens", "tokens_file": str(tmp_path / "tokens.toml")}
    asking = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    async with running(store, tmp_path, auth=auth) as gate:
        answer = await gate.ask(method, "/v2/images", headers={**headers, **asking})
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
