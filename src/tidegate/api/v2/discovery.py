"""Which versions of the API there are."""

from aiohttp import web

from tidegate.api.keys import SETTINGS
from tidegate.api.links import base_url
from tidegate.api.v2.views import respond

CURRENT = "v2.17"
SUPPORTED = (
    "v2.15", "v2.13", "v2.12", "v2.11", "v2.10", "v2.9", "v2.8", "v2.7", "v2.6", "v2.5", "v2.4",
    "v2.3", "v2.2", "v2.1", "v2.0",
)  # fmt: skip
"""Clients trust a number to bring its feature, so what is not served is not told of: the cache
(2.14, 2.16, 2.18)."""
DEPRECATED = ("v1.1", "v1.0")
WITH_CACHE = "v2.14"
"""By which clients know that there are the calls of the cache."""

ACCEPTED = frozenset({"v2", CURRENT, *SUPPORTED, WITH_CACHE, "v1", *DEPRECATED})
"""What may stand first in a path."""


async def choices(request: web.Request) -> web.Response:
    """``/`` and whatever names no version: 300; below ``/versions``: 200."""
    return _document(request, 200 if _first(request) == "versions" else 300)


def names_none(request: web.Request) -> bool:
    """Whether the path names no version of the API."""
    return _first(request) not in ACCEPTED


def _first(request: web.Request) -> str:
    return request.path.lstrip("/").partition("/")[0]


def _document(request: web.Request, status: int) -> web.Response:
    base = base_url(request)

    def entry(name: str, state: str) -> dict[str, object]:
        link = {"rel": "self", "href": f"{base}/{name.partition('.')[0]}/"}
        return {"id": name, "status": state, "links": [link]}

    entries = [entry(CURRENT, "CURRENT")]
    if request.app[SETTINGS].cache.enabled:
        entries.append(entry(WITH_CACHE, "SUPPORTED"))
    entries += [entry(name, "SUPPORTED") for name in SUPPORTED]
    entries += [entry(name, "DEPRECATED") for name in DEPRECATED]
    return respond({"versions": entries}, status=status)
