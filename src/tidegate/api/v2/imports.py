"""Image API v2: data staged and imported."""

from typing import Any

from aiohttp import web

from tidegate.api.keys import CALLER, IMPORT_REQUESTS, REQUEST_ID, STAGING
from tidegate.api.reading import read_json, refuse_body
from tidegate.api.v2.data import take_data
from tidegate.api.v2.views import respond
from tidegate.domain.errors import Invalid
from tidegate.services.import_requests import ImportRequest


async def put_stage(request: web.Request) -> web.Response:
    request.app[STAGING].require_offered()
    return await take_data(request, request.app[STAGING].stage)


async def import_image(request: web.Request) -> web.Response:
    wanted = _wanted(await read_json(request), request.headers.get("x-image-meta-store"))
    await request.app[IMPORT_REQUESTS].ask(
        request[CALLER],
        request.match_info["image_id"],
        wanted,
        request_id=request[REQUEST_ID],
        token=request.headers.get("X-Auth-Token"),
    )
    return web.Response(status=202)


async def show_methods(request: web.Request) -> web.Response:
    refuse_body(request)
    methods = {
        "description": "Import methods available.",
        "type": "array",
        "value": request.app[IMPORT_REQUESTS].methods,
    }
    return respond({"import-methods": methods})


def _wanted(body: Any, store: str | None) -> ImportRequest:
    method = body.get("method") if isinstance(body, dict) else None
    if not isinstance(method, dict):
        raise Invalid("Import request requires a 'method' field.")
    name = method.get("name")
    if not name or not isinstance(name, str):
        raise Invalid("Import request requires a 'name' field.")
    for flag in ("all_stores_must_succeed", "all_stores"):
        if not isinstance(body.get(flag, False), bool):
            raise Invalid(f"'{flag}' must be boolean value only")
    stores = body.get("stores") or []
    if not isinstance(stores, list) or not all(isinstance(one, str) for one in stores):
        raise Invalid("'stores' must be a list of store identifiers")
    return ImportRequest(
        method=name,
        source=method,
        stores=tuple(stores),
        store_by_header=store,
        all_stores=body.get("all_stores", False),
        all_must_succeed=body.get("all_stores_must_succeed", True),
        body=body,
    )
