"""A patch of an image: both media types, JSON pointers (RFC 6901), and what may be named."""

import re
from collections.abc import Mapping
from typing import Any

from tidegate.api.v2.schemas import check_image
from tidegate.domain.errors import Forbidden, Invalid, Unsupported
from tidegate.services.images import (
    BASE_FIELDS,
    Edit,
    property_name,
)
from tidegate.services.locations import NOWHERE, LocationsEdit, NewLocation

V21 = "application/openstack-images-v2.1-json-patch"
V20 = "application/openstack-images-v2.0-json-patch"
MEDIA_TYPES = (V20, V21)
ACCEPTED = ", ".join(MEDIA_TYPES)
MAX_OPERATIONS = 100
READ_ONLY = frozenset({
    "id", "created_at", "updated_at", "status", "checksum", "size", "virtual_size", "direct_url",
    "self", "file", "schema", "os_hash_algo", "os_hash_value", "stores",
})  # fmt: skip

_OPERATIONS = ("add", "remove", "replace")
_ESCAPE = re.compile(r"~(?![01])")
_INDEX = re.compile(r"[0-9]+")
_FAR = 9  # digits that are enough to be beyond the end


def refused(media_type: str) -> Unsupported:
    return Unsupported(
        f"The request media type {media_type} is not supported by this server. "
        f"Image PATCH expects Content-Type one of: {ACCEPTED}"
    )


def parse(media_type: str, body: Any) -> list[Edit | LocationsEdit]:
    """The steps of a patch of one of MEDIA_TYPES. Invalid, Forbidden; the first bad operation
    decides."""
    if not isinstance(body, list):
        raise Invalid("Request body must be a JSON array of operation objects.")
    if len(body) > MAX_OPERATIONS:
        raise Invalid(f"A patch may hold at most {MAX_OPERATIONS} operations.")
    return [_operation(item, old=media_type == V20) for item in body]


def _operation(item: Any, *, old: bool) -> Edit | LocationsEdit:
    if not isinstance(item, dict):
        raise Invalid("Operations must be JSON objects.")
    name, pointer = _named_in_member(item) if old else _named_in_op(item)
    path = _pointer(pointer)
    if name in ("add", "replace") and "value" not in item:
        raise Invalid(f'Operation "{name}" requires a member named "value".')
    value = item.get("value")
    if path[0] == "locations":
        return _locations(name, path, pointer, value)
    if len(path) != 1:
        raise Invalid(f"Invalid JSON pointer for this resource: '{pointer}'")
    field = path[0]
    if field in READ_ONLY:
        raise Forbidden(f"Attribute '{field}' is read-only.")
    if field not in BASE_FIELDS and field != "tags":
        property_name(field)
    if name != "remove":
        check_image({field: value})
        value = plain(field, value)
    return Edit("create" if old and name == "add" else name, field, value)


def plain(field: str, value: Any) -> Any:
    """JSON's 1.0 is an integer to the schema, and must be one to us."""
    if field in ("min_disk", "min_ram"):
        value = int(value)
        if value < 0:
            raise Invalid(
                f"Invalid value '{value}' for parameter '{field}': Cannot be a negative value"
            )
        if value > 2**31 - 1:
            raise Invalid(f"'{field}' value out of range, must not exceed {2**31 - 1}.")
    if field == "owner":
        return value or None
    return value


def _named_in_op(item: Mapping[str, Any]) -> tuple[str, str]:
    known = ", ".join(_OPERATIONS)
    name = item.get("op")
    if name is None:
        raise Invalid(
            f"Unable to find `op` in JSON Schema change. It must be one of the following: {known}."
        )
    if name not in _OPERATIONS:
        raise Invalid(f"Invalid operation: `{name}`. It must be one of the following: {known}.")
    if "path" not in item:
        raise Invalid("Unable to find 'path' in JSON Schema change")
    return name, _text(item["path"])


def _named_in_member(item: Mapping[str, Any]) -> tuple[str, str]:
    found = [name for name in _OPERATIONS if name in item]
    if len(found) != 1:
        word = "contain only" if found else "contain exactly"
        raise Invalid(
            f'Operation objects must {word} one member named "add", "remove", or "replace".'
        )
    return found[0], _text(item[found[0]])


def _text(pointer: Any) -> str:
    if not isinstance(pointer, str):
        raise Invalid("The pointer of an operation must be a string.")
    return pointer


def _pointer(pointer: str) -> list[str]:
    if not pointer.startswith("/"):
        raise Invalid(f'Pointer `{pointer}` does not start with "/".')
    rest = pointer.lstrip("/")
    if len(pointer) > 1 and (pointer.endswith("/") or not rest.strip()):
        raise Invalid(f'Pointer `{pointer}` end with "/".')
    if re.search(r"/\s*/", rest):
        raise Invalid(f'Pointer `{pointer}` contains adjacent "/".')
    if _ESCAPE.search(rest):
        raise Invalid(f'Pointer `{pointer}` contains "~" not part of a recognized escape sequence.')
    return [segment.strip().replace("~1", "/").replace("~0", "~") for segment in rest.split("/")]


def _locations(name: str, path: list[str], pointer: str, value: Any) -> LocationsEdit:
    if len(path) != (1 if name == "replace" else 2):
        raise Invalid(f"Invalid JSON pointer for this resource: '{pointer}'")
    if name == "replace":
        check_image({"locations": value})
        return LocationsEdit("replace", None, tuple(map(_location, value)))
    place = path[1]
    index = int(place[:_FAR]) if _INDEX.fullmatch(place) else NOWHERE
    if name == "remove":
        return LocationsEdit("remove", -1 if place == "-" else index)
    check_image({"locations": [value]})
    return LocationsEdit("add", None if place == "-" else index, (_location(value),))


def _location(value: Mapping[str, Any]) -> NewLocation:
    given = value.get("validation_data") or {}
    learnt = {
        column: str(given[key]).lower()
        for key, column in (
            ("checksum", "checksum"),
            ("os_hash_algo", "hash_algo"),
            ("os_hash_value", "hash_value"),
        )
        if key in given
    }
    return NewLocation(url=value["url"], metadata=value["metadata"], learnt=learnt)
