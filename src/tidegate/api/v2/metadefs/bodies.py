"""Bodies of requests about metadata definitions, as values.

Stricter than the schemas that are published: what could not be kept as it was sent is refused.
"""

from collections.abc import Mapping
from typing import Any

from tidegate.api.v2.matching import Matcher
from tidegate.api.v2.metadefs.schemas import ASSOCIATION, DEFINITION, NAMESPACE, TYPES, Schema
from tidegate.domain.errors import Forbidden, Invalid
from tidegate.domain.image import Visibility
from tidegate.domain.metadef import MAX_NAME, Contents, Definition, Kind, Namespace, normal

_TIMES = ("created_at", "updated_at")
_LINKED = ("self", "schema", *_TIMES)
_READ_ONLY = {**dict.fromkeys(Kind, _TIMES), Kind.OBJECT: _LINKED}
_LARGEST = 2**63 - 1

_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_NAME}
_STRINGS: Schema = {"type": "array", "items": {"type": "string"}}
_NUMBER: Schema = {"type": "number", "minimum": -_LARGEST, "maximum": _LARGEST}
_COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": _LARGEST}
_TYPE: Schema = {"type": "string", "enum": list(TYPES)}
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems")


def _closed(properties: Mapping[str, Schema], *required: str) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


_DEFINITION = {
    **DEFINITION,
    **dict.fromkeys(_COUNTS, _COUNT),
    "name": _NAME,
    "type": _TYPE,
    "minimum": _NUMBER,
    "maximum": _NUMBER,
    "enum": _STRINGS,
    "items": _closed({"type": _TYPE, "enum": _STRINGS}, "type"),
}
del _DEFINITION["required"]
_DEFINITIONS: Schema = {
    "type": "object",
    "propertyNames": _NAME,
    "additionalProperties": _closed(_DEFINITION, "title", "type"),
}
_BODIES: dict[Kind, Schema] = {
    Kind.ASSOCIATION: _closed({**ASSOCIATION, "name": _NAME}, "name"),
    Kind.OBJECT: _closed(
        {
            "name": _NAME,
            "description": {"type": "string"},
            "required": {**_STRINGS, "uniqueItems": True},
            "properties": _DEFINITIONS,
        },
        "name",
    ),
    Kind.TAG: _closed({"name": _NAME}, "name"),
    Kind.PROPERTY: _closed(_DEFINITION, "name", "title", "type"),
}
_BY_KIND = {kind: Matcher({"name": kind.value, **body}) for kind, body in _BODIES.items()}


def _many(kind: Kind) -> Schema:
    return {"type": "array", "items": _BODIES[kind]}


_TAGS = Matcher({"name": "tags", **_closed({"tags": _many(Kind.TAG)}, "tags")})

_CHANGED: Schema = {
    **NAMESPACE,
    "properties": {**NAMESPACE["properties"], "namespace": _NAME},
}
_NEW: Schema = {
    **_CHANGED,
    "properties": {
        **_CHANGED["properties"],
        "resource_type_associations": _many(Kind.ASSOCIATION),
        "objects": _many(Kind.OBJECT),
        "tags": _many(Kind.TAG),
        "properties": _DEFINITIONS,
    },
}
_NEW_NAMESPACE, _CHANGED_NAMESPACE = Matcher(_NEW), Matcher(_CHANGED)


def new_namespace(body: Any) -> tuple[Namespace, Contents]:
    """Forbidden: a read-only member; Invalid. Kinds of which nothing was said are left out."""
    given = _object(body, _LINKED)
    _NEW_NAMESPACE.check(given)
    contents: dict[Kind, list[Definition]] = {
        kind: [_definition(kind, one) for one in given[name]]
        for kind, name in (
            (Kind.ASSOCIATION, "resource_type_associations"),
            (Kind.OBJECT, "objects"),
            (Kind.TAG, "tags"),
        )
        if name in given
    }
    if "properties" in given:
        contents[Kind.PROPERTY] = [
            Definition(name=name, content=normal(content))
            for name, content in given["properties"].items()
        ]
    return _namespace(given), contents


def loaded_namespace(body: Any) -> tuple[Namespace, Contents]:
    """Of an operator's file: like a new one, but that members of no meaning are passed over and
    that ``admin`` owns what has no owner. Invalid."""
    if not isinstance(body, dict):
        raise Invalid("The file must hold a JSON object.")
    known = NAMESPACE["properties"].keys() - set(_LINKED)
    return new_namespace(
        {"owner": "admin", **{name: value for name, value in body.items() if name in known}}
    )


def changed_namespace(body: Any) -> Namespace:
    """What the body says of its contents is checked, and ignored. Forbidden, Invalid."""
    given = _object(body, _LINKED)
    _CHANGED_NAMESPACE.check(given)
    return _namespace(given)


def definition(kind: Kind, body: Any) -> Definition:
    """Forbidden: a read-only member; Invalid."""
    given = _object(body, _READ_ONLY[kind])
    _BY_KIND[kind].check(given)
    return _definition(kind, given)


def tags(body: Any) -> list[Definition]:
    """Invalid."""
    given = _object(body, ())
    _TAGS.check(given)
    return [_definition(Kind.TAG, one) for one in given["tags"]]


def tag(name: str) -> Definition:
    """Named by its path. Invalid."""
    return definition(Kind.TAG, {"name": name})


def _object(body: Any, read_only: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise Invalid("The body must be a JSON object.")
    for name in read_only:
        if name in body:
            raise Forbidden(f"Attribute '{name}' is read-only.")
    return body


def _namespace(given: Mapping[str, Any]) -> Namespace:
    return Namespace(
        name=given["namespace"],
        visibility=Visibility(given.get("visibility", Visibility.PRIVATE)),
        protected=given.get("protected", False),
        display_name=given.get("display_name"),
        description=given.get("description"),
        owner=given.get("owner"),
    )


def _definition(kind: Kind, given: Mapping[str, Any]) -> Definition:
    name = given["name"]
    if kind is Kind.PROPERTY:
        # with its name, since a map of properties shows it as it was sent
        return Definition(name=name, content=normal(given))
    content = {key: value for key, value in given.items() if key != "name"}
    if "properties" in content:
        content["properties"] = {key: normal(value) for key, value in content["properties"].items()}
    return Definition(name=name, content=content)
