"""Image API v1: metadata in headers."""

import hashlib
from typing import Any

import pytest
from tests.kit.gateway import DATA, Answer, Gateway
from tests.kit.sources import pattern
from tests.kit.stores import FaultyStore, objects, unfinished

from tidegate.domain.errors import StoreDown

FORMATS = {"x-image-meta-disk_format": "raw", "x-image-meta-container_format": "bare"}


async def post(gate: Gateway, data: Any = None, **meta: str) -> Answer:
    headers = {**FORMATS, **{f"x-image-meta-{name}": value for name, value in meta.items()}}
    if data is not None:
        headers["Content-Type"] = DATA
    return await gate.ask("POST", "/v1/images", data=data, headers=headers)


async def test_a_body_makes_an_active_image(gate: Gateway) -> None:
    data = pattern(100_000)
    answer = await post(gate, data, name="one", **{"property-colour": "red"})
    assert answer.status == 201
    image = answer.json["image"]
    checksum = hashlib.md5(data).hexdigest()
    assert image["status"] == "active"
    assert image["size"] == len(data)
    assert image["checksum"] == answer.headers["ETag"] == checksum
    assert image["properties"] == {"colour": "red"}
    assert answer.headers["Location"] == f"{gate.url}/v1/images/{image['id']}"
    got = await gate.ask("GET", f"/v1/images/{image['id']}")
    assert got.body == data
    assert got.headers["x-image-meta-status"] == "active"
    assert got.headers["x-image-meta-checksum"] == checksum
    assert got.headers["x-image-meta-property-colour"] == "red"


async def test_no_body_makes_a_queued_image_that_put_fills(gate: Gateway) -> None:
    image = (await post(gate, name="two")).json["image"]
    assert image["status"] == "queued"
    answer = await gate.ask(
        "PUT", f"/v1/images/{image['id']}", data=b"bytes", headers={"Content-Type": DATA}
    )
    assert answer.status == 200
    assert answer.json["image"]["status"] == "active"
    assert (await gate.ask("GET", f"/v1/images/{image['id']}")).body == b"bytes"


async def test_a_second_fill_is_409(gate: Gateway) -> None:
    image_id = (await post(gate, b"bytes")).json["image"]["id"]
    answer = await gate.ask(
        "PUT", f"/v1/images/{image_id}", data=b"other", headers={"Content-Type": DATA}
    )
    assert answer.status == 409
    assert (await gate.ask("GET", f"/v1/images/{image_id}")).body == b"bytes"


async def test_size_zero_is_active_at_once(gate: Gateway) -> None:
    image = (await post(gate, size="0")).json["image"]
    assert (image["status"], image["size"]) == ("active", 0)
    assert (await gate.ask("GET", f"/v2/images/{image['id']}/file")).body == b""


async def test_head_is_the_metadata(gate: Gateway) -> None:
    image_id = (await post(gate, b"bytes", name="three")).json["image"]["id"]
    answer = await gate.ask("HEAD", f"/v1/images/{image_id}")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["x-image-meta-id"] == image_id
    assert answer.headers["x-image-meta-name"] == "three"
    assert answer.headers["x-image-meta-size"] == "5"


async def test_delete(gate: Gateway, store: FaultyStore) -> None:
    image_id = (await post(gate, b"bytes")).json["image"]["id"]
    assert (await gate.ask("DELETE", f"/v1/images/{image_id}")).status == 200
    assert (await gate.ask("GET", f"/v1/images/{image_id}")).status == 404
    assert await objects(store) == {}


async def test_another_size_than_was_announced_kills(gate: Gateway, store: FaultyStore) -> None:
    answer = await post(gate, b"bytes", size="6", name="short")
    assert answer.status == 400
    (image,) = (await gate.ask("GET", "/v2/images")).json["images"]
    assert image["status"] == "killed"
    assert await objects(store) == {}


async def test_another_checksum_than_was_announced_kills(gate: Gateway, store: FaultyStore) -> None:
    answer = await post(gate, b"bytes", checksum="0" * 32)
    assert answer.status == 400
    (image,) = (await gate.ask("GET", "/v2/images")).json["images"]
    assert image["status"] == "killed"
    assert (await gate.failure(image["id"]))["reason"] == "digest_mismatch"
    assert await objects(store) == {}


async def test_a_wrong_content_type_kills(gate: Gateway) -> None:
    answer = await gate.ask(
        "POST", "/v1/images", data=b"{}", headers={**FORMATS, "Content-Type": "text/plain"}
    )
    assert answer.status == 400
    (image,) = (await gate.ask("GET", "/v2/images")).json["images"]
    assert image["status"] == "killed"


async def test_a_store_that_fails_is_502_and_kills(gate: Gateway, store: FaultyStore) -> None:
    store.fail("put", StoreDown(store.id, "it answered 503"))
    assert (await post(gate, b"bytes")).status == 502
    (image,) = (await gate.ask("GET", "/v2/images")).json["images"]
    assert image["status"] == "killed"
    assert await objects(store) == {}
    assert await unfinished(store) == []


@pytest.mark.parametrize(
    "meta",
    [
        {"disk_format": "floppy"},
        {"container_format": "box"},
        {"disk_format": "ami", "container_format": "bare"},
        {"size": "-1"},
        {"size": "many"},
        {"min_ram": "x"},
        {"id": "not-a-uuid"},
        {"checksum": "xyz"},
        {"name": "n" * 256},
        {"bogus": "1"},
        {"created_at": "yesterday"},
        {"location": "file:///etc/passwd"},
        {"location": ""},
    ],
)
async def test_bad_headers_are_400_and_make_no_image(gate: Gateway, meta: dict[str, str]) -> None:
    answer = await post(gate, **meta)
    assert answer.status == 400
    assert answer.message
    assert (await gate.ask("GET", "/v2/images")).json["images"] == []


async def test_data_without_formats_makes_no_image(gate: Gateway) -> None:
    answer = await gate.ask(
        "POST", "/v1/images", data=b"x", headers={"Content-Type": DATA, "x-image-meta-name": "n"}
    )
    assert answer.status == 400
    assert (await gate.ask("GET", "/v2/images")).json["images"] == []


async def test_a_location_and_a_body_at_once_is_400(gate: Gateway) -> None:
    answer = await post(gate, b"x", location="http://127.0.0.1/x")
    assert answer.status == 400
    assert "multiple image sources" in answer.message


async def test_put_changes_and_purges_properties(gate: Gateway) -> None:
    image_id = (await post(gate, **{"property-a": "1", "property-b": "2"})).json["image"]["id"]
    path = f"/v1/images/{image_id}"
    headers = {"x-image-meta-property-a": "3", "x-glance-registry-purge-props": "false"}
    kept = await gate.ask("PUT", path, headers=headers)
    assert kept.json["image"]["properties"] == {"a": "3", "b": "2"}
    purged = await gate.ask("PUT", path, headers={"x-image-meta-property-a": "4"})
    assert purged.json["image"]["properties"] == {"a": "4"}


async def test_what_is_fixed_cannot_be_changed(gate: Gateway) -> None:
    image_id = (await post(gate, b"bytes")).json["image"]["id"]
    for name, value in (("size", "9"), ("status", "queued"), ("checksum", "0" * 32)):
        answer = await gate.ask(
            "PUT", f"/v1/images/{image_id}", headers={f"x-image-meta-{name}": value}
        )
        assert answer.status == 403, name


async def test_an_id_that_is_taken_is_409(gate: Gateway) -> None:
    image_id = (await post(gate)).json["image"]["id"]
    assert (await post(gate, id=image_id)).status == 409


async def test_a_v2_image_is_seen_by_v1_and_the_other_way(gate: Gateway) -> None:
    first = await gate.active(b"v2", name="from v2")
    second = (await post(gate, b"v1", name="from v1")).json["image"]["id"]
    assert (await gate.ask("GET", f"/v1/images/{first}")).body == b"v2"
    assert (await gate.ask("GET", f"/v2/images/{second}/file")).body == b"v1"
