"""Sharing an image with other projects.

API v2 works on one member at a time, and tells who may not (``invite``, ``answer``, ``dismiss``);
API v1 lets a member that can share act for the owner, and tells nobody else that the image is
there (``share``, ``share_with``, ``unshare``). Both see the same members.
"""

from collections.abc import Iterable, Mapping

from tidegate.catalog.base import Catalog, Viewer
from tidegate.domain.errors import Forbidden, Invalid, NotFound, Unauthenticated
from tidegate.domain.image import Image, Visibility
from tidegate.domain.member import Member, MemberStatus
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.status import Status
from tidegate.settings import Quotas
from tidegate.telemetry import log

MAX_PROJECT = 255


class Members:
    def __init__(self, catalog: Catalog, policy: Policy, *, quotas: Quotas) -> None:
        self._catalog = catalog
        self._policy = policy
        self._limit = quotas.members

    # API v2: a shared image's alone

    async def list_all(self, caller: Caller, image_id: str) -> list[Member]:
        """A member sees itself alone. NotFound, Forbidden."""
        image = await self._shared(caller, image_id, "list")
        self._policy.require(caller, "get_members", image, member=_invited(caller, image))
        return self._seen(caller, image, await self._catalog.members_of(image_id))

    async def show(self, caller: Caller, image_id: str, project: str) -> Member:
        """NotFound, also where the image is not shared."""
        image = await self._visible(caller, image_id)
        if image.visibility is not Visibility.SHARED:
            raise NotFound(f"Image {image_id} has no members: only shared images have.")
        member = await self._one(caller, image, project)
        if not self._policy.allows(caller, "get_member", image, member=project):
            raise _no_such_member(image_id, project)
        return member

    async def invite(self, caller: Caller, image_id: str, project: str) -> Member:
        """NotFound, Forbidden, Invalid, Conflict, TooLarge."""
        image = await self._shared(caller, image_id, "create")
        self._policy.require(caller, "add_member", image)
        _check_project(image, project)
        member = await self._catalog.put_member(image_id, project, new=True, limit=self._limit)
        log.info("image shared", image=image_id, member=project)
        return member

    async def answer(
        self, caller: Caller, image_id: str, project: str, status: MemberStatus
    ) -> Member:
        """The invited project's to give, since nobody else but admins may and sees the member.
        NotFound, Forbidden."""
        image = await self._shared(caller, image_id, "update")
        await self._one(caller, image, project)
        # the owner needs no invitation, and so answers none
        invited = None if project == image.owner else project
        self._policy.require(caller, "modify_member", image, member=invited)
        return await self._catalog.set_member_status(image_id, project, status)

    async def dismiss(self, caller: Caller, image_id: str, project: str) -> None:
        """NotFound, Forbidden."""
        image = await self._shared(caller, image_id, "delete")
        await self._one(caller, image, project)
        self._policy.require(caller, "delete_member", image)
        await self._catalog.drop_member(image_id, project)
        log.info("image no longer shared", image=image_id, member=project)

    # API v1

    async def shares(self, caller: Caller, image_id: str) -> list[Member]:
        """Of any image; a member sees itself alone. NotFound, also for who is not concerned."""
        image = await self._image(caller, image_id)
        if not self._policy.allows(caller, "get_members", image, member=_invited(caller, image)):
            raise _not_found(image_id)
        return self._seen(caller, image, await self._catalog.members_of(image_id))

    async def share(
        self, caller: Caller, image_id: str, project: str, can_share: bool | None
    ) -> None:
        """Invite, or change what is not None. NotFound, Unauthenticated, Forbidden, Invalid,
        TooLarge."""
        await self._share(caller, image_id, [project])
        await self._catalog.put_member(image_id, project, can_share=can_share, limit=self._limit)
        log.info("image shared", image=image_id, member=project)

    async def share_with(
        self, caller: Caller, image_id: str, wanted: Mapping[str, bool | None]
    ) -> None:
        """With these projects and no others. As ``share``."""
        await self._share(caller, image_id, wanted)
        await self._catalog.replace_members(image_id, wanted, limit=self._limit)
        log.info("image shared", image=image_id, members=sorted(wanted))

    async def unshare(self, caller: Caller, image_id: str, project: str) -> None:
        """NotFound, Unauthenticated."""
        await self._sharer(caller, image_id, "delete_member")
        await self._catalog.drop_member(image_id, project)
        log.info("image no longer shared", image=image_id, member=project)

    async def shared_with(self, caller: Caller, project: str) -> list[Member]:
        """Its memberships in images of the caller, or the caller's own; an admin's: all."""
        viewer = Viewer.of(caller)
        return await self._catalog.shared_with(project, viewer)

    async def _visible(self, caller: Caller, image_id: str) -> Image:
        viewer = Viewer.of(caller)
        image = await self._catalog.get_image(image_id, viewer)
        if not self._policy.allows(caller, "get_image", image):
            raise _not_found(image_id)
        return image

    async def _shared(self, caller: Caller, image_id: str, word: str) -> Image:
        image = await self._visible(caller, image_id)
        if image.visibility is not Visibility.SHARED:
            raise Forbidden(
                f"Not allowed to {word} members for image {image_id}: "
                "Only shared images have members."
            )
        return image

    async def _image(self, caller: Caller, image_id: str) -> Image:
        """Also one about to be deleted, for an admin."""
        viewer = Viewer.of(caller)
        known = self._catalog.get_image_or_gone if caller.is_admin else self._catalog.get_image
        image = await known(image_id, viewer)
        if image.status is Status.DELETED or not self._policy.allows(caller, "get_image", image):
            raise _not_found(image_id)
        return image

    async def _share(self, caller: Caller, image_id: str, projects: Iterable[str]) -> None:
        image = await self._sharer(caller, image_id, "add_member")
        if image.visibility is not Visibility.SHARED:
            raise Forbidden(
                f"Image {image_id} is {image.visibility}: only shared images have members."
            )
        for project in projects:
            _check_project(image, project)

    async def _sharer(self, caller: Caller, image_id: str, rule: str) -> Image:
        """The image, for who may share it: by the rule, or as a member that can share."""
        if caller.project is None and not caller.is_admin:
            raise Unauthenticated("Only a project can share images.")
        image = await self._image(caller, image_id)
        if self._policy.allows(caller, rule, image):
            return image
        invited = _invited(caller, image)
        if invited is not None and self._policy.allows(
            caller, "modify_member", image, member=invited
        ):
            own = await self._catalog.get_member(image_id, invited)
            if own.can_share:
                return image
        raise _not_found(image_id)

    async def _one(self, caller: Caller, image: Image, project: str) -> Member:
        member = await self._catalog.get_member(image.id, project)
        if not self._seen(caller, image, [member]):
            raise _no_such_member(image.id, project)
        return member

    def _seen(self, caller: Caller, image: Image, members: list[Member]) -> list[Member]:
        if caller.is_admin or (caller.project is not None and caller.project == image.owner):
            return members
        return [member for member in members if member.project == caller.project]


def _invited(caller: Caller, image: Image) -> str | None:
    """The caller's project, where the image is shared with it."""
    member = image.member_status is not None and caller.project != image.owner
    return caller.project if member else None


def _no_such_member(image_id: str, project: str) -> NotFound:
    return NotFound(f"{project} not found in the member list of the image {image_id}.")


def _not_found(image_id: str) -> NotFound:
    return NotFound(f"No image found with ID {image_id}")


def _check_project(image: Image, project: str) -> None:
    if not project or len(project) > MAX_PROJECT or not project.isprintable():
        raise Invalid(f"A member is a project's id: printable, at most {MAX_PROJECT} characters.")
    if project == image.owner:
        raise Invalid("The owner of an image needs no invitation to it.")
