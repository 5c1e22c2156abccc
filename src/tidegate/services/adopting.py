"""Images made of objects that lie in a store already: read once for their digests, never moved.

An image appears whole, in one transaction, or not at all; to be stopped or killed in the middle
costs only the reading of one object. An object that an image points to already is left alone.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

from tidegate.catalog.base import Catalog
from tidegate.domain.errors import Conflict, Invalid, ObjectMissing, TooLarge
from tidegate.domain.image import Image, Location, Visibility
from tidegate.domain.status import Status
from tidegate.domain.upload import Sent
from tidegate.killpoints import kill_point
from tidegate.stores.base import Store
from tidegate.telemetry import log
from tidegate.transfer.digest import DigestPool
from tidegate.transfer.memory import Arena
from tidegate.transfer.whole import read_whole, size_of

MAX_NAME = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What adopted images are to be. ``own``: their bytes go when the image is deleted."""

    disk_format: str = "raw"
    container_format: str = "bare"
    owner: str | None = None
    visibility: Visibility = Visibility.SHARED
    own: bool = False


@dataclass(frozen=True, slots=True)
class Adopted:
    """``image_id`` None: skipped, or nothing was to be done; ``message`` says why."""

    key: str
    size: int | None
    image_id: str | None
    message: str = ""


class Adopting:
    """``exports`` are folders of stores, each ``"<store id>/<folder>"``, that are left alone
    unless their objects are named."""

    def __init__(
        self,
        catalog: Catalog,
        stores: Mapping[str, Store],
        *,
        exports: Collection[str] = (),
        algorithms: Sequence[str],
        max_size: int,
        arena: Arena,
        digests: DigestPool,
    ) -> None:
        self._catalog = catalog
        self._stores = stores
        self._exports = exports
        self._algorithms = algorithms
        self._max_size = max_size
        self._arena = arena
        self._digests = digests

    async def keys(self, store_id: str, prefix: str) -> AsyncIterator[str]:
        """Every object of the store whose key begins so, but for exports. Invalid, StoreError."""
        async for entry in self._store(store_id).keys(prefix):
            if f"{store_id}/{entry.key.rpartition('/')[0]}" not in self._exports:
                yield entry.key

    async def adopt(
        self, store_id: str, key: str, terms: Terms, *, dry_run: bool = False
    ) -> Adopted:
        """Read the object under this key and make an active image of it, named after the key.
        Invalid, TooLarge; StoreError, ObjectMissing among them."""
        store = self._store(store_id)
        taken = await self._catalog.image_at(store.id, key)
        if taken is not None:
            return Adopted(key, None, None, f"image {taken} has it already")
        size = await size_of(store, key)
        if size > self._max_size:
            raise TooLarge(f"An image of {size} bytes is larger than max_image_size allows.")
        if dry_run:
            return Adopted(key, size, None, "would be adopted")
        sent = await read_whole(
            store,
            key,
            size,
            algorithms=self._algorithms,
            arena=self._arena,
            digests=self._digests,
        )
        kill_point("adopt_read")
        image = _image(store.id, key, sent, terms)
        try:
            await self._catalog.adopt(image)
        except Conflict as error:
            return Adopted(key, size, None, error.message)
        try:
            await store.look(key)
        except ObjectMissing:
            # removed while it was read; from the adoption on nobody would
            await self._catalog.delete_image(image.id)
            raise
        log.info("object adopted", image=image.id, store=store.id, key=key, bytes=size)
        return Adopted(key, size, image.id)

    def _store(self, store_id: str) -> Store:
        store = self._stores.get(store_id)
        if store is None or not store.can.write:
            known = ", ".join(sorted(id for id, one in self._stores.items() if one.can.write))
            raise Invalid(f"There is no store {store_id!r} to adopt from; there are: {known}.")
        return store


def _image(store: str, key: str, sent: Sent, terms: Terms) -> Image:
    algorithm = sent.strongest
    return Image(
        id=str(uuid4()),
        name=key.rpartition("/")[2][-MAX_NAME:] or key[-MAX_NAME:],
        status=Status.ACTIVE,
        visibility=terms.visibility,
        owner=terms.owner,
        disk_format=terms.disk_format,
        container_format=terms.container_format,
        size=sent.size,
        checksum=sent.digests.get("md5"),
        hash_algo=algorithm,
        hash_value=None if algorithm is None else sent.digests[algorithm],
        crc64nvme=sent.crc64nvme,
        locations=(Location(store, key, own=terms.own),),
    )
