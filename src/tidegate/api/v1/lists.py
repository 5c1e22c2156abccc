"""Image API v1: lists of images."""

from aiohttp import web

from tidegate.api.keys import CALLER, IMAGES
from tidegate.api.reading import check_query
from tidegate.api.v1 import listing
from tidegate.api.v1.headers import image_v1
from tidegate.api.v2.views import respond
from tidegate.domain.image import Image

_SHORT = ("id", "name", "size", "disk_format", "container_format", "checksum")


async def list_images(request: web.Request) -> web.Response:
    views = [image_v1(image) for image in await _images(request)]
    return respond({"images": [{name: view[name] for name in _SHORT} for view in views]})


async def list_details(request: web.Request) -> web.Response:
    return respond({"images": [image_v1(image) for image in await _images(request)]})


async def refuse_method(request: web.Request) -> web.Response:
    """For a path that would else be taken for an image's."""
    raise web.HTTPMethodNotAllowed(request.method, ["GET"])


async def _images(request: web.Request) -> tuple[Image, ...]:
    check_query(request)
    caller, images = request[CALLER], request.app[IMAGES]
    page = await images.page(caller, listing.parse(request.query, admin=caller.is_admin))
    return tuple(images.readable(caller, image) for image in page.images)
