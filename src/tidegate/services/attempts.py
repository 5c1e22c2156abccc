"""An attempt to store bytes: claim, send, verify, publish, or put everything back.

The commit protocol, each step repeatable by whoever takes the attempt over: (1) claim: saving,
with the attempt's row and lease; (2) begin at the store, its upload id written down before the
first part; (3) send parts; (4) compare size, digests and format; (5) write down what was
verified; (6) complete at the store, looking where its answer is ambiguous; (7) publish, guarded by
the claim.
"""

import asyncio
import time
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol
from uuid import uuid4

from tidegate import telemetry
from tidegate.catalog.base import Catalog
from tidegate.domain.errors import (
    AddingDisabled,
    BadTransition,
    Busy,
    CatalogDown,
    ClientGone,
    Draining,
    Invalid,
    NotCopied,
    SizeMismatch,
    TidegateError,
    TooLarge,
    first_failure,
)
from tidegate.domain.expected import Expected, digests_of, verify
from tidegate.domain.image import Image
from tidegate.domain.quota import Allowance
from tidegate.domain.status import Event
from tidegate.domain.upload import Purpose, Sent, Upload
from tidegate.killpoints import kill_point
from tidegate.services.failing import answer_to, failure_of
from tidegate.services.quotas import ProjectQuotas, Rationed
from tidegate.services.removals import Removals
from tidegate.services.waiting import set_within
from tidegate.settings import ImageFormat, Quotas
from tidegate.settings import Uploads as UploadSettings
from tidegate.stores.base import Store
from tidegate.telemetry import log
from tidegate.transfer.copying import Copying, Original
from tidegate.transfer.digest import DigestPool
from tidegate.transfer.inspect import Inspection
from tidegate.transfer.memory import Arena
from tidegate.transfer.moving import Moving
from tidegate.transfer.parts import plan
from tidegate.transfer.upload import Sending, Source

PROGRESS_EVERY = 2.0
"""Seconds, at most, between two looks of an attempt at its own row."""


class Start(Protocol):
    """A statement that claims the image for an attempt, and writes that down."""

    def __call__(
        self, upload: Upload, *, lease: float, allowance: Allowance
    ) -> Awaitable[Image]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    """An attempt, and what is asked of it: as ``Attempts.bring`` has it."""

    upload: Upload
    source: Source | Original
    moving: Moving
    expected: Expected
    becomes: str | None
    request_id: str | None
    broken: Event
    stopped: Event


class Attempts:
    """Those of this server. ``projects`` is what each project may hold."""

    def __init__(
        self,
        catalog: Catalog,
        stores: Mapping[str, Store],
        removals: Removals,
        *,
        settings: UploadSettings,
        formats: ImageFormat,
        default_store: str,
        arena: Arena,
        digests: DigestPool,
        node: str,
        projects: ProjectQuotas | None = None,
    ) -> None:
        self._catalog = catalog
        self._stores = stores
        self._removals = removals
        self._settings = settings
        self._formats = formats
        self._default_store = default_store
        self._arena = arena
        self._digests = digests
        self._node = node
        self._projects = projects or ProjectQuotas(Quotas())
        self._draining = False
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def drain(self) -> None:
        """Take no new uploads; the running ones go on."""
        self._draining = True

    async def wait_for_idle(self) -> None:
        """Until no upload runs, and none is being put back."""
        await self._idle.wait()

    def begin(
        self,
        image_id: str,
        expected: Expected,
        *,
        store_id: str | None = None,
        name: str | None = None,
        purpose: Purpose = Purpose.FILL,
        task_id: str | None = None,
    ) -> Upload:
        """A new one, under a key of its own, if it may be now. Raises as ``admit``."""
        name = name or uuid4().hex
        return Upload(
            id=name,
            image_id=image_id,
            store=self.admit(expected.total, store_id=store_id).id,
            key=f"{image_id}/{name}",
            purpose=purpose,
            task_id=task_id,
            node=self._node,
            expected_size=expected.total,
        )

    async def bring(
        self,
        upload: Upload,
        source: Source | Original,
        expected: Expected,
        *,
        start: Start,
        owner: str | None,
        broken: Event,
        stopped: Event,
        request_id: str | None = None,
        becomes: str | None = None,
    ) -> Image:
        """Begin an attempt by ``start``, within what ``owner`` may hold, and bring it to its end:
        what it is for, or else the event ``broken``; ``stopped``: with this server.
        ``becomes`` is the disk_format that the data was converted to. An original is copied by
        its store, or not at all: NotCopied, upon which it ends as if this server had stopped.

        BadTransition, Invalid, AddingDisabled, TooLarge before the claim; ClientGone, SourceBroke,
        SizeMismatch, DigestMismatch, TooLarge, WrongFormat, UnsafeFormat, StoreError, Gone after.
        """
        allowance = await self._projects.of(owner)
        running = _Running(
            upload=upload,
            source=source,
            moving=self._moving(upload, source, expected, allowance),
            expected=expected,
            becomes=becomes,
            request_id=request_id,
            broken=broken,
            stopped=stopped,
        )
        # shielded pieces go on when the request is cancelled, so the count is theirs
        self._count(1)
        try:
            kill_point("before_claim")
            # the formats are settled from here on
            image = await self._claim(running, start, allowance)
            kill_point("after_claim")
            telemetry.UPLOADS_STARTED.inc()
            with telemetry.UPLOADS_RUNNING.track_inprogress():
                return await self._claimed(running, image)
        finally:
            self._catalog.let_go(upload.id)
            self._count(-1)

    def _moving(
        self, upload: Upload, source: Source | Original, expected: Expected, allowance: Allowance
    ) -> Moving:
        store, size = self._store(upload.store), upload.expected_size
        began = partial(self._catalog.upload_began, upload.id)
        in_flight = self._settings.part_concurrency
        if isinstance(source, Original):
            return Copying(source, store, upload.key, in_flight=in_flight, began=began)
        cut = plan(
            size,
            framed=expected.length is not None,
            start=self._settings.part_size,
            budget=self._settings.memory_budget,
            limits=store.limits,
        )
        if size is None and allowance.bounds_bytes:
            source = Rationed(
                source, lambda most: self._catalog.reserve_bytes(upload.id, most, allowance)
            )
        return Sending(
            source,
            store,
            upload.key,
            plan=cut,
            arena=self._arena,
            digests=self._digests.open(self._algorithms(expected)),
            in_flight=in_flight,
            max_size=self._settings.max_image_size,
            expected_size=expected.size,
            began=began,
        )

    def _count(self, change: int) -> None:
        self._running += change
        if self._running:
            self._idle.clear()
        else:
            self._idle.set()

    def admit(self, size: int | None = None, *, store_id: str | None = None) -> Store:
        """The store that would take data now. Draining, Busy: not now; TooLarge: not so much;
        Invalid: it is not there; AddingDisabled."""
        if self._draining:
            raise Draining("This server is stopping; send the data again in a moment.")
        if size is not None and size > self._settings.max_image_size:
            raise TooLarge(
                f"An image of {size} bytes is larger than max_image_size "
                f"({self._settings.max_image_size} bytes) allows."
            )
        if self._arena.waiting >= self._settings.max_waiting:
            raise Busy(
                f"{self._arena.waiting} uploads are waiting for memory already; "
                "send the data again later."
            )
        return self._store(store_id)

    def _store(self, store_id: str | None) -> Store:
        store = self._stores.get(store_id or self._default_store)
        if store is None:
            raise Invalid(f"Store for identifier {store_id} not found")
        if not store.can.write:
            raise AddingDisabled(f"Adding images to store {store.id} is disabled.")
        return store

    def inspection(self, image: Image) -> Inspection | None:
        """Of the image's data; None: nobody looks into it."""
        inspected = self._settings.check_format and image.container_format == "bare"
        return Inspection(str(image.disk_format), self._formats) if inspected else None

    def known(self, image: Image) -> Sent | None:
        """All that sending the image's data would find out of it, where the catalog knows that."""
        digests, inspected = digests_of(image), self.inspection(image) is not None
        if (
            image.size is None
            or image.crc64nvme is None
            or not digests.keys() >= set(self._settings.digests)
            or (inspected and image.virtual_size is None)
        ):
            return None
        inside = image.virtual_size if inspected else None
        return Sent(image.size, digests, image.crc64nvme, virtual_size=inside)

    def _inspection(self, running: _Running, image: Image) -> Inspection | None:
        source, becomes = running.source, running.becomes
        if isinstance(source, Original):
            if source.formats != (image.disk_format, image.container_format):
                raise NotCopied(running.upload.store, "the image has other formats by now")
            return None
        if becomes is not None:
            return Inspection(becomes, self._formats.model_copy(update={"require_match": True}))
        return None if running.upload.purpose is Purpose.STAGE else self.inspection(image)

    def _algorithms(self, expected: Expected) -> list[str]:
        return sorted({*self._settings.digests, *expected.digests})

    async def _claim(self, running: _Running, start: Start, allowance: Allowance) -> Image:
        upload = running.upload
        try:
            return await start(upload, lease=self._settings.lease, allowance=allowance)
        except asyncio.CancelledError as error:
            # the claim may have been made, and nobody else would know before its lease is over
            why = failure_of(error, "claim", running.request_id)
            undone = self._removals.give_up(
                upload, why, running.stopped, upload_id=None, completing=False
            )
            with suppress(TidegateError):
                await asyncio.shield(undone)
            raise

    async def _claimed(self, running: _Running, image: Image) -> Image:
        begun = time.monotonic()
        try:
            async with running.moving, asyncio.TaskGroup() as group:
                done = asyncio.Event()
                group.create_task(self._keep_alive(running, done))
                image = await self._send(running, image)
                done.set()
        except BaseException as failures:
            error = first_failure(failures)
            raise await asyncio.shield(self._put_back(running, error)) from error
        telemetry.UPLOADS.labels("done").inc()
        log.info("upload done", image=image.id, store=running.upload.store,
                 purpose=running.upload.purpose, bytes=image.size,
                 seconds=round(time.monotonic() - begun, 3),
                 request_id=running.request_id)  # fmt: skip
        return image

    async def _send(self, running: _Running, image: Image) -> Image:
        upload, moving, expected = running.upload, running.moving, running.expected
        if expected.size is not None and expected.length not in (None, expected.size):
            assert expected.length is not None
            raise SizeMismatch(expected.size, expected.length)
        inspection = self._inspection(running, image)
        sent = await moving.run(inspection)
        moving.step = "verify"
        verify(sent, expected)
        if inspection is not None:
            sent = replace(sent, virtual_size=inspection.finish(sent.size))
        sent = replace(sent, disk_format=running.becomes)
        kill_point("after_verify")
        moving.step = "record"
        await self._catalog.upload_completing(upload.id, sent)
        await moving.finish()
        moving.step = "publish"
        kill_point("before_commit")
        image = await self._publish(upload.id, sent)
        kill_point("after_commit")
        return image

    async def _publish(self, attempt: str, sent: Sent, tries: int = 3) -> Image:
        while True:
            try:
                return await self._catalog.publish_upload(attempt, sent)
            except CatalogDown:
                # the commit may or may not have happened; saying it again is safe
                tries -= 1
                if not tries:
                    raise

    async def _keep_alive(self, running: _Running, done: asyncio.Event) -> None:
        """Renew the lease while the attempt runs; its own deadlines end it when it is stuck."""
        upload, moving, lease = running.upload, running.moving, self._settings.lease
        renewed = time.monotonic()
        while True:
            if await set_within(done, min(lease / 3, PROGRESS_EVERY)):
                return
            try:
                await self._catalog.renew_upload(upload.id, moving.received, lease=lease)
            except BadTransition:
                if moving.step == "publish":
                    return  # what is published is held no more; whether it is, publishing finds
                raise
            except CatalogDown:
                if time.monotonic() - renewed > lease:
                    raise
            else:
                renewed = time.monotonic()

    async def _put_back(self, running: _Running, error: BaseException) -> BaseException:
        """Leave nothing of the attempt; what cannot be done now is the janitor's. Gives what to
        raise."""
        upload, moving, request_id = running.upload, running.moving, running.request_id
        failure = failure_of(error, moving.step, request_id)
        again = isinstance(error, asyncio.CancelledError | NotCopied)
        # where the publishing itself is in doubt, whoever reads the catalog next decides
        if not (isinstance(error, CatalogDown) and moving.step == "publish"):
            try:
                await self._removals.give_up(
                    upload,
                    failure,
                    running.stopped if again else running.broken,
                    upload_id=moving.upload_id,
                    completing=moving.finishing,
                    received=moving.received,
                )
            except BadTransition as lost:
                failure = failure_of(lost, moving.step, request_id)
                # a stop that came just after the publishing is still a stop
                if not isinstance(error, asyncio.CancelledError):
                    error = lost
            except TidegateError as late:
                log.warning("upload left to the janitor", image=upload.image_id, error=late.message)
        telemetry.UPLOADS.labels(failure.reason).inc()
        report = (
            log.info if isinstance(error, ClientGone | BadTransition | NotCopied) else log.error
        )
        report("upload broke", image=upload.image_id, store=upload.store, reason=failure.reason,
               where=failure.where, bytes=moving.received, request_id=failure.request_id,
               error=failure.message)  # fmt: skip
        return answer_to(error, failure)
