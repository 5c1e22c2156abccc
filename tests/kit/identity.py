"""Callers by name, for tests of who may do what."""

from collections.abc import Mapping

from tidegate.domain.policy import Caller
from tidegate.identity.base import Address, nowhere

ADMIN = {"X-Auth-Token": "root:admin,member,reader"}
READER = {"X-Auth-Token": "p1:reader"}
NOBODY = {"X-Auth-Token": ":member,reader"}
"""Has no project."""


def of(project: str) -> dict[str, str]:
    """The headers of a member of a project."""
    return {"X-Auth-Token": f"{project}:member,reader"}


class Named:
    """A token is ``PROJECT:ROLE,ROLE``; without one: an administrator without a project."""

    async def caller(
        self,
        headers: Mapping[str, str],
        method: str = "",
        path: str = "",
        address: Address = nowhere,
    ) -> Caller:
        token = headers.get("X-Auth-Token", ":admin,member,reader")
        project, _, roles = token.partition(":")
        return Caller(project or None, frozenset(roles.split(",")))
