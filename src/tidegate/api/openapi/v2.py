"""The Image API v2, but for its metadata definitions."""

from collections.abc import Iterator, Mapping
from typing import Any

from tidegate.api.openapi.operation import (
    DATA,
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
from tidegate.api.v2.listing import MAX_LIMIT, SORT_KEYS
from tidegate.api.v2.locations import LOCATION
from tidegate.api.v2.patch import MAX_OPERATIONS, V20, V21
from tidegate.domain.image import Visibility
from tidegate.domain.member import MemberStatus
from tidegate.domain.task import TaskStatus

_TEXT = {"type": ["string", "null"]}
_NUMBER = {"type": "integer", "minimum": 0}
_TRUTH = {"type": "string", "enum": ["true", "false"]}
_IMAGE = "/v2/images/{image_id}"
_PAGE: Mapping[str, Schema] = {
    "limit": {"type": "integer", "minimum": 0, "description": f"{MAX_LIMIT} at most"},
    "marker": STRING,
    "sort_dir": {"type": "string", "enum": ["asc", "desc"]},
}
_IMAGES_QUERY = {
    **_PAGE,
    "sort_key": {"type": "string", "enum": list(SORT_KEYS)},
    "sort": STRING,
    **dict.fromkeys(("name", "id", "status", "disk_format", "container_format", "tag"), STRING),
    **dict.fromkeys(("owner", "checksum", "os_hash_algo", "os_hash_value"), STRING),
    **dict.fromkeys(("created_at", "updated_at"), STRING),
    **dict.fromkeys(("size_min", "size_max", "min_ram", "min_disk"), _NUMBER),
    "visibility": {"type": "string", "enum": [*(kind.value for kind in Visibility), "all"]},
    "member_status": {"type": "string", "enum": [*(one.value for one in MemberStatus), "all"]},
    **dict.fromkeys(("os_hidden", "protected"), _TRUTH),
}
_TASKS_QUERY = {
    **_PAGE,
    "sort_key": {"type": "string", "enum": ["id", "type", "status", "created_at", "updated_at"]},
    "status": {"type": "string", "enum": [status.value for status in TaskStatus]},
    "type": {"type": "string", "enum": ["import", "clone", "export"]},
}
_COMING = {
    **dict.fromkeys(("Content-MD5", "Repr-Digest", "Content-Digest", "x-image-meta-store"), STRING),
    "x-openstack-image-size": _NUMBER,
}


def operations() -> Iterator[Operation]:
    yield from _records()
    yield from _data()
    yield from _belongings()
    yield from _services()


def _records() -> Iterator[Operation]:
    made = shown("Image", "Location", "OpenStack-image-store-ids", "OpenStack-image-import-methods")
    yield call("POST", "/v2/images", "Create an image", made, 201, body={JSON: ref("NewImage")})
    yield call("GET", "/v2/images", "List images", shown("Images"), query=_IMAGES_QUERY,
                refuses=(404,))  # fmt: skip
    yield call("GET", _IMAGE, "Show an image", shown("Image"))
    yield call("PATCH", _IMAGE, "Change an image", shown("Image"), refuses=(502,),
                body={V21: ref("Patch"), V20: ref("OldPatch")})  # fmt: skip
    yield call("DELETE", _IMAGE, "Delete an image", NOTHING, 204, refuses=(502,))


def _data() -> Iterator[Operation]:
    path = f"{_IMAGE}/file"
    yield call("PUT", path, "Upload", NOTHING, 204, body={DATA: {}}, headers=_COMING)
    data = Answer(
        {DATA: {}}, ("Accept-Ranges", "Content-Disposition", "Content-MD5", "ETag", "Content-Range")
    )
    for method in ("GET", "HEAD"):
        yield Operation(
            method=method, path=path, summary="Download; 204: there is no data yet",
            query={"prefer": {"type": "string", "description": "ids of stores, with commas"}},
            headers={"Range": STRING, "If-Range": STRING, "If-None-Match": STRING},
            answers={200: data, 204: NOTHING, 206: data, 304: Answer({DATA: {}}, ("ETag",))},
            refuses=(416, 502),
        )  # fmt: skip
    yield call("PUT", f"{_IMAGE}/stage", "Stage data for an import", NOTHING, 204,
                body={DATA: {}}, headers=_COMING)  # fmt: skip
    yield call("POST", f"{_IMAGE}/import", "Import data", NOTHING, 202,
                body={JSON: ref("Import")}, headers={"x-image-meta-store": STRING},
                refuses=(410, 502))  # fmt: skip
    yield call("GET", f"{_IMAGE}/uploads", "The attempts to fill it", shown("Uploads"))


def _belongings() -> Iterator[Operation]:
    for action in ("deactivate", "reactivate"):
        yield call("POST", f"{_IMAGE}/actions/{action}", action.capitalize(), NOTHING, 204)
    tag = f"{_IMAGE}/tags/{{tag}}"
    yield call("PUT", tag, "Add a tag", NOTHING, 204, refuses=(413,))
    yield call("DELETE", tag, "Remove a tag", NOTHING, 204)
    members = f"{_IMAGE}/members"
    one = f"{members}/{{member}}"
    yield call("GET", members, "List who it is shared with", shown("Members"))
    yield call("POST", members, "Share it with a project", shown("Member"),
                body={JSON: _object("member", STRING)})  # fmt: skip
    yield call("GET", one, "Show a member", shown("Member"))
    yield call("PUT", one, "Accept or reject it", shown("Member"), body={
        JSON: _object("status", {"type": "string", "enum": [s.value for s in MemberStatus]})
    })  # fmt: skip
    yield call("DELETE", one, "Share it no longer", NOTHING, 204)
    locations = f"{_IMAGE}/locations"
    yield call("GET", locations, "Where its data lies", shown("Locations"))
    yield call("POST", locations, "Register a location", NOTHING, 202,
                body={JSON: LOCATION}, refuses=(410, 502))  # fmt: skip
    yield call("GET", f"{_IMAGE}/tasks", "Its tasks", shown("ImageTasks"))


def _services() -> Iterator[Operation]:
    yield call("GET", "/v2/info/import", "The import methods", json_of(_object(
        "import-methods", {"type": "object"})))  # fmt: skip
    yield call("GET", "/v2/info/stores", "The stores", shown("Stores"))
    yield call("GET", "/v2/info/stores/detail", "The stores, for administrators", shown("Stores"))
    yield call("GET", "/v2/info/usage", "What a project holds", shown("Usage"))
    yield call("DELETE", "/v2/stores/{store_id}/{image_id}", "Take a copy out of a store",
                NOTHING, 204, refuses=(502,))  # fmt: skip
    yield call("GET", "/v2/tasks", "List tasks", shown("Tasks"), query=_TASKS_QUERY,
                refuses=(404,))  # fmt: skip
    yield call("POST", "/v2/tasks", "Import, clone or export an image", shown("Task", "Location"),
                201, body={JSON: ref("NewTask")}, refuses=(404, 502))  # fmt: skip
    yield call("GET", "/v2/tasks/{task_id}", "Show a task", shown("Task"))
    yield Operation(method="DELETE", path="/v2/tasks/{task_id}",
                    summary="Always refused: tasks go by themselves", answers={},
                    refuses=(405,))  # fmt: skip
    cached = "/v2/cache/{image_id}"
    yield call("GET", "/v2/cache", "What is cached", shown("Cached"), refuses=(404,))
    yield call("DELETE", "/v2/cache", "Clear the cache", NOTHING, 204, refuses=(404,),
                headers={"x-image-cache-clear-target": STRING})  # fmt: skip
    yield call("PUT", cached, "Cache an image", NOTHING, 202)
    yield call("DELETE", cached, "Cache it no longer", NOTHING, 204)
    yield call("GET", "/v2/schemas/{name}", "A JSON schema", json_of({"type": "object"}))


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
            "properties": {**dict.fromkeys(("add", "remove", "replace"), STRING), "value": {}},
        }
    ),
    "Import": {
        "type": "object",
        "required": ["method"],
        "properties": {
            "method": _object("name", STRING),
            "stores": {"type": "array", "items": STRING},
            "all_stores": {"type": "boolean"},
            "all_stores_must_succeed": {"type": "boolean"},
        },
    },
    "Uploads": _rows(
        "uploads",
        {
            **dict.fromkeys(("id", "image_id", "purpose", "state"), STRING),
            "store": _TEXT,
            "received": _NUMBER,
            "expected_size": {"type": ["integer", "null"]},
            **dict.fromkeys(("started_at", "updated_at"), STRING),
            "ended_at": _TEXT,
            "failure": {"type": ["object", "null"]},
        },
    ),
    "Locations": {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["url", "metadata"],
            "properties": {"url": STRING, "metadata": {"type": "object"}},
        },
    },
    "ImageTasks": _rows(
        "tasks",
        {
            **dict.fromkeys(("id", "type", "status", "created_at", "updated_at"), STRING),
            **dict.fromkeys(("owner", "expires_at", "deleted_at", "image_id"), _TEXT),
            **dict.fromkeys(("request_id", "user_id"), _TEXT),
            **{key: {"type": ["object", "null"]} for key in ("input", "result")},
            "deleted": {"type": "boolean"},
            "message": _TEXT,
        },
    ),
    "Stores": _rows("stores", {"id": STRING}),
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
            "queued_images": {"type": "array", "items": STRING},
        },
    },
}
