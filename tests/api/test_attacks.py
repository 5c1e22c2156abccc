"""Attacks on a running gateway that belong to no single call."""

import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.kit.gateway import ABSENT, Gateway, raw, running
from tests.kit.identity import of
from tests.kit.stores import FaultyStore
from tests.kit.tokens import everybody

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
