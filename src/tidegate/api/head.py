"""What the head of every answer carries."""

from aiohttp import web

from tidegate.api.keys import PREPARED, REQUEST_ID


def finish_head(request: web.BaseRequest, response: web.StreamResponse) -> None:
    headers = response.headers
    headers["x-openstack-request-id"] = request[REQUEST_ID]
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Server"] = "tidegate"
    headers.setdefault("Cache-Control", "private, no-store")
    headers.setdefault("Vary", "X-Auth-Token")


async def send_head(request: web.Request, response: web.StreamResponse) -> None:
    """For answers whose body a handler sends by itself."""
    finish_head(request, response)
    request[PREPARED] = response
    await response.prepare(request)
