"""The catalog's contract: objects that lie in a store already, found there or read again."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from tidegate.domain.image import Image
from tidegate.domain.scrub import Copy
from tidegate.domain.upload import Failure, Removal, Upload


class Adoptions(Protocol):
    async def image_at(self, store: str, key: str) -> str | None:
        """The id of a live image that has this location."""

    async def adopt(self, image: Image) -> None:
        """Insert an active image with its one location. Conflict: a live image has that, an
        upload or an export writes it, or it is to be removed."""


class Scrubs(Protocol):
    """Reading stored bytes again."""

    async def copies_to_scrub(
        self,
        stores: Sequence[str],
        *,
        before: int,
        after: Copy | None = None,
        image_id: str | None = None,
        limit: int = 50,
    ) -> list[Copy]:
        """Own locations in these stores of images that have data (of this one only), not found
        good since ``before`` (microseconds UTC); the longest unseen first, from ``after`` on."""

    async def unverified_copies(
        self, *, after: Copy | None = None, image_id: str | None = None, limit: int = 50
    ) -> list[Copy]:
        """Registered locations that nobody here has read yet, of images that have data (of this
        one only); the longest known first, from ``after`` on."""

    async def verify_copy(self, copy: Copy, learnt: Mapping[str, str]) -> bool:
        """It holds what its image says, and these are digests (columns) that the image may not
        have yet; false: it has others by now."""

    async def take_copy(self, copy: Copy, *, lease: float) -> bool:
        """Whether nobody else reads it now or has done so since, and nobody will for ``lease``
        seconds."""

    async def keep_copy(self, copy: Copy, *, lease: float) -> None: ...

    async def leave_copy(self, copy: Copy, *, good: bool) -> None:
        """Read to its end, or not; ``good``: it holds the right bytes now."""

    async def condemn(self, image_id: str, store: str, key: str, failure: Failure) -> None:
        """The bytes of this location are damaged: active → deactivated, with a failed attempt that
        says why; repeatable. BadTransition: the image has no data, or no such location."""

    async def start_repair(self, repair: Upload, bad: Copy, *, lease: float) -> None:
        """Write down an attempt to replace ``bad`` by an object under another key; it is kept
        (``keep_upload``), failed and taken over like any other. BadTransition."""

    async def repair_began(self, repair: Upload, upload_id: str) -> None:
        """Write the store's upload id, before the first part. BadTransition: taken over."""

    async def finish_repair(self, repair: Upload, bad: Copy, received: int) -> list[Removal]:
        """The location points to the new object from now on, the bad one must go. Repeatable.
        BadTransition: taken over, or the location is no longer the image's."""
