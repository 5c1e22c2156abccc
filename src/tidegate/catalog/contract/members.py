"""The catalog's contract: with whom images are shared."""

from collections.abc import Mapping
from typing import Protocol

from tidegate.catalog.contract.images import Viewer
from tidegate.domain.member import Member, MemberStatus


class Members(Protocol):
    """Each call is about an image whose record is not yet deleted, else NotFound."""

    async def members_of(self, image_id: str) -> list[Member]:
        """In the order in which they were first invited; none of an unknown image."""

    async def get_member(self, image_id: str, project: str) -> Member:
        """NotFound."""

    async def put_member(
        self,
        image_id: str,
        project: str,
        *,
        can_share: bool | None = None,
        new: bool = False,
        limit: int = -1,
    ) -> Member:
        """Invite a project (status pending, ``can_share`` False where None), again if it was
        removed; change the ``can_share`` of one that is a member, unless that is None. Conflict:
        ``new``, and it is a member. TooLarge: one more than ``limit`` (negative: none)."""

    async def replace_members(
        self, image_id: str, wanted: Mapping[str, bool | None], *, limit: int = -1
    ) -> None:
        """``put_member`` for each project and its ``can_share``, and remove all others: all or
        nothing. TooLarge: members are added, to more than ``limit``."""

    async def drop_member(self, image_id: str, project: str) -> None:
        """NotFound, also when it is no member."""

    async def set_member_status(self, image_id: str, project: str, status: MemberStatus) -> Member:
        """NotFound, also when it is no member."""

    async def shared_with(self, project: str, viewer: Viewer) -> list[Member]:
        """The memberships of a project, as far as they concern the viewer: those in its own
        images, or its own ones while the images are shared; an admin's: all."""
