"""Taking bytes out of the stores: each removal was written down before, and is repeatable."""

import asyncio
from collections.abc import Iterable, Mapping

from tidegate.catalog.base import Catalog
from tidegate.domain.errors import StoreError
from tidegate.domain.upload import Removal, Upload
from tidegate.killpoints import kill_point
from tidegate.stores.base import Store
from tidegate.telemetry import log

RETRY_IN = 5.0
"""Seconds until a store that refused is asked again."""

UNDO_WITHIN = 15.0
"""Seconds that taking an attempt back may last at the store; after that the janitor has it."""

_PAGE = 20


class Removals:
    """``lease`` is seconds for which removals taken by one janitor are left alone by the others;
    twice removed does no harm."""

    def __init__(
        self, catalog: Catalog, stores: Mapping[str, Store], *, lease: float = 60.0
    ) -> None:
        self._catalog = catalog
        self._stores = stores
        self._lease = lease

    async def carry_out(self, removals: Iterable[Removal]) -> int:
        """Remove now; what a store refuses stays written down for the janitor. How many went."""
        done = 0
        for removal in removals:
            store = self._stores.get(removal.store)
            try:
                if store is None:
                    raise StoreError(removal.store, "it is not configured on this node")
                kill_point("del_committed")
                if removal.upload_id is not None:
                    await store.abort(removal.key, removal.upload_id)
                # an abort may answer well although the object was completed meanwhile
                await store.delete(removal.key)
                kill_point("del_store_done")
            except StoreError as error:
                log.warning("removal failed", store=removal.store, key=removal.key,
                            attempts=removal.attempts + 1, error=error.message)  # fmt: skip
                await self._catalog.removal_failed(removal.id, error.message, retry_in=RETRY_IN)
            else:
                await self._catalog.removal_done(removal.id)
                done += 1
        return done

    async def carry_out_due(self) -> int:
        done = 0
        while due := await self._catalog.due_removals(lease=self._lease, limit=_PAGE):
            done += await self.carry_out(due)
        return done

    def look_again(self, upload: Upload, *, unconfirmed: bool) -> float | None:
        """Seconds after which an attempt's object is to be looked for once more: where one
        request made it and nobody saw the answer, the store may still carry that out."""
        store = self._stores.get(upload.store)
        return store.limits.settles if unconfirmed and store and store.limits.settles else None

    async def take_back(
        self, upload: Upload, upload_id: str | None, *, completing: bool
    ) -> list[str | None]:
        """Take the bytes of a broken attempt out of its store; never raises for the store's sake.

        ``upload_id`` is the store's, if it was begun; ``completing``: the object itself may be
        there. Gives what is left to do, for ``Catalog.fail_upload`` to write down.
        """
        store = self._stores.get(upload.store)
        owed: list[str | None] = [] if upload_id is None else [upload_id]
        if completing:
            owed.append(None)
        if store is None:
            return owed
        try:
            async with asyncio.timeout(UNDO_WITHIN):
                if upload_id is not None:
                    kill_point("abort_mid")
                    await store.abort(upload.key, upload_id)
                    owed.remove(upload_id)
                if completing:
                    # also after an abort that answered well: both may have succeeded
                    await store.delete(upload.key)
                    owed.remove(None)
        except (StoreError, TimeoutError) as error:
            log.warning("clean-up left to the janitor", store=upload.store, key=upload.key,
                        error=str(error))  # fmt: skip
        return owed
