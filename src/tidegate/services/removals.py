"""Taking bytes out of the stores: each removal was written down before, and is repeatable."""

import asyncio
import random
from collections.abc import Iterable, Mapping
from contextlib import suppress

from tidegate import telemetry
from tidegate.catalog.base import Catalog
from tidegate.domain.errors import StoreDown, StoreError
from tidegate.domain.status import Event
from tidegate.domain.upload import Failure, Removal, Upload
from tidegate.killpoints import kill_point
from tidegate.stores.base import Store
from tidegate.telemetry import log

RETRY_FIRST, RETRY_AT_MOST = 1.0, 300.0
"""Seconds until a store that refused is asked again: twice as many each time."""

STUCK = 10
"""Failures after which a removal is reported once more, as an error."""

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

    async def carry_out(self, removals: Iterable[Removal], *, retry_in: float | None = None) -> int:
        """Remove now; what a store refuses stays written down for the janitor, who asks again in
        ``retry_in`` seconds (None: the later the more often it failed). How many went.

        A store that does not answer is asked once: its other removals stay as they are reserved.
        """
        return await self._carry_out(removals, set(), retry_in)

    async def _carry_out(
        self, removals: Iterable[Removal], down: set[str], retry_in: float | None = None
    ) -> int:
        """Stores in ``down`` are not asked; those that do not answer are added."""
        done = 0
        for removal in removals:
            if removal.store in down:
                continue
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
                if isinstance(error, StoreDown):
                    down.add(removal.store)
                _tell(removal, error)
                await self._catalog.removal_failed(
                    removal.id,
                    error.message,
                    retry_in=_back_off(removal.attempts) if retry_in is None else retry_in,
                )
            else:
                await self._catalog.removal_done(removal.id)
                if removal.attempts:
                    log.info("removal done after failures", store=removal.store, key=removal.key,
                             failures=removal.attempts)  # fmt: skip
                done += 1
        return done

    async def count_waiting(self) -> None:
        """Make known how many removals are still to be done."""
        waiting = await self._catalog.removals_waiting()
        for store in self._stores.keys() | waiting.keys():
            telemetry.REMOVALS_WAITING.labels(store).set(waiting.get(store, 0))

    async def carry_out_due(self) -> int:
        """Of all that is due; how many went. What falls due meanwhile is for the next time."""
        done, seen, down = 0, set[int](), set[str]()
        while True:
            due = await self._catalog.due_removals(lease=self._lease, limit=_PAGE)
            new = [removal for removal in due if removal.id not in seen]
            if not new:
                return done
            seen.update(removal.id for removal in new)
            done += await self._carry_out(new, down)
            if len(due) < _PAGE:
                return done

    async def give_up(
        self,
        upload: Upload,
        failure: Failure,
        event: Event,
        *,
        upload_id: str | None,
        completing: bool,
        received: int | None = None,
    ) -> None:
        """End a broken attempt and take its bytes out of the store; a store that fails is left to
        the janitor.

        ``upload_id`` is the store's, if it was begun; ``completing``: the object itself may be
        there. An object is removed only after the catalog has let the attempt fail, since
        somebody else may have taken it over and published it. BadTransition: just that.
        """
        leftovers = [] if upload_id is None else await self._abort(upload, upload_id)
        if completing:
            leftovers.append(None)
        owed = await self._catalog.fail_upload(
            upload.id,
            failure,
            event,
            leftovers=leftovers,
            reserve=min(self._lease, UNDO_WITHIN),
            look_again=self._look_again(upload) if completing and upload_id is None else None,
            received=received,
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(UNDO_WITHIN):
                await self.carry_out(owed, retry_in=0)

    async def _abort(self, upload: Upload, upload_id: str) -> list[str | None]:
        """What is still to be aborted."""
        store = self._stores.get(upload.store)
        if store is None:
            return [upload_id]
        kill_point("abort_mid")
        try:
            async with asyncio.timeout(UNDO_WITHIN):
                await store.abort(upload.key, upload_id)
        except (StoreError, TimeoutError) as error:
            log.warning("clean-up left to the janitor", store=upload.store, key=upload.key,
                        error=str(error))  # fmt: skip
            return [upload_id]
        return []

    def _look_again(self, upload: Upload) -> float | None:
        """Seconds after which to look once more for an object that one request makes: a store may
        carry that out long after nobody waits for it."""
        store = self._stores.get(upload.store)
        return None if store is None else store.limits.settles or None


def _back_off(failures: int) -> float:
    """Spread, so that what failed together does not come together again."""
    longest = RETRY_FIRST * 2.0 ** min(failures, 16)  # more than a float holds, after some days
    return min(longest, RETRY_AT_MOST) * random.uniform(0.5, 1.0)


def _tell(removal: Removal, error: StoreError) -> None:
    """In the metrics each time; in the log at the first failure, and once more when it is
    stuck."""
    telemetry.REMOVAL_FAILURES.labels(removal.store).inc()
    failures = removal.attempts + 1
    if failures in (1, STUCK):
        report = log.warning if failures == 1 else log.error
        report("removal failed", store=removal.store, key=removal.key, attempts=failures,
               error=error.message)  # fmt: skip
