"""Image API v2: the data calls, and the attempts to fill an image."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from tidegate.api.body import Body, expected, is_data
from tidegate.api.delivery import deliver
from tidegate.api.keys import CALLER, DOWNLOADS, REQUEST_ID, SETTINGS, UPLOADS
from tidegate.api.reading import refuse_body
from tidegate.api.v2.views import respond, time_of
from tidegate.domain.errors import Unsupported
from tidegate.domain.image import Image
from tidegate.domain.upload import Upload

Take = Callable[..., Awaitable[Image]]
"""``Uploads.upload``, or what takes data as it does."""


async def take_data(request: web.Request, take: Take) -> web.Response:
    """Unsupported: what comes does not call itself image data."""
    if not is_data(request):
        raise Unsupported(
            f"Invalid content type {request.headers.get('Content-Type')}; "
            "image data is application/octet-stream."
        )
    body = Body(request, request.app[SETTINGS].uploads.idle_timeout)
    try:
        await take(
            request[CALLER],
            request.match_info["image_id"],
            body,
            expected(request),
            store_id=request.headers.get("x-image-meta-store"),
            request_id=request[REQUEST_ID],
        )
    finally:
        body.close()
    return web.Response(status=204)


async def put_file(request: web.Request) -> web.Response:
    return await take_data(request, request.app[UPLOADS].upload)


async def get_file(request: web.Request) -> web.StreamResponse:
    """GET and HEAD. An image that has no data yet is 204 (the known clients expect that)."""
    refuse_body(request)
    downloads = request.app[DOWNLOADS]
    image = await downloads.find(
        request[CALLER],
        request.match_info["image_id"],
        prefer=[name for name in request.query.get("prefer", "").split(",") if name],
    )
    if not downloads.has_data(image):
        return web.Response(status=204)
    return await deliver(request, downloads, image)


async def list_uploads(request: web.Request) -> web.Response:
    attempts = await request.app[UPLOADS].attempts(request[CALLER], request.match_info["image_id"])
    return respond({"uploads": [_upload(attempt) for attempt in attempts]})


def _upload(upload: Upload) -> dict[str, object]:
    failure = upload.failure
    return {
        "id": upload.id,
        "image_id": upload.image_id,
        "purpose": upload.purpose,
        "state": upload.state,
        "store": upload.store,
        "received": upload.received,
        "expected_size": upload.expected_size,
        "started_at": time_of(upload.started_at),
        "updated_at": time_of(upload.updated_at),
        "ended_at": None if upload.ended_at is None else time_of(upload.ended_at),
        "failure": None
        if failure is None
        else {
            "reason": failure.reason,
            "where": failure.where,
            "message": failure.message,
            "bytes_received": upload.received,
            "request_id": failure.request_id,
        },
    }
