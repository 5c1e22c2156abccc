"""The purger: of images deleted long ago nothing is kept but the id."""

from tidegate.catalog.base import Deletions
from tidegate.services.deleting import Deleting

LOOK_AT_MOST_EVERY = 300.0
LOOK_AT_LEAST_EVERY = 0.5


class Purger:
    """Of all processes on one catalog, one looks at a time."""

    name = "purger"

    def __init__(self, deleting: Deleting, turns: Deletions, *, after: float) -> None:
        self._deleting = deleting
        self._turns = turns
        self.every = min(max(after / 2, LOOK_AT_LEAST_EVERY), LOOK_AT_MOST_EVERY)

    async def once(self) -> int:
        if not await self._turns.take_turn(self.name, self.every / 2):
            return 0
        return await self._deleting.purge()
