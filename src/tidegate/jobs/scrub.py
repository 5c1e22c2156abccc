"""Reading stored images again, on the clock."""

from tidegate.domain.scrub import Verdict
from tidegate.services.scrubbing import Scrubbing

LOOK_AT_MOST_EVERY = 600.0

PATIENCE = 6 * 3600.0
"""Seconds for which what is wrong is not read again: somebody has been told."""


class Scrub:
    """``older_than``: seconds for which a copy that was found good is left alone."""

    name = "scrub"

    def __init__(self, scrubbing: Scrubbing, *, older_than: float) -> None:
        self._scrubbing = scrubbing
        self._older_than = older_than
        self.every = min(max(older_than / 2, 1.0), LOOK_AT_MOST_EVERY)

    async def once(self) -> int:
        report = await self._scrubbing.run(older_than=self._older_than, patience=PATIENCE)
        return report.verdicts[Verdict.REPAIRED]


class Verify:
    """Registered data read once, beside the rest: how long that takes is up to its sources."""

    name = "verify"
    every = LOOK_AT_MOST_EVERY

    def __init__(self, scrubbing: Scrubbing) -> None:
        self._scrubbing = scrubbing

    async def once(self) -> int:
        report = await self._scrubbing.verify(patience=PATIENCE)
        return report.verdicts[Verdict.GOOD]
