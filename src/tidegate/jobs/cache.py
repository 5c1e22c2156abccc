"""The read cache on the clock: copies that were asked for, and those that must go."""

from tidegate.services.cache import Cache
from tidegate.services.downloads import Downloads

LOOK_EVERY = 1.0
NOTE_EVERY = 5.0


class Filler:
    """Makes the copies that are wanted, one after the other."""

    name = "cache filler"
    every = LOOK_EVERY

    def __init__(self, cache: Cache, downloads: Downloads) -> None:
        self._cache = cache
        self._downloads = downloads

    async def once(self) -> int:
        return await self._cache.fill_queued(self._downloads.into_cache)


class Upkeep:
    name = "cache upkeep"
    every = NOTE_EVERY

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def once(self) -> int:
        return await self._cache.upkeep()
