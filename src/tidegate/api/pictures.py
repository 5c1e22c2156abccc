"""Pictures for people: nothing of an image, a caller or the configuration is in them."""

from aiohttp import web

from tidegate.diagram import svg
from tidegate.lifecycle import image_diagram

_STATUSES = svg(image_diagram())


async def statuses(request: web.Request) -> web.Response:
    """The life of an image, as this version has it."""
    return web.Response(
        text=_STATUSES,
        content_type="image/svg+xml",
        headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
    )
