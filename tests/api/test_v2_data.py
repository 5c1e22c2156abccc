"""Image data over Image API v2: in, out, and what must not get in."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests.kit.gateway import ABSENT, DATA, Gateway, raw, running
from tests.kit.sources import pattern
from tests.kit.stores import FaultyStore, objects, unfinished

from tidegate.domain.errors import StoreDown, StoreFull
from tidegate.stores.memory import MemoryStore

MIB = 2**20
SIZES = [0, 1, 70_000, 5 * MIB, 17 * MIB + 3]


def encoded(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


# bytes in, bytes out


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("framed", [True, False], ids=["length", "chunked"])
async def test_what_is_put_is_got_bit_for_bit(gate: Gateway, size: int, framed: bool) -> None:
    data = pattern(size)

    async def pieces() -> Any:
        for at in range(0, size, 100_000):
            yield data[at : at + 100_000]

    image_id = await gate.create()
    answer = await gate.put(image_id, data if framed else pieces())
    assert (answer.status, answer.body) == (204, b"")
    image = await gate.show(image_id)
    assert image["status"] == "active"
    assert image["size"] == size
    assert image["checksum"] == hashlib.md5(data).hexdigest()
    assert image["os_hash_algo"] == "sha512"
    assert image["os_hash_value"] == hashlib.sha512(data).hexdigest()
    got = await gate.ask("GET", f"/v2/images/{image_id}/file")
    assert got.status == 200
    assert got.body == data
    assert got.headers["Content-Length"] == str(size)
    assert got.headers["Content-Type"] == DATA
    assert got.headers["Content-MD5"] == hashlib.md5(data).hexdigest()


async def test_a_queued_image_has_no_data_yet(gate: Gateway) -> None:
    answer = await gate.ask("GET", f"/v2/images/{await gate.create()}/file")
    assert (answer.status, answer.body) == (204, b"")


async def test_a_killed_image_says_why_it_has_no_data(gate: Gateway) -> None:
    image_id = await gate.create()
    await gate.put(image_id, b"abc", {"x-openstack-image-size": "4"})
    answer = await gate.ask("GET", f"/v2/images/{image_id}/file")
    assert answer.status == 404
    assert "size_mismatch" in answer.message


async def test_the_second_upload_of_an_image_is_409_and_harms_nothing(gate: Gateway) -> None:
    image_id = await gate.active(b"first")
    answer = await gate.put(image_id, b"second")
    assert answer.status == 409
    assert (await gate.ask("GET", f"/v2/images/{image_id}/file")).body == b"first"


async def test_an_image_that_is_not_there_is_404(gate: Gateway) -> None:
    gone = "00000000-0000-4000-8000-000000000000"
    assert (await gate.put(gone, b"x")).status == 404
    assert (await gate.ask("GET", f"/v2/images/{gone}/file")).status == 404


# head, ranges, conditions


async def test_head_is_get_without_the_body(gate: Gateway) -> None:
    image_id = await gate.active(pattern(1000))
    got = await gate.ask("GET", f"/v2/images/{image_id}/file")
    head = await gate.ask("HEAD", f"/v2/images/{image_id}/file")
    assert (head.status, head.body) == (200, b"")
    for name in ("Content-Length", "ETag", "Content-MD5", "Accept-Ranges", "Content-Type"):
        assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=990-", 990, 1000),
        ("bytes=-1", 999, 1000),
        ("bytes=-5000", 0, 1000),
        ("bytes=900-5000", 900, 1000),
        ("bytes=900-18446744073709551615", 900, 1000),
        ("bytes=-0", 0, 1000),
    ],
)
async def test_a_range(gate: Gateway, header: str, start: int, stop: int) -> None:
    data = pattern(1000)
    image_id = await gate.active(data)
    path = f"/v2/images/{image_id}/file"
    got = await gate.ask("GET", path, headers={"Range": header})
    assert got.status == 206
    assert got.body == data[start:stop]
    assert got.headers["Content-Range"] == f"bytes {start}-{stop - 1}/1000"
    head = await gate.ask("HEAD", path, headers={"Range": header})
    assert (head.status, head.headers["Content-Length"]) == (206, str(stop - start))


async def test_a_range_over_parts_of_a_large_image(gate: Gateway) -> None:
    data = pattern(40 * MIB + 7)
    image_id = await gate.active(data)
    start, stop = 15 * MIB + 5, 33 * MIB + 1
    headers = {"Range": f"bytes={start}-{stop - 1}"}
    got = await gate.ask("GET", f"/v2/images/{image_id}/file", headers=headers)
    assert got.status == 206
    assert got.body == data[start:stop]


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=5-4", "bytes=-", "lines=1-2", "bytes=x"])
async def test_an_impossible_range_is_416(gate: Gateway, header: str) -> None:
    image_id = await gate.active(pattern(1000))
    got = await gate.ask("GET", f"/v2/images/{image_id}/file", headers={"Range": header})
    assert got.status == 416
    assert got.headers["Content-Range"] == "bytes */1000"
    assert "Range" in got.message


async def test_several_ranges_are_400(gate: Gateway) -> None:
    path = f"/v2/images/{await gate.active(pattern(100))}/file"
    for method in ("GET", "HEAD"):
        got = await gate.ask(method, path, headers={"Range": "bytes=0-1,5-6"})
        assert got.status == 400


async def test_a_download_takes_no_body(gate: Gateway) -> None:
    for image_id in (await gate.active(b"x"), await gate.create(), ABSENT):
        answer = await gate.ask("GET", f"/v2/images/{image_id}/file", data=b"x")
        assert (answer.status, bool(answer.message)) == (400, True)


async def test_the_old_way_to_ask_for_a_range(gate: Gateway) -> None:
    image_id = await gate.active(pattern(100))
    headers = {"Content-Range": "bytes 10-19/100"}
    got = await gate.ask("GET", f"/v2/images/{image_id}/file", headers=headers)
    assert (got.status, got.body) == (206, pattern(100)[10:20])


async def test_conditions(gate: Gateway) -> None:
    image_id = await gate.active(b"0123456789")
    path = f"/v2/images/{image_id}/file"
    etag = (await gate.ask("GET", path)).headers["ETag"]
    same = await gate.ask("GET", path, headers={"If-None-Match": f'"x", W/{etag}'})
    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", etag)
    other = await gate.ask("GET", path, headers={"If-None-Match": '"x"'})
    assert other.status == 200
    ranged = {"Range": "bytes=5-"}
    kept = await gate.ask("GET", path, headers={**ranged, "If-Range": etag})
    assert (kept.status, kept.body) == (206, b"56789")
    changed = await gate.ask("GET", path, headers={**ranged, "If-Range": '"x"'})
    assert (changed.status, changed.body) == (200, b"0123456789")


async def test_two_images_of_the_same_bytes_have_two_etags(gate: Gateway) -> None:
    etags = set()
    for _ in range(2):
        image_id = await gate.active(b"same")
        etags.add((await gate.ask("HEAD", f"/v2/images/{image_id}/file")).headers["ETag"])
    assert len(etags) == 2


# what the client says of its bytes


def digests_of(data: bytes) -> list[dict[str, str]]:
    md5, sha512, sha256 = (hashlib.new(name, data) for name in ("md5", "sha512", "sha256"))
    return [
        {"Content-MD5": encoded(md5.digest())},
        {"Content-MD5": md5.hexdigest()},
        {"Repr-Digest": f"sha-512=:{encoded(sha512.digest())}:"},
        {"Repr-Digest": f"sha-256=:{encoded(sha256.digest())}:, md5=:{encoded(md5.digest())}:"},
        {"Content-Digest": f"sha-256=:{encoded(sha256.digest())}:"},
    ]


@pytest.mark.parametrize("which", range(5))
async def test_a_right_digest_is_taken_and_a_wrong_one_kills(
    gate: Gateway, store: FaultyStore, which: int
) -> None:
    data = pattern(6 * MIB)
    right = await gate.put(await gate.create(), data, digests_of(data)[which])
    assert right.status == 204
    kept = await objects(store)
    image_id = await gate.create()
    wrong = await gate.put(image_id, data, digests_of(data + b"!")[which])
    assert wrong.status == 400
    assert "digest" in wrong.message.lower()
    assert (await gate.show(image_id))["status"] == "killed"
    assert (await gate.failure(image_id))["reason"] == "digest_mismatch"
    assert await objects(store) == kept
    assert await unfinished(store) == []


@pytest.mark.parametrize("size", [0, 10, 5 * MIB, 40 * MIB])
@pytest.mark.parametrize("off", [-1, 1])
@pytest.mark.parametrize("framed", [True, False], ids=["length", "chunked"])
async def test_another_size_than_was_announced_kills(
    gate: Gateway, store: FaultyStore, size: int, off: int, framed: bool
) -> None:
    announced = max(0, size + off)
    data = pattern(size) if announced != size else pattern(1)

    async def pieces() -> Any:
        yield data

    image_id = await gate.create()
    answer = await gate.put(
        image_id, data if framed else pieces(), {"x-openstack-image-size": str(announced)}
    )
    assert answer.status == 400
    assert str(announced) in answer.message
    assert (await gate.show(image_id))["status"] == "killed"
    failure = await gate.failure(image_id)
    assert failure["reason"] == "size_mismatch"
    assert failure["request_id"] == answer.headers["x-openstack-request-id"]
    assert await objects(store) == {}
    assert await unfinished(store) == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json"}, 415),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "octet-stream"}, 415),
        ({"Content-Type": "application/octet-stream, text/plain"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Content-MD5": "xyz"}, 400),
        ({"Repr-Digest": "sha-512=abc"}, 400),
        ({"Repr-Digest": "crc32c=:AAAA:"}, 400),
        ({"x-openstack-image-size": "-1"}, 400),
        ({"x-openstack-image-size": "many"}, 400),
        ({"x-image-meta-store": "nowhere"}, 400),
    ],
)
async def test_what_cannot_be_is_refused_and_leaves_the_image_queued(
    gate: Gateway, headers: dict[str, str], status: int
) -> None:
    image_id = await gate.create()
    answer = await gate.put(image_id, b"data", headers)
    assert answer.status == status
    assert answer.message
    assert (await gate.show(image_id))["status"] == "queued"
    assert (await gate.put(image_id, b"data")).status == 204


@pytest.mark.parametrize("line", [(), ("Content-Type:",)], ids=["none", "empty"])
async def test_data_of_no_said_type_is_415(gate: Gateway, line: tuple[str, ...]) -> None:
    image_id = await gate.create()
    lines = [f"PUT /v2/images/{image_id}/file HTTP/1.1", "Host: 127.0.0.1", *line,
             "Content-Length: 3", "Connection: close"]  # fmt: skip
    answer = await raw(gate.port, "\r\n".join([*lines, "", "abc"]).encode(), until=b"}}")
    assert answer.startswith(b"HTTP/1.1 415 ")
    assert (await gate.show(image_id))["status"] == "queued"


@pytest.mark.parametrize("kind", [f"{DATA}; x=y", "Application/Octet-Stream"])
async def test_the_type_of_data_in_other_words(gate: Gateway, kind: str) -> None:
    image_id = await gate.create()
    assert (await gate.put(image_id, b"abc", {"Content-Type": kind})).status == 204


async def test_more_than_the_largest_image_is_413(store: FaultyStore, tmp_path: Path) -> None:
    async with running(store, tmp_path, uploads={"max_image_size": "1MiB"}) as gate:
        image_id = await gate.create()
        assert (await gate.put(image_id, pattern(MIB + 1))).status == 413
        assert (await gate.show(image_id))["status"] == "queued"

        async def pieces() -> Any:
            yield pattern(MIB)
            yield b"!"

        answer = await gate.put(image_id, pieces())
        assert answer.status == 413
        assert (await gate.failure(image_id))["reason"] == "too_large"
    assert await objects(store) == {}


async def test_a_size_out_of_reach_names_the_budget(tmp_path: Path) -> None:
    store = FaultyStore(MemoryStore())
    uploads = {"memory_budget": "16MiB", "max_image_size": "1PiB"}
    async with running(store, tmp_path, uploads=uploads) as gate:
        image_id = await gate.create()
        head = (
            f"PUT /v2/images/{image_id}/file HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Content-Type: {DATA}\r\nContent-Length: {2**38}\r\nConnection: close\r\n\r\n"
        )
        answer = await raw(gate.port, head.encode(), until=b"}}")
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"memory_budget" in answer
        assert (await gate.show(image_id))["status"] == "queued"


# stores that fail


async def test_a_store_that_takes_no_data_is_410_and_leaves_the_image_queued(
    gate: Gateway,
) -> None:
    image_id = await gate.create()
    for path in ("file", "stage"):
        answer = await gate.put(image_id, b"x", {"x-image-meta-store": "http"}, path=path)
        assert (answer.status, "store" in answer.message) == (410, True)
    assert (await gate.show(image_id))["status"] == "queued"


@pytest.mark.parametrize("call", ["begin", "put_part", "complete"])
async def test_a_store_that_fails_is_502_and_kills(
    gate: Gateway, store: FaultyStore, call: str
) -> None:
    store.fail(call, StoreDown(store.id, "it answered 503"))
    image_id = await gate.create()
    answer = await gate.put(image_id, pattern(40 * MIB))
    assert answer.status == 502
    assert (await gate.show(image_id))["status"] == "killed"
    failure = await gate.failure(image_id)
    assert failure["reason"] == "store"
    assert failure["where"].startswith(call.replace("put_", ""))
    assert await objects(store) == {}
    assert await unfinished(store) == []


async def test_a_full_store_is_413(gate: Gateway, store: FaultyStore) -> None:
    store.fail("put", StoreFull(store.id, "no room"))
    image_id = await gate.create()
    assert (await gate.put(image_id, b"x")).status == 413
    assert (await gate.show(image_id))["status"] == "killed"


async def test_a_store_that_is_down_for_a_download_is_503(
    gate: Gateway, store: FaultyStore
) -> None:
    image_id = await gate.active(b"x")
    store.fail("read", StoreDown(store.id, "it answered 503"))
    answer = await gate.ask("GET", f"/v2/images/{image_id}/file")
    assert answer.status == 503
    assert answer.headers["Retry-After"]


async def test_bytes_that_changed_in_the_store_never_end_well(
    gate: Gateway, store: FaultyStore
) -> None:
    data = pattern(3 * MIB)
    image_id = await gate.active(data)
    (key,) = await objects(store)
    assert isinstance(store.inner, MemoryStore)
    store.inner.publish(key, data[: 2 * MIB] + b"!" + data[2 * MIB + 1 :])
    answer = await raw(
        gate.port,
        f"GET /v2/images/{image_id}/file HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        "Connection: close\r\n\r\n".encode(),
    )
    assert b"200 OK" in answer[:20]
    assert len(answer.partition(b"\r\n\r\n")[2]) < len(data)


# attempts


async def test_the_attempts_of_an_image_are_listed(gate: Gateway) -> None:
    image_id = await gate.create()
    path = f"/v2/images/{image_id}/uploads"
    assert (await gate.ask("GET", path)).json == {"uploads": []}
    await gate.put(image_id, b"abc")
    (attempt,) = (await gate.ask("GET", path)).json["uploads"]
    assert attempt["image_id"] == image_id
    assert attempt["received"] == attempt["expected_size"] == 3
    assert attempt["failure"] is None
    assert attempt["ended_at"] is not None
