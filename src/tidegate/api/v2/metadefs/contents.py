"""What a namespace of metadata definitions holds: objects, properties, tags, associations.

They share their life, and so their handlers, each of which is told the kind; what is a kind's own
has a handler of its own.
"""

from typing import Any

from aiohttp import web

from tidegate.api.keys import CALLER, METADEFS
from tidegate.api.reading import read_json, refuse_body
from tidegate.api.v2.metadefs import bodies, queries, views
from tidegate.api.v2.views import respond
from tidegate.catalog.contract.metadefs import DefinitionQuery
from tidegate.domain.metadef import Definition, Kind

_TRUE = frozenset({"true", "1", "t", "on", "y", "yes"})


async def add(kind: Kind, request: web.Request) -> web.Response:
    new = bodies.definition(kind, await read_json(request))
    made = await request.app[METADEFS].add(request[CALLER], _namespace(request), kind, new)
    return respond(_sent(kind, request, made), status=201)


async def show(kind: Kind, request: web.Request) -> web.Response:
    refuse_body(request)
    found = await request.app[METADEFS].definition(
        request[CALLER], _namespace(request), kind, request.match_info["name"]
    )
    if kind is Kind.OBJECT:
        return respond(views.whole_object(_namespace(request), found))
    return respond(views.timed(found))


async def change(kind: Kind, request: web.Request) -> web.Response:
    wanted = bodies.definition(kind, await read_json(request))
    changed = await request.app[METADEFS].redefine(
        request[CALLER], _namespace(request), kind, request.match_info["name"], wanted
    )
    return respond(_sent(kind, request, changed))


async def delete(kind: Kind, request: web.Request) -> web.Response:
    refuse_body(request)
    await request.app[METADEFS].drop(
        request[CALLER], _namespace(request), kind, request.match_info["name"]
    )
    return web.Response(status=204)


async def delete_all(kind: Kind, request: web.Request) -> web.Response:
    refuse_body(request)
    await request.app[METADEFS].clear(request[CALLER], _namespace(request), kind)
    return web.Response(status=204)


async def list_objects(request: web.Request) -> web.Response:
    query = queries.objects(queries.given(request))
    found = await _list(request, Kind.OBJECT, query)
    objects = [views.whole_object(_namespace(request), one) for one in found]
    # without the slash, as clients have always been told
    return respond({"objects": objects, "schema": "v2/schemas/metadefs/objects"})


async def list_properties(request: web.Request) -> web.Response:
    refuse_body(request)
    found = await _list(request, Kind.PROPERTY, DefinitionQuery())
    return respond({"properties": views.properties(found)})


async def show_property(request: web.Request) -> web.Response:
    names = (request[CALLER], _namespace(request))
    name, resource_type = request.match_info["name"], queries.given(request).get("resource_type")
    metadefs = request.app[METADEFS]
    if resource_type is None:
        found = await metadefs.definition(*names, Kind.PROPERTY, name)
    else:
        found = await metadefs.property_of(*names, name, resource_type)
    return respond(views.property_(found))


async def list_tags(request: web.Request) -> web.Response:
    query = queries.tags(queries.given(request))
    return respond({"tags": views.tags(await _list(request, Kind.TAG, query))})


async def add_tags(request: web.Request) -> web.Response:
    tags = bodies.tags(await read_json(request))
    instead = request.headers.get("X-Openstack-Append", "").strip().lower() not in _TRUE
    await request.app[METADEFS].add_tags(
        request[CALLER], _namespace(request), tags, instead=instead
    )
    return respond({"tags": views.tags(tags)}, status=201)


async def add_tag(request: web.Request) -> web.Response:
    refuse_body(request)
    new = bodies.tag(request.match_info["name"])
    made = await request.app[METADEFS].add(request[CALLER], _namespace(request), Kind.TAG, new)
    return respond(views.timed(made), status=201)


async def list_associations(request: web.Request) -> web.Response:
    refuse_body(request)
    found = await _list(request, Kind.ASSOCIATION, DefinitionQuery())
    return respond({"resource_type_associations": [views.timed(one) for one in found]})


async def _list(request: web.Request, kind: Kind, query: DefinitionQuery) -> list[Definition]:
    return await request.app[METADEFS].definitions(
        request[CALLER], _namespace(request), kind, query
    )


def _sent(kind: Kind, request: web.Request, one: Definition) -> dict[str, Any]:
    match kind:
        case Kind.OBJECT:
            return views.sent_object(_namespace(request), one)
        case Kind.PROPERTY:
            return views.property_(one)
        case _:
            return views.timed(one)


def _namespace(request: web.Request) -> str:
    return request.match_info["namespace"]
