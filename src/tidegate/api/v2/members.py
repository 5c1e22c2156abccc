"""Image API v2: the projects that an image is shared with.

Whether the image is there is said before anything of a body, so that nobody learns of an image from
a refusal.
"""

from typing import Any

from aiohttp import web

from tidegate.api.keys import CALLER, IMAGES, MEMBERS
from tidegate.api.reading import read_json, refuse_body
from tidegate.api.v2.views import respond, time_of
from tidegate.domain.errors import Invalid
from tidegate.domain.member import Member, MemberStatus


async def list_members(request: web.Request) -> web.Response:
    refuse_body(request)
    found = await request.app[MEMBERS].list_all(request[CALLER], request.match_info["image_id"])
    members = [member_view(member) for member in found]
    return respond({"members": members, "schema": "/v2/schemas/members"})


async def create_member(request: web.Request) -> web.Response:
    project = _text(await _body(request), "member")
    member = await request.app[MEMBERS].invite(
        request[CALLER], request.match_info["image_id"], project
    )
    return respond(member_view(member))


async def show_member(request: web.Request) -> web.Response:
    refuse_body(request)
    member = await request.app[MEMBERS].show(
        request[CALLER], request.match_info["image_id"], request.match_info["member"]
    )
    return respond(member_view(member))


async def change_member(request: web.Request) -> web.Response:
    status = _text(await _body(request), "status")
    if status not in list(MemberStatus):
        raise Invalid('Status must be "pending", "accepted" or "rejected".')
    member = await request.app[MEMBERS].answer(
        request[CALLER],
        request.match_info["image_id"],
        request.match_info["member"],
        MemberStatus(status),
    )
    return respond(member_view(member))


async def delete_member(request: web.Request) -> web.Response:
    refuse_body(request)
    await request.app[MEMBERS].dismiss(
        request[CALLER], request.match_info["image_id"], request.match_info["member"]
    )
    return web.Response(status=204)


def member_view(member: Member) -> dict[str, Any]:
    return {
        "member_id": member.project,
        "image_id": member.image_id,
        "status": member.status,
        "created_at": time_of(member.created_at),
        "updated_at": time_of(member.updated_at),
        "schema": "/v2/schemas/member",
    }


async def _body(request: web.Request) -> Any:
    await request.app[IMAGES].show(request[CALLER], request.match_info["image_id"])
    return await read_json(request)


def _text(body: Any, name: str) -> str:
    """What the body says under ``name``; other members of it mean nothing. Invalid."""
    if not isinstance(body, dict) or name not in body:
        raise Invalid(f'Expected a body in the form: {{"{name}": …}}')
    value = body[name]
    if not isinstance(value, str) or not value:
        raise Invalid(f"{name.capitalize()} must be a text, and not empty.")
    return value
