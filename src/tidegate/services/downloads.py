"""Bytes out: who may have them, from which location, and that they are the right ones."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from awscrt.checksums import crc64nvme

from tidegate.catalog.base import Catalog, Viewer
from tidegate.domain.errors import Invalid, NoData, ObjectChanged, StoreBroke, StoreDown, StoreError
from tidegate.domain.image import Image, Location
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.status import Status
from tidegate.services.cache import Cache
from tidegate.services.stores import HIDDEN
from tidegate.services.watching import Watch, deactivated
from tidegate.settings import Downloads as DownloadSettings
from tidegate.stores.base import Reading, Store
from tidegate.stores.cache import Held
from tidegate.stores.cache_filling import Filling
from tidegate.telemetry import log
from tidegate.transfer.download import Readable, Receiving
from tidegate.transfer.memory import Arena

_READABLE = frozenset({Status.ACTIVE, Status.DEACTIVATED})


class Downloads:
    def __init__(
        self,
        catalog: Catalog,
        stores: Mapping[str, Store],
        policy: Policy,
        *,
        settings: DownloadSettings,
        arena: Arena,
        cache: Cache | None = None,
    ) -> None:
        self._catalog = catalog
        self._stores = stores
        self._policy = policy
        self._settings = settings
        self._arena = arena
        self._cache = cache
        self.watch = Watch(catalog)

    async def find(self, caller: Caller, image_id: str, *, prefer: Sequence[str] = ()) -> Image:
        """The image, if its bytes may go to this caller; it may have none yet (``has_data``).
        Its locations in the stores to ``prefer`` come first.

        NotFound, Forbidden (policy, or deactivated), Invalid (no such store); NoData: killed, with
        the reason.
        """
        viewer = Viewer.of(caller)
        image = await self._catalog.get_image(image_id, viewer)
        self._policy.require(caller, "get_image", image)
        self._policy.require(caller, "download_image", image)
        if image.status is Status.DEACTIVATED and not caller.is_admin:
            raise deactivated()
        if image.status is Status.KILLED:
            raise NoData(f"Image {image_id} has no data: {await self._why(image_id)}")
        return self._preferring(caller, image, prefer) if prefer else image

    async def size(self, image: Image) -> int:
        """How many bytes a whole download gives. Asked from the store of a registered location
        whose size nobody declared; StoreError if it does not say."""
        if image.size is not None:
            return image.size
        store, location = self._sources(image)[0]
        size = (await store.look(location.key)).size
        if size is None:
            raise StoreBroke(store.id, "it does not say how long the data is")
        return size

    def has_data(self, image: Image) -> bool:
        return image.status in _READABLE and (bool(image.locations) or image.size == 0)

    def etag(self, image: Image) -> str | None:
        """A strong validator of this image's bytes; tied to the image, so that a cache cannot
        mix up two images of equal content. None when nobody knows a digest."""
        value = image.hash_value or image.checksum
        if value is None:
            return None
        return f'"{hashlib.sha256(f"{image.id}:{value}".encode()).hexdigest()[:40]}"'

    def verifies(self, image: Image, start: int, stop: int) -> bool:
        """Whether these bytes are checked against the catalog on their way out."""
        return self._settings.verify and self._crc(image, start, stop) is not None

    def near(
        self, image: Image, start: int, stop: int
    ) -> AbstractAsyncContextManager[Held | Filling | None]:
        """The cached copy, or the one to be made, for ``direct`` and ``blocks`` within."""
        return nullcontext() if self._cache is None else self._cache.near(image, start, stop)

    def direct(
        self, image: Image, start: int, stop: int, near: Held | Filling | None
    ) -> AbstractAsyncContextManager[Reading] | None:
        """A reading whose descriptor can be used, where one location (or the cache) offers that
        and nothing is to be verified or copied."""
        if isinstance(near, Filling):
            return None
        if near is not None:
            return None if self.verifies(image, start, stop) else near.read("", start, stop)
        if not self.verifies(image, start, stop) and len(image.locations) == 1 and start < stop:
            store, location = self._sources(image)[0]
            if store.can.zero_copy:
                whole = start == 0 and stop == image.size
                return store.read(location.key, start, None if whole else stop)
        return None

    @asynccontextmanager
    async def blocks(
        self, image: Image, start: int, stop: int, size: int, near: Held | Filling | None
    ) -> AsyncIterator[AsyncIterator[memoryview]]:
        """Bytes [start, stop) of ``size``. The first block is at hand when this is entered, so
        that a store which cannot serve fails here; of several locations the next is tried, and
        the cached copy is the first.

        StoreError, also in the middle; a whole body with a wrong byte never ends regularly.
        """
        if start == stop:
            yield _nothing()
            return
        sources = self._readable(image, near)
        for number, (source, key) in enumerate(sources, 1):
            receiving = Receiving(source, key, start, stop, size=size, arena=self._arena)
            async with receiving.blocks() as blocks:
                checked = self._checked(image, source.id, blocks, start, stop)
                if isinstance(source, Held):
                    checked = _dropping(checked, source)
                elif isinstance(near, Filling):
                    checked = _copied(checked, near)
                try:
                    first = await anext(checked)
                except StoreError as error:
                    log.error("location not readable", image=image.id, store=source.id,
                              error=error.message)  # fmt: skip
                    if number == len(sources):
                        raise
                    continue
                yield _chain(first, checked)
                return

    async def into_cache(self, image: Image, filling: Filling) -> None:
        """Read the whole image for nothing but its cached copy, and see that made. StoreError."""
        size = image.size or 0
        async with self.blocks(image, 0, size, size, filling) as blocks:
            async for _ in blocks:
                pass
        if filling.finished is not None:
            await asyncio.wrap_future(filling.finished)

    def _preferring(self, caller: Caller, image: Image, stores: Sequence[str]) -> Image:
        self._policy.require(caller, "download_from_store", image)
        for store in stores:
            if store not in self._stores or store.startswith(HIDDEN):
                raise Invalid(f"Store '{store}' is not configured.")
        places = {store: place for place, store in reversed(list(enumerate(stores)))}
        ordered = sorted(image.locations, key=lambda one: places.get(one.store, len(stores)))
        return image._replace(locations=tuple(ordered))

    def _readable(self, image: Image, near: Held | Filling | None) -> list[tuple[Readable, str]]:
        if not isinstance(near, Held):
            return [(store, location.key) for store, location in self._sources(image)]
        try:
            return [(near, ""), *self._readable(image, None)]
        except StoreDown:  # its store is not configured on this node
            return [(near, "")]

    def _sources(self, image: Image) -> list[tuple[Store, Location]]:
        found = [
            (self._stores[location.store], location)
            for location in image.locations
            if location.store in self._stores
        ]
        if not found:
            name = image.locations[0].store if image.locations else "none"
            raise StoreDown(name, "it is not configured on this node")
        return found

    def _crc(self, image: Image, start: int, stop: int) -> int | None:
        return image.crc64nvme if (start, stop) == (0, image.size) else None

    async def _checked(
        self, image: Image, store: str, blocks: AsyncIterator[memoryview], start: int, stop: int
    ) -> AsyncIterator[memoryview]:
        expected = self._crc(image, start, stop) if self._settings.verify else None
        crc, left = 0, stop - start
        async for block in blocks:
            left -= len(block)
            if expected is not None:
                crc = crc64nvme(block, crc)
                # before the last block leaves: a wrong body must not end well
                if left == 0 and crc != expected:
                    raise ObjectChanged(store, "the bytes are not the ones that were uploaded")
            yield block

    async def _why(self, image_id: str) -> str:
        for upload in reversed(await self._catalog.uploads_of(image_id)):
            if upload.failure is not None:
                return f"its upload broke ({upload.failure.reason}: {upload.failure.message})"
        return "its upload broke"


async def _nothing() -> AsyncIterator[memoryview]:
    return
    yield


async def _dropping(blocks: AsyncIterator[memoryview], held: Held) -> AsyncIterator[memoryview]:
    """The blocks of a cached copy, which is removed if they are not the right ones."""
    try:
        async for block in blocks:
            yield block
    except StoreError:
        await held.damaged()
        raise


async def _copied(blocks: AsyncIterator[memoryview], filling: Filling) -> AsyncIterator[memoryview]:
    """The blocks, written to the copy while they are sent."""
    async for block in blocks:
        written = asyncio.wrap_future(filling.write(block))
        try:
            yield block
        finally:
            await asyncio.wait([written])
    filling.finish()


async def _chain(first: memoryview, rest: AsyncIterator[memoryview]) -> AsyncIterator[memoryview]:
    yield first
    async for block in rest:
        yield block
