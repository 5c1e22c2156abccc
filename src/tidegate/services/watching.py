"""Downloads that run, and the end of those that may run no more: what is deactivated or deleted
through any worker of any node is sent by none, soon after."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tidegate.catalog.base import Catalog
from tidegate.domain.errors import Forbidden, NotFound, TidegateError
from tidegate.domain.image import Image
from tidegate.domain.policy import Caller
from tidegate.domain.status import GONE, Status


class Cut(Exception):
    """A download was ended in the middle; ``reason`` is what a new request would be told."""

    def __init__(self, reason: TidegateError) -> None:
        super().__init__(reason.message)
        self.reason = reason


class _Running:
    def __init__(self, image_id: str, limit: asyncio.Timeout, *, admin: bool) -> None:
        self.image_id = image_id
        self.limit = limit
        self.admin = admin
        self.reason: TidegateError | None = None

    def cut(self, reason: TidegateError) -> None:
        self.reason = reason
        self.limit.reschedule(asyncio.get_running_loop().time())


class Watch:
    """The downloads of this worker."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._running: set[_Running] = set()

    @asynccontextmanager
    async def over(self, image: Image, caller: Caller) -> AsyncIterator[None]:
        """Bytes of the image are sent to the caller in here. Cut: they may be no more."""
        limit = asyncio.timeout(None)
        running = _Running(image.id, limit, admin=caller.is_admin)
        try:
            async with limit:
                self._running.add(running)
                yield
        except TimeoutError:
            # what runs in here may have timeouts of its own
            if running.reason is None or not limit.expired():
                raise
            raise Cut(running.reason) from None
        finally:
            self._running.discard(running)

    async def look(self) -> int:
        """Ask how the images stand, in one query, and cut; how many. Nothing runs: nothing is
        asked."""
        asked = set(self._running)
        if not asked:
            return 0
        statuses = await self._catalog.statuses({running.image_id for running in asked})
        count = 0
        for running in asked & self._running:
            reason = _reason(running, statuses.get(running.image_id))
            if reason is not None:
                self._running.discard(running)
                running.cut(reason)
                count += 1
        return count


def deactivated() -> Forbidden:
    return Forbidden("The requested image has been deactivated. Image data download is forbidden.")


def _reason(running: _Running, status: Status | None) -> TidegateError | None:
    if status is None or status in GONE:
        return NotFound(f"No image found with ID {running.image_id}")
    if status is Status.DEACTIVATED and not running.admin:
        return deactivated()
    return None
