"""The locations of an image: registered by URL, changed, and shown to those who may see them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidegate.catalog.base import AddLocation, DescribeLocation, LocationEdit, RemoveLocation
from tidegate.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    ObjectMissing,
    StoreBroke,
    StoreError,
    TooLarge,
)
from tidegate.domain.image import Image, Location
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.status import Status
from tidegate.services.refilling import may_refill, refuse_refill
from tidegate.services.vouching import check_vouched
from tidegate.settings import Locations as Settings
from tidegate.stores.base import Store
from tidegate.stores.http import HttpStore

NOWHERE = -2
"""The index of a place that is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLocation:
    """A location as a client names it; ``learnt`` are digests it vouches for."""

    url: str
    metadata: Mapping[str, object] = field(default_factory=dict)
    learnt: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LocationsEdit:
    """One step at the locations: ``add`` at ``index`` (None: the end), ``replace`` all by
    ``values``, or ``remove`` the one at ``index`` (−1: the last; NOWHERE is refused). ``size`` is
    what the client declared, in bytes. ``by_header``: API v1's way, which needs no shown
    locations."""

    op: str
    index: int | None = None
    values: tuple[NewLocation, ...] = ()
    size: int | None = None
    by_header: bool = False


def told(caller: Caller, image: Image) -> bool:
    """Whether the caller is told where the image lies: a deactivated one is for admins."""
    return image.status is not Status.DEACTIVATED or caller.is_admin


class Locations:
    """``limit``: locations of one image (negative: none). ``algorithm``: the one by which clients
    vouch for data (None: any)."""

    def __init__(
        self,
        stores: Mapping[str, Store],
        policy: Policy,
        *,
        remote: HttpStore,
        settings: Settings,
        limit: int,
        max_size: int,
        algorithm: str | None = None,
    ) -> None:
        self._stores = stores
        self._policy = policy
        self._remote = remote
        self._settings = settings
        self._limit = limit
        self._max_size = max_size
        self._algorithm = algorithm

    @property
    def publish_unverified(self) -> bool:
        """Whether data that was never read here may be public."""
        return self._settings.publish_unverified

    def shown(self, caller: Caller, image: Image) -> list[tuple[str, Mapping[str, Any]]]:
        """URL and metadata of each location, for those who may see them; none of them holds a
        secret. A deactivated image's are for admins."""
        if not told(caller, image) or not self._policy.allows(caller, "get_image_location", image):
            return []
        return self.places(image)

    def places(self, image: Image) -> list[tuple[str, Mapping[str, Any]]]:
        """As ``shown``, whoever asks."""
        return [
            (
                self._stores[location.store].url(location.key),
                {**location.metadata, "store": location.store},
            )
            for location in image.locations
            if location.store in self._stores
        ]

    async def steps(self, caller: Caller, image: Image, edit: LocationsEdit) -> list[LocationEdit]:
        """What the catalog is to do for one edit of a caller's. Forbidden, Conflict, Invalid,
        TooLarge, LocationRefused, NotFound, StoreBroke."""
        if edit.op == "replace" and not edit.values:
            raise Forbidden("Cannot set locations to empty list.")
        rule = "delete_image_location" if edit.op == "remove" else "set_image_location"
        self._policy.require(caller, rule, image)
        if not (self._settings.show or edit.by_header):
            word = {"add": "add", "replace": "update", "remove": "remove"}[edit.op]
            raise Forbidden(f"It's not allowed to {word} locations if locations are invisible.")
        if edit.op == "remove":
            assert edit.index is not None
            return [RemoveLocation(edit.index)]
        if edit.op == "replace" and image.locations:
            return self._described(caller, image, edit.values)
        return await self._added(caller, image, edit)

    async def register(
        self, new: NewLocation, *, declared: int | None, by_header: bool = False
    ) -> tuple[Location, int]:
        """The location, judged but not read, and its size in bytes. ``declared`` is believed
        ``by_header``; else the source is asked, and has to say the same. NotFound: ``by_header``,
        and there is nothing at it."""
        if not new.url:
            raise Invalid("External source should not be empty")
        self._remote.check(new.url)
        size = declared if by_header else None
        if size is None:
            try:
                size = (await self._remote.look(new.url)).size
            except StoreError as error:
                if by_header and isinstance(error, ObjectMissing):
                    raise NotFound(f"External source not found: {error.reason}.") from error
                raise Invalid(f"Invalid location: {error.reason}.") from error
        if not by_header:
            if not size:
                raise Invalid("Invalid location: the source has no data, or does not say how long.")
            if declared not in (None, size):
                raise Invalid(f"Invalid location: it has {size} bytes, and the image {declared}.")
        if size is None:
            raise StoreBroke(self._remote.id, "the source does not say how long the data is")
        if size > self._max_size:
            raise TooLarge(f"An image of {size} bytes is larger than max_image_size allows.")
        return Location(self._remote.id, new.url, dict(new.metadata), own=False), size

    def _described(
        self, caller: Caller, image: Image, values: Sequence[NewLocation]
    ) -> list[LocationEdit]:
        if image.status is not Status.ACTIVE:
            raise Conflict(
                f"It's not allowed to replace locations if image status is {image.status}."
            )
        check_vouched(image, [value.learnt for value in values], self._algorithm)
        known = (place for place in image.locations if place.store in self._stores)
        shown = self.shown(caller, image)
        by_url = {url: place for (url, _), place in zip(shown, known, strict=False)}
        if sorted(value.url for value in values) != sorted(by_url):
            raise Invalid("Original locations is not empty: remove them before setting others.")
        return [
            DescribeLocation(by_url[value.url].store, by_url[value.url].key, value.metadata)
            for value in values
        ]

    async def _added(self, caller: Caller, image: Image, edit: LocationsEdit) -> list[LocationEdit]:
        if image.status not in (Status.QUEUED, Status.ACTIVE):
            raise Conflict(
                f"It's not allowed to {edit.op} locations if image status is {image.status}."
            )
        if image.status is Status.QUEUED:
            refuse_refill(caller, image, self._settings)
        if not edit.by_header:
            check_vouched(image, [value.learnt for value in edit.values], self._algorithm)
        if edit.index == NOWHERE:
            raise Invalid("Invalid position for adding a location.")
        steps: list[LocationEdit] = []
        known = image.size if edit.size is None else edit.size
        for at, value in enumerate(edit.values):
            location, known = await self.register(value, declared=known, by_header=edit.by_header)
            steps.append(
                AddLocation(
                    location=location,
                    position=None if edit.index is None else edit.index + at,
                    limit=self._limit,
                    refill=may_refill(caller, self._settings),
                    learnt={**value.learnt, "size": known},
                )
            )
        return steps
