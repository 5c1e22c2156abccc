"""The rare look for objects that no image needs: whole stores are listed for it."""

from tidegate.catalog.base import Deletions
from tidegate.services.checking import Checking

LOOK_EVERY = 86400.0
ASK_EVERY = 600.0

LOOK_AT_MOST = 6 * 3600.0
"""Seconds that one look may last."""


class Orphans:
    """Of all processes on one catalog, one looks, once a day; a restart makes no difference."""

    name = "orphans"
    every = ASK_EVERY

    def __init__(self, checking: Checking, turns: Deletions) -> None:
        self._checking = checking
        self._turns = turns

    async def once(self) -> int:
        if not await self._turns.take_turn(self.name, LOOK_EVERY):
            return 0
        return await self._checking.remove_orphans()
