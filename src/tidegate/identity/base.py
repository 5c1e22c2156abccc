"""Who is calling: the contract, and the identity of a gateway without authentication."""

from collections.abc import Callable
from typing import Protocol

from multidict import MultiMapping

from tidegate.domain.policy import Caller

Address = Callable[[], str]
"""Where a request came from; looked for when it is needed."""


def nowhere() -> str:
    return ""


class Identity(Protocol):
    async def caller(
        self,
        headers: MultiMapping[str],
        method: str = "",
        path: str = "",
        address: Address = nowhere,
    ) -> Caller:
        """Who sent a request with these headers. Unauthenticated, also where the caller may do
        no such request; Busy: too many tokens of this ``address`` failed; IdentityDown."""


class Anyone:
    """Everybody is an administrator without a project, as in Glance without authentication."""

    _caller = Caller(roles=frozenset({"admin", "member", "reader"}))

    async def caller(
        self,
        headers: MultiMapping[str],
        method: str = "",
        path: str = "",
        address: Address = nowhere,
    ) -> Caller:
        return self._caller
