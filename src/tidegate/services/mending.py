"""A bad location mended from another one: the good bytes become a new object, one statement lets
the location point to it, and the bad object becomes a removal.

It is an attempt like an upload's, so that the janitor takes back what a crash leaves of it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from uuid import uuid4

from tidegate.catalog.base import Catalog
from tidegate.domain.errors import (
    BadTransition,
    CatalogDown,
    Draining,
    ObjectChanged,
    TidegateError,
    first_failure,
)
from tidegate.domain.image import Image, Location
from tidegate.domain.scrub import Copy, algorithms, difference
from tidegate.domain.status import Event
from tidegate.domain.upload import Failure, Upload
from tidegate.killpoints import kill_point
from tidegate.services.removals import Removals
from tidegate.services.waiting import set_within
from tidegate.settings import Uploads as UploadSettings
from tidegate.stores.base import Store
from tidegate.telemetry import log
from tidegate.transfer.digest import DigestPool
from tidegate.transfer.download import Receiving
from tidegate.transfer.memory import Arena
from tidegate.transfer.parts import plan
from tidegate.transfer.upload import Sending, Source
from tidegate.transfer.whole import size_of


class Mending:
    """``stores`` take data; ``went`` is told how many bytes were copied, and may hold the copying
    back or end it (Draining)."""

    def __init__(
        self,
        catalog: Catalog,
        stores: Mapping[str, Store],
        removals: Removals,
        *,
        uploads: UploadSettings,
        arena: Arena,
        digests: DigestPool,
        node: str,
        went: Callable[[int], Awaitable[None]],
    ) -> None:
        self._catalog = catalog
        self._stores = stores
        self._removals = removals
        self._uploads = uploads
        self._lease = uploads.lease
        self._arena = arena
        self._digests = digests
        self._node = node
        self._went = went

    async def mend(self, image: Image, bad: Copy, source: Store, location: Location) -> None:
        """Copy the bytes from ``location`` under a key of their own, and let the bad location
        point there. BadTransition: it went, or somebody else mends it; ObjectMissing,
        ObjectChanged: those bytes are no better; TooLarge, StoreError."""
        store, attempt = self._stores[bad.store], uuid4().hex
        repair = Upload(
            id=attempt,
            image_id=image.id,
            store=store.id,
            key=f"{image.id}/{attempt}",
            node=self._node,
            expected_size=image.size,
        )
        await self._catalog.start_repair(repair, bad, lease=self._lease)
        kill_point("repair_started")
        sending: Sending | None = None
        try:
            size = await size_of(source, location.key, image.size)
            if image.size not in (None, size):
                raise ObjectChanged(source.id, f"the object has {size} bytes, not {image.size}")
            reading = Receiving(source, location.key, 0, size, size=size, arena=self._arena)
            async with reading.stream() as stream:
                paced = _Paced(stream.fill, size, self._went)
                sending = self._sending(image, size, paced, store, repair)
                async with sending, asyncio.TaskGroup() as group:
                    done = asyncio.Event()
                    group.create_task(self._keep(repair, done))
                    sent = await sending.run()
                    said = difference(image, sent)
                    if said is not None:
                        raise ObjectChanged(source.id, said)
                    await sending.finish()
                    kill_point("repair_copied")
                    owed = await self._catalog.finish_repair(repair, bad, sent.size)
                    done.set()
        except BaseException as failures:
            error = first_failure(failures)
            await asyncio.shield(self._give_up(repair, sending, error))
            raise error from None
        finally:
            self._catalog.let_go(attempt)
        kill_point("repair_swapped")
        await self._removals.carry_out(owed)

    def _sending(
        self, image: Image, size: int, source: Source, store: Store, repair: Upload
    ) -> Sending:
        return Sending(
            source,
            store,
            repair.key,
            plan=plan(
                size,
                framed=True,
                start=self._uploads.part_size,
                budget=self._uploads.memory_budget,
                limits=store.limits,
            ),
            arena=self._arena,
            digests=self._digests.open(algorithms(image)),
            in_flight=1,
            max_size=store.limits.max_object,
            expected_size=None,
            began=lambda upload_id: self._catalog.repair_began(repair, upload_id),
        )

    async def _keep(self, repair: Upload, done: asyncio.Event) -> None:
        while not await set_within(done, self._lease / 3):
            try:
                await self._catalog.keep_upload(repair.id, lease=self._lease)
            except BadTransition:
                return  # ended by the swap itself, or lost, which its statement finds

    async def _give_up(self, repair: Upload, sending: Sending | None, error: BaseException) -> None:
        """Leave nothing of a repair; where the catalog did not answer, the janitor does it."""
        if isinstance(error, CatalogDown):
            return
        said = error.message if isinstance(error, TidegateError) else "The server was stopped."
        stopped = isinstance(error, Draining | asyncio.CancelledError)
        reason = "drained" if stopped else "store"
        failure = Failure(reason, "repair" if sending is None else sending.step, said)
        try:
            await self._removals.give_up(
                repair,
                failure,
                Event.BREAK,
                upload_id=None if sending is None else sending.upload_id,
                completing=sending is not None and sending.finishing,
            )
        except TidegateError as late:
            log.warning("repair left to the janitor", image=repair.image_id, error=late.message)


class _Paced:
    """An object of ``size`` bytes as a source; ``fill`` gives its next bytes."""

    def __init__(
        self,
        fill: Callable[[memoryview], Awaitable[None]],
        size: int,
        went: Callable[[int], Awaitable[None]],
    ) -> None:
        self._fill = fill
        self._left = size
        self._went = went

    async def readinto(self, block: memoryview) -> int:
        count = min(len(block), self._left)
        if count:
            await self._fill(block[:count])
            self._left -= count
            await self._went(count)
        return count
