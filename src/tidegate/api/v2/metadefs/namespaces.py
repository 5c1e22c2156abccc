"""Namespaces of metadata definitions, and the types of resources that they are for."""

from string import punctuation
from urllib.parse import quote

from aiohttp import web

from tidegate.api.keys import CALLER, METADEFS
from tidegate.api.links import base_url
from tidegate.api.reading import read_json, refuse_body
from tidegate.api.v2 import listing
from tidegate.api.v2.metadefs import bodies, queries, views
from tidegate.api.v2.views import respond
from tidegate.domain.metadef import prefixed


async def create_namespace(request: web.Request) -> web.Response:
    new, contents = bodies.new_namespace(await read_json(request))
    made = await request.app[METADEFS].create(request[CALLER], new, contents)
    # as it is, but for what cannot stand in a header
    name = quote(made.name, safe=punctuation + " ")
    location = f"{base_url(request)}{views.PATH}/{name}"
    view = views.new_namespace(made, contents)
    return respond(view, status=201, headers={"Location": location})


async def list_namespaces(request: web.Request) -> web.Response:
    query = queries.namespaces(queries.given(request))
    page = await request.app[METADEFS].page(request[CALLER], query)
    view = {
        "namespaces": [views.listed_namespace(*pair) for pair in page.found],
        "first": listing.link(views.PATH, request.query, None),
        "schema": "/v2/schemas/metadefs/namespaces",
    }
    if page.marker is not None:
        view["next"] = listing.link(views.PATH, request.query, page.marker)
    return respond(view)


async def show_namespace(request: web.Request) -> web.Response:
    refuse_body(request)
    query = queries.given(request)
    queries.visibility(query)
    name = request.match_info["namespace"]
    namespace, contents = await request.app[METADEFS].show(request[CALLER], name)
    return respond(
        views.whole_namespace(namespace, prefixed(contents, query.get("resource_type", "")))
    )


async def change_namespace(request: web.Request) -> web.Response:
    wanted = bodies.changed_namespace(await read_json(request))
    name = request.match_info["namespace"]
    changed = await request.app[METADEFS].change(request[CALLER], name, wanted)
    return respond(views.namespace(changed))


async def delete_namespace(request: web.Request) -> web.Response:
    refuse_body(request)
    await request.app[METADEFS].delete(request[CALLER], request.match_info["namespace"])
    return web.Response(status=204)


async def list_resource_types(request: web.Request) -> web.Response:
    refuse_body(request)
    found = await request.app[METADEFS].resource_types(request[CALLER])
    return respond({"resource_types": [views.timed(one) for one in found]})
