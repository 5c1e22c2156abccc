"""The catalog's contract: the other half of a delete."""

from typing import Protocol

from tidegate.domain.upload import Removal


class Deletions(Protocol):
    """The catalog's other half of a delete: what the scrubber and the purger ask of it."""

    async def begin_scrubs(
        self, *, delay: float, lease: float, limit: int = 50
    ) -> tuple[int, list[Removal]]:
        """Of images pending_delete for ``delay`` seconds or longer, take some that nobody took:
        how many. Their own bytes that no other image needs are written down as removals,
        reserved for the caller for ``lease`` seconds."""

    async def finish_scrubs(self, *, limit: int = 50) -> list[str]:
        """SCRUB: images that were taken and whose bytes are gone become deleted; their ids."""

    async def purge(self, *, after: float, limit: int = 50) -> int:
        """Of images deleted for ``after`` seconds or longer nothing is kept but the id, which is
        never used again. Not while bytes are to be removed, an attempt is open or a task runs.
        How many; fewer than ``limit``: there are no more."""

    async def take_turn(self, name: str, seconds: float) -> bool:
        """True for one caller, and for the next one after ``seconds`` or a reboot."""
