"""Image API v1: the projects that an image is shared with."""

from typing import Any

from aiohttp import web

from tidegate.api.keys import CALLER, MEMBERS
from tidegate.api.reading import read_json
from tidegate.api.v1.headers import never_415
from tidegate.api.v2.views import respond
from tidegate.domain.errors import Invalid


async def list_members(request: web.Request) -> web.Response:
    members = await request.app[MEMBERS].shares(request[CALLER], request.match_info["image_id"])
    views = [{"member_id": member.project, "can_share": member.can_share} for member in members]
    return respond({"members": views})


async def put_members(request: web.Request) -> web.Response:
    body = await _json(request)
    if "memberships" in body:
        items = body["memberships"]
    elif "member_id" in body:
        items = [body]
    else:
        raise Invalid('The body must be {"memberships": [{"member_id": …}, …]}.')
    if not isinstance(items, list):
        raise Invalid("memberships must be a list.")
    wanted = dict(map(_membership, items))
    await request.app[MEMBERS].share_with(request[CALLER], request.match_info["image_id"], wanted)
    return web.Response(status=204)


async def put_member(request: web.Request) -> web.Response:
    can_share = None
    if request.body_exists:
        member = (await _json(request)).get("member")
        if not isinstance(member, dict):
            raise Invalid('The body must be {"member": {"can_share": …}}.')
        can_share = _can_share(member)
    await request.app[MEMBERS].share(
        request[CALLER], request.match_info["image_id"], request.match_info["member"], can_share
    )
    return web.Response(status=204)


async def delete_member(request: web.Request) -> web.Response:
    await request.app[MEMBERS].unshare(
        request[CALLER], request.match_info["image_id"], request.match_info["member"]
    )
    return web.Response(status=204)


async def list_shared(request: web.Request) -> web.Response:
    shared = await request.app[MEMBERS].shared_with(request[CALLER], request.match_info["member"])
    views = [{"image_id": one.image_id, "can_share": one.can_share} for one in shared]
    return respond({"shared_images": views})


async def _json(request: web.Request) -> dict[str, Any]:
    with never_415():
        body = await read_json(request)
    if not isinstance(body, dict):
        raise Invalid("The body must be a JSON object.")
    return body


def _membership(item: Any) -> tuple[str, bool | None]:
    if not isinstance(item, dict) or not isinstance(item.get("member_id"), str):
        raise Invalid("Each membership needs a member_id, a text.")
    return item["member_id"], _can_share(item)


def _can_share(member: dict[str, Any]) -> bool | None:
    """Any value, by its truth; None: not said."""
    return bool(member["can_share"]) if "can_share" in member else None
