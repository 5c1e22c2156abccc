"""Image API v1: how headers are read and written, rule by rule."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.kit.gateway import DATA, Gateway, running
from tests.kit.identity import ADMIN, Named, of
from tests.kit.stores import FaultyStore, objects
from tests.kit.v1 import FORMATS, OWNER, head, made, meta, post, put

from tidegate.catalog.base import AddLocation, ImageChange, RemoveLocation, Viewer
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.image import Image, Location, Visibility
from tidegate.domain.status import Event

MAX = 2**63 - 1


async def count(gate: Gateway) -> int:
    """How many images there are, of anybody."""
    query = "is_public=none&changes-since=2001-01-01"
    return len((await gate.ask("GET", f"/v1/images?{query}", headers=ADMIN)).json["images"])


# reading


@pytest.mark.parametrize("name", ["disk_format", "Disk-Format", "DISK_FORMAT", "disk-format"])
async def test_names_do_not_heed_case_and_dashes(shared_gate: Gateway, name: str) -> None:
    headers = {**OWNER, f"X-Image-Meta-{name}": "iso"}
    answer = await shared_gate.ask("POST", "/v1/images", headers=headers)
    assert answer.json["image"]["disk_format"] == "iso"


async def test_names_of_properties_are_lowered(shared_gate: Gateway) -> None:
    headers = {**OWNER, "X-Image-Meta-Property-OS-Distro": "Debian"}
    answer = await shared_gate.ask("POST", "/v1/images", headers=headers)
    assert answer.json["image"]["properties"] == {"os_distro": "Debian"}


@pytest.mark.parametrize(
    "name",
    ["visibility", "tags", "locations", "purge-props", "os_hidden", "bogus", "os_hash_value"],
)
async def test_an_unknown_header_is_400(shared_gate: Gateway, name: str) -> None:
    image_id = await made(shared_gate)
    answer = await post(shared_gate, **{name: "1"})
    assert answer.status == 400
    assert answer.message == f"Bad header: x-image-meta-{name}"
    assert (await put(shared_gate, image_id, **{name: "1"})).status == 400
    assert await count(shared_gate) == 1


@pytest.mark.parametrize("name", ["uri", "copy_from", "deleted", "status", "created_at",
                                  "updated_at", "deleted_at"])  # fmt: skip
async def test_some_are_taken_and_mean_nothing(shared_gate: Gateway, name: str) -> None:
    value = "2018-01-10T10:37:53" if name.endswith("_at") else "active"
    image = (await post(shared_gate, **{name: value})).json["image"]
    assert image["status"] == "queued"
    assert image["deleted"] is False
    assert image["created_at"] > "2019"
    if name != "status":
        assert (await put(shared_gate, image["id"], **{name: value})).status == 200


@pytest.mark.parametrize("value", ["1", "t", "TRUE", "on", "Y", " yes "])
async def test_what_is_true(shared_gate: Gateway, value: str) -> None:
    assert (await post(shared_gate, protected=value)).json["image"]["protected"] is True


@pytest.mark.parametrize("value", ["0", "false", "", "2", "truth", "nonsense"])
async def test_all_else_is_false(shared_gate: Gateway, value: str) -> None:
    assert (await post(shared_gate, protected=value)).json["image"]["protected"] is False


@pytest.mark.parametrize("name", ["size", "min_disk", "min_ram", "virtual_size"])
@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", "0x1", "9" * 30])
async def test_what_is_no_number_is_400(shared_gate: Gateway, name: str, value: str) -> None:
    answer = await post(shared_gate, **{name: value})
    assert answer.status == 400
    assert name in answer.message
    assert await count(shared_gate) == 0


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("min_disk", 2**31 - 1, 201),
        ("min_disk", 2**31, 400),
        ("min_ram", 2**31 - 1, 201),
        ("min_ram", 2**31, 400),
        ("virtual_size", "None", 201),
        ("virtual_size", MAX, 201),
        ("min_ram", "None", 400),
        ("name", "n" * 255, 201),
        ("name", "n" * 256, 400),
        ("name", "\U0001f600", 201),
        ("name", "näme", 201),
        ("owner", "o" * 255, 201),
        ("owner", "o" * 256, 400),
        ("checksum", "A" * 32, 201),
        ("checksum", "a" * 33, 400),
        ("created_at", "1899-12-31", 400),
        ("created_at", "1900-01-01T00:00:00Z", 201),
        ("updated_at", "soon", 400),
        ("deleted_at", "soon", 400),
        ("disk_format", "", 400),
        ("container_format", "", 400),
        ("disk_format", "RAW", 400),
        ("id", "nope", 400),
        ("store", "nowhere", 400),
        ("property_", "x", 400),
        ("property_os_glance_x", "x", 403),
        ("property_" + "x" * 256, "x", 400),
    ],
)
async def test_limits(shared_gate: Gateway, name: str, value: Any, code: int) -> None:
    answer = await post(shared_gate, who=ADMIN, **{name: value})
    assert answer.status == code
    assert await count(shared_gate) == (1 if code == 201 else 0)


@pytest.mark.parametrize(
    "name", ["name", "owner", "visibility", "tags", "status", "protected", "self", "locations",
             "size", "stores"]
)  # fmt: skip
async def test_a_property_with_a_fields_name_is_refused(shared_gate: Gateway, name: str) -> None:
    image_id = await made(shared_gate, name="x")
    assert (await post(shared_gate, **{f"property_{name}": "public"})).status == 403
    assert (await put(shared_gate, image_id, **{f"property_{name}": "public"})).status == 403
    assert await count(shared_gate) == 1


async def test_what_is_empty_is_null(shared_gate: Gateway) -> None:
    image = (await post(shared_gate, name="", property_a="", property_b="1")).json["image"]
    assert image["name"] is None
    assert image["properties"] == {"a": None, "b": "1"}
    answer = await head(shared_gate, image["id"])
    assert "x-image-meta-name" not in answer.headers
    assert "x-image-meta-property-a" not in answer.headers
    assert answer.headers["x-image-meta-property-b"] == "1"


async def test_text_is_utf_8_both_ways(shared_gate: Gateway) -> None:
    image_id = await made(shared_gate, name="näme \U0001f600", property_a="ü")
    answer = await head(shared_gate, image_id)
    assert answer.headers["x-image-meta-name"] == "näme \U0001f600"
    assert answer.headers["x-image-meta-property-a"] == "ü"


@pytest.mark.parametrize(
    ("agent", "kept"),
    [("python-glanceclient", "näme 100%"), ("curl/8", "n%C3%A4me%20100%25")],
)
async def test_the_client_that_quotes_is_understood(
    shared_gate: Gateway, agent: str, kept: str
) -> None:
    more = {"User-Agent": agent}
    image = (await post(shared_gate, more=more, name="n%C3%A4me%20100%25")).json["image"]
    assert image["name"] == kept


@pytest.mark.parametrize("name", ["%FF", "a%0Ab", "%00"])
async def test_what_it_quotes_is_text_all_the_same(shared_gate: Gateway, name: str) -> None:
    more = {"User-Agent": "python-glanceclient"}
    assert (await post(shared_gate, more=more, name=name)).status == 400
    assert await count(shared_gate) == 0


@pytest.mark.parametrize(
    ("given", "kept", "code"),
    [
        ({"disk_format": "aki"}, "aki", 201),
        ({"container_format": "ari"}, "ari", 201),
        ({"disk_format": "ami", "container_format": "ami"}, "ami", 201),
        ({"disk_format": "ami", "container_format": "aki"}, None, 400),
        ({"disk_format": "ami", "container_format": "bare"}, None, 400),
        ({"disk_format": "raw", "container_format": "ari"}, None, 400),
    ],
)
async def test_amazons_kinds_come_in_pairs(
    shared_gate: Gateway, given: dict[str, str], kept: str | None, code: int
) -> None:
    answer = await shared_gate.ask("POST", "/v1/images", headers={**OWNER, **meta(**given)})
    assert answer.status == code
    if kept is not None:
        image = answer.json["image"]
        assert image["disk_format"] == image["container_format"] == kept


# writing


async def test_head_and_get_have_the_same_headers(shared_gate: Gateway) -> None:
    image_id = await made(shared_gate, b"hello", name="x", min_disk=1, property_distro="none")
    path = f"/v1/images/{image_id}"
    for method in ("HEAD", "GET"):
        answer = await shared_gate.ask(method, path, headers=OWNER)
        found = {
            name.lower().removeprefix("x-image-meta-"): value
            for name, value in answer.headers.items()
            if name.lower().startswith("x-image-meta-")
        }
        for name in ("created_at", "updated_at"):
            assert len(found.pop(name)) == len("2018-01-10T10:37:53.000000")
        assert found == {
            "id": image_id, "name": "x", "status": "active", "size": "5",
            "checksum": "5d41402abc4b2a76b9719d911017c592", "disk_format": "raw",
            "container_format": "bare", "is_public": "False", "protected": "False",
            "deleted": "False", "min_ram": "0", "min_disk": "1", "owner": "p1",
            "virtual_size": "5", "property-distro": "none",
        }  # fmt: skip
        assert answer.headers["ETag"] == "5d41402abc4b2a76b9719d911017c592"
        assert answer.headers["Content-Type"] == DATA
        assert answer.headers["Content-Length"] == ("0" if method == "HEAD" else "5")
        assert answer.headers["X-Openstack-Request-Id"].startswith("req-")


async def test_what_is_no_header_is_in_json_alone(
    shared_gate: Gateway, catalog: SqlCatalog
) -> None:
    properties = {"two words": "1", "os_glance_x": "1", "CamelCase": "1", "plain": "a\r\nb: c"}
    image = Image(id="0" * 8 + "-0000-0000-0000-" + "0" * 12, owner="p1", properties=properties)
    await catalog.create_image(image)
    answer = await head(shared_gate, image.id)
    names = {name.lower() for name in answer.headers if "property" in name.lower()}
    assert names == {"x-image-meta-property-camelcase", "x-image-meta-property-plain"}
    assert answer.headers["x-image-meta-property-plain"] == "a%0D%0Ab: c"
    (shown,) = (await shared_gate.ask("GET", "/v1/images/detail", headers=OWNER)).json["images"]
    assert shown["properties"].keys() == {"two words", "CamelCase", "plain"}


async def test_no_answer_shows_a_location(shared_gate: Gateway) -> None:
    url = "http://127.0.0.1:80/secret"
    answer = await post(shared_gate, location=url, size=5)
    assert answer.status == 201
    image_id = answer.json["image"]["id"]
    for found in (
        answer,
        await head(shared_gate, image_id),
        await shared_gate.ask("GET", "/v1/images/detail", headers=ADMIN),
    ):
        assert b"secret" not in found.body
        assert "secret" not in str(found.headers)


# whose it is, who sees it


@pytest.mark.parametrize(
    ("who", "given", "kept"),
    [(OWNER, "p9", "p1"), (OWNER, "", "p1"), (ADMIN, "p9", "p9"), (ADMIN, "", None)],
)
async def test_only_admins_name_an_owner(
    shared_gate: Gateway, who: Mapping[str, str], given: str, kept: str | None
) -> None:
    assert (await post(shared_gate, who=who, owner=given)).json["image"]["owner"] == kept
    image_id = await made(shared_gate)
    changed = await put(shared_gate, image_id, who=who, owner=given)
    assert changed.json["image"]["owner"] == kept


async def test_only_admins_publish(shared_gate: Gateway) -> None:
    image_id = await made(shared_gate)
    assert (await post(shared_gate, is_public="true")).status == 403
    assert (await put(shared_gate, image_id, is_public="true")).status == 403
    assert (await post(shared_gate, is_public="false")).status == 201
    published = await put(shared_gate, image_id, who=ADMIN, is_public="true")
    assert published.json["image"]["is_public"] is True
    assert (await head(shared_gate, image_id, of("p9"))).status == 200


@pytest.mark.parametrize(
    ("before", "is_public", "after"),
    [
        (Visibility.PRIVATE, None, Visibility.PRIVATE),
        (Visibility.COMMUNITY, None, Visibility.COMMUNITY),
        (Visibility.PUBLIC, None, Visibility.PUBLIC),
        (Visibility.PRIVATE, "false", Visibility.PRIVATE),
        (Visibility.COMMUNITY, "false", Visibility.COMMUNITY),
        (Visibility.SHARED, "false", Visibility.SHARED),
        (Visibility.PUBLIC, "false", Visibility.SHARED),
        (Visibility.PRIVATE, "true", Visibility.PUBLIC),
    ],
)
async def test_what_is_public_says_of_visibility(
    shared_gate: Gateway,
    catalog: SqlCatalog,
    before: Visibility,
    is_public: str | None,
    after: Visibility,
) -> None:
    image_id = await made(shared_gate)
    await catalog.change_image(image_id, ImageChange(fields={"visibility": before.value}))
    given = {} if is_public is None else {"is_public": is_public}
    await put(shared_gate, image_id, who=ADMIN, name="x", **given)
    found = await catalog.get_image(image_id, Viewer(admin=True))
    assert found.visibility is after


@pytest.mark.parametrize(
    ("visibility", "code"),
    [(Visibility.PUBLIC, 403), (Visibility.PRIVATE, 404), (Visibility.SHARED, 404),
     (Visibility.COMMUNITY, 404)],
)  # fmt: skip
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_anothers_image(
    shared_gate: Gateway, catalog: SqlCatalog, method: str, visibility: Visibility, code: int
) -> None:
    image_id = await made(shared_gate)
    await catalog.put_member(image_id, "p2")
    await catalog.change_image(image_id, ImageChange(fields={"visibility": visibility.value}))
    answer = await shared_gate.ask(method, f"/v1/images/{image_id}", headers=of("p2"))
    assert answer.status == code
    assert (await head(shared_gate, image_id)).status == 200


async def test_a_community_image_is_had_by_its_id(
    shared_gate: Gateway, catalog: SqlCatalog
) -> None:
    image_id = await made(shared_gate, b"bytes")
    await catalog.change_image(image_id, ImageChange(fields={"visibility": "community"}))
    got = await shared_gate.ask("GET", f"/v1/images/{image_id}", headers=of("p2"))
    assert got.body == b"bytes"
    assert got.headers["x-image-meta-is_public"] == "False"


# changing


async def test_formats_of_an_active_image_may_change(shared_gate: Gateway) -> None:
    image_id = await made(shared_gate, b"bytes")
    answer = await put(shared_gate, image_id, disk_format="iso", container_format="ovf")
    assert answer.status == 200
    assert answer.json["image"]["disk_format"] == "iso"
    assert answer.headers["ETag"] == answer.json["image"]["checksum"]
    assert "Location" not in answer.headers


@pytest.mark.parametrize(
    ("purge", "left"),
    [(None, {"a"}), ("true", {"a"}), ("1", {"a"}), ("false", {"a", "b"}), ("", {"a", "b"}),
     ("nonsense", {"a", "b"})],
)  # fmt: skip
async def test_purging(shared_gate: Gateway, purge: str | None, left: set[str]) -> None:
    image_id = await made(shared_gate, property_a="1", property_b="2")
    more = {} if purge is None else {"x-glance-registry-purge-props": purge}
    answer = await put(shared_gate, image_id, more=more, property_a="3")
    assert answer.json["image"]["properties"].keys() == left
    assert answer.json["image"]["properties"]["a"] == "3"


async def test_a_put_without_headers_purges_all(shared_gate: Gateway) -> None:
    image_id = await made(shared_gate, property_a="1")
    assert (await put(shared_gate, image_id)).json["image"]["properties"] == {}


async def test_with_a_body_nothing_is_purged(shared_gate: Gateway) -> None:
    image_id = await made(shared_gate, property_a="1")
    answer = await put(shared_gate, image_id, b"bytes", property_b="2")
    assert answer.json["image"]["properties"] == {"a": "1", "b": "2"}


async def test_purging_spares_what_is_ours(shared_gate: Gateway, catalog: SqlCatalog) -> None:
    image_id = await made(shared_gate)
    await catalog.change_image(image_id, ImageChange(put={"os_glance_x": "1"}))
    await put(shared_gate, image_id)
    found = await catalog.get_image(image_id, Viewer(admin=True))
    assert found.properties == {"os_glance_x": "1"}


async def test_every_put_counts_as_a_change(shared_gate: Gateway) -> None:
    image_id = await made(shared_gate)
    before = (await head(shared_gate, image_id)).headers["x-image-meta-updated_at"]
    answer = await put(shared_gate, image_id)
    assert answer.json["image"]["updated_at"] > before


async def test_fields_that_are_not_named_stay(shared_gate: Gateway) -> None:
    image_id = await made(shared_gate, name="x", min_ram=3, virtual_size=9, protected="true")
    image = (await put(shared_gate, image_id, min_disk=4)).json["image"]
    assert (image["name"], image["min_ram"], image["min_disk"]) == ("x", 3, 4)
    assert (image["virtual_size"], image["protected"]) == (9, True)
    assert (await put(shared_gate, image_id, virtual_size=8)).json["image"]["virtual_size"] == 8


async def test_what_was_measured_is_changed_by_nobody(shared_gate: Gateway) -> None:
    image_id = await made(shared_gate, b"bytes")
    for who in (OWNER, ADMIN):
        for field in ({"size": 4}, {"checksum": "0" * 32}):
            answer = await put(shared_gate, image_id, who=who, **field)
            assert answer.status == 403
            assert "Forbidden to modify" in answer.message
    assert (await put(shared_gate, image_id, size=5)).status == 200
    assert (
        await put(shared_gate, await made(shared_gate, size=0), who=ADMIN, size=5)
    ).status == 403


async def test_what_was_vouched_for_is_changed_by_admins(shared_gate: Gateway) -> None:
    image_id = await made(shared_gate, location="http://127.0.0.1:80/x", size=5)
    assert (await put(shared_gate, image_id, size=6)).status == 403
    answer = await put(shared_gate, image_id, who=ADMIN, size=6, checksum="A" * 32)
    assert answer.status == 200
    assert (answer.json["image"]["size"], answer.json["image"]["checksum"]) == (6, "a" * 32)


async def test_an_id_stays(shared_gate: Gateway) -> None:
    image_id = await made(shared_gate)
    assert (await put(shared_gate, image_id, id=image_id, status="queued")).status == 200
    answer = await put(shared_gate, image_id, id="0" * 8 + "-0000-0000-0000-" + "0" * 12)
    assert answer.status == 403
    assert answer.message == "Forbidden to modify 'id' of image."


async def test_deleting(shared_gate: Gateway) -> None:
    image_id = await made(shared_gate, protected="true")
    path = f"/v1/images/{image_id}"
    answer = await shared_gate.ask("DELETE", path, headers=OWNER)
    assert answer.status == 403
    assert "protected" in answer.message
    await put(shared_gate, image_id, protected="false")
    answer = await shared_gate.ask("DELETE", path, headers=OWNER)
    assert (answer.status, answer.body) == (200, b"")
    for who in (OWNER, ADMIN):
        assert (await shared_gate.ask("DELETE", path, headers=who)).status == 404


async def test_too_many_properties_are_413(shared_gate: Gateway) -> None:
    many = {f"property_p{number}": "x" for number in range(100)}
    image_id = await made(shared_gate, **many)
    more = {f"property_q{number}": "x" for number in range(29)}
    keep = {"x-glance-registry-purge-props": "false"}
    assert (await put(shared_gate, image_id, more=keep, **more)).status == 413
    assert (await put(shared_gate, image_id, **more)).status == 200


# data


async def test_a_store_is_named_by_id_or_by_a_scheme_that_it_alone_has(
    shared_gate: Gateway, store: FaultyStore
) -> None:
    for name in (store.id, "file", "filesystem"):
        assert (await post(shared_gate, b"bytes", store=name)).status == 201, name
    for name in ("s3", "nowhere", "swift"):
        answer = await post(shared_gate, b"bytes", store=name)
        assert answer.status == 400
        assert answer.message == f"Required store {name} is invalid"
    assert await count(shared_gate) == 3


async def test_a_scheme_of_two_stores_says_nothing(store: FaultyStore, tmp_path: Path) -> None:
    stores = [
        {"type": "filesystem", "id": name, "path": str(tmp_path), "default": name == store.id}
        for name in (store.id, "other")
    ]
    async with running(store, tmp_path, stores=stores) as gate:
        assert (await post(gate, b"bytes", store="file")).status == 400
        assert (await post(gate, b"bytes", store=store.id)).status == 201


async def test_a_store_that_takes_no_data_is_410_and_leaves_nothing(
    store: FaultyStore, tmp_path: Path
) -> None:
    stores = [{"type": "filesystem", "id": store.id, "path": str(tmp_path)}, {"type": "http"}]
    async with running(store, tmp_path, identity=Named(), stores=stores) as gate:
        assert (await post(gate, b"bytes", store="http")).status == 410
        assert await count(gate) == 0
        image_id = await made(gate)
        assert (await put(gate, image_id, b"bytes", store="http", name="x")).status == 410
        answer = await head(gate, image_id)
        assert answer.headers["x-image-meta-status"] == "queued"
        assert "x-image-meta-name" not in answer.headers


async def test_more_than_the_cap_is_refused_before_there_is_an_image(
    store: FaultyStore, tmp_path: Path
) -> None:
    uploads = {"max_image_size": 4}
    async with running(store, tmp_path, identity=Named(), uploads=uploads) as gate:
        for data, fields in ((b"bytes", {}), (b"byte", {"size": 5}), (None, {"size": 5})):
            answer = await post(gate, data, **fields)
            assert answer.status == 400
            assert answer.message == "Denying attempt to upload image larger than 4 bytes."
        assert await count(gate) == 0
        image_id = await made(gate)
        assert (await put(gate, image_id, b"bytes", name="x")).status == 400
        assert "x-image-meta-name" not in (await head(gate, image_id)).headers


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"Content-Encoding": "gzip"}, 400),
        ({"Content-MD5": "nonsense"}, 400),
        ({"Content-MD5": "XUFAKrxLKna5cZ2REBfFkg=="}, 201),
        ({"x-openstack-image-size": "x"}, 400),
    ],
)
async def test_what_is_said_of_the_bytes_is_read_before_there_is_an_image(
    shared_gate: Gateway, more: dict[str, str], code: int
) -> None:
    answer = await shared_gate.ask(
        "POST",
        "/v1/images",
        data=b"hello",
        headers={**OWNER, **meta(**FORMATS), "Content-Type": DATA, **more},
    )
    assert answer.status == code
    assert await count(shared_gate) == (1 if code == 201 else 0)


async def test_rights_are_asked_before_the_source(shared_gate: Gateway) -> None:
    reader = {"X-Auth-Token": "p1:reader"}
    assert (await post(shared_gate, b"bytes", who=reader, store="nowhere")).status == 403
    wrong = await post(shared_gate, b"bytes", is_public="true", store="nowhere")
    assert wrong.status == 403
    assert await count(shared_gate) == 0


async def test_data_of_size_0_by_its_header_is_not_what_was_announced(
    shared_gate: Gateway, store: FaultyStore
) -> None:
    answer = await post(shared_gate, b"bytes", size=0, name="x")
    assert answer.status == 400
    assert await objects(store) == {}


async def test_a_chunked_body_of_nothing_is_a_body(shared_gate: Gateway) -> None:
    async def nothing() -> Any:
        return
        yield b""

    answer = await shared_gate.ask(
        "POST",
        "/v1/images",
        data=nothing(),
        headers={**OWNER, **meta(**FORMATS), "Content-Type": DATA},
    )
    image = answer.json["image"]
    assert (image["status"], image["size"]) == ("active", 0)
    assert image["checksum"] == answer.headers["ETag"] == "d41d8cd98f00b204e9800998ecf8427e"


async def test_what_an_earlier_call_announced_is_compared(
    shared_gate: Gateway, store: FaultyStore
) -> None:
    image_id = await made(shared_gate, checksum="5d41402abc4b2a76b9719d911017c592".upper())
    assert (await put(shared_gate, image_id, b"hello")).status == 200
    for announced in ({"size": 4}, {"checksum": "0" * 32}):
        image_id = await made(shared_gate, **announced)
        assert (await put(shared_gate, image_id, b"hello")).status == 400
        answer = await head(shared_gate, image_id)
        assert answer.headers["x-image-meta-status"] == "killed"
    assert len(await objects(store)) == 1


async def test_formats_missing_when_filled_keep_nothing(shared_gate: Gateway) -> None:
    answer = await shared_gate.ask("POST", "/v1/images", headers=OWNER)
    image_id = answer.json["image"]["id"]
    filled = await put(shared_gate, image_id, b"bytes", name="x")
    assert filled.status == 400
    assert filled.message == "Disk format is not specified."
    found = await head(shared_gate, image_id)
    assert found.headers["x-image-meta-status"] == "queued"
    assert "x-image-meta-name" not in found.headers
    filled = await put(shared_gate, image_id, b"bytes", **FORMATS)
    assert filled.json["image"]["status"] == "active"


async def test_an_image_that_lost_its_data_is_refilled_by_admins_alone(
    shared_gate: Gateway, catalog: SqlCatalog
) -> None:
    image_id = await made(shared_gate, b"bytes", name="x")
    await catalog.change_image(image_id, ImageChange(locations=[RemoveLocation(0)]))
    answer = await put(shared_gate, image_id, b"other", name="y")
    assert answer.status == 409
    found = await head(shared_gate, image_id)
    assert found.headers["x-image-meta-status"] == "queued"
    assert found.headers["x-image-meta-name"] == "x"
    assert (await put(shared_gate, image_id, b"other", who=ADMIN)).status == 200


async def test_data_that_is_lost_is_404(shared_gate: Gateway, store: FaultyStore) -> None:
    image_id = await made(shared_gate, b"bytes")
    for key in await objects(store):
        await store.delete(key)
    assert (await head(shared_gate, image_id)).status == 200
    answer = await shared_gate.ask("GET", f"/v1/images/{image_id}", headers=OWNER)
    assert answer.status == 404
    assert "lost" in answer.message


async def test_of_several_locations_another_serves(
    shared_gate: Gateway, catalog: SqlCatalog, store: FaultyStore
) -> None:
    image_id = await made(shared_gate, b"bytes")
    first = Location(store.id, "lost", {})
    edit = AddLocation(location=first, position=0)
    await catalog.change_image(image_id, ImageChange(locations=[edit]))
    answer = await shared_gate.ask("GET", f"/v1/images/{image_id}", headers=OWNER)
    assert answer.body == b"bytes"


@pytest.mark.parametrize("who", [OWNER, ADMIN])
async def test_a_deactivated_image_gives_no_data_to_anybody(
    shared_gate: Gateway, catalog: SqlCatalog, who: Mapping[str, str]
) -> None:
    image_id = await made(shared_gate, b"bytes")
    await catalog.advance(image_id, Event.DEACTIVATE)
    answer = await shared_gate.ask("GET", f"/v1/images/{image_id}", headers=who)
    assert answer.status == 403
    assert "deactivated" in answer.message


async def test_a_location_with_nothing_at_it_is_404(shared_gate: Gateway) -> None:
    url = f"{shared_gate.url}/v2/images/nope"
    answer = await post(shared_gate, location=url)
    assert answer.status == 404
    assert await count(shared_gate) == 0
