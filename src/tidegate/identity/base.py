"""Who is calling: the contract, and the identity of a gateway without authentication."""

from typing import Protocol

from multidict import MultiMapping

from tidegate.domain.policy import Caller


class Identity(Protocol):
    async def caller(self, headers: MultiMapping[str], method: str = "", path: str = "") -> Caller:
        """Who sent a request with these headers. Unauthenticated, also where the caller may do
        no such request; IdentityDown."""


class Anyone:
    """Everybody is an administrator without a project, as in Glance without authentication."""

    _caller = Caller(roles=frozenset({"admin", "member", "reader"}))

    async def caller(self, headers: MultiMapping[str], method: str = "", path: str = "") -> Caller:
        return self._caller
