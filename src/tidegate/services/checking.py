"""Catalog and stores compared, both ways, while gateways run on them.

What is found is looked at a second time before it counts. An object is removed only when the
catalog says so in the statement that writes its removal down; an object that the catalog has never
known is left, since the catalog may be the one that is wrong (a new file, an old backup).
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Protocol

from tidegate import telemetry
from tidegate.catalog.base import EVERYTHING, Catalog, Checks, Fate, Flaw, Held
from tidegate.domain.errors import BadTransition, NotFound, ObjectMissing, StoreDown, StoreError
from tidegate.domain.image import Location
from tidegate.domain.upload import wrong_bytes
from tidegate.services.reaping import OURS, Reaping, owns
from tidegate.services.removals import Removals
from tidegate.stores.base import Listed, Store, Unfinished
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
        right, silent = set[int](), dict[str, str]()
        for store in self._stores.values():
            if not store.can.write:
                continue
            try:
                async for finding in self.leftovers(store, repair=repair, right=right):
                    yield finding
            except StoreError as error:
                if isinstance(error, StoreDown):
                    silent[store.id] = error.reason
                yield Finding("store", store.id, f"not checked for what nobody needs: "
                              f"{error.reason}", store.id)  # fmt: skip
        async for finding in self._locations(repair, right, silent):
            yield finding

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

    async def leftovers(
        self, store: Store, *, repair: bool, right: set[int] | None = None
    ) -> AsyncIterator[Finding]:
        """Objects and open uploads under keys of ours that nobody needs. To ``right`` the ids of
        the locations are added whose objects the store's list shows to be right. StoreError."""
        page: list[Listed] = []
        async for entry in store.keys():
            page.append(entry)
            if len(page) == _PAGE:
                async for finding in self._listed(store, page, repair, right):
                    yield finding
                page = []
        async for finding in self._listed(store, page, repair, right):
            yield finding
        if store.can.unfinished:
            async for begun in store.unfinished():
                if OURS.fullmatch(begun.key):
                    found = await self._open_upload(store, begun, repair)
                    if found is not None:
                        yield found

    async def _listed(
        self, store: Store, page: Sequence[Listed], repair: bool, right: set[int] | None
    ) -> AsyncIterator[Finding]:
        if right is not None:
            by_key = {entry.key: entry for entry in page}
            held = await self._catalog.own_locations_at(store.id, list(by_key))
            right.update(one.id for one in held if _shows(store, by_key[one.key], one))
        ours = [entry.key for entry in page if OURS.fullmatch(entry.key)]
        async for finding in self._orphans(store, ours, repair):
            yield finding

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
            done = ""
            if repair and (fate is Fate.ORPHAN or self._remove_unknown):
                removed = await self._remove(store, key)
                if removed is None:
                    continue
                done = removed
            yield Finding(what, key, f"{detail} ({stored.size} bytes)", store.id, done)

    async def _remove(self, store: Store, key: str) -> str | None:
        """None: somebody needs it by now, or removes it already."""
        removal = await self._catalog.remove_orphan(
            store.id, key, unknown=self._remove_unknown, lease=_LEASE
        )
        if removal is None:
            return None
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

    async def _locations(
        self, repair: bool, right: Set[int], silent: dict[str, str]
    ) -> AsyncIterator[Finding]:
        """But for those that are ``right``, and of stores that do not answer (``silent``: why)."""
        after, unasked = 0, Counter[str]()
        while page := await self._catalog.own_locations(after, limit=_PAGE):
            after = page[-1].id
            asked = [held for held in page if held.id not in right]
            for at in range(0, len(asked), _SIDE_BY_SIDE):
                some = asked[at : at + _SIDE_BY_SIDE]
                wrongs = await asyncio.gather(*(self._ask(held, silent) for held in some))
                for held, wrong in zip(some, wrongs, strict=True):
                    if held.store in silent:
                        unasked[held.store] += 1
                    elif wrong is not None:
                        what, detail = wrong
                        done = await self._give_up(held, what, detail) if repair else ""
                        if done is not None:
                            yield Finding(what, held.key, f"image {held.image_id}: {detail}",
                                          held.store, done)  # fmt: skip
        for store, count in unasked.items():
            yield Finding("store", store, f"{count} objects not looked at: {silent[store]}", store)

    async def _ask(self, held: Held, silent: dict[str, str]) -> tuple[str, str] | None:
        """What is wrong with an object; a store that does not answer is not asked again."""
        if held.store in silent:
            return None
        try:
            # deleted, or replaced, between the two looks?
            if await self._wrong(held) is None or not await self._catalog.is_held(held):
                return None
            return await self._wrong(held)
        except StoreDown as error:
            silent[held.store] = error.reason
            return None
        except StoreError as error:
            return "store", f"its store said: {error.reason}"

    async def _wrong(self, held: Held) -> tuple[str, str] | None:
        """StoreError: that cannot be told now."""
        store = self._stores.get(held.store)
        if store is None:
            raise StoreDown(held.store, "it is not configured here")
        try:
            stored = await store.look(held.key)
        except ObjectMissing:
            return "missing", "its object is not there"
        if held.size is not None and stored.size != held.size:
            return "size", f"its object has {stored.size} bytes instead of {held.size}"
        if None not in (held.crc64nvme, stored.crc64nvme) and held.crc64nvme != stored.crc64nvme:
            return "checksum", "its object has other bytes (CRC-64/NVME)"
        return None

    async def _give_up(self, held: Held, what: str, detail: str) -> str | None:
        """What was done; empty: nothing, since it cannot be decided now. None: the location was
        gone already."""
        if what == "store":  # says nothing of the bytes
            return ""
        try:
            spare = await self._spare(held)
            if spare is None:
                failure = wrong_bytes("fsck", detail)
                await self._catalog.condemn(held.image_id, held.store, held.key, failure)
                done = "image deactivated"
            elif not spare.own:  # to be copied here: that is a scrub's work
                return ""
            elif await self._catalog.drop_location(held):
                await self._removals.carry_out_due()
                done = "location dropped"
            else:
                return None
        except StoreError:
            return ""
        except (NotFound, BadTransition):
            return None
        log.error("stored bytes are not right", image=held.image_id, store=held.store,
                  key=held.key, error=detail, done=done)  # fmt: skip
        return done

    async def _spare(self, held: Held) -> Location | None:
        """Another location of the image that has all of its bytes, one of ours if there is one.
        NotFound; StoreError: that cannot be told now."""
        image = await self._catalog.get_image(held.image_id, EVERYTHING)
        unsure: StoreError | None = None
        for other in sorted(image.locations, key=lambda one: not one.own):
            if (other.store, other.key) == (held.store, held.key):
                continue
            try:
                if await self._wrong(replace(held, store=other.store, key=other.key)) is None:
                    return other
            except StoreError as error:
                unsure = error
        if unsure is not None:
            raise unsure
        return None

    async def _catalogs_own(self, repair: bool) -> AsyncIterator[Finding]:
        flaws = await self._catalog.flaws(older_than=self._grace)
        left = set(flaws)
        if repair and flaws:
            if any(flaw.what == "lease" for flaw in flaws):
                await self._reaping.reap()
            for flaw in flaws:
                await self._catalog.mend(flaw, broken=self._reaping.broken)
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
                    await self._catalog.mend(flaw, broken=self._reaping.broken)
                yield Finding(flaw.what, image_id, flaw.detail, done="mended" if repair else "")

    def _is_old(self, moment: float | None) -> bool:
        return moment is None or moment <= time.time() - self._grace


def _shows(store: Store, entry: Listed, held: Held) -> bool:
    """Whether the list says all that could be asked of the object, and it is right."""
    if entry.size != held.size:
        return False
    return entry.md5 == held.md5 if entry.md5 is not None else store.can.part_checksum is None
