"""Data on its way into an image in two steps: staged in a store now, imported later.

Staged bytes are an object like any other, under a key of their own attempt; what staging does not
do is to make them the image's. An image whose staging broke is queued again.
"""

from tidegate.catalog.base import Catalog, Viewer
from tidegate.domain.errors import NotFound
from tidegate.domain.expected import Expected, with_declared
from tidegate.domain.image import Image
from tidegate.domain.importing import Method
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.status import Event
from tidegate.domain.upload import Purpose, Upload, UploadState
from tidegate.services.attempts import Attempts
from tidegate.services.refilling import refuse_refill
from tidegate.settings import Import as Settings
from tidegate.settings import Locations
from tidegate.transfer.upload import Source


class Staging:
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
        self._settings = settings
        self._locations = locations

    def require_offered(self) -> None:
        """NotFound: nobody could import what is staged."""
        if Method.DIRECT not in self._settings.methods:
            raise NotFound(f"'{Method.DIRECT}' method is not available at this site.")

    async def stage(
        self,
        caller: Caller,
        image_id: str,
        source: Source,
        expected: Expected,
        *,
        store_id: str | None = None,
        request_id: str | None = None,
    ) -> Image:
        """queued → uploading; back to queued, with nothing left, whatever breaks from the claim
        on. Raises as ``Uploads.upload``; the formats need not be set."""
        image = await self._catalog.get_image(image_id, Viewer.of(caller))
        self._policy.require(caller, "modify_image", image)
        refuse_refill(caller, image, self._locations)
        expected = with_declared(expected, image)
        return await self._attempts.bring(
            self._attempts.begin(image_id, expected, store_id=store_id, purpose=Purpose.STAGE),
            source,
            expected,
            start=self._catalog.start_upload,
            owner=image.owner,
            broken=Event.UNSTAGE,
            stopped=Event.UNSTAGE,
            request_id=request_id,
        )


async def staged_attempt(catalog: Catalog, image_id: str) -> Upload | None:
    """The attempt whose object waits to be imported."""
    found = await catalog.uploads_of(image_id)
    return next((one for one in found if one.state is UploadState.STAGED), None)
