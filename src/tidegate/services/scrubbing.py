"""Stored bytes read again, slowly: what changed behind the gateway's back is found before a reader
finds it, and mended from another copy where there is one. So is, once, what clients registered by
URL: before, nobody here knows whether it is what they say of it.

May run on several nodes at once, be stopped or killed at any point, and goes on where the catalog
says that it was.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tidegate import telemetry
from tidegate.catalog.base import EVERYTHING, Catalog
from tidegate.domain.errors import (
    BadTransition,
    Draining,
    LocationRefused,
    NotFound,
    ObjectChanged,
    ObjectMissing,
    SourceBroke,
    StoreDown,
    StoreError,
    TooLarge,
    first_failure,
)
from tidegate.domain.image import Image
from tidegate.domain.scrub import Copy, Verdict, algorithms, difference, unknown
from tidegate.domain.upload import Sent, wrong_bytes
from tidegate.services.mending import Mending
from tidegate.services.removals import Removals
from tidegate.services.waiting import set_within
from tidegate.settings import Uploads as UploadSettings
from tidegate.stores.base import Store
from tidegate.telemetry import log
from tidegate.transfer.digest import DigestPool
from tidegate.transfer.fetching import Fetching
from tidegate.transfer.measuring import measure
from tidegate.transfer.memory import Arena
from tidegate.transfer.pace import Pace
from tidegate.transfer.whole import read_whole, size_of

SLOWEST = 128 * 1024
"""Bytes a second, over all, below which a registered source is given up: the others wait for it."""

SETTLES = 60.0
"""Seconds that even the smallest of them may take."""

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

    def add(self, other: "Report") -> None:
        self.verdicts += other.verdicts
        self.findings += other.findings


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
        self._uploads = uploads
        self._lease = uploads.lease
        self._rate = rate
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
        before = time.time_ns() // 1000 - int(older_than * 1_000_000)

        def page(last: Copy | None) -> Awaitable[Sequence[Copy]]:
            return self._catalog.copies_to_scrub(
                sorted(self._stores), before=before, after=last, image_id=image_id
            )

        return await self._each(page, self._verdict, image_id, patience, tell)

    async def verify(
        self,
        *,
        image_id: str | None = None,
        patience: float = 0.0,
        tell: Callable[[Finding], None] = lambda finding: None,
    ) -> Report:
        """Read each location that a client registered and nobody here has read yet. What was not
        found right within ``patience`` seconds is left alone. NotFound: ``image_id``."""

        def page(last: Copy | None) -> Awaitable[Sequence[Copy]]:
            return self._catalog.unverified_copies(after=last, image_id=image_id)

        return await self._each(page, self._verified, image_id, patience, tell)

    async def _each(
        self,
        page_after: Callable[[Copy | None], Awaitable[Sequence[Copy]]],
        judge: Callable[[Copy], Awaitable[Finding]],
        image_id: str | None,
        patience: float,
        tell: Callable[[Finding], None],
    ) -> Report:
        if image_id is not None:
            await self._catalog.get_image(image_id, EVERYTHING)
        self._down.clear()
        recently = time.monotonic() - patience
        self._bad = {copy: found for copy, found in self._bad.items() if found > recently}
        report, last = Report(), None
        while page := await page_after(last):
            for last in page:
                if self._stopping.is_set():
                    return report
                if last.store in self._down or last.id in self._bad:
                    continue
                if not await self._catalog.take_copy(last, lease=self._lease):
                    continue  # another process has it
                try:
                    finding = await self._scrub(last, judge)
                except Draining:
                    return report
                telemetry.SCRUBBED.labels(finding.verdict).inc()
                report.verdicts[finding.verdict] += 1
                if finding.verdict is not Verdict.GOOD:
                    report.findings.append(finding)
                tell(finding)
        return report

    async def _scrub(self, copy: Copy, judge: Callable[[Copy], Awaitable[Finding]]) -> Finding:
        good = False
        try:
            async with asyncio.TaskGroup() as group:
                done = asyncio.Event()
                group.create_task(self._hold(copy, done))
                finding = await judge(copy)
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

    async def _verified(self, copy: Copy) -> Finding:
        """Of what a client registered: it is measured, and never mended."""
        image = await self._still(copy)
        if image is None:
            return Finding(copy, Verdict.SKIPPED, "deleted meanwhile")
        new = unknown(image, self._uploads.hash_algorithm)
        try:
            # twice before it is called wrong, like our own
            sent = await self._measured(image, copy, new)
            if isinstance(sent, str):
                sent = await self._measured(image, copy, new)
        except (SourceBroke, StoreError, LocationRefused, TimeoutError) as error:
            self._bad[copy.id] = time.monotonic()
            reason = "it is too slow" if isinstance(error, TimeoutError) else str(error)
            return Finding(copy, Verdict.UNREACHABLE, reason)
        if isinstance(sent, str):
            try:
                failure = wrong_bytes("scrub", sent)
                await self._catalog.condemn(copy.image_id, copy.store, copy.key, failure)
            except BadTransition as error:
                return Finding(copy, Verdict.SKIPPED, error.message)
            return Finding(copy, Verdict.WRONG, sent)
        learnt = {column: sent.digests[name] for column, name in new.items()}
        if "hash_value" in new:
            learnt["hash_algo"] = new["hash_value"]
        if not await self._catalog.verify_copy(copy, learnt):
            return Finding(copy, Verdict.SKIPPED, "it was changed meanwhile")
        log.info("registered data verified", image=copy.image_id, store=copy.store)
        return Finding(copy, Verdict.GOOD, "")

    async def _measured(self, image: Image, copy: Copy, new: Mapping[str, str]) -> Sent | str:
        """Its digests; or what is wrong with it, in words. SourceBroke, StoreError,
        LocationRefused, TimeoutError: it cannot be read."""
        store, size = self._sources.get(copy.store), image.size or 0
        if store is None:
            raise StoreError(copy.store, "it is not configured on this node")
        if image.hash_value is not None and image.hash_algo not in algorithms(image):
            raise StoreError(copy.store, f"digests by {image.hash_algo} are not computed here")
        patience = self._uploads.idle_timeout
        deadline = SETTLES + size / SLOWEST + (2 * size / self._rate if self._rate else 0)
        async with (
            asyncio.timeout(deadline),
            Fetching(store, copy.key, patience=patience) as source,
        ):
            if source.size not in (None, size):
                return f"the source has {source.size} bytes, not {size}"
            sent = await measure(
                source,
                algorithms=sorted({*algorithms(image), *new.values()}),
                arena=self._arena,
                digests=self._digests,
                went=self._went,
            )
        return difference(image, sent) or sent

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
