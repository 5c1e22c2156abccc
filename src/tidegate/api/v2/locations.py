"""Image API v2: the locations of an image, as services register and fetch them."""

from typing import Any

from aiohttp import web

from tidegate.api.keys import CALLER, REGISTERING, REQUEST_ID
from tidegate.api.reading import read_json
from tidegate.api.v2.matching import Matcher
from tidegate.api.v2.views import respond
from tidegate.domain.errors import Invalid
from tidegate.services.registering import Wanted

ALGORITHMS = ("sha1", "sha256", "sha512", "md5")

LOCATION: dict[str, Any] = {
    "name": "location",
    "type": "object",
    "required": ["url"],
    "properties": {
        "url": {"type": "string"},
        "validation_data": {
            "type": "object",
            "additionalProperties": False,
            "dependentRequired": {
                "os_hash_algo": ["os_hash_value"],
                "os_hash_value": ["os_hash_algo"],
            },
            "properties": {
                "os_hash_algo": {"type": "string", "enum": list(ALGORITHMS)},
                "os_hash_value": {"type": "string"},
            },
        },
    },
}

_check = Matcher(LOCATION).check


async def add_location(request: web.Request) -> web.Response:
    """Who may not see the image is told nothing about the body."""
    registering, caller = request.app[REGISTERING], request[CALLER]
    image = await registering.find(caller, request.match_info["image_id"])
    wanted = _wanted(await read_json(request))
    await registering.add(caller, image, wanted, request_id=request[REQUEST_ID])
    return web.Response(status=202)


async def list_locations(request: web.Request) -> web.Response:
    listed = await request.app[REGISTERING].listed(request[CALLER], request.match_info["image_id"])
    return respond([{"url": url, "metadata": dict(metadata)} for url, metadata in listed])


def _wanted(body: Any) -> Wanted:
    """Invalid."""
    if not isinstance(body, dict):
        raise Invalid("Provided object does not match schema 'location': it is no object")
    _check(body)
    vouched = {name: value.lower() for name, value in body.get("validation_data", {}).items()}
    return Wanted(body["url"], vouched)
