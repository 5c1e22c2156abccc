"""Images as JSON of the Image API v2; the only place where they are rendered."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from tidegate.api.keys import CALLER, IMAGES, LOCATIONS, SETTINGS
from tidegate.api.v2.schemas import NULLABLE_EXTRAS
from tidegate.domain.image import Image
from tidegate.services.locations import told

_HIDDEN = frozenset({"os_glance_stage_host", "os_glance_hash_op_host"})


def time_of(microseconds: int) -> datetime:
    """To the second, since clients parse ``YYYY-MM-DDTHH:MM:SSZ`` alone (see ``respond``)."""
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC)


def precise_time(microseconds: int) -> str:
    """In UTC with microseconds and no zone, as API v1 and an image's tasks show it."""
    moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
    return moment.replace(tzinfo=None, microsecond=microseconds % 1_000_000).isoformat(
        timespec="microseconds"
    )


def image_view(request: web.Request, image: Image) -> dict[str, Any]:
    """The caller is known to see the image; keys in the order in which Glance has them."""
    settings = request.app[SETTINGS].locations
    image = request.app[IMAGES].readable(request[CALLER], image)
    view: dict[str, Any] = {
        name: value if value is not None or name in NULLABLE_EXTRAS else ""
        for name, value in image.properties.items()
        if name not in _HIDDEN
    }
    view |= {
        "name": image.name,
        "disk_format": image.disk_format,
        "container_format": image.container_format,
        "visibility": image.visibility,
        "size": image.size,
        "virtual_size": image.virtual_size,
        "status": image.status,
        "checksum": image.checksum,
        "protected": image.protected,
        "min_ram": image.min_ram,
        "min_disk": image.min_disk,
        "owner": image.owner,
        "os_hidden": image.hidden,
        "os_hash_algo": image.hash_algo,
        "os_hash_value": image.hash_value,
        "id": image.id,
        "created_at": time_of(image.created_at),
        "updated_at": time_of(image.updated_at),
    }
    if settings.show or settings.show_direct_url:
        shown = request.app[LOCATIONS].shown(request[CALLER], image)
        if settings.show:
            view["locations"] = [_location(url, metadata) for url, metadata in shown]
        if settings.show_direct_url and shown:
            view["direct_url"] = shown[0][0]
    if image.locations and told(request[CALLER], image):
        view["stores"] = ",".join([location.store for location in image.locations])
    view["tags"] = list(image.tags)
    view["self"] = f"/v2/images/{image.id}"
    view["file"] = f"/v2/images/{image.id}/file"
    view["schema"] = "/v2/schemas/image"
    return view


def _location(url: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {"url": url, "metadata": dict(metadata)}


def image_page(images: Sequence[dict[str, Any]], first: str, following: str | None) -> Any:
    page: dict[str, Any] = {"images": images, "first": first, "schema": "/v2/schemas/images"}
    if following is not None:
        page["next"] = following
    return page


def respond(
    value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """JSON without escapes, and without a charset, as clients know it."""
    return web.Response(
        status=status,
        body=orjson.dumps(value, option=orjson.OPT_UTC_Z),
        headers={"Content-Type": "application/json", **(headers or {})},
    )
