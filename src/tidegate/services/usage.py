"""What a caller's project holds, beside what it may hold."""

from collections.abc import Mapping

from tidegate.catalog.base import Catalog
from tidegate.domain.policy import Caller

MIB = 2**20
UNLIMITED = -1


class ProjectUsage:
    """``limits`` are of each project, by the names that are answered; one left out: none."""

    def __init__(self, catalog: Catalog, limits: Mapping[str, int] | None = None) -> None:
        self._catalog = catalog
        self._limits = limits or {}

    async def of(self, caller: Caller) -> dict[str, tuple[int, int]]:
        """Usage and limit by the names of Glance's quotas; sizes are whole MiB."""
        found = await self._catalog.usage_of(caller.project)
        held = {
            "image_size_total": found.stored // MIB,
            "image_stage_total": found.staged // MIB,
            "image_count_total": found.images,
            "image_count_uploading": found.uploading,
        }
        return {name: (used, self._limits.get(name, UNLIMITED)) for name, used in held.items()}
