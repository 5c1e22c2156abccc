"""Stored bytes read again, slowly: what changed behind the gateway's back is found before a reader
finds it, and mended from another copy where there is one.

May run on several nodes at once, be stopped or killed at any point, and goes on where the catalog
says that it was. A bad location is replaced, never written to: the good bytes become a new object,
one statement lets the location point to it, and the bad object becomes a removal.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from uuid import uuid4

from awscrt.checksums import crc64nvme

from tidegate import telemetry
from tidegate.catalog.base import Catalog, Viewer
from tidegate.domain.errors import (
    BadTransition,
    CatalogDown,
    Draining,
    NotFound,
    ObjectChanged,
    ObjectMissing,
    StoreBroke,
    StoreDown,
    StoreError,
    TidegateError,
    TooLarge,
    first_failure,
)
from tidegate.domain.image import Image, Location
from tidegate.domain.scrub import Copy, Verdict
from tidegate.domain.status import Event
from tidegate.domain.upload import Failure, Sent, Upload, wrong_bytes
from tidegate.killpoints import kill_point
from tidegate.services.removals import Removals
from tidegate.services.waiting import set_within
from tidegate.settings import Uploads as UploadSettings
from tidegate.stores.base import Store
from tidegate.telemetry import log
from tidegate.transfer.digest import DigestPool
from tidegate.transfer.download import Receiving
from tidegate.transfer.memory import Arena
from tidegate.transfer.pace import Pace
from tidegate.transfer.parts import plan
from tidegate.transfer.upload import Sending, Source

_SERIOUS = frozenset({Verdict.WRONG, Verdict.MISSING, Verdict.UNDECIDED})
_ADMIN = Viewer(admin=True)


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
        self._removals = removals
        self._pace = Pace(rate)
        self._uploads = uploads
        self._lease = uploads.lease
        self._arena = arena
        self._digests = digests
        self._node = node
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
            await self._catalog.get_image(image_id, _ADMIN)
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
            return await self._mend(image, copy, said, missing=missing)
        except BadTransition as error:
            return Finding(copy, Verdict.SKIPPED, error.message)

    async def _still(self, copy: Copy) -> Image | None:
        """The image, if it is there and this location is still its own."""
        try:
            image = await self._catalog.get_image(copy.image_id, _ADMIN)
        except NotFound:
            return None
        there = any((one.store, one.key) == (copy.store, copy.key) for one in image.locations)
        return image if there else None

    async def _read(self, image: Image, store: Store, key: str) -> str | None:
        """What is wrong with these bytes; None: nothing. StoreError: they cannot be read, which is
        another thing."""
        stored = await self._size(image, store, key)
        size = stored if image.size is None else image.size
        if stored != size:
            return f"the object has {stored} bytes, not {size}"
        digests, crc = self._digests.open(_algorithms(image)), 0
        receiving = Receiving(store, key, 0, size, size=size, arena=self._arena)
        try:
            async with receiving.blocks() as blocks:
                async for block in blocks:
                    digests.feed(block)
                    crc = crc64nvme(block, crc)
                    await digests.mark()
                    await self._went(len(block))
        except ObjectChanged as error:
            return error.reason
        finally:
            digests.drop()
        return _difference(image, Sent(size, digests.hexdigests(), crc))

    async def _size(self, image: Image, store: Store, key: str) -> int:
        """Of the object, in bytes; where the store does not say, what the catalog has."""
        found = (await store.look(key)).size
        size = image.size if found is None else found
        if size is None:
            raise StoreBroke(store.id, "it does not say how long the object is")
        return size

    async def _went(self, count: int) -> None:
        """Draining: no more, it is to stop."""
        telemetry.SCRUBBED_BYTES.inc(count)
        await set_within(self._stopping, self._pace.spend(count))
        if self._stopping.is_set():
            raise Draining("This server is stopping.")

    async def _mend(self, image: Image, copy: Copy, said: str, *, missing: bool) -> Finding:
        """BadTransition: the location went, or somebody else mends it."""
        unsure = ""
        for location in image.locations:
            if (location.store, location.key) == (copy.store, copy.key):
                continue
            source = self._sources.get(location.store)
            try:
                if source is None:
                    raise StoreError(location.store, "it is not configured on this node")
                await self._repair(image, copy, source, location)
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

    async def _repair(self, image: Image, bad: Copy, source: Store, location: Location) -> None:
        """Copy the bytes under a key of their own, and let the location point there."""
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
            size = await self._size(image, source, location.key)
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
                    said = _difference(image, sent)
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
            digests=self._digests.open(_algorithms(image)),
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


def _algorithms(image: Image) -> list[str]:
    """Those whose digest the catalog knows, as far as they can be computed."""
    strong = image.hash_algo if image.hash_value is not None else None
    wanted = ["md5" if image.checksum is not None else None, strong]
    return [name for name in wanted if name and name in hashlib.algorithms_guaranteed]


def _difference(image: Image, sent: Sent) -> str | None:
    """What tells these bytes from the image's; None: nothing."""
    if image.size not in (None, sent.size):
        return f"the object has {sent.size} bytes, not {image.size}"
    known = {"md5": image.checksum, image.hash_algo: image.hash_value}
    for name, digest in sent.digests.items():
        if digest != known[name]:
            return f"the {name} digest is {digest}, not {known[name]}"
    if image.crc64nvme not in (None, sent.crc64nvme):
        return "the CRC-64/NVME is another one"
    return None
