"""The scrubber: data of images whose deletion was delayed goes when its time has come."""

from tidegate.catalog.base import Deletions
from tidegate.services.deleting import Deleting

LOOK_AT_MOST_EVERY = 60.0
LOOK_AT_LEAST_EVERY = 0.5


class Scrubber:
    """Of all processes on one catalog, one looks at a time."""

    name = "scrubber"

    def __init__(self, deleting: Deleting, turns: Deletions, *, delay: float) -> None:
        self._deleting = deleting
        self._turns = turns
        self.every = min(max(delay / 2, LOOK_AT_LEAST_EVERY), LOOK_AT_MOST_EVERY)

    async def once(self) -> int:
        if not await self._turns.take_turn(self.name, self.every / 2):
            return 0
        return await self._deleting.scrub()
