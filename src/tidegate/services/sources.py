"""The image whose bytes a task reads, and those bytes: by whom, and for how long they may be read.

The bytes of a deactivated image are read by no task, whoever asked for it.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace

from tidegate.catalog.base import Catalog, Viewer
from tidegate.domain.errors import Conflict, DigestMismatch, SizeMismatch
from tidegate.domain.expected import Expected, expected_of
from tidegate.domain.image import Image
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.status import Status
from tidegate.services.watching import Cut, Watch, deactivated
from tidegate.stores.base import Store
from tidegate.transfer.fetching import Fetching, fetching_from_one_of

_RULES = ("get_image", "download_image")


async def source_of(
    catalog: Catalog, policy: Policy, caller: Caller, image_id: str, *, done: str
) -> Image:
    """The image that is to be ``done`` ("cloned"), if that may be now. NotFound, Forbidden,
    Conflict."""
    image = await catalog.get_image(image_id, Viewer.of(caller))
    for rule in _RULES:
        policy.require(caller, rule, image)
    if image.status is Status.DEACTIVATED:
        raise deactivated()
    if image.status is not Status.ACTIVE or not image.locations:
        raise Conflict(f"Only images with status active, and with data, can be {done}.")
    return image


@dataclass(frozen=True, slots=True)
class Outbound:
    """An image's bytes, open, and what they must be like. ``watched`` is a context in which they
    are read, until the image is deactivated or deleted (Cut)."""

    source: Fetching
    expected: Expected
    watched: AbstractAsyncContextManager[None]


class Sources:
    """``patience`` is seconds in which a store must give something."""

    def __init__(
        self,
        catalog: Catalog,
        stores: Mapping[str, Store],
        policy: Policy,
        watch: Watch,
        *,
        patience: float,
    ) -> None:
        self._catalog = catalog
        self._stores = stores
        self._policy = policy
        self._watch = watch
        self._patience = patience

    async def find(self, caller: Caller, image_id: str) -> Image:
        """The image that is to be exported, if that may be now. NotFound, Forbidden, Conflict."""
        return await source_of(self._catalog, self._policy, caller, image_id, done="exported")

    @asynccontextmanager
    async def open(self, caller: Caller, image_id: str) -> AsyncIterator[Outbound]:
        """The bytes of the image that is to be exported. NotFound, Forbidden, Conflict: it may not
        be, or no more, or they are others; SourceBroke, StoreDown, LocationRefused."""
        image = await self.find(caller, image_id)
        opened = fetching_from_one_of(self._stores, image.locations, patience=self._patience)
        anybody = replace(caller, admin=False)  # an administrator's is cut as well
        try:
            async with opened as source:
                expected = expected_of(image, source.size)
                if None not in (source.size, image.size) and source.size != image.size:
                    raise SizeMismatch(image.size or 0, source.size or 0)
                yield Outbound(source, expected, self._watch.over(image, anybody))
        except Cut as cut:
            raise cut.reason from cut
        except (SizeMismatch, DigestMismatch) as error:
            raise Conflict(
                f"The image's data is not what it must be; it was not exported. {error.message}"
            ) from error
