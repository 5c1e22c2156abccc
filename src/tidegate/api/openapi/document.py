"""The whole document, and the call that serves it."""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

import orjson
from aiohttp import web

from tidegate.api.errors import ANSWERS
from tidegate.api.keys import SETTINGS
from tidegate.api.openapi import gateway, metadefs, v1, v2
from tidegate.api.openapi.operation import Operation, described, refusal
from tidegate.api.v2.metadefs.schemas import DOCUMENTS
from tidegate.api.v2.schemas import documents
from tidegate.settings import ImageFormat

_REFUSED = sorted({*ANSWERS.values(), 405, 412})


async def show_document(request: web.Request) -> web.Response:
    body = _rendered(request.app[SETTINGS].image_format)
    return web.Response(body=body, content_type="application/json")


def operations() -> Iterator[Operation]:
    for area in (gateway, v2, metadefs, v1):
        yield from area.operations()


def document(formats: ImageFormat) -> dict[str, Any]:
    """With the formats that are taken here."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations():
        paths.setdefault(operation.path, {})[operation.method.lower()] = described(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "tidegate", "version": version("tidegate")},
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"}
            },
            "responses": {str(status): refusal(status) for status in _REFUSED},
            "schemas": _schemas(formats),
        },
    }


@cache
def _rendered(formats: ImageFormat) -> bytes:
    return orjson.dumps(document(formats))


def _schemas(formats: ImageFormat) -> dict[str, Any]:
    served = documents(formats)
    found = {**gateway.SCHEMAS, **v1.SCHEMAS, **v2.SCHEMAS}
    for name, schema in served.items():
        found[name.capitalize()] = {"type": "object", **schema}
    found["NewImage"] = found["Image"]
    found["NewTask"] = {**found["Task"], "required": ["type", "input"]}
    for name, schema in DOCUMENTS.items():
        found |= _lifted(f"metadefs.{name}", schema)
    return found


def _lifted(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema and its ``definitions`` as components, since its references are to itself."""
    own = {key: value for key, value in schema.items() if key != "definitions"}
    found = {name: {"type": "object", **_moved(own, name)}}
    for definition, value in schema.get("definitions", {}).items():
        found[f"{name}.{definition}"] = _moved(value, name)
    return found


def _moved(schema: Any, name: str) -> Any:
    match schema:
        case {"$ref": str(where)}:
            return {"$ref": where.replace("#/definitions/", f"#/components/schemas/{name}.")}
        case dict():
            return {key: _moved(value, name) for key, value in schema.items()}
        case list():
            return [_moved(value, name) for value in schema]
    return schema
