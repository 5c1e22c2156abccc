"""The catalog's contract: what a check of the catalog against the stores asks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from tidegate.domain.status import Event, Status
from tidegate.domain.upload import Removal


class Fate(StrEnum):
    """What the catalog knows of an object that a store holds under a key of ours."""

    NEEDED = "needed"  # by an image, or by who is working on it or on its removal
    ORPHAN = "orphan"  # of an attempt or an image that is over
    UNKNOWN = "unknown"  # never written down here: perhaps this catalog is older than the object


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A location of our own, and what the object there must be like. ``id`` is the row's."""

    id: int
    image_id: str
    status: Status
    store: str
    key: str
    size: int | None
    md5: str | None
    crc64nvme: int | None


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something in the catalog that cannot be as it is: ``subject`` is an attempt's, an image's
    or a removal's id; for rows of no image, ``table:image id``."""

    what: str
    subject: str
    detail: str = field(compare=False)


class Checks(Protocol):
    """What a check of the catalog against the stores asks. Keys are ``image id/attempt id``."""

    async def fates(self, store: str, keys: Sequence[str]) -> dict[str, Fate]:
        """All judged at one moment. An object's key was written down before its first byte, so
        that one which was listed before this call is never taken for an orphan in between."""

    async def remove_orphan(
        self, store: str, key: str, *, unknown: bool, lease: float
    ) -> Removal | None:
        """Write down the removal of an orphan (with ``unknown``: of an unknown object too), if
        it is one still: judged again in the same transaction. None: it is not."""

    async def own_locations(self, after: int, *, limit: int) -> list[Held]:
        """Of active and deactivated images, by row id; without those whose damage is known."""

    async def own_locations_at(self, store: str, keys: Sequence[str]) -> list[Held]:
        """Those among them that are at these keys."""

    async def is_held(self, location: Held) -> bool:
        """Whether it is still a location of an image that is alive."""

    async def drop_location(self, location: Held) -> bool:
        """Its bytes are lost or wrong, and another location of the image has them: what lies there
        becomes a removal. False: it was gone already, or is the last one."""

    async def stale_copies(self, after: str, *, limit: int) -> tuple[str | None, list[str]]:
        """Of the next images by id, those whose row differs from the tables it copies; and where
        to go on (None: at the end)."""

    async def flaws(self, *, older_than: float) -> list[Flaw]:
        """``lease`` (an attempt whose lease was over ``older_than`` seconds ago), ``saving`` (no
        attempt is open), ``removal`` (owed that long, or refused often), ``needed`` (a removal of
        bytes that an image needs), ``rows`` (of no image), ``deletion`` (an image that is gone and
        that no scrubber or purger knows); to be mended in this order."""

    async def mend(self, flaw: Flaw, *, broken: Event) -> None:
        """What can be mended here, and by stale copies (``copies``); a ``lease`` is the reaper's
        and a ``removal`` is made due at once. ``broken``: BREAK or RELEASE. Repeatable."""
