"""The JSON schemas of metadata definitions, as clients build their models from them."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from tidegate.api.reading import refuse_body
from tidegate.domain.metadef import MAX_NAME

MAX_DESCRIPTION = 500
MAX_OWNER = 255
TYPES = ("array", "boolean", "integer", "number", "object", "string")

Schema = dict[str, Any]


def text(description: str, most: int | None = None, **more: Any) -> Schema:
    found = {"type": "string", "description": description, **more}
    return found if most is None else {**found, "maxLength": most}


_TYPE: Schema = {"type": "string", "enum": [*TYPES, "null"]}
_STRINGS: Schema = {"$ref": "#/definitions/stringArray"}
_COUNT: Schema = {"$ref": "#/definitions/positiveInteger"}
_COUNT_FROM_0: Schema = {"$ref": "#/definitions/positiveIntegerDefault0"}
NAME = text("The name", MAX_NAME)
_TIMES = {
    "created_at": text("When it was made", readOnly=True, format="date-time"),
    "updated_at": text("When it was last changed", readOnly=True, format="date-time"),
}
_LINKS = {
    "self": text("Its own path", readOnly=True),
    "schema": text("The path of its schema", readOnly=True),
}

DEFINITION: dict[str, Schema] = {
    "name": NAME,
    "title": text("A name for people"),
    "description": text("What it means"),
    "type": _TYPE,
    "operators": {"type": "array", "items": {"type": "string"}},
    "required": _STRINGS,
    "minimum": {"type": "number"},
    "maximum": {"type": "number"},
    "maxLength": _COUNT,
    "minLength": _COUNT_FROM_0,
    "pattern": {"type": "string", "format": "regex"},
    "enum": {"type": "array"},
    "readonly": {"type": "boolean"},
    "default": {},
    "items": {"type": "object", "properties": {"type": _TYPE, "enum": {"type": "array"}}},
    "maxItems": _COUNT,
    "minItems": _COUNT_FROM_0,
    "uniqueItems": {"type": "boolean", "default": False},
    "additionalItems": {"type": "boolean"},
}
"""What can be said of a property."""

ASSOCIATION: dict[str, Schema] = {
    "name": text("The type of resources", MAX_NAME),
    "prefix": text("What stands before the properties' names with these resources", MAX_NAME),
    "properties_target": text("Which of several sets of properties is meant", MAX_NAME),
}
_PROPERTIES: Schema = {"$ref": "#/definitions/property"}
_OBJECT: dict[str, Schema] = {
    "name": NAME,
    "description": text("What it means"),
    "required": _STRINGS,
    "properties": _PROPERTIES,
}


def _strings(least: int) -> Schema:
    found: Schema = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    return {**found, "minItems": least} if least else found


def _definitions(*, least: int = 0) -> dict[str, Schema]:
    return {
        "positiveInteger": {"type": "integer", "minimum": 0},
        "positiveIntegerDefault0": {"allOf": [_COUNT, {"default": 0}]},
        "stringArray": _strings(least),
    }


_WITH_PROPERTIES = {
    **_definitions(),
    "property": {
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "required": ["title", "type"],
            "properties": DEFINITION,
        },
    },
}

NAMESPACE: Schema = {
    "name": "namespace",
    "properties": {
        "namespace": text("Its name, unique among all", MAX_NAME),
        "display_name": text("A name for people", MAX_NAME),
        "description": text("What it is about", MAX_DESCRIPTION),
        "visibility": text("Who may see it", enum=["public", "private"]),
        "protected": {"type": "boolean", "description": "Whether deleting is refused"},
        "owner": text("The project that owns it", MAX_OWNER),
        **_TIMES,
        **_LINKS,
        "resource_type_associations": {
            "type": "array",
            "items": {"type": "object", "properties": ASSOCIATION},
        },
        "properties": _PROPERTIES,
        "objects": {"type": "array", "items": {"type": "object", "properties": _OBJECT}},
        "tags": {"type": "array", "items": {"type": "object", "properties": {"name": NAME}}},
    },
    "additionalProperties": False,
    "required": ["namespace"],
    "definitions": _WITH_PROPERTIES,
}
_OBJECT_ITEM: Schema = {
    "name": "object",
    "properties": {**_OBJECT, **_TIMES, **_LINKS},
    "additionalProperties": False,
    "required": ["name"],
    "definitions": _WITH_PROPERTIES,
}
_PROPERTY: Schema = {
    "name": "property",
    "properties": DEFINITION,
    "additionalProperties": False,
    "required": ["type", "title", "name"],
    "definitions": _definitions(least=1),
}
_TAG: Schema = {
    "name": "tag",
    "properties": {"name": NAME, **_TIMES},
    "additionalProperties": False,
    "required": ["name"],
}
_RESOURCE_TYPE: Schema = {
    "name": "resource_type_association",
    "properties": {**ASSOCIATION, **_TIMES},
    "additionalProperties": False,
    "required": ["name"],
}


def _collection(name: str, item: Schema, *, by_name: bool = False) -> Schema:
    shown = {key: value for key, value in item.items() if key != "definitions"}
    many: Schema = {"type": "array", "items": shown}
    if by_name:
        many = {"type": "object", "additionalProperties": shown}
    found: Schema = {
        "name": name,
        "properties": {
            name: many,
            **{link: {"type": "string"} for link in ("first", "next", "schema")},
        },
        "links": [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
    }
    return {**found, "definitions": item["definitions"]} if "definitions" in item else found


DOCUMENTS: Mapping[str, Schema] = {
    "namespace": NAMESPACE,
    "namespaces": _collection("namespaces", NAMESPACE),
    "object": _OBJECT_ITEM,
    "objects": _collection("objects", _OBJECT_ITEM),
    "property": _PROPERTY,
    "properties": _collection(
        "properties", {**_PROPERTY, "required": ["type", "title"]}, by_name=True
    ),
    "tag": _TAG,
    "tags": _collection("tags", _TAG),
    "resource_type": _RESOURCE_TYPE,
    "resource_types": _collection("resource_type_associations", _RESOURCE_TYPE),
}


async def show_schema(request: web.Request) -> web.Response:
    refuse_body(request)
    document = DOCUMENTS.get(request.match_info["name"])
    if document is None:
        raise web.HTTPNotFound
    return web.json_response(document)
