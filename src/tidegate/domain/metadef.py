"""Metadata definitions, as values: what properties, objects and tags mean, by namespace."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tidegate.domain.image import Visibility

MAX_NAME = 80


class Kind(StrEnum):
    """What a namespace holds, in the order in which it is made. An association says that the
    namespace is of use to a type of resources (an image, a volume, …), whose name it bears."""

    ASSOCIATION = "association"
    OBJECT = "object"
    TAG = "tag"
    PROPERTY = "property"


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """Its name is unique among all projects'. Times are microseconds since 1970 (UTC)."""

    name: str
    display_name: str | None = None
    description: str | None = None
    visibility: Visibility = Visibility.PRIVATE
    protected: bool = False
    owner: str | None = None
    id: int = 0
    created_at: int = 0
    updated_at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One thing in a namespace; its name is unique among those of its kind there. ``content`` is
    what was said of it, and nothing else, by the API's names."""

    name: str
    content: Mapping[str, object] = field(default_factory=dict)
    id: int = 0
    created_at: int = 0
    updated_at: int = 0


Contents = Mapping[Kind, Sequence[Definition]]


class Loading(StrEnum):
    """What becomes of a namespace that is there already when its file is loaded."""

    KEEP = "keep"
    """It stays as it is."""
    ADD = "add"
    """What it does not have is added."""
    UPDATE = "update"
    """So it is, and what it has is made as the file says."""
    REPLACE = "replace"
    """It is removed with all it holds, and made anew."""


def normal(content: Mapping[str, object]) -> dict[str, object]:
    """A property's definition as it is kept: the default as text, or null where it has no plain
    text; bounds without fractions."""
    kept = dict(content)
    if "default" in kept:
        default = kept["default"]
        plain = isinstance(default, str | int | float)
        kept["default"] = str(default) if plain else None
    for name in ("minimum", "maximum"):
        bound = kept.get(name)
        if isinstance(bound, float):
            kept[name] = int(bound)
    return kept


def prefixed(contents: Contents, resource_type: str) -> Contents:
    """With the names of properties as that type of resources knows them: behind the prefix of
    its association. Where there is none, nothing changes."""
    prefix = prefix_of(contents[Kind.ASSOCIATION], resource_type)
    if not prefix:
        return contents

    def known(content: Mapping[str, object]) -> dict[str, object]:
        found = dict(content)
        match content.get("properties"):
            case Mapping() as properties:
                found["properties"] = {prefix + name: value for name, value in properties.items()}
        match content.get("required"):
            case list(names):
                found["required"] = [f"{prefix}{name}" for name in names]
        return found

    return {
        **contents,
        Kind.OBJECT: [replace(one, content=known(one.content)) for one in contents[Kind.OBJECT]],
        Kind.PROPERTY: [replace(one, name=prefix + one.name) for one in contents[Kind.PROPERTY]],
    }


def prefix_of(associations: Sequence[Definition], resource_type: str) -> str:
    """Empty where the type is not associated, or has no prefix."""
    for one in associations:
        if one.name == resource_type:
            return str(one.content.get("prefix") or "")
    return ""
