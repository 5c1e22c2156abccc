"""Absolute links: by ``public_url`` behind a proxy, else as the request names us."""

from aiohttp import web

from tidegate.api.keys import SETTINGS


def base_url(request: web.Request) -> str:
    """Without a slash at the end."""
    public = request.app[SETTINGS].server.public_url.rstrip("/")
    return public or f"{request.scheme}://{request.host}"
