"""The metadata definitions of the Image API v2."""

from collections.abc import Iterator

from tidegate.api.openapi.operation import (
    JSON,
    NOTHING,
    STRING,
    Answer,
    Operation,
    Schema,
    call,
    json_of,
    ref,
    shown,
)
from tidegate.api.v2.metadefs.queries import NAMESPACE_KEYS, TAG_KEYS

_ALL = "/v2/metadefs/namespaces"
_ONE = f"{_ALL}/{{namespace}}"
_DIRECTION = {"type": "string", "enum": ["asc", "desc"]}
_LIMIT = {"type": "integer", "minimum": 1}
_VISIBILITY = {"type": "string", "enum": ["public", "private"]}


def operations() -> Iterator[Operation]:
    yield call("GET", _ALL, "List namespaces", shown("metadefs.namespaces"), refuses=(404,),
                query={"visibility": _VISIBILITY, "resource_types": STRING, "limit": _LIMIT,
                       "marker": STRING, "sort_dir": _DIRECTION,
                       "sort_key": {"type": "string", "enum": list(NAMESPACE_KEYS)}})  # fmt: skip
    body = {JSON: ref("metadefs.namespace")}
    made = shown("metadefs.namespace", "Location")
    yield call("POST", _ALL, "Create a namespace", made, 201, body=body)
    yield call("GET", _ONE, "Show a namespace with what it holds", shown("metadefs.namespace"),
                query={"resource_type": STRING, "visibility": _VISIBILITY})  # fmt: skip
    yield call("PUT", _ONE, "Change a namespace", shown("metadefs.namespace"), body=body)
    yield call("DELETE", _ONE, "Delete a namespace", NOTHING, 204)
    listing: dict[str, Schema] = {"sort_dir": _DIRECTION, "limit": _LIMIT, "marker": STRING}
    yield from _kind("objects", "object", shown("metadefs.objects"), listing)
    yield from _kind("properties", "property", shown("metadefs.properties"), {})
    tags: dict[str, Schema] = {**listing, "sort_key": {"type": "string", "enum": list(TAG_KEYS)}}
    yield from _kind("tags", "tag", shown("metadefs.tags"), tags)
    yield from _types()
    yield call("GET", "/v2/schemas/metadefs/{name}", "A JSON schema", json_of({"type": "object"}))


def _kind(path: str, kind: str, listed: Answer, query: dict[str, Schema]) -> Iterator[Operation]:
    every, one, answer = f"{_ONE}/{path}", f"{_ONE}/{path}/{{name}}", shown(f"metadefs.{kind}")
    body = {JSON: ref(f"metadefs.{kind}")}
    yield call("GET", every, f"List {path}", listed, query=query)
    if kind == "tag":
        yield call("POST", every, "Create tags, instead of all or (X-Openstack-Append) beside",
                    shown("metadefs.tags"), 201, body={JSON: ref("metadefs.tags")},
                    headers={"X-Openstack-Append": STRING})  # fmt: skip
        yield call("POST", one, "Create a tag", answer, 201)
    else:
        yield call("POST", every, f"Create: {kind}", answer, 201, body=body)
    yield call("DELETE", every, f"Delete all {path}", NOTHING, 204)
    reading = {"resource_type": STRING} if kind == "property" else {}
    yield call("GET", one, f"Show: {kind}", answer, query=reading)
    yield call("PUT", one, f"Change: {kind}", answer, body=body)
    yield call("DELETE", one, f"Delete: {kind}", NOTHING, 204)


def _types() -> Iterator[Operation]:
    path = f"{_ONE}/resource_types"
    association = shown("metadefs.resource_type")
    yield call("GET", path, "List associations", shown("metadefs.resource_types"))
    yield call("POST", path, "Associate with a type of resources", association, 201,
                body={JSON: ref("metadefs.resource_type")})  # fmt: skip
    yield call("DELETE", f"{path}/{{name}}", "Associate no longer", NOTHING, 204)
    named = {"type": "array", "items": {"type": "object", "required": ["name"]}}
    known = {"type": "object", "required": ["resource_types"],
             "properties": {"resource_types": named}}  # fmt: skip
    yield call("GET", "/v2/metadefs/resource_types", "List types of resources", json_of(known))
