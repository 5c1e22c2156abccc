"""The Image API v1: metadata in headers."""

from collections.abc import Iterator, Mapping
from typing import Any

from tidegate.api.openapi.operation import (
    DATA,
    JSON,
    STRING,
    Answer,
    Operation,
    Schema,
    json_of,
    ref,
    shown,
)
from tidegate.api.v1.headers import PREFIX
from tidegate.api.v2.listing import SORT_KEYS

_NUMBER = {"type": "integer", "minimum": 0}
_TRUTH = {"type": "string", "enum": ["true", "false"]}
_IMAGE = "/v1/images/{image_id}"
_META: Mapping[str, Schema] = {
    **{f"{PREFIX}{name}": STRING for name in ("name", "id", "store", "checksum", "owner",
                                               "location", "disk_format", "container_format")},
    **{f"{PREFIX}{name}": _NUMBER for name in ("size", "min_disk", "min_ram", "virtual_size")},
    **{f"{PREFIX}{name}": _TRUTH for name in ("is_public", "protected")},
    "x-glance-api-copy-from": STRING,
}  # fmt: skip
_QUERY: Mapping[str, Schema] = {
    **dict.fromkeys(("name", "status", "container_format", "disk_format"), STRING),
    **dict.fromkeys(("size_min", "size_max", "min_ram", "min_disk", "limit"), _NUMBER),
    "protected": _TRUTH,
    "is_public": {"type": "string", "enum": ["true", "false", "none"]},
    "changes-since": {"type": "string", "format": "date-time"},
    "marker": {"type": "string", "format": "uuid"},
    "sort_key": {"type": "string", "enum": list(SORT_KEYS)},
    "sort_dir": {"type": "string", "enum": ["asc", "desc"]},
}
_READING = {"Range": STRING, "If-None-Match": STRING}


def operations() -> Iterator[Operation]:
    for path in ("/v1/", "/v1/images"):
        yield Operation(method="GET", path=path, summary="List images, in short", query=_QUERY,
                        answers={200: shown("ImagesV1Short")}, refuses=(404,))  # fmt: skip
    yield Operation(method="GET", path="/v1/images/detail", summary="List images", query=_QUERY,
                    answers={200: shown("ImagesV1")}, refuses=(404,))  # fmt: skip
    yield Operation(
        method="POST", path="/v1/images", summary="Create an image, with or without its data",
        headers=_META, body={DATA: {}}, body_optional=True, refuses=(404, 412),
        answers={201: shown("ImageV1Answer", "Location", "ETag")},
    )  # fmt: skip
    yield Operation(
        method="PUT", path=_IMAGE, summary="Change an image, or send its data",
        headers={**_META, "x-glance-registry-purge-props": _TRUTH},
        body={DATA: {}}, body_optional=True, refuses=(412,),
        answers={200: shown("ImageV1Answer", "ETag")},
    )  # fmt: skip
    data = Answer({DATA: {}}, ("ETag",))
    yield Operation(method="GET", path=_IMAGE, summary="Download", headers=_READING,
                    answers={200: data, 206: data, 304: Answer({DATA: {}})},
                    refuses=(416, 502))  # fmt: skip
    yield Operation(method="HEAD", path=_IMAGE, summary="Show an image, in headers",
                    answers={200: data})  # fmt: skip
    yield Operation(method="DELETE", path=_IMAGE, summary="Delete an image",
                    answers={200: Answer()}, refuses=(502,))  # fmt: skip
    yield from _members()


def _members() -> Iterator[Operation]:
    path = f"{_IMAGE}/members"
    yield Operation(method="GET", path=path, summary="List who it is shared with",
                    answers={200: shown("MembersV1")})  # fmt: skip
    yield Operation(method="PUT", path=path, summary="Share it with these projects alone",
                    answers={204: Answer()}, body={JSON: ref("MembershipsV1")})  # fmt: skip
    yield Operation(method="PUT", path=f"{path}/{{member}}", summary="Share it with a project",
                    answers={204: Answer()}, body={JSON: ref("MembershipV1")},
                    body_optional=True)  # fmt: skip
    yield Operation(method="DELETE", path=f"{path}/{{member}}", summary="Share it no longer",
                    answers={204: Answer()})  # fmt: skip
    yield Operation(method="GET", path="/v1/shared-images/{member}",
                    summary="List what is shared with a project",
                    answers={200: json_of(_list("shared_images", "image_id"))})  # fmt: skip


def _list(name: str, key: str) -> dict[str, Any]:
    row = {
        "type": "object",
        "required": [key, "can_share"],
        "properties": {key: STRING, "can_share": {"type": "boolean"}},
    }
    return {
        "type": "object",
        "required": [name],
        "properties": {name: {"type": "array", "items": row}},
    }


_TEXT = {"type": ["string", "null"]}
_SIZE = {"type": ["integer", "null"]}
_SHORT: dict[str, Any] = {
    "id": STRING, "name": _TEXT, "size": _SIZE, "disk_format": _TEXT, "container_format": _TEXT,
    "checksum": _TEXT,
}  # fmt: skip
_FULL: dict[str, Any] = {
    **_SHORT,
    **dict.fromkeys(("status", "created_at", "updated_at"), STRING),
    **dict.fromkeys(("owner", "deleted_at"), _TEXT),
    **{key: {"type": "boolean"} for key in ("is_public", "protected", "deleted")},
    **{key: {"type": "integer"} for key in ("min_ram", "min_disk")},
    "virtual_size": _SIZE,
    "properties": {"type": "object", "additionalProperties": _TEXT},
}
_IMAGE_V1 = {
    "type": "object",
    "required": list(_FULL),
    "properties": _FULL,
    "additionalProperties": False,
}


def _page(item: dict[str, Any]) -> dict[str, Any]:
    images = {"type": "array", "items": item}
    return {"type": "object", "required": ["images"], "properties": {"images": images}}


SCHEMAS = {
    "ImageV1": _IMAGE_V1,
    "ImageV1Answer": {
        "type": "object", "required": ["image"], "properties": {"image": ref("ImageV1")},
    },
    "ImagesV1": _page(dict(ref("ImageV1"))),
    "ImagesV1Short": _page({"type": "object", "required": list(_SHORT), "properties": _SHORT}),
    "MembersV1": _list("members", "member_id"),
    "MembershipsV1": {
        "type": "object",
        "required": ["memberships"],
        "properties": {
            "memberships": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["member_id"],
                    "properties": {"member_id": STRING, "can_share": {"type": "boolean"}},
                },
            }
        },
    },
    "MembershipV1": {
        "type": "object",
        "required": ["member"],
        "properties": {
            "member": {"type": "object", "properties": {"can_share": {"type": "boolean"}}}
        },
    },
}  # fmt: skip
