"""Image API v2: the stores, what a project holds in them, and one copy taken out of one."""

from typing import Any

from aiohttp import web

from tidegate.api.keys import CALLER, STORES, USAGE
from tidegate.api.reading import refuse_body
from tidegate.api.v2.views import respond
from tidegate.services.stores import StoreInfo


async def list_stores(request: web.Request) -> web.Response:
    refuse_body(request)
    return respond({"stores": [_store(one) for one in request.app[STORES].known]})


async def list_details(request: web.Request) -> web.Response:
    refuse_body(request)
    known = request.app[STORES].detailed(request[CALLER])
    return respond({"stores": [_store(one) | _details(one) for one in known]})


async def show_usage(request: web.Request) -> web.Response:
    usage = await request.app[USAGE].of(request[CALLER])
    return respond(
        {"usage": {name: {"usage": used, "limit": most} for name, (used, most) in usage.items()}}
    )


async def delete_copy(request: web.Request) -> web.Response:
    refuse_body(request)
    await request.app[STORES].drop_copy(
        request[CALLER], request.match_info["store_id"], request.match_info["image_id"]
    )
    return web.Response(status=204)


def _store(one: StoreInfo) -> dict[str, Any]:
    """Clients know flags that are the string ``true`` or not there."""
    found: dict[str, Any] = {"id": one.id}
    if one.description:
        found["description"] = one.description
    if one.default:
        found["default"] = "true"
    if one.read_only:
        found["read-only"] = "true"
    return found


def _details(one: StoreInfo) -> dict[str, Any]:
    return {"type": one.kind, "weight": 0, "properties": dict(one.properties)}
