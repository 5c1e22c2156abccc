"""Catalog and stores compared, both ways, while gateways run on them.

What is found is looked at a second time before it counts. An object is removed only when the
catalog says so in the statement that writes its removal down; an object that the catalog has never
known is left, since the catalog may be the one that is wrong (a new file, an old backup).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tidegate import telemetry
from tidegate.catalog.base import Catalog, Checks, Fate, Flaw, Held
from tidegate.domain.errors import ObjectMissing, StoreError
from tidegate.services.reaping import OURS, Reaping, owns
from tidegate.services.removals import Removals
from tidegate.stores.base import Store, Unfinished
from tidegate.telemetry import log

GRACE = 3600.0
"""Seconds: what is younger is left to those who may be working on it."""

_PAGE = 500
_LEASE = 60.0
_SIDE_BY_SIDE = 16

_ORPHANS = {
    Fate.ORPHAN: ("orphan", "an object that no image needs"),
    Fate.UNKNOWN: ("unknown", "an object that this catalog never wrote down"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """``what`` is a fixed word, ``subject`` a key or an id, ``done`` what was done about it
    (empty: nothing)."""

    what: str
    subject: str
    detail: str
    store: str = ""
    done: str = ""


class _Catalog(Catalog, Checks, Protocol): ...


class Checking:
    """``grace`` is seconds; ``remove_unknown``: repairs take what the catalog never knew, too."""

    def __init__(
        self,
        catalog: _Catalog,
        stores: Mapping[str, Store],
        removals: Removals,
        reaping: Reaping,
        *,
        grace: float = GRACE,
        remove_unknown: bool = False,
    ) -> None:
        self._catalog = catalog
        self._stores = stores
        self._removals = removals
        self._reaping = reaping
        self._grace = grace
        self._remove_unknown = remove_unknown

    async def check(self, *, repair: bool) -> AsyncIterator[Finding]:
        """Everything, one finding at a time. A store that does not answer is a finding."""
        async for finding in self._catalogs_own(repair):
            yield finding
        async for finding in self._locations(repair):
            yield finding
        for store in self._stores.values():
            if not store.can.write:
                continue
            try:
                async for finding in self.leftovers(store, repair=repair):
                    yield finding
            except StoreError as error:
                yield Finding("store", store.id, f"not checked: {error.reason}", store.id)

    async def remove_orphans(self) -> int:
        """The janitor's part: what the stores hold and no image needs goes. How many went."""
        removed = unknown = 0
        for store in self._stores.values():
            if not store.can.write:
                continue
            try:
                async for finding in self.leftovers(store, repair=True):
                    removed += bool(finding.done)
                    unknown += finding.what == "unknown"
            except StoreError as error:
                log.warning("orphans not looked for", store=store.id, error=error.reason)
        telemetry.JANITOR.labels("orphan removed").inc(removed)
        if unknown:
            log.warning("objects that this catalog never wrote down", count=unknown,
                        see="tidegate fsck")  # fmt: skip
        return removed

    async def leftovers(self, store: Store, *, repair: bool) -> AsyncIterator[Finding]:
        """Objects and open uploads under keys of ours that nobody needs. StoreError."""
        page: list[str] = []
        async for key, _ in store.keys():
            if OURS.fullmatch(key):
                page.append(key)
            if len(page) == _PAGE:
                async for finding in self._orphans(store, page, repair):
                    yield finding
                page = []
        async for finding in self._orphans(store, page, repair):
            yield finding
        if store.can.unfinished:
            async for entry in store.unfinished():
                if OURS.fullmatch(entry.key):
                    found = await self._open_upload(store, entry, repair)
                    if found is not None:
                        yield found

    async def _orphans(
        self, store: Store, keys: Sequence[str], repair: bool
    ) -> AsyncIterator[Finding]:
        if not keys:
            return
        fates = await self._catalog.fates(store.id, keys)
        for key, fate in fates.items():
            if fate is Fate.NEEDED:
                continue
            # the second look: is it still there, how old, and still nobody's?
            try:
                stored = await store.look(key)
            except ObjectMissing:
                continue
            fate = (await self._catalog.fates(store.id, [key]))[key]
            if fate is Fate.NEEDED or not self._is_old(stored.modified):
                continue
            what, detail = _ORPHANS[fate]
            done = await self._remove(store, key) if repair else ""
            yield Finding(what, key, f"{detail} ({stored.size} bytes)", store.id, done)

    async def _remove(self, store: Store, key: str) -> str:
        removal = await self._catalog.remove_orphan(
            store.id, key, unknown=self._remove_unknown, lease=_LEASE
        )
        if removal is None:
            return ""
        log.info("orphan condemned", store=store.id, key=key)
        return "removed" if await self._removals.carry_out([removal]) else "removal written down"

    async def _open_upload(self, store: Store, entry: Unfinished, repair: bool) -> Finding | None:
        attempt = entry.key.split("/")[1]
        upload = (await self._catalog.open_uploads([attempt])).get(attempt)
        if upload is not None:
            if owns(upload, entry):
                return None
            known = True
        else:
            fate = (await self._catalog.fates(store.id, [entry.key]))[entry.key]
            if fate is Fate.NEEDED:
                return None
            known = fate is Fate.ORPHAN
        if not self._is_old(entry.begun):
            return None
        done = ""
        if repair and (known or self._remove_unknown):
            await store.abort(entry.key, entry.upload_id)
            done = "aborted"
        detail = "an open upload that nobody owns" if known else "an open upload never written down"
        return Finding("upload", entry.key, detail, store.id, done)

    async def _locations(self, repair: bool) -> AsyncIterator[Finding]:
        after = 0
        while page := await self._catalog.own_locations(after, limit=_PAGE):
            after = page[-1].id
            for at in range(0, len(page), _SIDE_BY_SIDE):
                some = page[at : at + _SIDE_BY_SIDE]
                wrongs = await asyncio.gather(*(self._wrong_twice(held) for held in some))
                for held, wrong in zip(some, wrongs, strict=True):
                    if wrong is not None:
                        what, detail = wrong
                        done = await self._give_up(held, what, detail) if repair else ""
                        yield Finding(what, held.key, f"image {held.image_id}: {detail}",
                                      held.store, done)  # fmt: skip

    async def _wrong_twice(self, held: Held) -> tuple[str, str] | None:
        if await self._wrong(held) is None:
            return None
        # deleted, or replaced, between the two looks?
        return await self._wrong(held) if await self._catalog.is_held(held) else None

    async def _wrong(self, held: Held) -> tuple[str, str] | None:
        store = self._stores.get(held.store)
        if store is None:
            return "store", "its store is not configured here"
        try:
            stored = await store.look(held.key)
        except ObjectMissing:
            return "missing", "its object is not there"
        except StoreError as error:
            return "store", f"its store did not answer: {error.reason}"
        if held.size is not None and stored.size != held.size:
            return "size", f"its object has {stored.size} bytes instead of {held.size}"
        if None not in (held.crc64nvme, stored.crc64nvme) and held.crc64nvme != stored.crc64nvme:
            return "checksum", "its object has other bytes (CRC-64/NVME)"
        return None

    async def _give_up(self, held: Held, what: str, detail: str) -> str:
        if what == "store":  # says nothing of the bytes
            return ""
        spare = await self._has_spare(held)
        done = await self._catalog.give_up_location(held, f"{held.store}: {detail}", spare=spare)
        if spare and done:
            await self._removals.carry_out_due()
        if done:
            log.error("image damaged", image=held.image_id, store=held.store, key=held.key,
                      reason=detail, done=done)  # fmt: skip
        return done

    async def _has_spare(self, held: Held) -> bool:
        """Whether another location of the image has all of its bytes."""
        others = await self._catalog.own_locations(0, limit=_PAGE, image_id=held.image_id)
        for other in others:
            if other.id != held.id and await self._wrong(other) is None:
                return True
        return False

    async def _catalogs_own(self, repair: bool) -> AsyncIterator[Finding]:
        flaws = await self._catalog.flaws(older_than=self._grace)
        left = set(flaws)
        if repair and flaws:
            if any(flaw.what == "lease" for flaw in flaws):
                await self._reaping.reap()
            for flaw in flaws:
                await self._catalog.mend(flaw)
            await self._removals.carry_out_due()
            left = set(await self._catalog.flaws(older_than=self._grace))
        for flaw in flaws:
            done = "mended" if flaw not in left else ""
            yield Finding(flaw.what, flaw.subject, flaw.detail, done=done)
        after: str | None = ""
        while after is not None:
            after, ids = await self._catalog.stale_copies(after, limit=_PAGE)
            for image_id in ids:
                flaw = Flaw("copies", image_id, "an image whose row differs from its tables")
                if repair:
                    await self._catalog.mend(flaw)
                yield Finding(flaw.what, image_id, flaw.detail, done="mended" if repair else "")

    def _is_old(self, moment: float | None) -> bool:
        return moment is None or moment <= time.time() - self._grace
