"""The queries of lists of metadata definitions."""

import re
from collections.abc import Iterable

from aiohttp import web

from tidegate.api.reading import check_query
from tidegate.api.v2 import listing
from tidegate.catalog.base import Viewer
from tidegate.catalog.contract.metadefs import DefinitionQuery, NamespaceQuery
from tidegate.domain.errors import Invalid
from tidegate.domain.image import Visibility

NAMESPACE_KEYS = (
    "created_at", "namespace", "display_name", "description", "visibility", "protected", "owner",
    "updated_at", "id",
)  # fmt: skip
TAG_KEYS = ("created_at", "name", "updated_at", "id")
_OF_IMAGES = ("public", "private", "shared")
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


def given(request: web.Request) -> dict[str, str]:
    """Each parameter's last value. Invalid."""
    check_query(request)
    return {name: request.query.getall(name)[-1] for name in request.query}


def namespaces(query: dict[str, str]) -> NamespaceQuery:
    """For the eyes of nobody yet: the viewer is set by the service. Invalid."""
    types = query.get("resource_types")
    sort = _one_of("sort_key", query.get("sort_key", "created_at"), NAMESPACE_KEYS)
    return NamespaceQuery(
        viewer=Viewer(),
        visibility=visibility(query),
        resource_types=None if types is None else types.split(","),
        sort="name" if sort == "namespace" else sort,
        descending=_descending(query),
        limit=listing.limit(query.get("limit")),
        marker=query.get("marker"),
    )


def visibility(query: dict[str, str]) -> Visibility | None:
    """Invalid."""
    text = query.get("visibility")
    known = (Visibility.PUBLIC, Visibility.PRIVATE)
    return None if text is None else Visibility(_one_of("visibility", text, known))


def tags(query: dict[str, str]) -> DefinitionQuery:
    """Invalid."""
    _one_of("visibility", query.get("visibility", "public"), _OF_IMAGES)
    return DefinitionQuery(
        sort=_one_of("sort_key", query.get("sort_key", "created_at"), TAG_KEYS),
        descending=_descending(query),
        limit=_limit(query.get("limit")),
        marker=query.get("marker") or None,
    )


def objects(query: dict[str, str]) -> DefinitionQuery:
    """Always all of them: its parameters are checked, and mean nothing. Invalid."""
    _one_of("visibility", query.get("visibility", "public"), _OF_IMAGES)
    _descending(query)
    if "limit" in query and not _limit(query["limit"]):
        raise Invalid("limit param must be an integer above 0")
    return DefinitionQuery()


def _limit(text: str | None) -> int | None:
    if not text:
        return None
    if not _NUMBER.fullmatch(text.strip()):
        raise Invalid("limit param must be an integer, and not negative")
    return int(text)


def _descending(query: dict[str, str]) -> bool:
    return _one_of("sort_dir", query.get("sort_dir", "desc"), ("asc", "desc")) == "desc"


def _one_of(name: str, text: str, known: Iterable[str]) -> str:
    if text not in known:
        raise Invalid(f"{name} must be one of {', '.join(known)}.")
    return text
