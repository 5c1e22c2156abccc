"""Image API v1: data on its way in, and what becomes of it that does not arrive."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.kit.gateway import DATA, Gateway, raw, running
from tests.kit.identity import Named
from tests.kit.server import until
from tests.kit.stores import FaultyStore, objects, unfinished
from tests.kit.v1 import FORMATS, OWNER, head, made, meta, post, put

from tidegate.domain.errors import ObjectMissing, StoreDown, StoreError, StoreFull, StoreReadOnly


async def status(gate: Gateway, image_id: str) -> str:
    found: str = (await head(gate, image_id)).headers["x-image-meta-status"]
    return found


async def until_saving(gate: Gateway, image_id: str) -> None:
    async def saving() -> bool:
        return await status(gate, image_id) == "saving"

    await until(saving, "the image to be saving")


class Held:
    """A chunked body whose end waits."""

    def __init__(self) -> None:
        self.released = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"by"
        await self.released.wait()
        yield b"tes"


@pytest.mark.parametrize("framed", [True, False])
async def test_a_body_of_either_framing_fills(shared_gate: Gateway, framed: bool) -> None:
    image_id = await made(shared_gate)
    held = Held()
    held.released.set()
    answer = await shared_gate.ask(
        "PUT",
        f"/v1/images/{image_id}",
        data=b"bytes" if framed else held.__aiter__(),
        headers={**OWNER, "Content-Type": DATA},
    )
    assert answer.status == 200
    assert (await shared_gate.ask("GET", f"/v1/images/{image_id}", headers=OWNER)).body == b"bytes"


@pytest.mark.parametrize("kind", [DATA, f"{DATA}; charset=x", "Application/Octet-Stream"])
async def test_kinds_that_are_data(shared_gate: Gateway, kind: str) -> None:
    answer = await post(shared_gate, b"bytes", more={"Content-Type": kind})
    assert answer.json["image"]["status"] == "active"


@pytest.mark.parametrize("kind", [None, "", "text/plain", "application/json", "octet-stream"])
async def test_another_kind_is_400_and_kills(
    shared_gate: Gateway, store: FaultyStore, kind: str | None
) -> None:
    image_id = await made(shared_gate)
    headers = {**OWNER, "Host": "127.0.0.1", "Content-Length": "5", "Connection": "close"}
    if kind is not None:
        headers["Content-Type"] = kind
    lines = [f"{name}: {text}" for name, text in headers.items()]
    text = "\r\n".join([f"PUT /v1/images/{image_id} HTTP/1.1", *lines, "", "bytes"])
    found = await raw(shared_gate.port, text.encode())
    assert found.startswith(b"HTTP/1.1 400 ")
    assert b"Content-Type must be application/octet-stream" in found
    assert await status(shared_gate, image_id) == "killed"
    assert await objects(store) == {}


async def test_a_put_without_a_body_needs_no_kind(shared_gate: Gateway) -> None:
    image_id = await made(shared_gate)
    answer = await put(shared_gate, image_id, b"", more={"Content-Length": "0"}, name="x")
    assert answer.json["image"]["status"] == "queued"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreFull("memory", "no room"), 413),
        (StoreReadOnly("memory", "it takes no data"), 502),
        (StoreDown("memory", "it answered 503"), 502),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_store_that_fails_kills(
    shared_gate: Gateway, store: FaultyStore, method: str, error: StoreError, code: int
) -> None:
    image_id = "0c7e5b1e-8a54-4c5d-9d0e-0f4f6a3b2c11"
    if method == "PUT":
        await made(shared_gate, id=image_id)
    store.fail("put", error)
    if method == "PUT":
        answer = await put(shared_gate, image_id, b"bytes")
    else:
        answer = await post(shared_gate, b"bytes", id=image_id)
    assert answer.status == code
    assert answer.message
    assert await status(shared_gate, image_id) == "killed"
    assert await objects(store) == {}
    assert await unfinished(store) == []


async def test_more_than_the_cap_without_a_length_is_413_and_kills(
    store: FaultyStore, tmp_path: Path
) -> None:
    uploads = {"max_image_size": 4}
    async with running(store, tmp_path, identity=Named(), uploads=uploads) as gate:
        image_id = await made(gate)
        held = Held()
        held.released.set()
        answer = await gate.ask(
            "PUT",
            f"/v1/images/{image_id}",
            data=held.__aiter__(),
            headers={**OWNER, "Content-Type": DATA},
        )
        assert answer.status == 413
        assert await status(gate, image_id) == "killed"
        assert await objects(store) == {}


async def test_deleted_meanwhile_is_412_and_leaves_nothing(
    shared_gate: Gateway, store: FaultyStore
) -> None:
    image_id = await made(shared_gate)
    held = Held()
    filling = asyncio.ensure_future(
        shared_gate.ask(
            "PUT",
            f"/v1/images/{image_id}",
            data=held.__aiter__(),
            headers={**OWNER, "Content-Type": DATA},
        )
    )
    await until_saving(shared_gate, image_id)
    answer = await shared_gate.ask("DELETE", f"/v1/images/{image_id}", headers=OWNER)
    assert answer.status == 200
    held.released.set()
    filled = await filling
    assert filled.status == 412
    assert filled.message
    assert (await head(shared_gate, image_id)).status == 404
    assert await objects(store) == {}


async def test_of_two_bodies_at_once_one_wins_and_the_other_changes_nothing(
    shared_gate: Gateway, store: FaultyStore
) -> None:
    image_id = await made(shared_gate, name="first")
    held = Held()
    filling = asyncio.ensure_future(
        shared_gate.ask(
            "PUT",
            f"/v1/images/{image_id}",
            data=held.__aiter__(),
            headers={**OWNER, "Content-Type": DATA, **meta(name="winner")},
        )
    )
    await until_saving(shared_gate, image_id)
    answer = await put(shared_gate, image_id, b"other", name="loser", checksum="0" * 32)
    assert answer.status == 409
    held.released.set()
    image = (await filling).json["image"]
    assert (image["status"], image["name"]) == ("active", "winner")
    assert len(await objects(store)) == 1


async def test_many_at_once_leave_one_image_and_one_object(
    shared_gate: Gateway, store: FaultyStore
) -> None:
    image_id = await made(shared_gate)
    answers = await asyncio.gather(
        *(put(shared_gate, image_id, f"body {number}".encode()) for number in range(8))
    )
    assert sorted(answer.status for answer in answers) == [200, *[409] * 7]
    assert await status(shared_gate, image_id) == "active"
    assert len(await objects(store)) == 1


async def test_of_many_at_once_the_winners_words_come_with_its_bytes(
    shared_gate: Gateway,
) -> None:
    image_id = await made(shared_gate, size=6)
    bodies = [f"body {number}".encode() for number in range(8)]
    answers = await asyncio.gather(
        *(
            put(
                shared_gate, image_id, body, name=body.decode(), property_of=body.decode(),
                checksum=hashlib.md5(body).hexdigest(),
            )
            for body in bodies
        )
    )  # fmt: skip
    (winner,) = [body for body, answer in zip(bodies, answers, strict=True) if answer.status == 200]
    got = await shared_gate.ask("GET", f"/v1/images/{image_id}", headers=OWNER)
    assert got.body == winner
    assert got.headers["x-image-meta-name"] == winner.decode()
    assert got.headers["x-image-meta-property-of"] == winner.decode()


async def test_a_body_replaces_what_was_announced_of_it(shared_gate: Gateway) -> None:
    image_id = await made(shared_gate, size=3, checksum="0" * 32)
    answer = await put(shared_gate, image_id, b"bytes", size=5, checksum="")
    assert answer.json["image"]["status"] == "active"


@pytest.mark.parametrize(
    "refused",
    [meta(disk_format="floppy"), meta(bogus="1"), meta(store="nowhere"), meta(size="x"),
     meta(is_public="true")],
)  # fmt: skip
async def test_what_can_be_refused_before_the_data_is(
    shared_gate: Gateway, refused: dict[str, str]
) -> None:
    headers = {**OWNER, **meta(**FORMATS), **refused, "Content-Type": DATA,
               "Content-Length": "5", "Expect": "100-continue", "Host": "127.0.0.1"}  # fmt: skip
    lines = ["POST /v1/images HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items())]
    found = await raw(shared_gate.port, "\r\n".join([*lines, "", ""]).encode(), until=b"\r\n\r\n")
    assert found.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 403 "))


async def test_a_store_that_is_down_for_a_read_is_503(
    shared_gate: Gateway, store: FaultyStore
) -> None:
    image_id = await made(shared_gate, b"bytes")
    store.fail("read", StoreDown(store.id, "it answered 503"))
    answer = await shared_gate.ask("GET", f"/v1/images/{image_id}", headers=OWNER)
    assert answer.status == 503
    store.fail("read", ObjectMissing(store.id, "no such object"))
    answer = await shared_gate.ask("GET", f"/v1/images/{image_id}", headers=OWNER)
    assert answer.status == 404
