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
        size = UNLIMITED if may.bytes is None else may.bytes // MIB
        return {
            "image_size_total": (held.stored // MIB, size),
            "image_stage_total": (held.staged // MIB, UNLIMITED),
            "image_count_total": (held.images, UNLIMITED if may.images is None else may.images),
            "image_count_uploading": (held.uploading, UNLIMITED),
        }
