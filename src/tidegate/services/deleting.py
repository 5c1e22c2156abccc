"""What comes after a delete: when its time has come the data goes, then the record.

Each step is one statement of the catalog, taken by one process and repeatable by any other: the
data's removal is written down before it begins, and the status follows when nothing is owed.
"""

from typing import Protocol

from tidegate import telemetry
from tidegate.catalog.base import Catalog, Deletions
from tidegate.killpoints import kill_point
from tidegate.services.removals import Removals
from tidegate.settings import Deletion
from tidegate.telemetry import log

_PAGE = 50

PAGES_AT_A_TIME = 40
"""Pages of one look; the next look goes on."""


class _Catalog(Catalog, Deletions, Protocol): ...


class Deleting:
    """``lease`` is seconds for which removals are left to who wrote them down."""

    def __init__(
        self, catalog: _Catalog, removals: Removals, *, settings: Deletion, lease: float
    ) -> None:
        self._catalog = catalog
        self._removals = removals
        self._settings = settings
        self._lease = lease

    async def scrub(self) -> int:
        """Take the data of images whose delay has passed out of the stores; those of which
        nothing is left become ``deleted``. How many did."""
        for _ in range(PAGES_AT_A_TIME):
            taken, removals = await self._catalog.begin_scrubs(
                delay=self._settings.delay, lease=self._lease, limit=_PAGE
            )
            if taken:
                kill_point("scrub_mid")
            done = await self._removals.carry_out(removals)
            if taken:
                kill_point("scrub_removed")
            if taken < _PAGE or done < len(removals):
                break
        scrubbed = 0
        for _ in range(PAGES_AT_A_TIME):
            ids = await self._catalog.finish_scrubs(limit=_PAGE)
            for image_id in ids:
                telemetry.JANITOR.labels("image scrubbed").inc()
                log.info("image scrubbed", image=image_id)
            scrubbed += len(ids)
            if len(ids) < _PAGE:
                break
        return scrubbed

    async def purge(self) -> int:
        """Forget records that were ``deleted`` long enough, all but their ids. How many."""
        purged = 0
        for _ in range(PAGES_AT_A_TIME):
            count = await self._catalog.purge(after=self._settings.purge_after, limit=_PAGE)
            if count:
                kill_point("purge_mid")
            purged += count
            telemetry.JANITOR.labels("record purged").inc(count)
            if count < _PAGE:
                break
        return purged
