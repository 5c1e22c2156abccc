"""The janitor's look: expired attempts, what must go from the stores, and what nobody owns."""

from tidegate.services.reaping import Reaping
from tidegate.services.removals import Removals

LOOK_AT_MOST_EVERY = 5.0


class Reaper:
    name = "reaper"

    def __init__(self, reaping: Reaping, removals: Removals, *, lease: float) -> None:
        self._reaping = reaping
        self._removals = removals
        self.every = min(lease / 2, LOOK_AT_MOST_EVERY)

    async def once(self) -> int:
        mended = (
            await self._reaping.reap()
            + await self._removals.carry_out_due()
            + await self._reaping.sweep()
        )
        await self._removals.count_waiting()
        return mended
