"""Metadata of the Image API v1: ``x-image-meta-*`` headers, read and written."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

from multidict import MultiMapping

from tidegate.api.v2.patch import READ_ONLY
from tidegate.api.v2.views import precise_time
from tidegate.domain.errors import Forbidden, Invalid, Unsupported
from tidegate.domain.image import UUID, Image, Visibility
from tidegate.domain.status import Status
from tidegate.services.images import BASE_FIELDS, property_name

PREFIX = "x-image-meta-"
_PROPERTY = f"{PREFIX}property-"
_PURGE = "x-glance-registry-purge-props"
_COPY_FROM = "x-glance-api-copy-from"

_TRUE = frozenset({"1", "t", "true", "on", "y", "yes"})
_AMAZON = frozenset({"aki", "ari", "ami"})
_IGNORED = frozenset({"copy_from", "uri", "deleted"})
_TIMES = frozenset({"created_at", "updated_at", "deleted_at"})
_NUMBERS = {"size": 2**63 - 1, "min_disk": 2**31 - 1, "min_ram": 2**31 - 1,
            "virtual_size": 2**63 - 1}  # fmt: skip
_TEXTS = frozenset({"name", "id", "store", "checksum", "owner", "location", "status"})
_FORMATS = frozenset({"disk_format", "container_format"})
_BOOLEANS = frozenset({"is_public", "protected"})
_COLUMNS = ("name", "disk_format", "container_format", "min_disk", "min_ram", "protected",
            "virtual_size")  # fmt: skip
_FIELDS = frozenset({*BASE_FIELDS, *READ_ONLY, "tags", "locations"})
_UNFILLED = frozenset({Status.QUEUED, Status.SAVING, Status.UPLOADING, Status.IMPORTING,
                       Status.KILLED})  # fmt: skip
_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_PLAIN = re.compile("[\x00-\x1f\x7f]|^ | $")


@dataclass(frozen=True, slots=True)
class Meta:
    """``given`` holds what was sent, by field, as values of the right type; a field that was
    sent empty is None. ``purge``: properties that are not named go. ``copy_from`` is the URL of
    the data (None: not sent)."""

    given: Mapping[str, Any]
    properties: Mapping[str, str | None]
    purge: bool
    copy_from: str | None = None

    def get(self, name: str) -> Any:
        return self.given.get(name)

    def columns(self) -> dict[str, Any]:
        """What of it is a column of the image, but for owner and visibility."""
        return {name: self.given[name] for name in _COLUMNS if name in self.given}

    def need_formats(self, image: Image | None = None) -> None:
        """Data can only come when both formats are known. Invalid."""
        for name, word in (("disk_format", "Disk"), ("container_format", "Container")):
            if self.get(name) is None and (image is None or getattr(image, name) is None):
                raise Invalid(f"{word} format is not specified.")


def read_meta(headers: MultiMapping[str]) -> Meta:
    """Invalid, Forbidden: an unknown header, or a value that cannot be one."""
    given: dict[str, Any] = {}
    properties: dict[str, str | None] = {}
    decode = _unquoted if _quotes(headers) else str.strip
    copy_from: str | None = None
    for header, raw in headers.items():
        name = decode(header).lower()
        if name == _COPY_FROM:
            copy_from = _text(name, decode(raw))
        if not name.startswith(PREFIX):
            continue
        value = _text(name, decode(raw))
        if name.startswith(_PROPERTY):
            properties[_property(_field(name, _PROPERTY))] = value or None
        else:
            field = _field(name, PREFIX)
            if field not in _IGNORED:
                given[field] = _value(name, field, value)
    _join_amazon(given)
    purge = headers.get(_PURGE, "true").strip().lower() in _TRUE
    return Meta(given, properties, purge, copy_from)


def write_meta(image: Image) -> dict[str, str]:
    """Headers of an answer; null fields and what has no legal header name are left out."""
    view = image_v1(image)
    properties = view.pop("properties")
    found = {f"{PREFIX}{name}": _shown(value) for name, value in view.items() if value is not None}
    for name, value in properties.items():
        if value is not None and _HEADER_NAME.fullmatch(name):
            found[f"{_PROPERTY}{name.lower()}"] = _shown(value)
    return found


def image_v1(image: Image) -> dict[str, Any]:
    """The 18 keys of an image; times in UTC with microseconds and no zone. Of an image without
    data: what was announced of it."""
    size, checksum = image.size, image.checksum
    if size is None:
        size = image.declared_size or 0
    if checksum is None and image.status in _UNFILLED:
        checksum = image.declared_checksum
    return {
        "id": image.id,
        "name": image.name,
        "status": str(image.status),
        "size": size,
        "virtual_size": image.virtual_size,
        "disk_format": image.disk_format,
        "container_format": image.container_format,
        "checksum": checksum,
        "is_public": image.visibility is Visibility.PUBLIC,
        "protected": image.protected,
        "min_ram": image.min_ram,
        "min_disk": image.min_disk,
        "owner": image.owner,
        "created_at": precise_time(image.created_at),
        "updated_at": precise_time(image.updated_at),
        "deleted": image.gone,
        "deleted_at": None if image.deleted_at is None else precise_time(image.deleted_at),
        "properties": {
            name: value
            for name, value in image.properties.items()
            if not name.startswith("os_glance")
        },
    }


@contextmanager
def never_415() -> Iterator[None]:
    """v1 knows no 415: what is not supported is Invalid."""
    try:
        yield
    except Unsupported as error:
        raise Invalid(error.message) from error


def _property(name: str) -> str:
    """Forbidden: one that API v2 would take for a field; Invalid."""
    if not name:
        raise Invalid("A property needs a name.")
    if name in _FIELDS:
        raise Forbidden(f"Attribute '{name}' is reserved.")
    return property_name(name)


def _field(header: str, prefix: str) -> str:
    return header.removeprefix(prefix).replace("-", "_")


def _quotes(headers: MultiMapping[str]) -> bool:
    """Whether the client writes metadata with percent signs, as parts of a URL: glanceclient
    does, and nobody else."""
    return headers.get("User-Agent", "").startswith("python-glanceclient")


def _unquoted(text: str) -> str:
    return unquote(text, errors="surrogateescape")


def _text(header: str, value: str) -> str:
    value = value.strip()
    if any("\ud800" <= char <= "\udfff" for char in value) or _NOT_PLAIN.search(value):
        raise Invalid(f"The value of {header} must be UTF-8 without control characters.")
    return value


def _value(header: str, field: str, text: str) -> Any:
    if field in _NUMBERS:
        return _number(field, text)
    if field in _BOOLEANS:
        return text.lower() in _TRUE
    if field in _FORMATS:
        return text
    if field in _TIMES:
        return _check_time(field, text)
    if field not in _TEXTS:
        raise Invalid(f"Bad header: {header}")
    return _check_text(field, text)


def _check_text(field: str, text: str) -> str | None:
    if field == "name" and len(text) > 255:
        raise Invalid(f"Image name too long: {len(text)}")
    if field == "owner" and len(text) > 255:
        raise Invalid("The owner must not be longer than 255 characters.")
    if field == "id" and not UUID.fullmatch(text):
        raise Invalid("The image's id must be a UUID.")
    if field == "checksum" and text and not _MD5.fullmatch(text):
        raise Invalid("The checksum must be an MD5 digest in hex: 32 characters.")
    if field == "location" and not text:
        raise Invalid("External source should not be empty")
    return text.lower() if field == "checksum" and text else text or None


def _number(field: str, text: str) -> int | None:
    if field == "virtual_size" and text == "None":
        return None
    if not re.fullmatch(r"-?[0-9]{1,19}", text):
        raise Invalid(
            f"Invalid value '{text[:40]}' for parameter '{field}': "
            f"Cannot convert image {field} '{text[:40]}' to an integer."
        )
    value = int(text)
    if value < 0:
        raise Invalid(
            f"Invalid value '{text}' for parameter '{field}': Cannot be a negative value."
        )
    if value > _NUMBERS[field]:
        raise Invalid(f"'{field}' value out of range, must not exceed {_NUMBERS[field]}.")
    return value


def _check_time(field: str, text: str) -> None:
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        moment = datetime.min
    if moment is not None and moment.year < 1900:
        raise Invalid(f"Invalid time format for {field}.")


def _join_amazon(given: dict[str, Any]) -> None:
    """Amazon's kinds are container and disk in one."""
    disk, container = given.get("disk_format"), given.get("container_format")
    if not {disk, container} & _AMAZON:
        return
    if disk is not None and container is not None and disk != container:
        raise Invalid(
            "Invalid mix of disk and container formats. When setting a disk or container format "
            "to one of 'aki', 'ari', or 'ami', the container and disk formats must match."
        )
    given["disk_format"] = given["container_format"] = disk or container


def _shown(value: Any) -> str:
    return quote(text, safe=_SAFE) if _NOT_PLAIN.search(text := str(value)) else text


_SAFE = "".join(map(chr, range(0x20, 0x7F)))
