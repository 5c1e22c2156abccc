"""Image API v2: the record of an image, as clients know it."""

import io
import json
from typing import Any
from uuid import uuid4

import jsonschema
import pytest
from tests.kit.gateway import ABSENT, V20, V21, Answer, Gateway, raw

from tidegate.api.v2.listing import SORT_KEYS

KEYS = {
    "name", "disk_format", "container_format", "visibility", "size", "virtual_size", "status",
    "checksum", "protected", "min_ram", "min_disk", "owner", "os_hidden", "os_hash_algo",
    "os_hash_value", "id", "created_at", "updated_at", "locations", "tags", "self", "file",
    "schema",
}  # fmt: skip


JSON = {"Content-Type": "application/json"}


async def create(gate: Gateway, body: Any) -> Answer:
    return await gate.ask("POST", "/v2/images", json=body)


def replace(path: str, value: Any) -> dict[str, Any]:
    return {"op": "replace", "path": path, "value": value}


async def test_a_new_image_is_queued_and_shown_whole(gate: Gateway) -> None:
    answer = await create(gate, {"name": "x"})
    image = answer.json
    assert answer.status == 201
    assert answer.headers["Location"] == f"{gate.url}/v2/images/{image['id']}"
    assert set(image) == KEYS
    assert (image["status"], image["visibility"], image["size"]) == ("queued", "shared", None)
    assert image["file"] == f"/v2/images/{image['id']}/file"
    assert await gate.show(image["id"]) == image
    schema = (await gate.ask("GET", "/v2/schemas/image")).json
    jsonschema.validate(image, schema)


async def test_custom_properties_come_first_and_as_text(gate: Gateway) -> None:
    image = (await create(gate, {"os_distro": "debian", "a.b": "", "name": "n"})).json
    assert set(list(image)[:2]) == {"os_distro", "a.b"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ([], 400),
        ("x", 400),
        ({"name": 5}, 400),
        ({"name": "x" * 256}, 400),
        ({"id": "x"}, 400),
        ({"disk_format": "floppy"}, 400),
        ({"disk_format": ""}, 400),
        ({"visibility": "everybody"}, 400),
        ({"protected": "true"}, 400),
        ({"min_disk": -1}, 400),
        ({"min_disk": 1.5}, 400),
        ({"min_disk": True}, 400),
        ({"min_ram": 2**31}, 400),
        ({"custom": 5}, 400),
        ({"custom": None}, 400),
        ({"x" * 256: "v"}, 400),
        ({"tags": ["x" * 256]}, 400),
        ({"kernel_id": "x"}, 400),
        ({"status": "active"}, 403),
        ({"size": 5}, 403),
        ({"checksum": None}, 403),
        ({"self": "x"}, 403),
        ({"stores": "x"}, 403),
        ({"locations": []}, 403),
        ({"location": "x"}, 403),
        ({"deleted": "x"}, 403),
        ({"os_glance_x": "y"}, 403),
        ({"ＯＳ_glance_x": "y"}, 403),
        ({f"p{number}": "v" for number in range(129)}, 413),
        ({"tags": [f"t{number}" for number in range(129)]}, 413),
        ({"tags": ["twice"] * 129}, 413),
        ({"tags": None}, 400),
        ({"name": "a\0b"}, 400),
        ({"id": None}, 400),
        ({"id": f"{ABSENT}\n"}, 400),
        ({"kernel_id": f"{ABSENT}\n"}, 400),
        ({"min_ram": None}, 400),
        ({"visibility": None}, 400),
        ({"direct_url": "x"}, 403),
        ({"updated_at": "x"}, 403),
        ({"deleted": True}, 400),
        ({"os_glancefoo": "y"}, 403),
    ],
)
async def test_a_bad_new_image_is_refused_and_not_made(
    gate: Gateway, body: Any, status: int
) -> None:
    answer = await create(gate, body)
    assert answer.status == status
    assert answer.message
    assert (await gate.ask("GET", "/v2/images")).json["images"] == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b'{"name": "a", "name": "b"}',
        b'{"min_disk": NaN}',
        b'{"name": "\\ud800"}',
        b"[" * 6000,
        b'{"a":' * 40 + b"1" + b"}" * 40,
        b'{"min_disk": ' + b"9" * 5000 + b"}",
    ],
)
async def test_sec_50_bad_json_is_400(gate: Gateway, body: bytes) -> None:
    answer = await gate.ask("POST", "/v2/images", data=body, headers=JSON)
    assert answer.status == 400
    assert answer.message


async def test_sec_50_a_body_past_1_mib_is_413(gate: Gateway) -> None:
    body = io.BytesIO(b'{"name": "' + b"x" * 2**20 + b'"}')
    answer = await gate.ask("POST", "/v2/images", data=body, headers=JSON)
    assert answer.status == 413


async def test_an_id_may_be_chosen_once(gate: Gateway) -> None:
    image_id = str(uuid4())
    assert (await create(gate, {"id": image_id})).status == 201
    again = await create(gate, {"id": image_id})
    assert again.status == 409
    assert "already exists" in again.message
    await gate.ask("DELETE", f"/v2/images/{image_id}")
    assert (await create(gate, {"id": image_id})).status == 409


async def test_json_integers_in_float_form_are_integers(gate: Gateway) -> None:
    image = (await create(gate, {"min_disk": 1.0})).json
    assert json.dumps(image["min_disk"]) == "1"


@pytest.mark.parametrize("text", ["nope", "x" * 100, ABSENT, "a%00b"])
async def test_what_is_not_there_is_404(gate: Gateway, text: str) -> None:
    for method in ("GET", "DELETE"):
        answer = await gate.ask(method, f"/v2/images/{text}")
        assert answer.status == 404
        assert answer.message
    assert (await gate.patch(text, replace("/name", "x"))).status == 404


@pytest.mark.parametrize("text", ["%ff", "%C3", "%C3%28", "%ED%A0%80"])
async def test_a_path_that_is_no_utf_8_names_nothing(gate: Gateway, text: str) -> None:
    image = f"/v2/images/{await gate.create()}"
    for method, path in (
        ("GET", f"/v2/images/{text}"),
        ("PUT", f"{image}/tags/{text}"),
        ("DELETE", f"{image}/members/{text}"),
        ("GET", f"/v2/metadefs/namespaces/{text}"),
        ("HEAD", f"/v1/images/{text}"),
    ):
        answer = await gate.ask(method, path)
        assert (method, path, answer.status) == (method, path, 404)
    assert (await gate.ask("GET", image)).json["tags"] == []


async def test_deleting_is_204_and_then_404(gate: Gateway) -> None:
    image_id = await gate.create()
    first = await gate.ask("DELETE", f"/v2/images/{image_id}")
    assert (first.status, first.body) == (204, b"")
    assert (await gate.ask("DELETE", f"/v2/images/{image_id}")).status == 404


async def test_a_protected_image_is_not_deleted(gate: Gateway) -> None:
    image_id = await gate.create(protected=True)
    answer = await gate.ask("DELETE", f"/v2/images/{image_id}")
    assert answer.status == 403
    assert "protected" in answer.message


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v2/images", {"GET", "POST"}),
        ("/v2/images/x", {"GET", "PATCH", "DELETE"}),
        ("/v2/images/x/tags/t", {"PUT", "DELETE"}),
    ],
)
async def test_another_method_is_405_with_those_allowed(
    gate: Gateway, path: str, allowed: set[str]
) -> None:
    answer = await gate.ask("TRACE", path)
    assert answer.status == 405
    assert set(answer.headers["Allow"].replace(" ", "").split(",")) == allowed
    assert (await gate.ask("HEAD", path)).status == 405


async def test_an_unexpected_body_is_400(gate: Gateway) -> None:
    image_id = await gate.create()
    for method, path in (("GET", ""), ("DELETE", ""), ("PUT", "/tags/t"), ("DELETE", "/tags/t")):
        answer = await gate.ask(method, f"/v2/images/{image_id}{path}", data=b"x")
        assert answer.status == 400


# PATCH


async def test_a_patch_is_answered_with_the_whole_image(gate: Gateway) -> None:
    image_id = await gate.create(k="1", name="a")
    answer = await gate.patch(
        image_id,
        replace("/name", "ü"),
        {"op": "add", "path": "/new", "value": "2"},
        {"op": "add", "path": "/min_disk", "value": 3},
        {"op": "add", "path": "/a~1b~0c", "value": "4"},
        replace("/tags", ["x", "x", "y"]),
        {"op": "remove", "path": "/k"},
    )
    assert answer.status == 200
    image = answer.json
    assert (image["name"], image["new"], image["min_disk"], image["a/b~c"]) == ("ü", "2", 3, "4")
    assert image["tags"] == ["x", "y"]
    assert "k" not in image
    assert await gate.show(image_id) == image


async def test_the_old_form_of_a_patch(gate: Gateway) -> None:
    image_id = await gate.create(k="1")
    answer = await gate.patch(
        image_id,
        {"replace": "/name", "value": "x"},
        {"add": "/n", "value": "2"},
        {"remove": "/k"},
        media_type=V20,
    )
    assert answer.status == 200
    assert (answer.json["name"], answer.json["n"]) == ("x", "2")
    for operation in ({"add": "/name", "value": "y"}, {"add": "/n", "value": "y"}):
        assert (await gate.patch(image_id, operation, media_type=V20)).status == 409


async def test_an_empty_patch_changes_nothing(gate: Gateway) -> None:
    image_id = await gate.create()
    before = await gate.show(image_id)
    answer = await gate.patch(image_id)
    assert (answer.status, answer.json) == (200, before)


@pytest.mark.parametrize("media_type", ["", "application/json", "application/json-patch+json"])
async def test_another_media_type_is_415_and_names_ours(gate: Gateway, media_type: str) -> None:
    image_id = await gate.create()
    answer = await gate.patch(image_id, replace("/name", "x"), media_type=media_type or "x/y")
    assert answer.status == 415
    assert "v2.1-json-patch" in answer.headers["Accept-Patch"]


@pytest.mark.parametrize(
    ("operation", "status"),
    [
        ("x", 400),
        ({"op": "test", "path": "/name", "value": "x"}, 400),
        ({"op": "move", "path": "/name", "from": "/x"}, 400),
        ({"path": "/name", "value": "x"}, 400),
        ({"op": "add", "value": "x"}, 400),
        ({"op": "add", "path": "/name"}, 400),
        ({"op": "add", "path": 5, "value": "x"}, 400),
        ({"op": "add", "path": "name", "value": "x"}, 400),
        ({"op": "add", "path": "/a/b", "value": "x"}, 400),
        ({"op": "add", "path": "/tags/-", "value": "x"}, 400),
        ({"op": "add", "path": "/a//b", "value": "x"}, 400),
        ({"op": "add", "path": "/a/", "value": "x"}, 400),
        ({"op": "add", "path": "/a~2", "value": "x"}, 400),
        ({"op": "add", "path": "/name", "value": 5}, 400),
        ({"op": "add", "path": "/min_disk", "value": -1}, 400),
        ({"op": "add", "path": "/k", "value": 5}, 400),
        ({"op": "add", "path": f"/{'x' * 256}", "value": "x"}, 400),
        ({"op": "replace", "path": "/id", "value": str(uuid4())}, 403),
        ({"op": "replace", "path": "/status", "value": "active"}, 403),
        ({"op": "replace", "path": "/size", "value": 5}, 403),
        ({"op": "replace", "path": "/os_hash_value", "value": "x"}, 403),
        ({"op": "add", "path": "/stores", "value": "x"}, 403),
        ({"op": "add", "path": "/deleted", "value": "x"}, 403),
        ({"op": "add", "path": "/os_glance_x", "value": "x"}, 403),
        ({"op": "remove", "path": "/name"}, 403),
        ({"op": "remove", "path": "/owner"}, 403),
        ({"op": "replace", "path": "/missing", "value": "x"}, 409),
        ({"op": "remove", "path": "/missing"}, 409),
    ],
)
async def test_a_bad_patch_changes_nothing(gate: Gateway, operation: Any, status: int) -> None:
    image_id = await gate.create()
    before = await gate.show(image_id)
    answer = await gate.patch(image_id, replace("/name", "changed"), operation)
    assert answer.status == status
    assert answer.message
    assert await gate.show(image_id) == before


@pytest.mark.parametrize(
    ("pointer", "name"),
    [("//foo", "foo"), ("/", ""), ("/ sp ", "sp"), ("/a~01", "a~1"), ("/a~0b", "a~b"),
     ("/image_id", "image_id"), ("/member", "member"), ("/context", "context"),
     ("/extra_properties", "extra_properties")],
)  # fmt: skip
async def test_a_pointer_names_a_property(gate: Gateway, pointer: str, name: str) -> None:
    image_id = await gate.create()
    absent = await gate.patch(image_id, replace(pointer, "x"))
    assert (absent.status, "does not exist" in absent.message) == (409, True)
    added = await gate.patch(image_id, {"op": "add", "path": pointer, "value": "x"})
    assert (added.status, added.json[name]) == (200, "x")
    assert (await gate.patch(image_id, replace(pointer, "y"))).json[name] == "y"
    removed = await gate.patch(image_id, {"op": "remove", "path": pointer, "value": "ignored"})
    assert name not in removed.json


@pytest.mark.parametrize(
    "operation",
    [
        {},
        {"add": "/a"},
        {"add": "/a", "remove": "/b", "value": "x"},
        {"op": "add", "path": "/a", "value": "x"},
        {"add": 5, "value": "x"},
        {"add": "a", "value": "x"},
    ],
)
async def test_a_bad_patch_of_the_old_form_is_400(gate: Gateway, operation: Any) -> None:
    image_id = await gate.create()
    answer = await gate.patch(image_id, operation, media_type=V20)
    assert (answer.status, bool(answer.message)) == (400, True)


async def test_parameters_of_a_media_type_mean_nothing_and_its_case_does(gate: Gateway) -> None:
    image_id = await gate.create()
    for media_type, status in ((f"{V21}; charset=utf-8", 200), (V21.upper(), 415)):
        answer = await gate.patch(image_id, replace("/name", "x"), media_type=media_type)
        assert answer.status == status


@pytest.mark.parametrize("body", [b"", b"{", b"5", b"{}", b"null", b'"x"'])
async def test_what_is_no_list_of_operations_is_400_before_the_image_is_looked_for(
    gate: Gateway, body: bytes
) -> None:
    for image_id in (await gate.create(), str(uuid4())):
        path, headers = f"/v2/images/{image_id}", {"Content-Type": V21}
        answer = await gate.ask("PATCH", path, data=body, headers=headers)
        assert (answer.status, bool(answer.message)) == (400, True)


async def test_quotas_of_a_patch_count_what_it_adds(gate: Gateway) -> None:
    image_id = await gate.create(**{f"p{number}": "v" for number in range(128)})
    more = {"op": "add", "path": "/more", "value": "v"}
    assert (await gate.patch(image_id, more)).status == 413
    swap = {"op": "remove", "path": "/p0"}
    assert (await gate.patch(image_id, swap, more, replace("/p1", "w"))).status == 200
    tags = [f"t{number}" for number in range(129)]
    assert (await gate.patch(image_id, replace("/tags", tags))).status == 413
    assert (await gate.patch(image_id, replace("/tags", ["t"] * 129))).status == 413
    assert (await gate.patch(image_id, replace("/tags", tags[:128]))).status == 200


async def test_databases_refuse_nul_and_so_do_we(gate: Gateway) -> None:
    image_id = await gate.create(name="\\u0000", tags=["\U0001f600"], k="\U0001f600")
    before = await gate.show(image_id)
    assert (before["name"], before["k"]) == ("\\u0000", "\U0001f600")
    for field, value in (("name", "a\0"), ("k", "\0"), ("tags", ["\0"]), ("a\0b", "x")):
        assert (await create(gate, {field: value})).status == 400
        path = "/" + field
        assert (
            await gate.patch(image_id, {"op": "add", "path": path, "value": value})
        ).status == 400
    assert (await gate.ask("PUT", f"/v2/images/{image_id}/tags/a%00b")).status == 400
    assert await gate.show(image_id) == before


async def test_sec_39_a_patch_has_at_most_100_operations(gate: Gateway) -> None:
    image_id = await gate.create()
    assert (await gate.patch(image_id, *[replace("/name", "x")] * 101)).status == 400


async def test_formats_are_fixed_once_there_is_data(gate: Gateway) -> None:
    image_id = await gate.create()
    assert (await gate.patch(image_id, replace("/disk_format", "iso"))).status == 200
    await gate.put(image_id, b"x")
    assert (await gate.patch(image_id, replace("/disk_format", "raw"))).status == 403


# tags


async def test_tags_by_path(gate: Gateway) -> None:
    image_id = await gate.create()
    for tag in ("a%20b", "%C3%A9", "a%20b"):
        assert (await gate.ask("PUT", f"/v2/images/{image_id}/tags/{tag}")).status == 204
    assert (await gate.show(image_id))["tags"] == ["a b", "é"]
    for method, tags in (("PUT", ["a b", "a/b", "é"]), ("DELETE", ["a b", "é"])):
        answer = await gate.ask(method, f"/v2/images/{image_id}/tags/a%2Fb")
        assert (answer.status, (await gate.show(image_id))["tags"]) == (204, tags)
    assert (await gate.ask("DELETE", f"/v2/images/{image_id}/tags/%C3%A9")).status == 204
    assert (await gate.ask("DELETE", f"/v2/images/{image_id}/tags/%C3%A9")).status == 404
    assert (await gate.ask("PUT", f"/v2/images/{image_id}/tags/{'x' * 256}")).status == 400
    for tag in ("x", "x" * 256):
        assert (await gate.ask("PUT", f"/v2/images/{uuid4()}/tags/{tag}")).status == 404


async def test_the_tag_past_the_quota_is_413(gate: Gateway) -> None:
    image_id = await gate.create(tags=[f"t{number}" for number in range(128)])
    assert (await gate.ask("PUT", f"/v2/images/{image_id}/tags/t0")).status == 204
    assert (await gate.ask("PUT", f"/v2/images/{image_id}/tags/more")).status == 413


# lists


async def names(gate: Gateway, query: str = "") -> list[str]:
    answer = await gate.ask("GET", f"/v2/images{query}")
    assert answer.status == 200, answer.body
    return [image["name"] for image in answer.json["images"]]


async def paged(gate: Gateway, path: str, key: str = "name") -> list[str]:
    """What all pages show."""
    found: list[str] = []
    following: str | None = path
    while following:
        page = (await gate.ask("GET", following)).json
        found += [image[key] for image in page["images"]]
        following = page.get("next")
    return found


async def test_a_list_is_paged_by_links(gate: Gateway) -> None:
    for name in "abcde":
        await gate.create(name=name, tags=["t", "u"])
    found: list[str] = []
    path: str | None = "/v2/images?limit=2&tag=t&tag=u&sort=name:asc"
    while path:
        page = (await gate.ask("GET", path)).json
        assert page["first"].startswith("/v2/images?limit=2&tag=t&tag=u")
        assert page["schema"] == "/v2/schemas/images"
        found += [image["name"] for image in page["images"]]
        path = page.get("next")
        assert path is None or path.count("tag=") == 2
    assert found == list("abcde")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["c", "b", "a"]),
        ("?name=b", ["b"]),
        ("?name=eq:b", ["b"]),
        ("?name=in:a,c", ["c", "a"]),
        ('?name=in:"a",b', ["b", "a"]),
        ("?status=queued", ["c", "b", "a"]),
        ("?status=active", []),
        ("?size_min=1", []),
        ("?min_disk=2", ["b"]),
        ("?min_disk_min=2&min_disk_max=2", ["b"]),
        ("?min_disk=x", []),
        (f"?min_disk={2**31}", []),
        (f"?size={2**63}", []),
        ("?min_ram_min=0&min_ram_max=0", ["c", "b", "a"]),
        (f"?min_disk_max={10**25}", ["c", "b", "a"]),
        (f"?min_disk_min={10**25}", []),
        ("?min_disk_min=-5", ["c", "b", "a"]),
        ("?virtual_size_min=0", []),
        ("?id=in:x,y", []),
        ("?name=eq:a:b", []),
        ("?name=a,b", []),
        ("?name=B", []),
        ('?name=in:a,"b,c"', ["a"]),
        ("?name=x&name=b", ["b"]),
        ("?disk_format=in:raw,qcow2&container_format=bare", ["c", "b", "a"]),
        ("?checksum=x", []),
        ("?os_hash_algo=sha512", []),
        ("?tag=t-b&tag=t-c", []),
        ("?tag=%20t-b%20", ["b"]),
        ("?tags=t-b", []),
        ("?protected=false", ["c", "b"]),
        ("?visibility=private", []),
        ("?visibility=community", []),
        ("?os_hidden=False", ["c", "b", "a"]),
        ("?limit=2&limit=1", ["c"]),
        ("?sort_key=name&sort_dir=asc&sort_key=id&limit=1", ["a"]),
        ("?sort=name:desc&sort=name:asc", ["a", "b", "c"]),
        ("?sort=%20name%20:asc", ["a", "b", "c"]),
        ("?updated_at=gte:2000-01-01T00:00:00%2B02:00", ["c", "b", "a"]),
        ("?k=a", ["a"]),
        ("?tag=t-b", ["b"]),
        ("?tag=", []),
        ("?protected=true", ["a"]),
        ("?os_hidden=TRUE", ["h"]),
        ("?visibility=public", ["c"]),
        ("?visibility=all", ["c", "b", "a"]),
        ("?visibility=", []),
        ("?sort=name", ["c", "b", "a"]),
        ("?sort=status:asc,name:asc", ["a", "b", "c"]),
        ("?sort_key=name&sort_dir=asc", ["a", "b", "c"]),
        ("?limit=1", ["c"]),
        ("?limit=0", []),
        ("?limit=99999", ["c", "b", "a"]),
        ("?limit=9223372036854775807", ["c", "b", "a"]),
        ("?created_at=gt:2000-01-01T00:00:00Z", ["c", "b", "a"]),
        ("?created_at=lt:2000-01-01", []),
        ("?deleted=true", ["c", "b", "a"]),
        ("?owner=x", []),
        ("?unknown=x", []),
    ],
)
async def test_filters_and_orders(gate: Gateway, query: str, expected: list[str]) -> None:
    await gate.create(name="a", min_disk=1, k="a", protected=True)
    await gate.create(name="b", min_disk=2, k="b", tags=["t-b"])
    await gate.create(name="c", min_disk=3, k="c", visibility="public")
    await gate.create(name="h", os_hidden=True)
    assert await names(gate, query) == expected


async def test_times_compare_as_they_are_shown(gate: Gateway) -> None:
    image_id = await gate.create(name="a")
    shown = (await gate.show(image_id))["created_at"]
    assert await names(gate, f"?created_at={shown}") == ["a"]
    assert await names(gate, f"?created_at=neq:{shown}") == []
    assert await names(gate, f"?created_at=lte:{shown}") == ["a"]
    assert await names(gate, f"?created_at=gt:{shown}") == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=x", "limit=-1", "limit=1.5", f"marker={ABSENT}", "marker=", "sort=nope",
        "sort=name:up", "sort=", "sort=name&sort_key=name", "sort_key=nope",
        "sort_key=name&sort_key=id&sort_dir=asc&sort_dir=asc&sort_dir=asc", "sort_dir=up",
        "visibility=x", "member_status=x", "os_hidden=x", "protected=x", "size_min=x",
        "size_max=1e3", "created_at=yesterday", "created_at=in:2000-01-01", "name=neq:x",
        'name=in:"x', 'name=in:"x"y', 'name=in:x"y"', "changes-since=2000-01-01", "name=%ff",
        "changes-since=", "properties=x", "locations=x", "members=x", "name_min=1",
        "created_at_min=5", "foo_max=1", "name=a%00", "a%00b=c", "marker=%00", "created_at=GT:2000",
        "sort=name,", "sort=name:asc&sort_dir=asc", "sort_key=", "os_hidden=", "protected=True",
        "name=in:" + ",".join("x" * 101), "&".join(f"p{number}=x" for number in range(51)),
    ],
)  # fmt: skip
async def test_a_bad_query_is_400(gate: Gateway, query: str) -> None:
    answer = await gate.ask("GET", f"/v2/images?{query}")
    assert answer.status == 400
    assert answer.message


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sort_key=status&sort_dir=asc", "abc"),
        ("sort_key=status&sort_key=disk_format&sort_dir=asc", "abc"),
        ("sort_key=status&sort_key=disk_format", "cba"),
        ("sort_key=status&sort_key=disk_format&sort_dir=asc&sort_dir=asc", "cba"),
        ("sort=status:asc", "abc"),
        ("sort=status:asc,disk_format:asc", "cba"),
        ("sort_dir=asc", "abc"),
    ],
)
async def test_who_are_equal_follow_the_one_direction_that_was_given(
    gate: Gateway, query: str, expected: str
) -> None:
    for name in "abc":
        await gate.create(name=name)
    assert await names(gate, f"?{query}") == list(expected)
    assert await paged(gate, f"/v2/images?limit=1&{query}") == list(expected)


@pytest.mark.parametrize("key", SORT_KEYS)
@pytest.mark.parametrize("direction", ["asc", "desc"])
async def test_pages_in_any_order_show_every_image_once(
    gate: Gateway, key: str, direction: str
) -> None:
    ids = {
        await gate.active(b"x" * 3),
        await gate.active(b"x", name="b"),
        await gate.create(name="a", disk_format=None, container_format=None),
        await gate.create(name="b", disk_format="iso"),
        await gate.create(name=""),
    }
    query = f"sort={key}:{direction}"
    whole = (await gate.ask("GET", f"/v2/images?{query}")).json["images"]
    found = await paged(gate, f"/v2/images?limit=1&{query}", "id")
    assert found == [image["id"] for image in whole]
    assert (set(found), len(found)) == (ids, 5)


async def test_first_and_next_repeat_the_whole_query(gate: Gateway) -> None:
    image_id = await gate.create(k="v w", tags=["a", "b"])
    query = "limit=1&tag=a&tag=b&k=v%20w&sort=name:asc&name=in:,x&unknown="
    answer = await gate.ask("GET", f"/v2/images?{query}&marker={image_id}")
    kept = "limit=1&tag=a&tag=b&k=v+w&sort=name%3Aasc&name=in%3A%2Cx&unknown="
    assert answer.json["first"] == f"/v2/images?{kept}"
    query = "limit=1&tag=a&tag=b&k=v%20w"
    answer = await gate.ask("GET", f"/v2/images?{query}")
    assert answer.json["next"] == f"/v2/images?limit=1&tag=a&tag=b&k=v+w&marker={image_id}"
    assert (await gate.ask("GET", "/v2/images")).json["first"] == "/v2/images"


async def test_killed_images_are_listed_and_deleted_ones_are_not(gate: Gateway) -> None:
    killed = await gate.create(name="killed")
    await gate.put(killed, b"x", {"Content-MD5": "0" * 32})
    gone = await gate.create(name="gone")
    await gate.ask("DELETE", f"/v2/images/{gone}")
    assert await names(gate) == ["killed"]
    assert await names(gate, "?status=killed") == ["killed"]
    assert await names(gate, "?status=deleted") == []


async def test_a_marker_at_the_last_image_gives_an_empty_list(gate: Gateway) -> None:
    image_id = await gate.create()
    assert await names(gate, f"?marker={image_id}") == []


# what holds for every call


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/images/{id}?unknown=x", 200),
        ("PUT", "/v2/images/{id}/tags/x?unknown=x", 204),
        ("GET", "/v2/images/{id}/members?limit=x&marker=y", 200),
        ("DELETE", "/v2/images/{id}?unknown=x", 204),
    ],
)
async def test_unknown_parameters_mean_nothing(
    gate: Gateway, method: str, path: str, status: int
) -> None:
    image_id = await gate.create()
    assert (await gate.ask(method, path.format(id=image_id))).status == status


@pytest.mark.parametrize(
    "path",
    ["/v2/Images", "/v2/images/{id}/", "/v2/images/{id}/nope", "/v2/images/{id}/members/",
     "/v2/images/{id}/tags", "/v2/images/{id}/tags/", "/v2/images/{id}/actions/nope", "/v2/%ff",
     "/v2/images/%ff", "/v2/images/%00", "/v2/images/{id}/members/a%00b", "/v2/images/../images/x"],
)  # fmt: skip
async def test_other_paths_are_404(gate: Gateway, path: str) -> None:
    image_id = await gate.create()
    found = await raw(
        gate.port,
        f"GET {path.format(id=image_id)} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        .encode(),
    )  # fmt: skip
    assert found.startswith(b"HTTP/1.1 404 Not Found")
    assert b'"error"' in found


async def test_an_empty_answer_has_no_type(gate: Gateway) -> None:
    image_id = await gate.create()
    for method, path in (("PUT", "/tags/t"), ("DELETE", "/tags/t"), ("DELETE", "")):
        answer = await gate.ask(method, f"/v2/images/{image_id}{path}")
        assert (answer.status, answer.body) == (204, b"")
        assert "Content-Type" not in answer.headers


async def test_a_list_heeds_no_body(gate: Gateway) -> None:
    assert (await gate.ask("GET", "/v2/images", data=b"{")).status == 200
