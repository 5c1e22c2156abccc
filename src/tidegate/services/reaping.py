"""What a dead process left: its attempts are finished or killed, its parts swept from the stores.

Everything here may run on several nodes at once, twice, or be killed half-way, and changes
nothing but time: who may act on an attempt is decided by the catalog's lease.
"""

import asyncio
import re
from collections.abc import Mapping

from tidegate import telemetry
from tidegate.catalog.base import Catalog
from tidegate.domain.errors import (
    BadTransition,
    StoreDown,
    StoreError,
    TidegateError,
    first_failure,
)
from tidegate.domain.status import Event
from tidegate.domain.upload import OPEN, Failure, Purpose, Sent, Upload
from tidegate.killpoints import kill_point
from tidegate.services.removals import Removals
from tidegate.services.waiting import set_within
from tidegate.stores.base import Store, Unfinished
from tidegate.telemetry import log

OURS = re.compile(r"[0-9a-fA-F-]{36}/([0-9a-f]{32})")
"""Keys we write: image id and attempt id. Whatever else lies in a bucket is not ours to touch."""

_PAGE = 500

SIDE_BY_SIDE = 4
"""Attempts that one janitor settles at a time."""


class Reaping:
    """``broken`` is what happens to an image whose upload's owner died: BREAK or RELEASE."""

    def __init__(
        self,
        catalog: Catalog,
        stores: Mapping[str, Store],
        removals: Removals,
        *,
        broken: Event,
        lease: float,
        node: str,
    ) -> None:
        self._catalog = catalog
        self._stores = stores
        self._removals = removals
        self.broken = broken
        self._lease = lease
        self._node = node

    async def reap(self) -> int:
        """Finish or kill the attempts whose lease has run out. How many were settled."""
        first = await self._take()
        if first is None:
            return 0
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._reap_some(first))]
            tasks += [group.create_task(self._reap_some()) for _ in range(SIDE_BY_SIDE - 1)]
        return sum(task.result() for task in tasks)

    async def _take(self) -> Upload | None:
        found = await self._catalog.take_over_expired(self._node, lease=self._lease, limit=1)
        return found[0] if found else None

    async def _reap_some(self, upload: Upload | None = None) -> int:
        """One attempt after the other, each taken only when it can be settled at once."""
        settled = 0
        while upload := upload or await self._take():
            kill_point("reap_mid")
            try:
                await self._settle_held(upload)
            except TidegateError as error:
                log.warning("attempt not settled yet", image=upload.image_id, attempt=upload.id,
                            error=error.message)  # fmt: skip
            else:
                settled += 1
            finally:
                self._catalog.let_go(upload.id)
            upload = None
        return settled

    async def _settle_held(self, upload: Upload) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                settled = asyncio.Event()
                group.create_task(self._hold(upload.id, settled))
                await self._settle(upload)
                settled.set()
        except BaseExceptionGroup as failures:
            raise first_failure(failures) from failures

    async def _hold(self, attempt: str, settled: asyncio.Event) -> None:
        while not await set_within(settled, self._lease / 3):
            try:
                await self._catalog.keep_upload(attempt, lease=self._lease)
            except BadTransition:
                return  # ended by the settling itself, or lost, which its statements find

    async def sweep(self) -> int:
        """Abort uploads that a store holds open and no live attempt owns. How many went.

        A retried or lost create leaves an upload that nobody wrote down; only the store's own
        list shows it.
        """
        swept = 0
        for store in self._stores.values():
            if not (store.can.write and store.can.unfinished):
                continue
            try:
                page: list[tuple[str, Unfinished]] = []
                async for entry in store.unfinished():
                    match = OURS.fullmatch(entry.key)
                    if match is not None:
                        page.append((match[1], entry))
                    if len(page) == _PAGE:
                        swept += await self._sweep_page(store, page)
                        page = []
                swept += await self._sweep_page(store, page)
            except StoreError as error:
                log.warning("sweep failed", store=store.id, error=error.message)
        return swept

    async def _sweep_page(self, store: Store, page: list[tuple[str, Unfinished]]) -> int:
        if not page:
            return 0
        attempts = await self._catalog.open_uploads([attempt for attempt, _ in page])
        swept = 0
        for attempt, entry in page:
            upload = attempts.get(attempt)
            if upload is None or owns(upload, entry):
                continue
            await store.abort(entry.key, entry.upload_id)
            telemetry.JANITOR.labels("multipart aborted").inc()
            log.info("open multipart upload swept", store=store.id, key=entry.key)
            swept += 1
        return swept

    async def _settle(self, upload: Upload) -> None:
        if upload.sent is not None and await self._is_complete(upload, upload.sent):
            try:
                await self._catalog.publish_upload(upload.id, upload.sent)
            except BadTransition:
                pass  # deleted meanwhile: the object goes, below
            else:
                telemetry.JANITOR.labels("upload finished").inc()
                log.info("upload finished for a dead node", image=upload.image_id)
                return
        failure = Failure("node_died", upload.state, "The server that took the data died.")
        broken = Event.UNSTAGE if upload.purpose is Purpose.STAGE else self.broken
        await self._removals.give_up(
            upload, failure, broken, upload_id=upload.upload_id, completing=True
        )
        telemetry.JANITOR.labels("upload killed").inc()
        log.info("upload killed for a dead node", image=upload.image_id, node=upload.node)

    async def _is_complete(self, upload: Upload, sent: Sent) -> bool:
        store = self._stores.get(upload.store)
        if store is None:
            raise StoreDown(upload.store, "it is not configured on this node")
        try:
            stored = await store.look(upload.key)
        except StoreDown:
            raise
        except StoreError:
            return False
        return stored.size == sent.size and stored.crc64nvme in (None, sent.crc64nvme)


def owns(upload: Upload, entry: Unfinished) -> bool:
    """An attempt that has begun at the store may not have written the id down yet."""
    return upload.state in OPEN and upload.upload_id in (None, entry.upload_id)
