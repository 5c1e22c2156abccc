"""The read cache: copies of images on the local disk, for those who may have them anyway.

A copy is named after the image and what identifies its bytes, so that an image which got other
bytes never gets the old ones. Who may have an image is asked elsewhere and before; here only from
where it comes.
"""

import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from awscrt.checksums import crc64nvme

from tidegate import telemetry
from tidegate.catalog.base import EVERYTHING, Catalog, Viewer
from tidegate.domain.errors import Forbidden, Invalid, NotFound, ObjectChanged, StoreError
from tidegate.domain.expected import can_compute
from tidegate.domain.image import Image
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.status import GONE, Status
from tidegate.stores.cache import CacheFolder, Held
from tidegate.stores.cache_files import IMAGE, Entry
from tidegate.stores.cache_filling import Check, Filling
from tidegate.telemetry import log

SWEEP_EVERY = 60.0
"""Seconds between two looks for copies of images that are deleted or have other bytes now."""

TRY_AGAIN = 60.0
"""Seconds after which a queued image that could not be read is read again."""

_TARGETS = {"": ("cache", "queue"), "cache": ("cache",), "queue": ("queue",)}

Read = Callable[[Image, Filling], Awaitable[None]]
"""Reads a whole image into its copy. StoreError."""


class Cache:
    """``folder`` None: switched off."""

    def __init__(self, catalog: Catalog, policy: Policy, folder: CacheFolder | None) -> None:
        self._catalog = catalog
        self._policy = policy
        self._found = folder
        self._later: dict[str, float] = {}

    # on the way of a download

    @asynccontextmanager
    async def near(
        self, image: Image, start: int, stop: int
    ) -> AsyncIterator[Held | Filling | None]:
        """For a download of bytes [start, stop): the image's copy, or one that this download is
        to make, if it is of the whole image."""
        name = name_of(image)
        if name is None or image.size is None or start == stop:
            yield None
            return
        folder = self._folder
        async with folder.held(name, image.size) as held:
            outcome = "miss" if held is None else "hit"
            telemetry.CACHE_READS.labels(outcome).inc()
            telemetry.CACHE_READ_BYTES.labels(outcome).inc(stop - start)
            if held is not None:
                yield held
                return
        whole = (start, stop) == (0, image.size) and image.status is Status.ACTIVE
        filling = await folder.begin(name, image.size, _check(image)) if whole else None
        try:
            yield filling
        finally:
            if filling is not None:
                filling.leave()

    # what can be asked for

    async def show(self, caller: Caller) -> tuple[list[Entry], list[str]]:
        """The copies, and the ids of the images that wait for one. Forbidden; NotFound: off."""
        self._require(caller, "cache_list")
        newest: dict[str, Entry] = {}
        for entry in sorted(await self._folder.entries(), key=lambda entry: entry.made):
            newest[entry.image_id] = entry
        return list(newest.values()), await self._folder.queued()

    async def enqueue(self, caller: Caller, image_id: str) -> None:
        """Make a copy soon. NotFound, Forbidden, Invalid: the image is not active."""
        image = await self._image(caller, image_id)
        if image is None:
            raise _unknown(image_id)
        self._require(caller, "cache_image", image)
        if image.status is not Status.ACTIVE:
            raise Invalid("Only images with status active can be targeted for queueing")
        name = name_of(image)
        if name is None or not self._folder.has(name):
            await self._folder.enqueue(image_id)

    async def delete(self, caller: Caller, image_id: str) -> None:
        """Forget the image's copy, and that one is wanted; an image that is gone may have one.
        NotFound, Forbidden."""
        image = await self._image(caller, image_id)
        if image is None and (self._found is None or not self._allows(caller, "cache_delete")):
            raise _unknown(image_id)
        self._require(caller, "cache_delete", image)
        names = [entry.name for entry in await self._folder.entries() if entry.image_id == image_id]
        count = await self._folder.drop(names) + await self._folder.dequeue([image_id])
        if image is None and not count:
            raise _unknown(image_id)
        log.info("cache changed", what="delete", image=image_id, count=count)

    async def clear(self, caller: Caller, target: str) -> None:
        """Forget all copies, or all that are wanted, or both (""). Forbidden, Invalid."""
        self._require(caller, "cache_delete")
        wanted = _TARGETS.get(target.strip().lower())
        if wanted is None:
            raise Invalid(
                "If provided 'x-image-cache-clear-target' must be 'cache', 'queue' or empty string."
            )
        count = 0
        if "cache" in wanted:
            count += await self._folder.drop([entry.name for entry in await self._folder.entries()])
        if "queue" in wanted:
            count += await self._folder.dequeue(await self._folder.queued())
        log.info("cache changed", what="clear", target=target, count=count)

    # on the clock

    async def fill_queued(self, read: Read) -> int:
        """Make the copies that are wanted; how many."""
        queued, count = await self._folder.queued(), 0
        self._later = {id: when for id, when in self._later.items() if id in queued}
        for image_id in queued:
            if self._later.get(image_id, 0.0) <= time.monotonic():
                count += await self._fill(image_id, read)
        return count

    async def _fill(self, image_id: str, read: Read) -> bool:
        """Whether there is a new copy."""
        try:
            image = await self._catalog.get_image(image_id, EVERYTHING)
        except NotFound:
            await self._folder.dequeue([image_id])
            return False
        name = name_of(image)
        if name is None or image.size is None or image.status is not Status.ACTIVE:
            return await self._refuse(image_id, "not_active_or_no_digest")
        if not self._folder.fits(image.size):
            return await self._refuse(image_id, "too_large")
        filling = await self._folder.begin(name, image.size, _check(image))
        if filling is None:
            # who makes it elsewhere may fail: then it is still wanted
            if self._folder.has(name):
                await self._folder.dequeue([image_id])
            return False
        try:
            await read(image, filling)
        except ObjectChanged as error:
            return await self._refuse(image_id, "wrong_bytes", error.message)
        except StoreError as error:
            log.error("cache not filled", image=image_id, reason="store", error=error.message)
            self._later[image_id] = time.monotonic() + TRY_AGAIN
            return False
        finally:
            filling.leave()
        await self._folder.dequeue([image_id])  # also where the disk was full: that was told
        return self._folder.has(name)

    async def _refuse(self, image_id: str, reason: str, error: str = "") -> bool:
        log.error("cache not filled", image=image_id, reason=reason, error=error)
        await self._folder.dequeue([image_id])
        return False

    async def upkeep(self) -> int:
        """Write uses down, and, of all workers of the node one at a time, remove what may never
        be served again; how many."""
        folder = self._folder
        await folder.note_uses()
        if not await folder.take_turn(SWEEP_EVERY):
            return 0
        return await folder.sweep() + await folder.drop(await self._useless())

    async def _useless(self) -> list[str]:
        """Copies of images that are gone, or have other bytes now."""
        entries = await self._folder.entries()
        found = []
        statuses = await self._catalog.statuses({entry.image_id for entry in entries})
        for entry in entries:
            status = statuses.get(entry.image_id)
            if status is None or status in GONE or await self._outdated(entry):
                found.append(entry.name)
        return found

    async def _outdated(self, entry: Entry) -> bool:
        try:
            image = await self._catalog.get_image(entry.image_id, EVERYTHING)
        except NotFound:
            return True
        return name_of(image) != entry.name

    @property
    def _folder(self) -> CacheFolder:
        if self._found is None:
            raise NotFound("Caching via API is not supported at this site.")
        return self._found

    async def _image(self, caller: Caller, image_id: str) -> Image | None:
        viewer = Viewer.of(caller)
        try:
            image = await self._catalog.get_image(image_id, viewer)
            self._policy.require(caller, "get_image", image)
        except (NotFound, Forbidden):
            return None
        return image

    def _allows(self, caller: Caller, action: str) -> bool:
        return self._policy.allows(caller, action)

    def _require(self, caller: Caller, action: str, image: Image | None = None) -> None:
        """Forbidden; NotFound: the cache is off."""
        self._policy.require(caller, action, image)
        _ = self._folder


def name_of(image: Image) -> str | None:
    """Of the copy of these bytes; None: nobody knows what they must be, so none is made."""
    known = image.crc64nvme is not None or _can_hash(image)
    if not image.size or not known or not IMAGE.fullmatch(image.id):
        return None
    told = (image.size, image.hash_algo, image.hash_value, image.crc64nvme, image.checksum)
    return f"{image.id}+{hashlib.sha256(repr(told).encode()).hexdigest()[:32]}"


def _can_hash(image: Image) -> bool:
    algorithm = image.hash_algo
    return image.hash_value is not None and algorithm is not None and can_compute(algorithm)


def _check(image: Image) -> Check:
    if image.crc64nvme is not None:
        return _Crc(image.crc64nvme)
    assert image.hash_algo is not None
    assert image.hash_value is not None
    return _Hash(image.hash_algo, image.hash_value)


class _Crc:
    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._found = 0

    def update(self, data: memoryview) -> None:
        self._found = crc64nvme(data, self._found)

    def right(self) -> bool:
        return self._found == self._expected


class _Hash:
    def __init__(self, algorithm: str, expected: str) -> None:
        self._expected = expected
        self._digest = hashlib.new(algorithm, usedforsecurity=False)
        self.update = self._digest.update

    def right(self) -> bool:
        return self._digest.hexdigest() == self._expected.lower()


def _unknown(image_id: str) -> NotFound:
    return NotFound(f"Image {image_id} not found.")
