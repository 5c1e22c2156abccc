"""Image API v2: the actions."""

from aiohttp import web

from tidegate.api.keys import ACTIVATION, CALLER
from tidegate.api.reading import refuse_body


async def deactivate(request: web.Request) -> web.Response:
    refuse_body(request)
    await request.app[ACTIVATION].deactivate(request[CALLER], request.match_info["image_id"])
    return web.Response(status=204)


async def reactivate(request: web.Request) -> web.Response:
    refuse_body(request)
    await request.app[ACTIVATION].reactivate(request[CALLER], request.match_info["image_id"])
    return web.Response(status=204)
