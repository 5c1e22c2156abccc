"""Stored bytes read again, slowly: what changed behind the gateway's back is found before a reader
finds it, and mended from another copy where there is one.

May run on several nodes at once, be stopped or killed at any point, and goes on where the catalog
says that it was.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tidegate import telemetry
from tidegate.catalog.base import EVERYTHING, Catalog
from tidegate.domain.errors import (
    BadTransition,
    Draining,
    NotFound,
    ObjectChanged,
    ObjectMissing,
    StoreDown,
    StoreError,
    TooLarge,
    first_failure,
)
from tidegate.domain.image import Image
from tidegate.domain.scrub import Copy, Verdict, algorithms, difference
from tidegate.domain.upload import wrong_bytes
from tidegate.services.mending import Mending
from tidegate.services.removals import Removals
from tidegate.services.waiting import set_within
from tidegate.settings import Uploads as UploadSettings
from tidegate.stores.base import Store
from tidegate.telemetry import log
from tidegate.transfer.digest import DigestPool
from tidegate.transfer.memory import Arena
from tidegate.transfer.pace import Pace
from tidegate.transfer.whole import read_whole, size_of

_SERIOUS = frozenset({Verdict.WRONG, Verdict.MISSING, Verdict.UNDECIDED})


@dataclass(frozen=True, slots=True)
class Finding:
    """A copy that is not simply good, and why."""

    copy: Copy
    verdict: Verdict
    message: str


@dataclass(slots=True)
class Report:
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """All that was read holds the right bytes now."""
        bad = _SERIOUS | {Verdict.UNREACHABLE}
        return not any(self.verdicts[verdict] for verdict in bad)


class Scrubbing:
    """``rate`` is bytes a second; 0: no limit. ``lease`` is seconds for which one process has a
    location for itself, renewed while it reads."""

    def __init__(
        self,
        catalog: Catalog,
        stores: Mapping[str, Store],
        removals: Removals,
        *,
        rate: int,
        uploads: UploadSettings,
        arena: Arena,
        digests: DigestPool,
        node: str,
    ) -> None:
        self._catalog = catalog
        self._stores = {store.id: store for store in stores.values() if store.can.write}
        self._sources = stores
        self._pace = Pace(rate)
        self._lease = uploads.lease
        self._arena = arena
        self._digests = digests
        self._mending = Mending(
            catalog,
            self._stores,
            removals,
            uploads=uploads,
            arena=arena,
            digests=digests,
            node=node,
            went=self._went,
        )
        self._stopping = asyncio.Event()
        self._down: set[str] = set()
        self._bad: dict[int, float] = {}

    def stop(self) -> None:
        """End what runs, within a block; what was not read to its end is read again next time."""
        self._stopping.set()

    async def run(
        self,
        *,
        older_than: float = 0.0,
        image_id: str | None = None,
        patience: float = 0.0,
        tell: Callable[[Finding], None] = lambda finding: None,
    ) -> Report:
        """Read each location of ours that was not found good within ``older_than`` seconds, the
        longest unseen first. A store that is down is left at that, and what an earlier run found
        wrong within ``patience`` seconds. ``tell`` hears of each one. NotFound: ``image_id``."""
        if image_id is not None:
            await self._catalog.get_image(image_id, EVERYTHING)
        self._down.clear()
        recently = time.monotonic() - patience
        self._bad = {copy: found for copy, found in self._bad.items() if found > recently}
        report, last = Report(), None
        before = time.time_ns() // 1000 - int(older_than * 1_000_000)
        while page := await self._catalog.copies_to_scrub(
            sorted(self._stores), before=before, after=last, image_id=image_id
        ):
            for last in page:
                if self._stopping.is_set():
                    return report
                if last.store in self._down or last.id in self._bad:
                    continue
                if not await self._catalog.take_copy(last, lease=self._lease):
                    continue  # another process has it
                try:
                    finding = await self._scrub(last)
                except Draining:
                    return report
                telemetry.SCRUBBED.labels(finding.verdict).inc()
                report.verdicts[finding.verdict] += 1
                if finding.verdict is not Verdict.GOOD:
                    report.findings.append(finding)
                tell(finding)
        return report

    async def _scrub(self, copy: Copy) -> Finding:
        good = False
        try:
            async with asyncio.TaskGroup() as group:
                done = asyncio.Event()
                group.create_task(self._hold(copy, done))
                finding = await self._verdict(copy)
                done.set()
            good = finding.verdict is Verdict.GOOD
        except BaseExceptionGroup as failures:
            raise first_failure(failures) from failures
        finally:
            await asyncio.shield(self._catalog.leave_copy(copy, good=good))
        if finding.verdict in _SERIOUS:
            self._bad[copy.id] = time.monotonic()
            log.error("stored bytes are not right", image=copy.image_id, store=copy.store,
                      key=copy.key, verdict=finding.verdict, error=finding.message)  # fmt: skip
        elif finding.verdict is not Verdict.GOOD:
            log.warning("scrubbed", image=copy.image_id, store=copy.store, key=copy.key,
                        verdict=finding.verdict, error=finding.message)  # fmt: skip
        return finding

    async def _hold(self, copy: Copy, done: asyncio.Event) -> None:
        while not await set_within(done, self._lease / 3):
            await self._catalog.keep_copy(copy, lease=self._lease)

    async def _verdict(self, copy: Copy) -> Finding:
        image = await self._still(copy)
        if image is None:
            return Finding(copy, Verdict.SKIPPED, "deleted meanwhile")
        store, missing = self._stores[copy.store], False
        try:
            # twice, since what follows is serious, and a reading may go wrong as well
            said = await self._read(image, store, copy.key)
            said = said and await self._read(image, store, copy.key)
        except ObjectMissing as error:
            said, missing = error.reason, True
        except StoreError as error:
            if isinstance(error, StoreDown):
                self._down.add(store.id)
            return Finding(copy, Verdict.UNREACHABLE, error.message)
        if said is None:
            return Finding(copy, Verdict.GOOD, "")
        image = await self._still(copy)
        if image is None:
            return Finding(copy, Verdict.SKIPPED, "deleted meanwhile")
        try:
            return await self._repaired(image, copy, said, missing=missing)
        except BadTransition as error:
            return Finding(copy, Verdict.SKIPPED, error.message)

    async def _still(self, copy: Copy) -> Image | None:
        """The image, if it is there and this location is still its own."""
        try:
            image = await self._catalog.get_image(copy.image_id, EVERYTHING)
        except NotFound:
            return None
        there = any((one.store, one.key) == (copy.store, copy.key) for one in image.locations)
        return image if there else None

    async def _read(self, image: Image, store: Store, key: str) -> str | None:
        """What is wrong with these bytes; None: nothing. StoreError: they cannot be read, which is
        another thing."""
        stored = await size_of(store, key, image.size)
        if image.size not in (None, stored):
            return f"the object has {stored} bytes, not {image.size}"
        try:
            sent = await read_whole(
                store,
                key,
                stored,
                algorithms=algorithms(image),
                arena=self._arena,
                digests=self._digests,
                went=self._went,
            )
        except ObjectChanged as error:
            return error.reason
        return difference(image, sent)

    async def _went(self, count: int) -> None:
        """Draining: no more, it is to stop."""
        telemetry.SCRUBBED_BYTES.inc(count)
        await set_within(self._stopping, self._pace.spend(count))
        if self._stopping.is_set():
            raise Draining("This server is stopping.")

    async def _repaired(self, image: Image, copy: Copy, said: str, *, missing: bool) -> Finding:
        """BadTransition: the location went, or somebody else mends it."""
        unsure = ""
        for location in image.locations:
            if (location.store, location.key) == (copy.store, copy.key):
                continue
            source = self._sources.get(location.store)
            try:
                if source is None:
                    raise StoreError(location.store, "it is not configured on this node")
                await self._mending.mend(image, copy, source, location)
            except (ObjectMissing, ObjectChanged):
                continue  # no better than this one
            except (StoreError, TooLarge) as error:
                unsure = error.message
            else:
                return Finding(copy, Verdict.REPAIRED, f"{said}; copied from {location.store}")
        if missing:
            return Finding(copy, Verdict.MISSING, said)  # so does a folder that is not mounted
        if unsure:
            return Finding(copy, Verdict.UNDECIDED, f"{said}; of another copy: {unsure}")
        failure = wrong_bytes("scrub", said)
        await self._catalog.condemn(copy.image_id, copy.store, copy.key, failure)
        return Finding(copy, Verdict.WRONG, said)
