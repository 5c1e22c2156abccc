"""Absolute links: by ``public_url``, else as a trusted proxy says, else as the request names us."""

import re

from aiohttp import web

from tidegate.api.keys import SETTINGS
from tidegate.api.proxies import is_trusted

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(:[0-9]{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def base_url(request: web.Request) -> str:
    """Without a slash at the end."""
    server = request.app[SETTINGS].server
    if server.public_url:
        return server.public_url.rstrip("/")
    scheme, host, prefix = request.scheme, request.host, ""
    if server.proxies and is_trusted(server, request.remote):
        told, headers = request.forwarded[0] if request.forwarded else {}, request.headers
        scheme = _sound(told.get("proto"), "https?") or scheme
        host = _sound(told.get("host"), _HOST) or host
        if not told:
            scheme = _sound(headers.get("X-Forwarded-Proto"), "https?") or scheme
            host = _sound(headers.get("X-Forwarded-Host"), _HOST) or host
        # which ``Forwarded`` has no word for
        prefix = _sound((headers.get("X-Forwarded-Prefix") or "").rstrip("/"), _PREFIX) or ""
    return f"{scheme}://{host}{prefix}"


def _sound(value: str | None, form: str | re.Pattern[str]) -> str | None:
    """What is not of the form might lead elsewhere, or break a document."""
    return value if value is not None and re.fullmatch(form, value) else None
