"""The JSON schemas that clients build their models from, and that bodies are checked against."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from aiohttp import web

from tidegate.api.keys import SETTINGS
from tidegate.api.reading import refuse_body
from tidegate.api.v2.matching import Matcher
from tidegate.api.v2.member_schemas import MEMBER, MEMBERS
from tidegate.api.v2.task_schemas import TASK, TASKS
from tidegate.settings import ImageFormat

UUID = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"


def _text(description: str, *, null: bool = False, most: int | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": ["null", "string"] if null else "string",
        "description": description,
    }
    if most is not None:
        found["maxLength"] = most
    return found


def _number(description: str, *, null: bool = False) -> dict[str, Any]:
    return {"type": ["null", "integer"] if null else "integer", "description": description}


def _fixed(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "readOnly": True}


def _extra(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "is_base": False}


_STATUSES = [
    "queued", "saving", "active", "killed", "deleted", "uploading", "importing", "pending_delete",
    "deactivated",
]  # fmt: skip

_LOCATION = {
    "type": "object",
    "required": ["url", "metadata"],
    "properties": {
        "url": {"type": "string", "maxLength": 255},
        "metadata": {"type": "object"},
        "validation_data": {
            "type": "object",
            "writeOnly": True,
            "additionalProperties": False,
            "required": ["os_hash_algo", "os_hash_value"],
            "properties": {
                "checksum": {"type": "string", "minLength": 32, "maxLength": 32},
                "os_hash_algo": {"type": "string", "maxLength": 64},
                "os_hash_value": {"type": "string", "maxLength": 128},
            },
        },
    },
}

_PROPERTIES: dict[str, dict[str, Any]] = {
    "id": {"type": "string", "pattern": UUID, "description": "The image's identifier"},
    "name": _text("A name for people", null=True, most=255),
    "status": _fixed(
        {
            "type": "string",
            "enum": _STATUSES,
            "description": "Where the image is in its life",
        }
    ),
    "visibility": {
        "type": "string",
        "enum": ["community", "public", "private", "shared"],
        "description": "Who may see the image",
    },
    "protected": {"type": "boolean", "description": "Whether deleting is refused"},
    "os_hidden": {"type": "boolean", "description": "Whether lists leave the image out"},
    "checksum": _fixed(_text("MD5 of the data, in hex", null=True, most=32)),
    "os_hash_algo": _fixed(_text("Algorithm of os_hash_value", null=True, most=64)),
    "os_hash_value": _fixed(_text("Digest of the data, in hex", null=True, most=128)),
    "owner": _text("The project that owns the image", null=True, most=255),
    "size": _fixed(_number("Size of the data in bytes", null=True)),
    "virtual_size": _fixed(_number("Size of the disk inside, in bytes", null=True)),
    "container_format": {
        "type": ["null", "string"],
        "description": "The container's format",
    },
    "disk_format": {
        "type": ["null", "string"],
        "description": "The disk's format",
    },
    "created_at": _fixed(_text("When the image was made")),
    "updated_at": _fixed(_text("When the image was last changed")),
    "tags": {
        "type": "array",
        "items": {"type": "string", "maxLength": 255},
        "description": "Labels",
    },
    "direct_url": _fixed(_text("Where the data lies")),
    "min_ram": _number("Memory needed to boot the image, in MiB"),
    "min_disk": _number("Disk needed to boot the image, in GiB"),
    "self": _fixed(_text("The image's own path")),
    "file": _fixed(_text("The path of its data")),
    "stores": _fixed(_text("The stores that hold its data, joined by commas")),
    "schema": _fixed(_text("The path of this schema")),
    "locations": {"type": "array", "items": _LOCATION, "description": "Where the data lies"},
    "kernel_id": _extra({"type": ["null", "string"], "pattern": UUID,
                         "description": "The image that holds the kernel"}),
    "ramdisk_id": _extra({"type": ["null", "string"], "pattern": UUID,
                          "description": "The image that holds the RAM disk"}),
    "instance_uuid": _extra(_text("The instance that the image was made from")),
    "architecture": _extra(_text("The processor's architecture")),
    "os_distro": _extra(_text("The operating system's distribution")),
    "os_version": _extra(_text("The operating system's version")),
    "description": _extra(_text("A description for people")),
    "cinder_encryption_key_id": _extra(_text("The key of an encrypted volume")),
    "cinder_encryption_key_deletion_policy": _extra(
        {
            "type": "string",
            "enum": ["on_image_deletion", "do_not_delete"],
            "description": "What becomes of the key",
        }
    ),
}  # fmt: skip

NULLABLE_EXTRAS = frozenset({"kernel_id", "ramdisk_id"})
"""Additional properties that may be null."""

IMAGE: dict[str, Any] = {
    "name": "image",
    "properties": _PROPERTIES,
    "additionalProperties": {"type": "string"},
    "links": [
        {"rel": "self", "href": "{self}"},
        {"rel": "enclosure", "href": "{file}"},
        {"rel": "describedby", "href": "{schema}"},
    ],
}

IMAGES: dict[str, Any] = {
    "name": "images",
    "properties": {
        "images": {"type": "array", "items": IMAGE},
        "first": {"type": "string"},
        "next": {"type": "string"},
        "schema": {"type": "string"},
    },
    "links": [
        {"rel": "first", "href": "{first}"},
        {"rel": "next", "href": "{next}"},
        {"rel": "describedby", "href": "{schema}"},
    ],
}

check_image = Matcher(IMAGE).check


async def show_schema(request: web.Request) -> web.Response:
    refuse_body(request)
    document = documents(request.app[SETTINGS].image_format).get(request.match_info["name"])
    if document is None:
        raise web.HTTPNotFound
    body = json.dumps(document).encode()
    return web.Response(body=body, headers={"Content-Type": "application/json"})


@cache
def documents(formats: ImageFormat) -> Mapping[str, dict[str, Any]]:
    """The schemas by name, with the formats that are taken here."""
    enums = {"disk_format": formats.disk_formats, "container_format": formats.container_formats}
    named = {name: {**_PROPERTIES[name], "enum": [None, *enum]} for name, enum in enums.items()}
    image = {**IMAGE, "properties": _PROPERTIES | named}
    listed = {**IMAGES["properties"], "images": {"type": "array", "items": image}}
    images = {**IMAGES, "properties": listed}
    return {
        "image": image,
        "images": images,
        "member": MEMBER,
        "members": MEMBERS,
        "task": TASK,
        "tasks": TASKS,
    }
