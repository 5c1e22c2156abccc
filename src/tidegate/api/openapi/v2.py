"""The Image API v2, but for its metadata definitions."""

from collections.abc import Iterator, Mapping
from typing import Any

from tidegate.api.openapi.operation import (
    DATA,
    JSON,
    Answer,
    Operation,
    Schema,
    json_of,
    ref,
    shown,
)
from tidegate.api.v2.listing import MAX_LIMIT, SORT_KEYS
from tidegate.api.v2.locations import LOCATION
from tidegate.api.v2.patch import MAX_OPERATIONS, V20, V21
from tidegate.domain.image import Visibility
from tidegate.domain.member import MemberStatus
from tidegate.domain.task import TaskStatus

_STRING = {"type": "string"}
_TEXT = {"type": ["string", "null"]}
_NUMBER = {"type": "integer", "minimum": 0}
_TRUTH = {"type": "string", "enum": ["true", "false"]}
_IMAGE = "/v2/images/{image_id}"
_NOTHING = Answer()
_PAGE: Mapping[str, Schema] = {
    "limit": {"type": "integer", "minimum": 0, "description": f"{MAX_LIMIT} at most"},
    "marker": _STRING,
    "sort_dir": {"type": "string", "enum": ["asc", "desc"]},
}
_IMAGES_QUERY = {
    **_PAGE,
    "sort_key": {"type": "string", "enum": list(SORT_KEYS)},
    "sort": _STRING,
    **dict.fromkeys(("name", "id", "status", "disk_format", "container_format", "tag"), _STRING),
    **dict.fromkeys(("owner", "checksum", "os_hash_algo", "os_hash_value"), _STRING),
    **dict.fromkeys(("created_at", "updated_at"), _STRING),
    **dict.fromkeys(("size_min", "size_max", "min_ram", "min_disk"), _NUMBER),
    "visibility": {"type": "string", "enum": [*(kind.value for kind in Visibility), "all"]},
    "member_status": {"type": "string", "enum": [*(one.value for one in MemberStatus), "all"]},
    **dict.fromkeys(("os_hidden", "protected"), _TRUTH),
}
_TASKS_QUERY = {
    **_PAGE,
    "sort_key": {"type": "string", "enum": ["id", "type", "status", "created_at", "updated_at"]},
    "status": {"type": "string", "enum": [status.value for status in TaskStatus]},
    "type": {"type": "string", "enum": ["import", "clone"]},
}
_COMING = {
    **dict.fromkeys(
        ("Content-MD5", "Repr-Digest", "Content-Digest", "x-image-meta-store"), _STRING
    ),
    "x-openstack-image-size": _NUMBER,
}


def operations() -> Iterator[Operation]:
    yield from _records()
    yield from _data()
    yield from _belongings()
    yield from _services()


def _call(
    method: str, path: str, summary: str, answer: Answer, status: int = 200, **more: Any
) -> Operation:
    return Operation(method=method, path=path, summary=summary, answers={status: answer}, **more)


def _records() -> Iterator[Operation]:
    made = shown("Image", "Location", "OpenStack-image-store-ids", "OpenStack-image-import-methods")
    yield _call("POST", "/v2/images", "Create an image", made, 201, body={JSON: ref("NewImage")})
    yield _call("GET", "/v2/images", "List images", shown("Images"), query=_IMAGES_QUERY,
                refuses=(404,))  # fmt: skip
    yield _call("GET", _IMAGE, "Show an image", shown("Image"))
    yield _call("PATCH", _IMAGE, "Change an image", shown("Image"), refuses=(502,),
                body={V21: ref("Patch"), V20: ref("OldPatch")})  # fmt: skip
    yield _call("DELETE", _IMAGE, "Delete an image", _NOTHING, 204, refuses=(502,))


def _data() -> Iterator[Operation]:
    path = f"{_IMAGE}/file"
    yield _call("PUT", path, "Upload", _NOTHING, 204, body={DATA: {}}, headers=_COMING)
    data = Answer(
        {DATA: {}}, ("Accept-Ranges", "Content-Disposition", "Content-MD5", "ETag", "Content-Range")
    )
    for method in ("GET", "HEAD"):
        yield Operation(
            method=method, path=path, summary="Download; 204: there is no data yet",
            headers={"Range": _STRING, "If-Range": _STRING, "If-None-Match": _STRING},
            answers={200: data, 204: _NOTHING, 206: data, 304: Answer({DATA: {}}, ("ETag",))},
            refuses=(416, 502),
        )  # fmt: skip
    yield _call("PUT", f"{_IMAGE}/stage", "Stage data for an import", _NOTHING, 204,
                body={DATA: {}}, headers=_COMING)  # fmt: skip
    yield _call("POST", f"{_IMAGE}/import", "Import data", _NOTHING, 202,
                body={JSON: ref("Import")}, headers={"x-image-meta-store": _STRING},
                refuses=(410, 502))  # fmt: skip
    yield _call("GET", f"{_IMAGE}/uploads", "The attempts to fill it", shown("Uploads"))


def _belongings() -> Iterator[Operation]:
    for action in ("deactivate", "reactivate"):
        yield _call("POST", f"{_IMAGE}/actions/{action}", action.capitalize(), _NOTHING, 204)
    tag = f"{_IMAGE}/tags/{{tag}}"
    yield _call("PUT", tag, "Add a tag", _NOTHING, 204, refuses=(413,))
    yield _call("DELETE", tag, "Remove a tag", _NOTHING, 204)
    members = f"{_IMAGE}/members"
    one = f"{members}/{{member}}"
    yield _call("GET", members, "List who it is shared with", shown("Members"))
    yield _call("POST", members, "Share it with a project", shown("Member"),
                body={JSON: _object("member", _STRING)})  # fmt: skip
    yield _call("GET", one, "Show a member", shown("Member"))
    yield _call("PUT", one, "Accept or reject it", shown("Member"), body={
        JSON: _object("status", {"type": "string", "enum": [s.value for s in MemberStatus]})
    })  # fmt: skip
    yield _call("DELETE", one, "Share it no longer", _NOTHING, 204)
    locations = f"{_IMAGE}/locations"
    yield _call("GET", locations, "Where its data lies", shown("Locations"))
    yield _call("POST", locations, "Register a location", _NOTHING, 202,
                body={JSON: LOCATION}, refuses=(410, 502))  # fmt: skip
    yield _call("GET", f"{_IMAGE}/tasks", "Its tasks", shown("ImageTasks"))


def _services() -> Iterator[Operation]:
    yield _call("GET", "/v2/info/import", "The import methods", json_of(_object(
        "import-methods", {"type": "object"})))  # fmt: skip
    yield _call("GET", "/v2/info/stores", "The stores", shown("Stores"))
    yield _call("GET", "/v2/info/stores/detail", "The stores, for administrators", shown("Stores"))
    yield _call("GET", "/v2/info/usage", "What a project holds", shown("Usage"))
    yield _call("DELETE", "/v2/stores/{store_id}/{image_id}", "Take a copy out of a store",
                _NOTHING, 204, refuses=(502,))  # fmt: skip
    yield _call("GET", "/v2/tasks", "List tasks", shown("Tasks"), query=_TASKS_QUERY,
                refuses=(404,))  # fmt: skip
    yield _call("POST", "/v2/tasks", "Create an import task", shown("Task", "Location"), 201,
                body={JSON: ref("NewTask")}, refuses=(404, 502))  # fmt: skip
    yield _call("GET", "/v2/tasks/{task_id}", "Show a task", shown("Task"))
    yield Operation(method="DELETE", path="/v2/tasks/{task_id}",
                    summary="Always refused: tasks go by themselves", answers={},
                    refuses=(405,))  # fmt: skip
    cached = "/v2/cache/{image_id}"
    yield _call("GET", "/v2/cache", "What is cached", shown("Cached"), refuses=(404,))
    yield _call("DELETE", "/v2/cache", "Clear the cache", _NOTHING, 204, refuses=(404,),
                headers={"x-image-cache-clear-target": _STRING})  # fmt: skip
    yield _call("PUT", cached, "Cache an image", _NOTHING, 202)
    yield _call("DELETE", cached, "Cache it no longer", _NOTHING, 204)
    yield _call("GET", "/v2/schemas/{name}", "A JSON schema", json_of({"type": "object"}))


def _object(name: str, schema: Schema) -> dict[str, Any]:
    return {"type": "object", "required": [name], "properties": {name: schema}}


def _rows(name: str, properties: Mapping[str, Schema]) -> dict[str, Any]:
    row = {"type": "object", "required": list(properties), "properties": dict(properties)}
    return _object(name, {"type": "array", "items": row})


_EDIT: dict[str, Any] = {
    "type": "object",
    "required": ["op", "path"],
    "properties": {
        "op": {"type": "string", "enum": ["add", "remove", "replace"]},
        "path": {"type": "string", "pattern": "^/"},
        "value": {},
    },
}


def _steps(item: Schema) -> dict[str, Any]:
    return {"type": "array", "maxItems": MAX_OPERATIONS, "items": item}


SCHEMAS: dict[str, Any] = {
    "Patch": _steps(_EDIT),
    "OldPatch": _steps(
        {
            "type": "object",
            "properties": {**dict.fromkeys(("add", "remove", "replace"), _STRING), "value": {}},
        }
    ),
    "Import": {
        "type": "object",
        "required": ["method"],
        "properties": {
            "method": _object("name", _STRING),
            "stores": {"type": "array", "items": _STRING},
            "all_stores": {"type": "boolean"},
            "all_stores_must_succeed": {"type": "boolean"},
        },
    },
    "Uploads": _rows(
        "uploads",
        {
            **dict.fromkeys(("id", "image_id", "purpose", "state"), _STRING),
            "store": _TEXT,
            "received": _NUMBER,
            "expected_size": {"type": ["integer", "null"]},
            **dict.fromkeys(("started_at", "updated_at"), _STRING),
            "ended_at": _TEXT,
            "failure": {"type": ["object", "null"]},
        },
    ),
    "Locations": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["url", "metadata"],
            "properties": {"url": _STRING, "metadata": {"type": "object"}},
        },
    },
    "ImageTasks": _rows(
        "tasks",
        {
            **dict.fromkeys(("id", "type", "status", "created_at", "updated_at"), _STRING),
            **dict.fromkeys(("owner", "expires_at", "deleted_at", "image_id"), _TEXT),
            **dict.fromkeys(("request_id", "user_id"), _TEXT),
            **{key: {"type": ["object", "null"]} for key in ("input", "result")},
            "deleted": {"type": "boolean"},
            "message": _TEXT,
        },
    ),
    "Stores": _rows("stores", {"id": _STRING}),
    "Usage": _object(
        "usage",
        {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["usage", "limit"],
                "properties": {key: {"type": "integer"} for key in ("usage", "limit")},
            },
        },
    ),
    "Cached": {
        "type": "object",
        "required": ["cached_images", "queued_images"],
        "properties": {
            "cached_images": {"type": "array", "items": {"type": "object"}},
            "queued_images": {"type": "array", "items": _STRING},
        },
    },
}
