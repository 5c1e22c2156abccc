"""An image's bytes under a key of a store, once: nothing that lies there is ever replaced.

Who writes to a key is decided in the catalog: a task claims it there before it looks at the store.
An object, also a small one, appears by completing an upload of the store's, so that no late request
of a dead server makes one: whoever takes the task up next aborts what was begun, finds the object
made or not, and begins again. A store that does not answer then is asked until it does.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress

from tidegate import telemetry
from tidegate.catalog.base import Catalog
from tidegate.domain.errors import (
    BadTransition,
    Busy,
    CatalogDown,
    Conflict,
    ObjectMissing,
    StoreDown,
    StoreError,
    StoreReadOnly,
    TidegateError,
)
from tidegate.domain.expected import verify
from tidegate.domain.export import Export, StoreTarget
from tidegate.domain.task import Task
from tidegate.domain.upload import Sent
from tidegate.killpoints import kill_point
from tidegate.services.removals import UNDO_WITHIN
from tidegate.services.sources import Outbound
from tidegate.services.tasks import Holding
from tidegate.services.trying import again_and_again
from tidegate.settings import Uploads as UploadSettings
from tidegate.stores.base import Store
from tidegate.telemetry import log
from tidegate.transfer.digest import DigestPool
from tidegate.transfer.memory import Arena
from tidegate.transfer.parts import plan
from tidegate.transfer.upload import Sending
from tidegate.transfer.whole import read_whole

ASK_AGAIN = 10
"""Seconds until a store is asked again what became of an object."""

Opened = Callable[[], AbstractAsyncContextManager[Outbound]]


class ExportObjects:
    def __init__(
        self,
        catalog: Catalog,
        stores: Mapping[str, Store],
        *,
        settings: UploadSettings,
        arena: Arena,
        digests: DigestPool,
    ) -> None:
        self._catalog = catalog
        self._stores = stores
        self._settings = settings
        self._arena = arena
        self._digests = digests

    def url(self, target: StoreTarget) -> str:
        return self._store(target.store).url(target.key)

    async def bring(self, holding: Holding, target: StoreTarget, opened: Opened) -> Sent:
        """Bring the bytes there, unless a former holder did. Conflict: something lies there, or
        another task writes there; Busy: what became of the object cannot be told now;
        TooLarge, StoreError; what ``opened`` raises."""
        store = self._store(target.store)
        if not store.can.multipart:
            raise StoreReadOnly(store.id, "it takes no data in parts")
        try:
            return await again_and_again(lambda: self._try(holding, store, target.key, opened))
        except (Busy, CatalogDown, BadTransition):
            raise  # the next holder goes on with what was written down
        except TidegateError:
            sent = await asyncio.shield(self._give_up(holding.task, store, target.key))
            if sent is None:
                raise
            return sent

    async def tidy(self) -> int:
        """End what tasks left that ended, or are not there any more; how many."""
        tidied = 0
        for export in await self._catalog.stale_exports(list(self._stores)):
            try:
                # a task that has the key by now would lose what it began, and begin again
                await self._clear(self._stores[export.store], export)
            except StoreError as error:
                log.warning("export not tidied up yet", key=export.key, error=error.message)
                continue
            kill_point("export_tidied")
            tidied += await self._catalog.forget_export(export)
        telemetry.JANITOR.labels("export tidied up").inc(tidied)
        return tidied

    async def _try(self, holding: Holding, store: Store, key: str, opened: Opened) -> Sent:
        export = await self._catalog.claim_export(holding.task, store.id, key)
        kill_point("export_claimed")
        sent = await self._settle(store, export)
        if sent is None:
            await _need_nothing_there(store, key)
            sent = await self._send(holding, store, export, opened)
            with suppress(StoreError):  # a lost answer may have left a second upload
                await self._clear(store, export)
        return sent

    async def _settle(self, store: Store, export: Export) -> Sent | None:
        """End what was begun; what was sent, if it became the object. StoreError; Busy: that
        cannot be told now."""
        if export.sent is None:
            await self._clear(store, export)
            return None
        try:
            # only after it no late request makes the object any more
            await self._clear(store, export)
            return export.sent if await self._is_there(store, export.key, export.sent) else None
        except StoreError as error:
            raise Busy(error.message, retry_after=ASK_AGAIN) from error

    async def _clear(self, store: Store, export: Export) -> None:
        """Abort whatever was begun at the store under the key."""
        if export.upload_id is not None:
            await store.abort(export.key, export.upload_id)
        if store.can.unfinished:
            async for entry in store.unfinished(export.key):
                if entry.key == export.key:
                    await store.abort(entry.key, entry.upload_id)

    async def _is_there(self, store: Store, key: str, sent: Sent) -> bool:
        try:
            stored = await store.look(key)
            if stored.size != sent.size:
                return False
            if stored.crc64nvme is not None:
                return stored.crc64nvme == sent.crc64nvme
            found = await read_whole(
                store,
                key,
                sent.size,
                algorithms=sorted(sent.digests),
                arena=self._arena,
                digests=self._digests,
            )
        except ObjectMissing:
            return False
        return (found.digests, found.crc64nvme) == (sent.digests, sent.crc64nvme)

    async def _send(self, holding: Holding, store: Store, export: Export, opened: Opened) -> Sent:
        task = holding.task
        async with opened() as outbound:
            expected, source = outbound.expected, outbound.source
            sending = Sending(
                source,
                store,
                export.key,
                plan=plan(
                    expected.total,
                    framed=expected.length is not None,
                    start=self._settings.part_size,
                    budget=self._settings.memory_budget,
                    limits=store.limits,
                ),
                arena=self._arena,
                digests=self._digests.open(sorted({*self._settings.digests, *expected.digests})),
                in_flight=self._settings.part_concurrency,
                max_size=store.limits.max_object,
                expected_size=expected.size,
                began=lambda upload_id: self._catalog.export_began(task, export, upload_id),
                in_parts=True,
            )
            holding.progress = lambda: f"Exported {source.received // 2**20} MiB"
            try:
                async with sending:
                    async with outbound.watched:
                        sent = await sending.run()
                        verify(sent, expected)
                    await self._catalog.export_completing(task, export, sent)
                    kill_point("export_completing")
                    await sending.finish()
            except BaseException:
                if sending.upload_id is not None and not sending.finishing:
                    await asyncio.shield(_abort(store, export.key, sending.upload_id))
                raise
        return sent

    async def _give_up(self, task: Task, store: Store, key: str) -> Sent | None:
        """Leave nothing under a key that is the task's; what cannot be done now is the janitor's.
        What was sent, if it is there after all."""
        try:
            export = await self._catalog.claim_export(task, store.id, key)
            sent = await self._settle(store, export)
            if sent is None:
                kill_point("export_aborted")
                await self._catalog.drop_export(task, export)
            return sent
        except (BadTransition, Busy):
            raise
        except Conflict:  # it never was the task's
            return None
        except TidegateError as late:
            log.warning("export left to the janitor", store=store.id, key=key, error=late.message)
            return None

    def _store(self, store_id: str) -> Store:
        store = self._stores.get(store_id)
        if store is None:
            raise StoreDown(store_id, "it is not configured on this node")
        return store


async def _need_nothing_there(store: Store, key: str) -> None:
    with suppress(ObjectMissing):
        await store.look(key)
        raise Conflict("There is already an object; choose another key, or remove it.")


async def _abort(store: Store, key: str, upload_id: str) -> None:
    """What fails, the next holder does, or the janitor."""
    try:
        async with asyncio.timeout(UNDO_WITHIN):
            await store.abort(key, upload_id)
    except (StoreError, TimeoutError) as error:
        log.warning("export left to the janitor", store=store.id, key=key, error=str(error))
