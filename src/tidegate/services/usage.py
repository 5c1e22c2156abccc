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
        found = await self._catalog.usage_of(caller.project)
        allowed = await self._projects.of(caller.project)
        size = UNLIMITED if allowed.bytes is None else allowed.bytes // MIB
        count = UNLIMITED if allowed.images is None else allowed.images
        return {
            "image_size_total": (found.stored // MIB, size),
            "image_stage_total": (found.staged // MIB, UNLIMITED),
            "image_count_total": (found.images, count),
            "image_count_uploading": (found.uploading, UNLIMITED),
        }
