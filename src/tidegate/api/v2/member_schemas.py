"""The JSON schemas of the members of an image."""

from typing import Any

from tidegate.domain.member import MemberStatus

_UUID = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"

MEMBER: dict[str, Any] = {
    "name": "member",
    "properties": {
        "member_id": {"type": "string", "description": "The project that the image is shared with"},
        "image_id": {"type": "string", "pattern": _UUID, "description": "The image's identifier"},
        "created_at": {"type": "string", "description": "When the project was first invited"},
        "updated_at": {"type": "string", "description": "When the membership was last changed"},
        "status": {
            "type": "string",
            "enum": [status.value for status in MemberStatus],
            "description": "What the project says to it",
        },
        "schema": {"type": "string", "readOnly": True},
    },
}

MEMBERS: dict[str, Any] = {
    "name": "members",
    "properties": {
        "members": {"type": "array", "items": MEMBER},
        "schema": {"type": "string"},
    },
    "links": [{"rel": "describedby", "href": "{schema}"}],
}
