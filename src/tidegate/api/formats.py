"""Which formats an image may have here: the settings' lists, for both versions of the API."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from tidegate.api.keys import SETTINGS
from tidegate.domain.errors import Invalid


def check_formats(request: web.Request, fields: Mapping[str, Any]) -> None:
    """Invalid: a format among ``fields`` that is not taken."""
    settings = request.app[SETTINGS].image_format
    known = {"disk": settings.disk_formats, "container": settings.container_formats}
    for word, formats in known.items():
        given = fields.get(f"{word}_format")
        if given is not None and given not in formats:
            raise Invalid(
                f"Invalid {word} format '{given[:40]}' for image; "
                f"{word}_format is one of {', '.join(formats)}."
            )
