"""Image API v1: metadata in headers, data in the body. The same images as in v2; what v1 cannot
express is left out."""

from aiohttp import web

from tidegate.api.body import Body, expected
from tidegate.api.delivery import deliver
from tidegate.api.errors import render
from tidegate.api.keys import CALLER, DOWNLOADS, IMAGES, IMPORTS, REQUEST_ID, SETTINGS, UPLOADS
from tidegate.api.links import base_url
from tidegate.api.reading import refuse_body
from tidegate.api.v1_headers import Meta, image_v1, read_meta, write_meta
from tidegate.api.v2.views import respond
from tidegate.domain.errors import Conflict, Forbidden, Gone, Invalid, NotFound
from tidegate.domain.image import Image, Visibility
from tidegate.domain.policy import Caller
from tidegate.domain.status import Status
from tidegate.services.images import Edit, LocationsEdit, NewImage, NewLocation

_EDITED = ("name", "disk_format", "container_format", "min_disk", "min_ram", "protected")


async def post_image(request: web.Request) -> web.Response:
    meta = read_meta(request.headers)
    carries = _carries_data(request, meta)
    if carries:
        meta.need_formats()
    caller = request[CALLER]
    await _check_copy(request, meta)
    image = await request.app[IMAGES].create(
        caller,
        NewImage(
            id=meta.get("id"),
            owner=meta.get("owner"),
            owner_given="owner" in meta.given and caller.is_admin,
            visibility=Visibility.PUBLIC if meta.get("is_public") else Visibility.SHARED,
            fields=meta.columns(),
            properties=meta.properties,
            size=meta.get("size") if meta.copy_from is None else meta.get("size") or None,
            checksum=meta.get("checksum"),
            location=meta.get("location"),
            empty=meta.get("size") == 0 and not carries and meta.copy_from is None,
        ),
    )
    return await _filled(request, meta, image, carries, status=201)


async def put_image(request: web.Request) -> web.Response:
    meta = read_meta(request.headers)
    carries = _carries_data(request, meta)
    caller = request[CALLER]
    image = await request.app[IMAGES].show(caller, request.match_info["image_id"])
    _refuse_fixed(image, meta)
    queued = image.status is Status.QUEUED
    if carries and not queued:
        raise Conflict("Cannot upload to an unqueued image")
    elsewhere = meta.copy_from is not None or meta.get("location") is not None
    if elsewhere and not queued:
        raise Invalid("Attempted to update Location field for an image not in queued status.")
    if carries:
        meta.need_formats(image)
    await _check_copy(request, meta, image)
    declared = {
        f"declared_{name}": meta.given[name]
        for name in ("size", "checksum")
        if name in meta.given and queued and (meta.copy_from is None or meta.given[name])
    }
    image = await request.app[IMAGES].change(
        caller, image.id, _edits(caller, image, meta, carries), declared=declared, any_status=True
    )
    return await _filled(request, meta, image, carries, status=200)


async def get_image(request: web.Request) -> web.StreamResponse:
    image_id = request.match_info["image_id"]
    downloads = request.app[DOWNLOADS]
    image = await downloads.find(request[CALLER], image_id)
    if not downloads.has_data(image):
        raise NotFound(f"Image {image_id} is not active")
    return await deliver(request, downloads, image, _headers(image))


async def head_image(request: web.Request) -> web.Response:
    image = await request.app[IMAGES].show(request[CALLER], request.match_info["image_id"])
    return web.Response(headers={"Content-Type": "application/octet-stream", **_headers(image)})


async def delete_image(request: web.Request) -> web.Response:
    refuse_body(request)
    await request.app[IMAGES].delete(request[CALLER], request.match_info["image_id"])
    return web.Response(status=200)


def _carries_data(request: web.Request, meta: Meta) -> bool:
    """Whether data comes with the request; what can be said of it before an image exists."""
    carries = bool(request.content_length) or "Transfer-Encoding" in request.headers
    if carries + (meta.copy_from is not None) + (meta.get("location") is not None) > 1:
        raise Invalid("It's invalid to provide multiple image sources.")
    if not carries:
        return False
    most = request.app[SETTINGS].uploads.max_image_size
    if max(request.content_length or 0, meta.get("size") or 0) > most:
        raise Invalid(f"Denying attempt to upload image larger than {most} bytes.")
    request.app[UPLOADS].admit(store_id=meta.get("store"))
    return True


async def _check_copy(request: web.Request, meta: Meta, image: Image | None = None) -> None:
    """Whether the data may come from where ``x-glance-api-copy-from`` says."""
    if meta.copy_from is None:
        return
    meta.need_formats(image)
    declared = meta.get("size") or (image.declared_size if image is not None else None)
    await request.app[IMPORTS].check_copy(
        request[CALLER],
        meta.copy_from,
        declared=declared,
        store_id=meta.get("store"),
        image=image,
    )


async def _filled(
    request: web.Request, meta: Meta, image: Image, carries: bool, *, status: int
) -> web.Response:
    """Take the data, or have it copied, if there is some, and answer with the image."""
    headers: dict[str, str] = {}
    if meta.copy_from is not None:
        await request.app[IMPORTS].copy(
            request[CALLER],
            image,
            meta.copy_from,
            store_id=meta.get("store"),
            request_id=request[REQUEST_ID],
        )
    if carries:
        try:
            image = await _take_data(request, meta, image)
        except Gone as error:
            return render(request, 412, error.message)
    if image.checksum is not None:
        headers["ETag"] = image.checksum
    if status == 201:
        headers["Location"] = f"{base_url(request)}/v1/images/{image.id}"
    return respond({"image": image_v1(image)}, status=status, headers=headers)


async def _take_data(request: web.Request, meta: Meta, image: Image) -> Image:
    caller, uploads = request[CALLER], request.app[UPLOADS]
    if "Content-Type" not in request.headers or request.content_type != "application/octet-stream":
        await uploads.refuse(caller, image.id)
        raise Invalid("Content-Type must be application/octet-stream")
    body = Body(request, request.app[SETTINGS].uploads.idle_timeout)
    try:
        return await uploads.upload(
            caller,
            image.id,
            body,
            expected(request),
            store_id=meta.get("store"),
            request_id=request[REQUEST_ID],
        )
    finally:
        body.close()


def _refuse_fixed(image: Image, meta: Meta) -> None:
    """What is fixed may be sent again, but not changed. Forbidden."""
    for name, now in (("id", image.id), ("status", str(image.status))):
        if meta.get(name) not in (None, now):
            raise Forbidden(f"Forbidden to modify '{name}' of image.")
    if image.status is Status.QUEUED:
        return
    for name, value in (("size", image.size), ("checksum", image.checksum)):
        if name in meta.given and meta.given[name] != value:
            raise Forbidden(f"Forbidden to modify '{name}' of {image.status} image.")


def _edits(caller: Caller, image: Image, meta: Meta, carries: bool) -> list[Edit | LocationsEdit]:
    edits: list[Edit | LocationsEdit] = [
        Edit("add", name, meta.given[name]) for name in _EDITED if name in meta.given
    ]
    if "owner" in meta.given and caller.is_admin:
        edits.append(Edit("add", "owner", meta.given["owner"]))
    if meta.get("is_public"):
        edits.append(Edit("add", "visibility", Visibility.PUBLIC.value))
    elif "is_public" in meta.given and image.visibility is Visibility.PUBLIC:
        edits.append(Edit("add", "visibility", Visibility.SHARED.value))
    edits += [Edit("add", name, value) for name, value in meta.properties.items()]
    if meta.purge and not carries:
        kept = {*meta.properties, *(name for name in image.properties if _is_ours(name))}
        edits += [Edit("remove", name) for name in image.properties if name not in kept]
    if meta.get("location") is not None:
        location = NewLocation(
            url=meta.given["location"], learnt={"checksum": meta.get("checksum")}
        )
        edits.append(
            LocationsEdit("add", None, (location,), size=meta.get("size") or None, by_header=True)
        )
    return edits


def _is_ours(name: str) -> bool:
    return name.startswith("os_glance")


def _headers(image: Image) -> dict[str, str]:
    headers = write_meta(image)
    if image.checksum is not None:
        headers["ETag"] = image.checksum  # bare, as v1 clients know it
    return headers
