"""An image's data as a client sends it: what is asked before, and what a broken one becomes."""

from functools import partial

from tidegate.catalog.base import Catalog, ImageChange, Viewer
from tidegate.domain.expected import Expected, with_declared
from tidegate.domain.image import Image
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.status import WHEN_BROKEN, Event
from tidegate.domain.upload import Upload
from tidegate.services.attempts import Attempts
from tidegate.services.refilling import refuse_refill
from tidegate.settings import Locations
from tidegate.settings import Uploads as Settings
from tidegate.transfer.copying import Original
from tidegate.transfer.upload import Source


class Uploads:
    def __init__(
        self,
        catalog: Catalog,
        policy: Policy,
        attempts: Attempts,
        *,
        settings: Settings,
        locations: Locations,
    ) -> None:
        self._catalog = catalog
        self._policy = policy
        self._attempts = attempts
        self._locations = locations
        self._broken = WHEN_BROKEN[settings.on_broken]

    async def attempts(self, caller: Caller, image_id: str) -> list[Upload]:
        image = await self._catalog.get_image(image_id, Viewer.of(caller))
        self._policy.require(caller, "get_image", image)
        return await self._catalog.uploads_of(image_id)

    async def refuse(self, caller: Caller, image_id: str) -> None:
        """Kill a queued image whose data cannot even begin (API v1: a wrong content type)."""
        image = await self._catalog.get_image(image_id, Viewer.of(caller))
        self._policy.require(caller, "upload_image", image)
        await self._catalog.advance(image_id, Event.REFUSE)

    def refuse_refill(self, caller: Caller, image: Image) -> None:
        """Conflict: the image had data once, and this caller may not give it other."""
        refuse_refill(caller, image, self._locations)

    def admit(self, *, store_id: str | None = None) -> None:
        """Draining, Busy, Invalid, AddingDisabled: data would not be taken now, or not there."""
        self._attempts.admit(store_id=store_id)

    async def upload(
        self,
        caller: Caller,
        image_id: str,
        source: Source | Original,
        expected: Expected,
        *,
        store_id: str | None = None,
        request_id: str | None = None,
        attempt: str | None = None,
        change: ImageChange | None = None,
        repeatable: bool = False,
        becomes: str | None = None,
    ) -> Image:
        """Fill a queued image. Refusals before the claim leave it queued; from the claim on,
        whatever happens, nothing of a failed attempt stays in the store, and the image says why.
        ``attempt`` names the attempt beforehand. ``change`` is made of the image with the claim,
        or not at all. ``repeatable``: its bytes can be had once more, so that a stop of this
        server takes the image back to queued. ``becomes``: the disk_format that they were converted
        to.

        NotFound, Forbidden, BadTransition, Invalid, AddingDisabled, TooLarge, Busy before;
        ClientGone, SizeMismatch, DigestMismatch, TooLarge, WrongFormat, UnsafeFormat, StoreError,
        Gone after. Of an original also SourceBroke, and NotCopied: queued again if
        ``repeatable``.
        """
        image = await self._catalog.get_image(image_id, Viewer.of(caller))
        self._policy.require(caller, "upload_image", image)
        self.refuse_refill(caller, image)
        expected = with_declared(expected, image, () if change is None else change.fields)
        return await self._attempts.bring(
            self._attempts.begin(image_id, expected, store_id=store_id, name=attempt),
            source,
            expected,
            start=partial(self._catalog.start_upload, change=change),
            owner=image.owner,
            request_id=request_id,
            broken=self._broken,
            stopped=Event.RELEASE if repeatable else self._broken,
            becomes=becomes,
        )
