"""Metadata definitions over HTTP: what is kept, how it is shown, and how it is listed."""

import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from tests.kit.gateway import Answer, Gateway

ALL = "/v2/metadefs/namespaces"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
ROW = {"title": "Row", "type": "integer", "minimum": 1}


async def make(gate: Gateway, name: str, **fields: Any) -> dict[str, Any]:
    answer = await gate.ask("POST", ALL, json={"namespace": name, **fields})
    assert answer.status == 201, answer.body
    made: dict[str, Any] = answer.json
    return made


async def get(gate: Gateway, path: str, status: int = 200) -> Any:
    answer = await gate.ask("GET", f"{ALL}{path}")
    assert answer.status == status, answer.body
    return answer.json


async def put(gate: Gateway, path: str, **body: Any) -> Answer:
    return await gate.ask("PUT", f"{ALL}{path}", json=body)


async def post(gate: Gateway, path: str, **body: Any) -> Answer:
    return await gate.ask("POST", f"{ALL}{path}", json=body)


def timeless(found: dict[str, Any]) -> dict[str, Any]:
    """Without the times, which must be there."""
    for name in ("created_at", "updated_at"):
        assert TIME.fullmatch(found[name])
    return {key: value for key, value in found.items() if not key.endswith("ed_at")}


# namespaces


async def test_a_namespace_is_echoed_with_what_was_sent(gate: Gateway) -> None:
    body = {
        "namespace": "Acme::Rack",
        "visibility": "public",
        "owner": "p1",
        "properties": {"row": {**ROW, "default": 4}},
        "objects": [{"name": "o", "required": ["a"]}],
        "tags": [],
        "resource_type_associations": [{"name": "Acme::Host", "prefix": "rack_"}],
    }
    answer = await gate.ask("POST", ALL, json=body)
    assert answer.status == 201
    assert answer.headers["Location"] == f"{gate.url}{ALL}/Acme::Rack"
    assert answer.headers["Content-Type"] == "application/json"
    assert timeless(answer.json) == {
        **body,
        "protected": False,
        "properties": {"row": {**ROW, "default": "4"}},
        "self": f"{ALL}/Acme::Rack",
        "schema": "/v2/schemas/metadefs/namespace",
    }
    assert answer.json["created_at"] == answer.json["updated_at"]


async def test_what_was_not_said_has_its_default_or_is_left_out(gate: Gateway) -> None:
    made = await make(gate, "n")
    assert timeless(made) == {
        "namespace": "n",
        "visibility": "private",
        "protected": False,
        "self": f"{ALL}/n",
        "schema": "/v2/schemas/metadefs/namespace",
    }
    assert await get(gate, "/n") == made


async def test_a_namespace_is_shown_with_all_it_holds(gate: Gateway) -> None:
    await make(
        gate,
        "n",
        properties={"row": ROW},
        objects=[{"name": "o", "required": ["x"], "properties": {"x": ROW}}, {"name": "bare"}],
        tags=[{"name": "t"}],
        resource_type_associations=[{"name": "host", "prefix": "h_"}],
    )
    found = await get(gate, "/n")
    assert found["properties"] == {"row": ROW}
    assert found["tags"] == [{"name": "t"}]
    assert [timeless(one) for one in found["resource_type_associations"]] == [
        {"name": "host", "prefix": "h_"}
    ]
    schema = {"schema": "/v2/schemas/metadefs/object"}
    assert [timeless(one) for one in found["objects"]] == [
        {"name": "o", "required": ["x"], "properties": {"x": ROW}, **schema,
         "self": f"{ALL}/n/objects/o"},
        {"name": "bare", "required": [], "properties": {}, **schema,
         "self": f"{ALL}/n/objects/bare"},
    ]  # fmt: skip
    assert found["objects"][0] == await get(gate, "/n/objects/o")


async def test_a_resource_type_sees_the_properties_behind_its_prefix(gate: Gateway) -> None:
    await make(
        gate,
        "n",
        properties={"row": ROW},
        objects=[{"name": "o", "required": ["x"], "properties": {"x": ROW}}],
        resource_type_associations=[{"name": "host", "prefix": "h_"}, {"name": "plain"}],
    )
    await post(gate, "/n/properties", name="own", **ROW)
    found = await get(gate, "/n?resource_type=host")
    assert found["properties"] == {"h_row": ROW, "h_own": {"name": "own", **ROW}}
    assert found["objects"][0]["properties"] == {"h_x": ROW}
    assert found["objects"][0]["required"] == ["h_x"]
    for query in ("?resource_type=plain", "?resource_type=no", "?resource_type=", "?x=1"):
        assert "row" in (await get(gate, f"/n{query}"))["properties"]
    await get(gate, "/n?visibility=shared", 400)
    one = "/n/properties/{}?resource_type={}"
    assert await get(gate, one.format("h_row", "host")) == {"name": "row", **ROW}
    for name, kind in (
        ("row", "host"), ("h_no", "host"), ("h_row", "plain"), ("h_row", "no"), ("row", ""),
    ):  # fmt: skip
        await get(gate, one.format(name, kind), 404)
    assert await get(gate, "/n/properties/row?x=1") == {"name": "row", **ROW}


async def test_put_replaces_the_fields_and_leaves_the_contents(gate: Gateway) -> None:
    made = await make(
        gate, "n", display_name="N", description="d", visibility="public", protected=True,
        owner="p1", tags=[{"name": "t"}],
    )  # fmt: skip
    answer = await put(gate, "/n", namespace="n", tags=[{"name": "other", "created_at": "x"}])
    assert answer.status == 200
    changed = answer.json
    assert timeless(changed) == {
        "namespace": "n",
        "visibility": "private",
        "protected": False,
        "self": f"{ALL}/n",
        "schema": "/v2/schemas/metadefs/namespace",
    }
    assert changed["created_at"] == made["created_at"]
    assert (await get(gate, "/n"))["tags"] == [{"name": "t"}]
    assert (await put(gate, "/n", namespace="n", tags=[{"name": 1}])).status == 400


async def test_a_renamed_namespace_takes_its_contents_along(gate: Gateway) -> None:
    await make(gate, "old", tags=[{"name": "t"}], properties={"row": ROW})
    await make(gate, "taken")
    assert (await put(gate, "/old", namespace="taken")).status == 409
    answer = await put(gate, "/old", namespace="new")
    assert (answer.status, answer.json["self"]) == (200, f"{ALL}/new")
    await get(gate, "/old", 404)
    found = await get(gate, "/new")
    assert (found["tags"], found["properties"]) == ([{"name": "t"}], {"row": ROW})
    await get(gate, "/old/tags/t", 404)
    await get(gate, "/new/tags/t")


async def test_a_deleted_namespace_leaves_nothing_but_the_types(gate: Gateway) -> None:
    await make(gate, "n", tags=[{"name": "t"}], resource_type_associations=[{"name": "host"}])
    assert (await gate.ask("DELETE", f"{ALL}/n")).status == 204
    await get(gate, "/n", 404)
    await make(gate, "n")
    assert (await get(gate, "/n/tags"))["tags"] == []
    types = (await gate.ask("GET", "/v2/metadefs/resource_types")).json["resource_types"]
    assert [timeless(one) for one in types] == [{"name": "host"}]


@pytest.mark.parametrize(
    "contents",
    [
        {"tags": [{"name": "t"}, {"name": "t"}]},
        {"objects": [{"name": "o"}, {"name": "o"}]},
        {"resource_type_associations": [{"name": "a"}, {"name": "a"}], "protected": True},
    ],
)
async def test_what_is_given_twice_makes_nothing(gate: Gateway, contents: dict[str, Any]) -> None:
    assert (await post(gate, "", namespace="n", **contents)).status == 409
    await get(gate, "/n", 404)
    assert (await gate.ask("GET", "/v2/metadefs/resource_types")).json == {"resource_types": []}


@pytest.mark.parametrize(
    "fields",
    [
        {"namespace": ""},
        {"namespace": "n" * 81},
        {"display_name": "n" * 81},
        {"description": "d" * 501},
        {"owner": "o" * 256},
        {"owner": None},
        {"visibility": "shared"},
        {"protected": "true"},
        {"protected": 1},
        {"tags": [{}]},
        {"tags": [{"name": "t", "created_at": "x"}]},
        {"tags": [{"name": ""}]},
        {"objects": [{"name": "o", "x": 1}]},
        {"objects": [{"name": "o", "required": ["a", "a"]}]},
        {"properties": {"p": {"title": "P"}}},
        {"properties": {"p": {"type": "string"}}},
        {"properties": {"": ROW}},
        {"properties": {"p" * 81: ROW}},
        {"resource_type_associations": [{"prefix": "p"}]},
        {"resource_type_associations": [{"name": "a", "prefix": "p" * 81}]},
    ],
)
async def test_a_wrong_namespace_is_refused(gate: Gateway, fields: dict[str, Any]) -> None:
    assert (await post(gate, "", **{"namespace": "n", **fields})).status == 400
    assert (await get(gate, ""))["namespaces"] == []


async def test_any_characters_may_be_in_a_name(gate: Gateway) -> None:
    for name in ("a b", "ä::ö", "{x}", "50%", "a/b", "new\nline", "?&#"):
        body = {"namespace": name, "tags": [{"name": name}]}
        answer = await gate.ask("POST", ALL, json=body)
        assert answer.status == 201
        path = "".join(f"%{byte:02X}" for byte in name.encode())
        assert (await get(gate, f"/{path}"))["namespace"] == name
        assert (await get(gate, f"/{path}/tags/{path}"))["name"] == name
        assert (await gate.ask("DELETE", f"{ALL}/{path}/tags/{path}")).status == 204


# lists of namespaces


async def names(gate: Gateway, query: str = "") -> list[str]:
    return [one["namespace"] for one in (await get(gate, query))["namespaces"]]


async def test_the_newest_namespaces_come_first(gate: Gateway) -> None:
    for name in "bca":
        await make(gate, name)
    assert await names(gate) == ["a", "c", "b"]
    assert await names(gate, "?sort_dir=asc") == ["b", "c", "a"]
    assert await names(gate, "?sort_key=namespace") == ["c", "b", "a"]
    assert await names(gate, "?sort_key=namespace&sort_dir=asc") == ["a", "b", "c"]
    for key in ("created_at", "display_name", "description", "visibility", "protected", "owner",
                "updated_at", "id"):  # fmt: skip
        assert sorted(await names(gate, f"?sort_key={key}")) == ["a", "b", "c"]


@pytest.mark.parametrize("sort", ["namespace", "created_at", "display_name", "protected", "owner"])
@pytest.mark.parametrize("direction", ["asc", "desc"])
async def test_pages_make_the_whole_list(gate: Gateway, sort: str, direction: str) -> None:
    for number in range(5):
        name = f"A::{number}"
        await make(gate, name, **({"display_name": "x"} if number % 2 else {"protected": True}))
    query = f"?sort_key={sort}&sort_dir={direction}"
    whole = await names(gate, query)
    found, path = [], f"{query}&limit=2"
    for _ in range(3):
        page = await get(gate, path)
        assert page["first"] == f"{ALL}{query}&limit=2"
        assert page["schema"] == "/v2/schemas/metadefs/namespaces"
        found += [one["namespace"] for one in page["namespaces"]]
        path = page.get("next", "").removeprefix(ALL)
    assert (found, path) == (whole, "")


async def test_links_carry_the_query_as_it_was(gate: Gateway) -> None:
    await make(gate, "A::1")
    page = await get(gate, "")
    assert page["first"] == ALL
    assert "next" not in page
    page = await get(gate, "?limit=1&other=x%20y&marker=A::1&sort_dir=asc")
    assert page["namespaces"] == []
    page = await get(gate, "?limit=1&other=x%20y")
    assert page["next"].endswith("marker=A%3A%3A1")
    assert parse_qsl(urlsplit(page["next"]).query) == [
        ("limit", "1"), ("other", "x y"), ("marker", "A::1"),
    ]  # fmt: skip
    page = await get(gate, "?limit=0")
    assert (page["namespaces"], "next" in page) == ([], False)


async def test_namespaces_are_found_by_visibility_and_by_type(gate: Gateway) -> None:
    associations = {"a": ["host"], "b": ["host", "image"], "c": []}
    for name, types in associations.items():
        await make(
            gate,
            name,
            visibility="public" if name == "a" else "private",
            resource_type_associations=[{"name": one} for one in types],
        )
    assert await names(gate, "?visibility=public") == ["a"]
    assert await names(gate, "?visibility=private&sort_dir=asc") == ["b", "c"]
    assert await names(gate, "?resource_types=host&sort_dir=asc") == ["a", "b"]
    assert await names(gate, "?resource_types=image,none") == ["b"]
    assert await names(gate, "?resource_types=none") == []
    assert await names(gate, "?resource_types=") == []
    page = await get(gate, "?sort_dir=asc")
    shown = [one.get("resource_type_associations") for one in page["namespaces"]]
    assert [one and [timeless(item) for item in one] for one in shown] == [
        [{"name": "host"}],
        [{"name": "host"}, {"name": "image"}],
        None,
    ]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?visibility=shared", 400),
        ("?visibility=", 400),
        ("?limit=-1", 400),
        ("?limit=x", 400),
        ("?limit=", 400),
        ("?sort_key=x", 400),
        ("?sort_dir=up", 400),
        ("?x=%FF", 400),
        ("?marker=nothing", 404),
        ("?limit=99999999", 200),
        ("?x=1", 200),
    ],
)
async def test_a_wrong_query_is_refused(gate: Gateway, query: str, status: int) -> None:
    await get(gate, query, status)


# objects


async def test_an_object_is_shown_as_it_was_sent_and_then_in_full(gate: Gateway) -> None:
    await make(gate, "n")
    answer = await post(gate, "/n/objects", name="o")
    links = {"self": f"{ALL}/n/objects/o", "schema": "/v2/schemas/metadefs/object"}
    assert (answer.status, timeless(answer.json)) == (201, {"name": "o", **links})
    found = timeless(await get(gate, "/n/objects/o"))
    assert found == {"name": "o", "required": [], "properties": {}, **links}
    whole = {"name": "o", "description": "d", "required": ["a,b"], "properties": {"x": ROW}}
    answer = await put(gate, "/n/objects/o", **whole)
    assert (answer.status, timeless(answer.json)) == (200, {**whole, **links})
    assert timeless(await get(gate, "/n/objects/o")) == {**whole, **links}
    answer = await put(gate, "/n/objects/o", name="p")  # clears what is not said, and renames
    assert timeless(answer.json) == {"name": "p", **links, "self": f"{ALL}/n/objects/p"}
    await get(gate, "/n/objects/o", 404)


async def test_the_list_of_objects_is_always_whole(gate: Gateway) -> None:
    await make(gate, "n")
    page = {"objects": [], "schema": "v2/schemas/metadefs/objects"}
    assert await get(gate, "/n/objects") == page
    for name in "bca":
        await post(gate, "/n/objects", name=name)
    query = "?limit=1&marker=b&sort_key=name&sort_dir=desc&visibility=shared"
    for path in ("/n/objects", f"/n/objects{query}"):
        found = await get(gate, path)
        assert [one["name"] for one in found["objects"]] == ["b", "c", "a"]
    for query in ("limit=0", "limit=-1", "limit=x", "limit=", "sort_dir=x", "visibility=x"):
        await get(gate, f"/n/objects?{query}", 400)


# properties


WHOLE = {
    "name": "p",
    "title": "P",
    "type": "array",
    "description": "d",
    "operators": ["<or>"],
    "default": "x",
    "readonly": True,
    "minimum": 0,
    "maximum": 9,
    "enum": ["a"],
    "pattern": "[",
    "minLength": 0,
    "maxLength": 1,
    "items": {"type": "string", "enum": ["a"]},
    "uniqueItems": False,
    "minItems": 1,
    "maxItems": 2,
    "additionalItems": False,
}


async def test_a_property_is_its_definition(gate: Gateway) -> None:
    await make(gate, "n")
    assert await get(gate, "/n/properties") == {"properties": {}}
    answer = await post(gate, "/n/properties", **WHOLE)
    assert (answer.status, answer.json) == (201, WHOLE)
    assert await get(gate, "/n/properties/p") == WHOLE
    assert await get(gate, "/n/properties?limit=x") == {"properties": {"p": WHOLE}}
    answer = await put(gate, "/n/properties/p", name="q", **ROW)
    assert (answer.status, answer.json) == (200, {"name": "q", **ROW})
    await get(gate, "/n/properties/p", 404)
    assert await get(gate, "/n/properties") == {"properties": {"q": {"name": "q", **ROW}}}


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "null"},
        {"type": "text"},
        {"title": None},
        {"minimum": "1"},
        {"minimum": 10**30},
        {"maxLength": -1},
        {"maxLength": 10**30},
        {"minItems": 1.5},
        {"enum": [1]},
        {"enum": "a"},
        {"items": {}},
        {"items": {"type": "string", "x": 1}},
        {"items": {"type": "string", "enum": [1]}},
        {"operators": [1]},
        {"required": ["a"]},
        {"confidential": True},
        {"self": "x"},
        {"schema": "x"},
    ],
)
async def test_a_definition_that_could_not_be_kept_is_refused(
    gate: Gateway, fields: dict[str, Any]
) -> None:
    await make(gate, "n")
    wrong = {"title": "P", "type": "string", **fields}
    assert (await post(gate, "/n/properties", name="p", **wrong)).status == 400
    assert (await post(gate, "/n/objects", name="o", properties={"p": wrong})).status == 400
    assert (await post(gate, "", namespace="m", properties={"p": wrong})).status == 400
    await post(gate, "/n/objects", name="o")
    assert (await put(gate, "/n/objects/o", name="o", properties={"p": wrong})).status == 400


async def test_the_largest_numbers_come_back(gate: Gateway) -> None:
    await make(gate, "n")
    largest = 2**63 - 1
    bounds = {"minimum": -largest, "maximum": largest, "maxLength": largest}
    whole = {"name": "p", "title": "P", "type": "number", **bounds, "default": 10**30}
    answer = await post(gate, "/n/properties", **whole)
    assert (answer.status, answer.json) == (201, {**whole, "default": str(10**30)})
    assert await get(gate, "/n/properties/p") == answer.json
    for name, status in (("default", 201), ("minimum", 400)):
        text = f'{{"name": "q", "title": "Q", "type": "number", "{name}": 1e999}}'
        headers = {"Content-Type": "application/json"}
        answer = await gate.ask("POST", f"{ALL}/n/properties", data=text, headers=headers)
        assert answer.status == status
    assert (await get(gate, "/n/properties/q"))["default"] == "inf"


# tags


async def tags(gate: Gateway, query: str = "") -> list[str]:
    return [one["name"] for one in (await get(gate, f"/n/tags{query}"))["tags"]]


async def add(gate: Gateway, *given: str, append: str | None = None) -> Answer:
    headers = {} if append is None else {"X-Openstack-Append": append}
    body = {"tags": [{"name": name} for name in given]}
    return await gate.ask("POST", f"{ALL}/n/tags", json=body, headers=headers)


async def test_a_tag(gate: Gateway) -> None:
    await make(gate, "n")
    answer = await gate.ask("POST", f"{ALL}/n/tags/t")
    assert (answer.status, timeless(answer.json)) == (201, {"name": "t"})
    assert await get(gate, "/n/tags/t") == answer.json
    answer = await put(gate, "/n/tags/t", name="u")
    assert (answer.status, timeless(answer.json)) == (200, {"name": "u"})
    assert await get(gate, "/n/tags") == {"tags": [{"name": "u"}]}
    assert (await put(gate, "/n/tags/u", name="u" * 81)).status == 400
    assert (await gate.ask("POST", f"{ALL}/n/tags/{'u' * 81}")).status == 400


async def test_tags_take_the_place_of_those_there_are_unless_they_are_appended(
    gate: Gateway,
) -> None:
    await make(gate, "n", protected=True)
    answer = await add(gate, "b", "a")
    assert (answer.status, answer.json) == (201, {"tags": [{"name": "b"}, {"name": "a"}]})
    assert (await add(gate, "c")).status == 201
    assert await tags(gate) == ["c"]
    for number, word in enumerate(("true", "TRUE", "1", "t", "on", "Y", "yes")):
        assert (await add(gate, f"t{number}", append=word)).json == {
            "tags": [{"name": f"t{number}"}]
        }
    assert len(await tags(gate)) == 8
    assert (await add(gate, append="no")).json == {"tags": []}
    assert len(await tags(gate)) == 8
    assert (await add(gate, "x", append="no")).status == 201
    assert await tags(gate) == ["x"]


async def test_all_tags_are_added_or_none(gate: Gateway) -> None:
    await make(gate, "n", tags=[{"name": "old"}])
    assert (await add(gate, "new", "new")).status == 409
    assert (await add(gate, "new", "old", append="true")).status == 409
    assert (await add(gate, "new", "x" * 81)).status == 400
    for body in ({}, {"tags": [{}]}, {"tags": [{"name": "a", "x": 1}]}, {"tags": ["a"]}):
        assert (await post(gate, "/n/tags", **body)).status == 400
    assert await tags(gate) == ["old"]
    assert (await add(gate, "new", "old")).status == 201
    assert sorted(await tags(gate)) == ["new", "old"]


async def test_more_tags_than_a_statement_has_room_for(gate: Gateway) -> None:
    await make(gate, "n")
    many = [str(number) for number in range(1200)]
    assert (await add(gate, *many)).status == 201
    assert (await add(gate, *many, append="true")).status == 409
    assert await tags(gate, "?sort_dir=asc") == many


async def test_tags_are_listed_by_pages(gate: Gateway) -> None:
    await make(gate, "n")
    for name in "bca":
        await add(gate, name, append="true")
    assert await tags(gate) == ["a", "c", "b"]
    assert await tags(gate, "?sort_dir=asc&limit=&marker=&visibility=shared") == ["b", "c", "a"]
    assert await tags(gate, "?sort_key=name&sort_dir=asc") == ["a", "b", "c"]
    assert await tags(gate, "?sort_key=name&sort_dir=asc&marker=a") == ["b", "c"]
    assert await tags(gate, "?limit=1&marker=a") == ["c"]
    assert await tags(gate, "?limit=0") == []
    for query in ("limit=-1", "limit=x", "sort_key=x", "sort_dir=x", "visibility=x"):
        await get(gate, f"/n/tags?{query}", 400)
    await get(gate, "/n/tags?marker=x", 404)


# types of resources


async def test_a_type_is_made_by_its_first_association(gate: Gateway) -> None:
    await make(gate, "n")
    await make(gate, "m")
    assert await get(gate, "/n/resource_types") == {"resource_type_associations": []}
    body = {"name": "host", "prefix": "h:", "properties_target": "image"}
    answer = await post(gate, "/n/resource_types", **body)
    assert (answer.status, timeless(answer.json)) == (201, body)
    assert (await post(gate, "/m/resource_types", name="host")).status == 201
    assert await get(gate, "/n/resource_types") == {"resource_type_associations": [answer.json]}
    types = await gate.ask("GET", "/v2/metadefs/resource_types")
    assert [timeless(one) for one in types.json["resource_types"]] == [{"name": "host"}]
    assert (await gate.ask("DELETE", f"{ALL}/n/resource_types/host")).status == 204
    assert (await gate.ask("DELETE", f"{ALL}/n/resource_types/host")).status == 404
    assert await get(gate, "/n/resource_types") == {"resource_type_associations": []}
    assert (await gate.ask("GET", "/v2/metadefs/resource_types")).json == types.json


# all of a kind


@pytest.mark.parametrize("kind", ["objects", "properties", "tags"])
async def test_all_of_a_kind_go_and_nothing_else(gate: Gateway, kind: str) -> None:
    await make(
        gate,
        "n",
        objects=[{"name": "o"}],
        properties={"p": ROW},
        tags=[{"name": "t"}],
        resource_type_associations=[{"name": "host"}],
    )
    await make(gate, "m", tags=[{"name": "t"}], objects=[{"name": "o"}], properties={"p": ROW})
    whole = await get(gate, "/n")
    for _ in range(2):
        assert (await gate.ask("DELETE", f"{ALL}/n/{kind}")).status == 204
        found = await get(gate, "/n")
        assert found == {key: value for key, value in whole.items() if key != kind}
    assert {"objects", "properties", "tags"} <= (await get(gate, "/m")).keys()


# as Tempest goes through it


async def test_the_life_of_a_namespace_as_tempest_asserts_it(gate: Gateway) -> None:
    await make(gate, "types", resource_type_associations=[{"name": "host"}])
    types = (await gate.ask("GET", "/v2/metadefs/resource_types")).json["resource_types"]
    body = {
        "display_name": "d", "description": "d", "visibility": "public", "protected": True,
        "resource_type_associations": [{"name": types[0]["name"]}],
    }  # fmt: skip
    made = await make(gate, "n", **body)
    assert "n" in await names(gate)
    assert (await get(gate, "/n"))["namespace"] == "n"
    assert (await gate.ask("DELETE", f"{ALL}/n")).status == 403
    answer = await put(gate, "/n", namespace="n", description="x", visibility="private",
                       display_name="y", protected=False)  # fmt: skip
    assert answer.status == 200
    shown = {name: answer.json[name] for name in ("namespace", "visibility", "protected", "owner")
             if name in answer.json}  # fmt: skip
    assert shown == {"namespace": "n", "visibility": "private", "protected": False}
    assert made["created_at"] == answer.json["created_at"]
    assert (await gate.ask("DELETE", f"{ALL}/n")).status == 204
    await get(gate, "/n", 404)
