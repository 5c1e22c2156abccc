"""What a caller's project holds, beside what it may hold."""

from tidegate.catalog.base import Catalog
from tidegate.domain.policy import Caller
from tidegate.services.quotas import ProjectQuotas

MIB = 2**20
UNLIMITED = -1


class ProjectUsage:
    def __init__(self, catalog: Catalog, projects: ProjectQuotas) -> None:
        self._catalog = catalog
        self._projects = projects

    async def of(self, caller: Caller) -> dict[str, tuple[int, int]]:
        """Usage and limit by the names of Glance's quotas; sizes are whole MiB."""
        held = await self._catalog.usage_of(caller.project)
        may = await self._projects.of(caller.project)
        return {
            "image_size_total": (held.stored // MIB, _shown(may.bytes, MIB)),
            "image_stage_total": (held.staged // MIB, _shown(may.staged, MIB)),
            "image_count_total": (held.images, _shown(may.images)),
            "image_count_uploading": (held.uploading, _shown(may.uploading)),
        }


def _shown(limit: int | None, unit: int = 1) -> int:
    return UNLIMITED if limit is None else limit // unit
