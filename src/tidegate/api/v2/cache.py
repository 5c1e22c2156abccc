"""Image API v2: the read cache of this node, for administrators."""

from aiohttp import web

from tidegate.api.keys import CACHE, CALLER
from tidegate.api.reading import refuse_body
from tidegate.api.v2.views import respond
from tidegate.stores.cache_files import Entry

TARGET = "x-image-cache-clear-target"


async def list_cached(request: web.Request) -> web.Response:
    refuse_body(request)
    entries, queued = await request.app[CACHE].show(request[CALLER])
    return respond({"cached_images": [_row(entry) for entry in entries], "queued_images": queued})


async def enqueue(request: web.Request) -> web.Response:
    await request.app[CACHE].enqueue(request[CALLER], request.match_info["image_id"])
    return web.Response(status=202)


async def delete(request: web.Request) -> web.Response:
    await request.app[CACHE].delete(request[CALLER], request.match_info["image_id"])
    return web.Response(status=204)


async def clear(request: web.Request) -> web.Response:
    await request.app[CACHE].clear(request[CALLER], request.headers.get(TARGET, ""))
    return web.Response(status=204)


def _row(entry: Entry) -> dict[str, object]:
    """Times are seconds since 1970, as the clients expect."""
    return {
        "image_id": entry.image_id,
        "size": entry.size,
        "hits": entry.hits,
        "last_accessed": entry.used,
        "last_modified": entry.made,
    }
