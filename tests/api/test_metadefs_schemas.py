"""The schema documents of metadata definitions, and that what is shown agrees with them."""

from typing import Any

import jsonschema
import pytest
from tests.kit.gateway import Gateway

TIMES = ("created_at", "updated_at")
LINKS = ("self", "schema")
DEFINITION = {
    "name", "type", "title", "description", "operators", "default", "readonly", "minimum",
    "maximum", "enum", "pattern", "minLength", "maxLength", "items", "uniqueItems", "minItems",
    "maxItems", "additionalItems", "required",
}  # fmt: skip
ITEMS: dict[str, tuple[str, list[str], set[str], int]] = {
    "namespace": (
        "namespace", ["namespace"],
        {"namespace", "display_name", "description", "visibility", "protected", "owner", *TIMES,
         *LINKS, "resource_type_associations", "properties", "objects", "tags"},
        4,
    ),
    "object": (
        "object", ["name"],
        {"name", "description", "required", "properties", *LINKS, *TIMES}, 4,
    ),
    "property": ("property", ["type", "title", "name"], DEFINITION, 3),
    "tag": ("tag", ["name"], {"name", *TIMES}, 0),
    "resource_type": (
        "resource_type_association", ["name"],
        {"name", "prefix", "properties_target", *TIMES}, 0,
    ),
}  # fmt: skip
COLLECTIONS = {
    "namespaces": ("namespaces", "namespace"),
    "objects": ("objects", "object"),
    "properties": ("properties", "property"),
    "tags": ("tags", "tag"),
    "resource_types": ("resource_type_associations", "resource_type"),
}


async def schema(gate: Gateway, name: str) -> dict[str, Any]:
    answer = await gate.ask("GET", f"/v2/schemas/metadefs/{name}")
    assert answer.status == 200
    found: dict[str, Any] = answer.json
    jsonschema.Draft202012Validator.check_schema(found)
    return found


@pytest.mark.parametrize("path", ITEMS)
async def test_an_item(gate: Gateway, path: str) -> None:
    name, required, properties, definitions = ITEMS[path]
    found = await schema(gate, path)
    assert (found["name"], found["required"]) == (name, required)
    assert set(found["properties"]) == properties
    assert found["additionalProperties"] is False
    assert len(found.get("definitions", ())) == definitions
    strings = found.get("definitions", {}).get("stringArray", {})
    assert strings.get("minItems") == (1 if path == "property" else None)
    read_only = {one for one, value in found["properties"].items() if value.get("readOnly")}
    assert read_only == properties & {*TIMES, *LINKS}


@pytest.mark.parametrize("path", COLLECTIONS)
async def test_a_collection(gate: Gateway, path: str) -> None:
    name, of = COLLECTIONS[path]
    found, item = await schema(gate, path), await schema(gate, of)
    definitions = item.pop("definitions", None)
    assert found["name"] == name
    assert set(found["properties"]) == {name, "first", "next", "schema"}
    assert found.get("definitions") == definitions
    assert [link["rel"] for link in found["links"]] == ["first", "next", "describedby"]
    many = found["properties"][name]
    if path == "properties":
        assert many["type"] == "object"
        assert many["additionalProperties"] == {**item, "required": ["type", "title"]}
    else:
        assert many == {"type": "array", "items": item}


async def test_another_name_is_404(gate: Gateway) -> None:
    for name in ("image", "resource_type_association", "", "tag/"):
        assert (await gate.ask("GET", f"/v2/schemas/metadefs/{name}")).status == 404


PROPERTY = {"title": "P", "type": "array", "minLength": 0, "items": {"type": "string"},
            "default": None, "enum": ["a"], "minimum": 1}  # fmt: skip


async def test_what_is_shown_agrees_with_them(gate: Gateway) -> None:
    everything = {
        "namespace": "n",
        "display_name": "d",
        "description": "d",
        "objects": [{"name": "o", "required": ["p"], "properties": {"p": PROPERTY}}],
        "properties": {"p": PROPERTY},
        "tags": [{"name": "t"}],
        "resource_type_associations": [{"name": "h", "prefix": "x", "properties_target": "y"}],
    }
    path = "/v2/metadefs/namespaces"
    made = await gate.ask("POST", path, json=everything)
    shown = {
        "namespaces": path,
        "namespace": f"{path}/n",
        "object": f"{path}/n/objects/o",
        "objects": f"{path}/n/objects",
        "property": f"{path}/n/properties/p",
        "properties": f"{path}/n/properties",
        "tag": f"{path}/n/tags/t",
        "tags": f"{path}/n/tags",
        "resource_types": f"{path}/n/resource_types",
    }
    jsonschema.validate(made.json, await schema(gate, "namespace"))
    for name, where in shown.items():
        answer = await gate.ask("GET", where)
        assert answer.status == 200
        jsonschema.validate(answer.json, await schema(gate, name))
    for one in (await gate.ask("GET", "/v2/metadefs/resource_types")).json["resource_types"]:
        jsonschema.validate(one, await schema(gate, "resource_type"))
