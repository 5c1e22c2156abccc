"""Image API v1: metadata in headers, data in the body. The same images as in v2; what v1 cannot
express is left out."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from uuid import uuid4

from aiohttp import web

from tidegate.api.body import Body, expected, is_data
from tidegate.api.delivery import deliver
from tidegate.api.errors import render
from tidegate.api.formats import check_formats
from tidegate.api.keys import CALLER, DOWNLOADS, IMAGES, IMPORTS, REQUEST_ID, SETTINGS, UPLOADS
from tidegate.api.links import base_url
from tidegate.api.reading import refuse_body
from tidegate.api.v1.headers import Meta, image_v1, never_415, read_meta, write_meta
from tidegate.api.v2.views import respond
from tidegate.catalog.base import ImageChange
from tidegate.domain.errors import (
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    ObjectMissing,
)
from tidegate.domain.expected import Expected
from tidegate.domain.image import Image, Visibility
from tidegate.domain.policy import Caller
from tidegate.domain.status import GONE, Status
from tidegate.domain.task import Task
from tidegate.services.images import Edit, NewImage
from tidegate.services.locations import LocationsEdit, NewLocation

_EDITED = ("name", "disk_format", "container_format", "min_disk", "min_ram", "protected")
_LIVE = frozenset(Status) - GONE
_SCHEMES = {"file": "filesystem", "filesystem": "filesystem", "s3": "s3", "http": "http",
            "https": "http"}  # fmt: skip
_MEASURED = frozenset({Status.ACTIVE, Status.DEACTIVATED})


async def post_image(request: web.Request) -> web.Response:
    meta, carries = read_meta(request.headers), _carries_data(request)
    check_formats(request, meta.given)
    _refuse_too_large(request, meta)
    caller, images = request[CALLER], request.app[IMAGES]
    image_id = meta.get("id") or str(uuid4())
    new = NewImage(
        id=image_id,
        owner=meta.get("owner"),
        owner_given="owner" in meta.given and caller.is_admin,
        visibility=Visibility.PUBLIC if meta.get("is_public") else Visibility.SHARED,
        fields=meta.columns(),
        properties=meta.properties,
        size=meta.get("size") if meta.copy_from is None else meta.get("size") or None,
        checksum=meta.get("checksum"),
        location=meta.get("location"),
        empty=meta.get("size") == 0 and not carries and meta.copy_from is None,
    )
    images.check(caller, new, *(["upload_image"] if carries else []))
    _refuse_two_sources(meta, carries)
    store_id = _store_id(request, meta)
    coming = _coming(request, meta, store_id) if carries else None
    if carries:
        meta.need_formats()
    await _check_copy(request, meta, store_id)
    image = await _written(
        request, meta, image_id, store_id, lambda task: images.create(caller, new, task=task)
    )
    if coming is not None:
        return await _filled(request, image, coming, store_id, status=201)
    return _answer(request, image, 201)


async def put_image(request: web.Request) -> web.Response:
    meta, carries = read_meta(request.headers), _carries_data(request)
    check_formats(request, meta.given)
    caller, images = request[CALLER], request.app[IMAGES]
    actions = ["modify_image", "upload_image"] if carries else ["modify_image"]
    image = await images.for_v1(caller, request.match_info["image_id"], *actions)
    _refuse_fixed(caller, image, meta)
    queued = image.status is Status.QUEUED
    elsewhere = meta.copy_from is not None or meta.get("location") is not None
    if carries and not queued:
        raise Conflict("Cannot upload to an unqueued image")
    if elsewhere and not queued:
        raise Invalid("Attempted to update Location field for an image not in queued status.")
    _refuse_too_large(request, meta)
    _refuse_two_sources(meta, carries)
    filled = carries or meta.copy_from is not None
    store_id = _store_id(request, meta) if filled else None
    coming = _coming(request, meta, store_id) if carries else None
    if filled:
        meta.need_formats(image)
        request.app[UPLOADS].refuse_refill(caller, image)
    await _check_copy(request, meta, store_id, image)
    edits = _edits(caller, images.readable(caller, image), meta, carries)
    fields = _fields(image, meta)
    only_in = frozenset({Status.QUEUED}) if carries or elsewhere else _like(image.status)
    if coming is not None:
        change = await images.judge(caller, image, edits, fields=fields, only_in=only_in)
        return await _filled(request, image, coming, store_id, change, status=200)

    def write(task: Task | None) -> Awaitable[Image]:
        return images.change(caller, image.id, edits, fields=fields, only_in=only_in, task=task)

    image = await _written(request, meta, image.id, store_id, write)
    return _answer(request, image, 200)


async def get_image(request: web.Request) -> web.StreamResponse:
    image_id = request.match_info["image_id"]
    downloads = request.app[DOWNLOADS]
    image = await downloads.find(request[CALLER], image_id)
    if image.status is Status.DEACTIVATED:
        raise Forbidden(f"Image {image_id} is deactivated")
    if not downloads.has_data(image):
        raise NotFound(f"Image {image_id} is not active")
    try:
        return await deliver(request, downloads, image, _headers(request, image))
    except ObjectMissing as error:
        raise NotFound(f"The data of image {image_id} is lost: {error.message}") from error


async def head_image(request: web.Request) -> web.Response:
    image = await request.app[IMAGES].show_v1(request[CALLER], request.match_info["image_id"])
    body = {"Content-Type": "application/octet-stream", "Content-Length": "0"}
    return web.Response(headers={**body, **_headers(request, image)})


async def delete_image(request: web.Request) -> web.Response:
    refuse_body(request)
    image_id, images = request.match_info["image_id"], request.app[IMAGES]
    image = await images.for_v1(request[CALLER], image_id, "delete_image")
    if image.status is Status.PENDING_DELETE:
        raise Forbidden("Forbidden to delete a pending_delete image.")
    await images.delete(request[CALLER], image_id)
    return web.Response(status=200)


def _carries_data(request: web.Request) -> bool:
    return bool(request.content_length) or "Transfer-Encoding" in request.headers


def _refuse_too_large(request: web.Request, meta: Meta) -> None:
    most = request.app[SETTINGS].uploads.max_image_size
    if max(request.content_length or 0, meta.get("size") or 0) > most:
        raise Invalid(f"Denying attempt to upload image larger than {most} bytes.")


def _refuse_two_sources(meta: Meta, carries: bool) -> None:
    if carries + (meta.copy_from is not None) + (meta.get("location") is not None) > 1:
        raise Invalid("It's invalid to provide multiple image sources.")


async def _check_copy(
    request: web.Request, meta: Meta, store_id: str | None, image: Image | None = None
) -> None:
    """Whether the data may come from where ``x-glance-api-copy-from`` says."""
    if meta.copy_from is None:
        return
    meta.need_formats(image)
    declared = meta.get("size") or (image.declared_size if image is not None else None)
    await request.app[IMPORTS].check_copy(
        request[CALLER], meta.copy_from, declared=declared, store_id=store_id, image=image
    )


def _store_id(request: web.Request, meta: Meta) -> str | None:
    """A store is named by its id, or by a scheme of URLs that one store alone has. Invalid."""
    name: str | None = meta.get("store")
    stores = request.app[SETTINGS].stores
    if name is None or any(store.id == name for store in stores):
        return name
    of_scheme = [store.id for store in stores if store.type == _SCHEMES.get(name)]
    if len(of_scheme) != 1:
        raise Invalid(f"Required store {name} is invalid")
    return of_scheme[0]


def _coming(request: web.Request, meta: Meta, store_id: str | None) -> Expected:
    """What was announced of the data that comes with the request, all that can be refused
    without reading it having been refused."""
    with never_415():
        coming = expected(request)
    if meta.get("size") is not None:
        coming = replace(coming, size=meta.get("size"))
    if meta.get("checksum") is not None:
        if coming.digests.get("md5", meta.get("checksum")) != meta.get("checksum"):
            raise Invalid("Two different md5 digests were sent.")
        coming = replace(coming, digests={**coming.digests, "md5": meta.get("checksum")})
    request.app[UPLOADS].admit(store_id=store_id)
    return coming


async def _written(
    request: web.Request,
    meta: Meta,
    image_id: str,
    store_id: str | None,
    write: Callable[[Task | None], Awaitable[Image]],
) -> Image:
    """Make or change the image, with the task that copies its data if there is some elsewhere."""
    if meta.copy_from is None:
        return await write(None)
    return await request.app[IMPORTS].copy(
        request[CALLER],
        image_id,
        meta.copy_from,
        write,
        store_id=store_id,
        request_id=request[REQUEST_ID],
    )


async def _filled(
    request: web.Request,
    image: Image,
    coming: Expected,
    store_id: str | None,
    change: ImageChange | None = None,
    *,
    status: int,
) -> web.Response:
    """Take the data, and the change of the image with it, and answer with the image."""
    try:
        image = await _take_data(request, image, coming, store_id, change)
    except Gone as error:
        return render(request, 412, error.message)
    return _answer(request, image, status)


def _answer(request: web.Request, image: Image, status: int) -> web.Response:
    headers = {} if image.checksum is None else {"ETag": image.checksum}
    if status == 201:
        headers["Location"] = f"{base_url(request)}/v1/images/{image.id}"
    shown = request.app[IMAGES].readable(request[CALLER], image)
    return respond({"image": image_v1(shown)}, status=status, headers=headers)


async def _take_data(
    request: web.Request,
    image: Image,
    coming: Expected,
    store_id: str | None,
    change: ImageChange | None,
) -> Image:
    caller, uploads = request[CALLER], request.app[UPLOADS]
    if not is_data(request):
        await uploads.refuse(caller, image.id)
        raise Invalid("Content-Type must be application/octet-stream")
    body = Body(request, request.app[SETTINGS].uploads.idle_timeout)
    try:
        with never_415():
            return await uploads.upload(
                caller,
                image.id,
                body,
                coming,
                store_id=store_id,
                request_id=request[REQUEST_ID],
                change=change,
            )
    finally:
        body.close()


def _refuse_fixed(caller: Caller, image: Image, meta: Meta) -> None:
    """What is fixed may be sent again, but not changed; what we measured, by nobody. Forbidden."""
    if image.status is Status.DELETED:
        raise Forbidden("Forbidden to update deleted image.")
    if image.status in _MEASURED:
        vouched = bool(image.locations) and not any(where.own for where in image.locations)
        for name, value in (("size", image.size), ("checksum", image.checksum)):
            changed = name in meta.given and meta.given[name] != value
            if changed and not (caller.is_admin and vouched):
                raise Forbidden(f"Forbidden to modify '{name}' of {image.status} image.")
    for name, now in (("id", image.id), ("status", str(image.status))):
        if meta.get(name) not in (None, now):
            raise Forbidden(f"Forbidden to modify '{name}' of image.")


def _like(status: Status) -> frozenset[Status]:
    """The statuses in which a change does what it was judged to do in this one."""
    return _MEASURED if status in _MEASURED else _LIVE | {status}


def _fields(image: Image, meta: Meta) -> dict[str, object]:
    """The columns that are v1's alone to write: what is announced of data, or vouched for."""
    fields = {name: meta.given[name] for name in ("virtual_size",) if name in meta.given}
    prefix = "" if image.status in _MEASURED else "declared_"
    if meta.get("location") is None:
        fields |= {
            f"{prefix}{name}": meta.given[name]
            for name in ("size", "checksum")
            if name in meta.given and (meta.copy_from is None or meta.given[name])
        }
    return fields


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


def _headers(request: web.Request, image: Image) -> dict[str, str]:
    headers = write_meta(request.app[IMAGES].readable(request[CALLER], image))
    if image.checksum is not None:
        headers["ETag"] = image.checksum  # bare, as v1 clients know it
    return headers
