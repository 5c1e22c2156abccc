"""Image API v2: the record of an image, and lists of them."""

from typing import Any

from aiohttp import web

from tidegate.api.errors import answer
from tidegate.api.formats import check_formats
from tidegate.api.keys import CALLER, IMAGES, SETTINGS, STORES
from tidegate.api.links import base_url
from tidegate.api.reading import check_query, read_json, refuse_body
from tidegate.api.v2 import listing, patch
from tidegate.api.v2.schemas import check_image
from tidegate.api.v2.views import image_page, image_view, respond
from tidegate.domain.errors import Forbidden, Invalid
from tidegate.domain.image import Visibility
from tidegate.services.images import BASE_FIELDS, Edit, NewImage, property_name


async def create_image(request: web.Request) -> web.Response:
    body = await read_json(request)
    new = new_image(body)
    check_formats(request, new.fields)
    image = await request.app[IMAGES].create(request[CALLER], new)
    headers = {
        "Location": f"{base_url(request)}/v2/images/{image.id}",
        "OpenStack-image-store-ids": ",".join([one.id for one in request.app[STORES].known]),
    }
    methods = request.app[SETTINGS].imports.methods
    if methods:
        headers["OpenStack-image-import-methods"] = ",".join(methods)
    return respond(image_view(request, image), status=201, headers=headers)


async def list_images(request: web.Request) -> web.Response:
    check_query(request)
    query = listing.parse(request.query)
    page = await request.app[IMAGES].page(request[CALLER], query)
    following = None
    if page.marker is not None:
        following = listing.link("/v2/images", request.query, page.marker)
    views = [image_view(request, image) for image in page.images]
    return respond(image_page(views, listing.link("/v2/images", request.query, None), following))


async def show_image(request: web.Request) -> web.Response:
    refuse_body(request)
    image = await request.app[IMAGES].show(request[CALLER], request.match_info["image_id"])
    return respond(image_view(request, image))


async def change_image(request: web.Request) -> web.Response:
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip()
    if media_type not in patch.MEDIA_TYPES:
        refusal = answer(request, patch.refused(media_type), carries_data=False)
        refusal.headers["Accept-Patch"] = patch.ACCEPTED
        return refusal
    edits = patch.parse(media_type, await read_json(request))
    for edit in edits:
        if isinstance(edit, Edit):
            check_formats(request, {edit.name: edit.value})
    image = await request.app[IMAGES].change(request[CALLER], request.match_info["image_id"], edits)
    return respond(image_view(request, image))


async def delete_image(request: web.Request) -> web.Response:
    refuse_body(request)
    await request.app[IMAGES].delete(request[CALLER], request.match_info["image_id"])
    return web.Response(status=204)


async def put_tag(request: web.Request) -> web.Response:
    refuse_body(request)
    await request.app[IMAGES].set_tag(
        request[CALLER], request.match_info["image_id"], request.match_info["tag"]
    )
    return web.Response(status=204)


async def delete_tag(request: web.Request) -> web.Response:
    refuse_body(request)
    await request.app[IMAGES].drop_tag(
        request[CALLER], request.match_info["image_id"], request.match_info["tag"]
    )
    return web.Response(status=204)


def new_image(body: Any) -> NewImage:
    """Invalid, Forbidden: the first member that may not be set."""
    if not isinstance(body, dict):
        raise Invalid("A new image must be a JSON object.")
    for name in body:
        if name in patch.READ_ONLY - {"id", "os_hash_algo", "os_hash_value"}:
            raise Forbidden(f"Attribute '{name}' is read-only.")
        if name == "locations":
            raise Forbidden("Attribute 'locations' is reserved.")
    check_image(body)
    ignored = {"os_hash_algo", "os_hash_value"}
    own = {"id", "owner", "visibility", "tags", *ignored}
    fields = {
        BASE_FIELDS[name]: patch.plain(name, value)
        for name, value in body.items()
        if name in BASE_FIELDS and name not in own
    }
    properties = {
        property_name(name): value
        for name, value in body.items()
        if name not in BASE_FIELDS and name not in own
    }
    return NewImage(
        id=body.get("id"),
        owner=body.get("owner") or None,
        owner_given="owner" in body,
        visibility=Visibility(body.get("visibility", "shared")),
        fields=fields,
        properties=properties,
        tags=tuple(body.get("tags", ())),
    )
