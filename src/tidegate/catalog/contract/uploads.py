"""The catalog's contract: the attempts to fill an image, and what must go from the stores."""

from collections.abc import Sequence
from typing import Protocol

from tidegate.catalog.contract.images import ImageChange
from tidegate.domain.image import Image
from tidegate.domain.quota import UNLIMITED, Allowance
from tidegate.domain.status import Event
from tidegate.domain.upload import Failure, Removal, Sent, Upload


class Attempts(Protocol):
    async def start_upload(
        self,
        upload: Upload,
        *,
        lease: float,
        change: ImageChange | None = None,
        allowance: Allowance = UNLIMITED,
    ) -> Image:
        """queued → saving, or uploading to stage; claimed by ``upload.id``, with the upload's row
        and a lease of ``lease`` seconds; ``change`` is made of the image, or neither. NotFound,
        BadTransition; Invalid when the formats are not set, which staging does not ask for;
        TooLarge: ``change``, or the image's project has no room for the size expected (None: for
        a single byte)."""

    async def reserve_bytes(self, attempt: str, most: int, allowance: Allowance) -> int:
        """Let an open attempt hold more of what its image's project may, up to ``most`` bytes;
        how many. TooLarge: there is room for none. BadTransition."""

    async def upload_began(self, attempt: str, upload_id: str) -> None:
        """Write the store's upload id, before the first part. BadTransition: lost the claim."""

    async def renew_upload(self, attempt: str, received: int, *, lease: float) -> None:
        """Renew the lease and record progress. BadTransition when the attempt has lost its
        claim: taken over, ended, or the image deleted (``status`` says where the image is)."""

    async def upload_completing(self, attempt: str, sent: Sent) -> None:
        """Record the verified size and digests, so that another node can finish."""

    async def publish_upload(self, attempt: str, sent: Sent) -> Image:
        """saving → active, guarded by the claim: size, checksum, hashes, CRC and location are
        written, the upload is done. Staged: the size alone, and the object waits. A copy: another
        location, of an importing image also what was measured. Repeatable. BadTransition when the
        claim is lost."""

    async def fail_upload(
        self,
        attempt: str,
        failure: Failure,
        event: Event,
        *,
        leftovers: Sequence[str | None],
        reserve: float = 0.0,
        look_again: float | None = None,
        received: int | None = None,
    ) -> list[Removal]:
        """End an attempt: ``event`` (BREAK, RELEASE, UNSTAGE) is applied if the claim still holds
        and dropped if not; the failure is recorded, with the bytes received (None: as last
        recorded); each of ``leftovers`` (a store's upload id, or None for the object itself)
        becomes a removal of the attempt's key, reserved for the caller for ``reserve`` seconds;
        ``look_again`` adds one of the object that is due in so many seconds, and is not among those
        given. Repeatable.
        BadTransition: the attempt was taken over, and nothing was changed."""

    async def keep_upload(self, attempt: str, *, lease: float) -> None:
        """Renew the lease of an attempt that was taken over, whatever became of its image.
        BadTransition: taken over again, or ended."""

    def let_go(self, attempt: str) -> None:
        """Hold the attempt no longer: once its lease has run out it is anybody's, also ours."""

    async def uploads_of(self, image_id: str) -> list[Upload]:
        """All attempts of an image, oldest first."""

    async def open_uploads(self, attempts: Sequence[str]) -> dict[str, Upload]:
        """Which of these attempts exist, by id (open or ended)."""

    async def take_over_expired(self, node: str, *, lease: float, limit: int = 50) -> list[Upload]:
        """Claim the open attempts whose lease has run out, each for one caller only: their lease
        is renewed for ``node``, and the attempt's former owner can renew no more."""


class Removals(Protocol):
    async def due_removals(self, *, lease: float, limit: int = 100) -> list[Removal]:
        """Removals whose time has come, reserved for this caller for ``lease`` seconds."""

    async def removals_waiting(self) -> dict[str, int]:
        """How many removals are written down and not done, by store."""

    async def removal_done(self, removal_id: int) -> None: ...

    async def removal_failed(self, removal_id: int, message: str, *, retry_in: float) -> None: ...
