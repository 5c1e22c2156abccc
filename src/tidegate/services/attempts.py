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
from dataclasses import replace
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
    SizeMismatch,
    TidegateError,
    TooLarge,
    first_failure,
)
from tidegate.domain.expected import Expected, verify
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
from tidegate.transfer.digest import DigestPool
from tidegate.transfer.inspect import Inspection
from tidegate.transfer.memory import Arena
from tidegate.transfer.parts import plan
from tidegate.transfer.upload import Sending, Source

PROGRESS_EVERY = 2.0
"""Seconds, at most, between two looks of an attempt at its own row."""


class Start(Protocol):
    """A statement that claims the image for an attempt, and writes that down."""

    def __call__(
        self, upload: Upload, *, lease: float, allowance: Allowance
    ) -> Awaitable[Image]: ...


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
        source: Source,
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
        ``becomes`` is the disk_format that the data was converted to.

        BadTransition, Invalid, AddingDisabled, TooLarge before the claim; ClientGone, SizeMismatch,
        DigestMismatch, TooLarge, WrongFormat, UnsafeFormat, StoreError, Gone after.
        """
        attempt, size = upload.id, upload.expected_size
        store = self._store(upload.store)
        cut = plan(
            size,
            framed=expected.length is not None,
            start=self._settings.part_size,
            budget=self._settings.memory_budget,
            limits=store.limits,
        )
        allowance = await self._projects.of(owner)
        if size is None and allowance.bounds_bytes:
            source = Rationed(
                source, lambda most: self._catalog.reserve_bytes(attempt, most, allowance)
            )
        sending = Sending(
            source,
            store,
            upload.key,
            plan=cut,
            arena=self._arena,
            digests=self._digests.open(self._algorithms(expected)),
            in_flight=self._settings.part_concurrency,
            max_size=self._settings.max_image_size,
            expected_size=expected.size,
            began=lambda upload_id: self._catalog.upload_began(attempt, upload_id),
        )
        # shielded pieces go on when the request is cancelled, so the count is theirs
        self._count(1)
        try:
            kill_point("before_claim")
            # the formats are settled from here on
            image = await self._claim(upload, start, allowance, stopped, request_id)
            kill_point("after_claim")
            telemetry.UPLOADS_STARTED.inc()
            with telemetry.UPLOADS_RUNNING.track_inprogress():
                return await self._claimed(
                    upload,
                    sending,
                    expected,
                    self._inspection(upload, image, becomes),
                    request_id,
                    becomes,
                    broken=broken,
                    stopped=stopped,
                )
        finally:
            self._catalog.let_go(attempt)
            self._count(-1)

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

    def _inspection(self, upload: Upload, image: Image, becomes: str | None) -> Inspection | None:
        if becomes is not None:
            return Inspection(becomes, self._formats.model_copy(update={"require_match": True}))
        return None if upload.purpose is Purpose.STAGE else self.inspection(image)

    def _algorithms(self, expected: Expected) -> list[str]:
        return sorted({*self._settings.digests, *expected.digests})

    async def _claim(
        self,
        upload: Upload,
        start: Start,
        allowance: Allowance,
        stopped: Event,
        request_id: str | None,
    ) -> Image:
        try:
            return await start(upload, lease=self._settings.lease, allowance=allowance)
        except asyncio.CancelledError as error:
            # the claim may have been made, and nobody else would know before its lease is over
            why = failure_of(error, "claim", request_id)
            undone = self._removals.give_up(upload, why, stopped, upload_id=None, completing=False)
            with suppress(TidegateError):
                await asyncio.shield(undone)
            raise

    async def _claimed(
        self,
        upload: Upload,
        sending: Sending,
        expected: Expected,
        inspection: Inspection | None,
        request_id: str | None,
        becomes: str | None,
        *,
        broken: Event,
        stopped: Event,
    ) -> Image:
        begun = time.monotonic()
        try:
            async with sending, asyncio.TaskGroup() as group:
                done = asyncio.Event()
                group.create_task(self._keep_alive(upload, sending, done))
                image = await self._send(upload, sending, expected, inspection, becomes)
                done.set()
        except BaseException as failures:
            error = first_failure(failures)
            event = stopped if isinstance(error, asyncio.CancelledError) else broken
            raise await asyncio.shield(
                self._put_back(upload, sending, error, request_id, event)
            ) from error
        telemetry.UPLOADS.labels("done").inc()
        log.info("upload done", image=image.id, store=upload.store, purpose=upload.purpose,
                 bytes=image.size,
                 seconds=round(time.monotonic() - begun, 3), request_id=request_id)  # fmt: skip
        return image

    async def _send(
        self,
        upload: Upload,
        sending: Sending,
        expected: Expected,
        inspection: Inspection | None,
        becomes: str | None,
    ) -> Image:
        if expected.size is not None and expected.length not in (None, expected.size):
            assert expected.length is not None
            raise SizeMismatch(expected.size, expected.length)
        sent = await sending.run(inspection)
        sending.step = "verify"
        verify(sent, expected)
        if inspection is not None:
            sent = replace(sent, virtual_size=inspection.finish(sent.size))
        sent = replace(sent, disk_format=becomes)
        kill_point("after_verify")
        sending.step = "record"
        await self._catalog.upload_completing(upload.id, sent)
        await sending.finish()
        sending.step = "publish"
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

    async def _keep_alive(self, upload: Upload, sending: Sending, done: asyncio.Event) -> None:
        """Renew the lease while the attempt runs; its own deadlines end it when it is stuck."""
        lease = self._settings.lease
        renewed = time.monotonic()
        while True:
            if await set_within(done, min(lease / 3, PROGRESS_EVERY)):
                return
            try:
                await self._catalog.renew_upload(upload.id, sending.received, lease=lease)
            except BadTransition:
                if sending.step == "publish":
                    return  # what is published is held no more; whether it is, publishing finds
                raise
            except CatalogDown:
                if time.monotonic() - renewed > lease:
                    raise
            else:
                renewed = time.monotonic()

    async def _put_back(
        self,
        upload: Upload,
        sending: Sending,
        error: BaseException,
        request_id: str | None,
        broken: Event,
    ) -> BaseException:
        """Leave nothing of the attempt; what cannot be done now is the janitor's. Gives what to
        raise."""
        failure = failure_of(error, sending.step, request_id)
        # where the publishing itself is in doubt, whoever reads the catalog next decides
        if not (isinstance(error, CatalogDown) and sending.step == "publish"):
            try:
                await self._removals.give_up(
                    upload,
                    failure,
                    broken,
                    upload_id=sending.upload_id,
                    completing=sending.finishing,
                    received=sending.received,
                )
            except BadTransition as lost:
                failure = failure_of(lost, sending.step, request_id)
                # a stop that came just after the publishing is still a stop
                if not isinstance(error, asyncio.CancelledError):
                    error = lost
            except TidegateError as late:
                log.warning("upload left to the janitor", image=upload.image_id, error=late.message)
        telemetry.UPLOADS.labels(failure.reason).inc()
        report = log.info if isinstance(error, ClientGone | BadTransition) else log.error
        report("upload broke", image=upload.image_id, store=upload.store, reason=failure.reason,
               where=failure.where, bytes=sending.received, request_id=failure.request_id,
               error=failure.message)  # fmt: skip
        return answer_to(error, failure)
