"""Which versions of the API there are."""

from aiohttp import web

from tidegate.api.links import base_url

# those whose calls are there: stores 2.8, DELETE from one 2.13, their details 2.15, locations 2.17
CURRENT = "v2.17"
SUPPORTED = ("v2.15", "v2.13", "v2.8", "v2.5", "v2.4", "v2.3", "v2.2", "v2.1", "v2.0")
DEPRECATED = ("v1.1", "v1.0")
ACCEPTED = frozenset({"v2", CURRENT, *SUPPORTED, "v1", *DEPRECATED})
"""What may stand first in a path."""


async def choices(request: web.Request) -> web.Response:
    """``/`` and whatever names no version: 300."""
    return _document(request, 300)


async def versions(request: web.Request) -> web.Response:
    return _document(request, 200)


def _document(request: web.Request, status: int) -> web.Response:
    base = base_url(request)

    def entry(name: str, state: str) -> dict[str, object]:
        link = {"rel": "self", "href": f"{base}/{name.partition('.')[0]}/"}
        return {"id": name, "status": state, "links": [link]}

    entries = [entry(CURRENT, "CURRENT")]
    entries += [entry(name, "SUPPORTED") for name in SUPPORTED]
    entries += [entry(name, "DEPRECATED") for name in DEPRECATED]
    return web.json_response({"versions": entries}, status=status)
