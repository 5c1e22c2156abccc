"""Metadata definitions as JSON of the Image API v2; what has no value is left out."""

from collections.abc import Sequence
from typing import Any

from tidegate.api.v2.views import time_of
from tidegate.domain.metadef import Contents, Definition, Kind, Namespace

PATH = "/v2/metadefs/namespaces"
_SCHEMAS = "/v2/schemas/metadefs"
_KEYS = {
    Kind.ASSOCIATION: "resource_type_associations",
    Kind.OBJECT: "objects",
    Kind.TAG: "tags",
    Kind.PROPERTY: "properties",
}


def namespace(one: Namespace) -> dict[str, Any]:
    view = {
        "namespace": one.name,
        "display_name": one.display_name,
        "description": one.description,
        "visibility": one.visibility,
        "protected": one.protected,
        "owner": one.owner,
        "created_at": time_of(one.created_at),
        "updated_at": time_of(one.updated_at),
        "self": f"{PATH}/{one.name}",
        "schema": f"{_SCHEMAS}/namespace",
    }
    return {name: value for name, value in view.items() if value is not None}


def new_namespace(one: Namespace, contents: Contents) -> dict[str, Any]:
    """With what was made with it, as it was sent."""
    view = namespace(one)
    for kind, definitions in contents.items():
        if kind is Kind.PROPERTY:
            view["properties"] = properties(definitions)
        else:
            view[_KEYS[kind]] = [_named(definition) for definition in definitions]
    return view


def listed_namespace(one: Namespace, associations: Sequence[Definition]) -> dict[str, Any]:
    view = namespace(one)
    if associations:
        view[_KEYS[Kind.ASSOCIATION]] = [timed(definition) for definition in associations]
    return view


def whole_namespace(one: Namespace, contents: Contents) -> dict[str, Any]:
    view = listed_namespace(one, contents[Kind.ASSOCIATION])
    if contents[Kind.OBJECT]:
        view["objects"] = [whole_object(one.name, found) for found in contents[Kind.OBJECT]]
    if contents[Kind.PROPERTY]:
        view["properties"] = properties(contents[Kind.PROPERTY])
    if contents[Kind.TAG]:
        view["tags"] = tags(contents[Kind.TAG])
    return view


def sent_object(namespace_name: str, one: Definition) -> dict[str, Any]:
    """As an answer to what made it so: with what was sent of it."""
    return {
        **timed(one),
        "self": f"{PATH}/{namespace_name}/objects/{one.name}",
        "schema": f"{_SCHEMAS}/object",
    }


def whole_object(namespace_name: str, one: Definition) -> dict[str, Any]:
    return {"required": [], "properties": {}, **sent_object(namespace_name, one)}


def property_(one: Definition) -> dict[str, Any]:
    return {**one.content, "name": one.name}


def properties(found: Sequence[Definition]) -> dict[str, Any]:
    return {one.name: one.content for one in found}


def tags(found: Sequence[Definition]) -> list[dict[str, Any]]:
    return [{"name": one.name} for one in found]


def timed(one: Definition) -> dict[str, Any]:
    """A tag, an association, a type of resources."""
    times = {"created_at": time_of(one.created_at), "updated_at": time_of(one.updated_at)}
    return {**_named(one), **times}


def _named(one: Definition) -> dict[str, Any]:
    return {"name": one.name, **one.content}
