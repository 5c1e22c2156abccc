"""What an import brings becomes raw: fetched into a folder, looked into, converted, sent on.

Nothing of it is written down: whoever takes the task up next begins it again, and the folder's
next holder removes what a dead one left.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from tidegate.domain.errors import StoreBroke, StoreFull, TooLarge, UnsafeFormat
from tidegate.domain.expected import Expected, verify
from tidegate.domain.image import Image
from tidegate.domain.upload import Sent
from tidegate.killpoints import kill_point
from tidegate.services.tasks import Holding
from tidegate.settings import ImageFormat
from tidegate.stores.threads import FULL, run_through, write_at
from tidegate.transfer import qemu
from tidegate.transfer.digest import DigestPool
from tidegate.transfer.fetching import Fetching
from tidegate.transfer.inspect import Inspection
from tidegate.transfer.memory import BLOCK, Arena
from tidegate.transfer.scratch import Scratch, SparseFile

RAW = "raw"


class Converting:
    """``program`` is qemu-img; ``max_size`` is bytes of an image."""

    def __init__(
        self,
        program: str,
        scratch: Scratch,
        *,
        formats: ImageFormat,
        arena: Arena,
        digests: DigestPool,
        max_size: int,
    ) -> None:
        self._program = program
        self._scratch = scratch
        self._formats = formats.model_copy(update={"require_match": True})
        self._arena = arena
        self._digests = digests
        self._max_size = max_size

    def concerns(self, image: Image) -> bool:
        """Whether its data, as it comes, is to be converted."""
        return image.disk_format in qemu.FORMATS and image.container_format == "bare"

    @asynccontextmanager
    async def converted(
        self, holding: Holding, image: Image, source: Fetching, expected: Expected
    ) -> AsyncIterator[SparseFile]:
        """The raw disk of what ``source`` gives, once that was compared with ``expected`` and
        found safe. SizeMismatch, DigestMismatch, TooLarge, WrongFormat, UnsafeFormat, SourceBroke;
        StoreFull, StoreBroke: the folder cannot be used."""
        disk_format = str(image.disk_format)
        known = source.size or expected.size or 0
        self._require_room(known, 0)
        holding.progress = lambda: "Waiting for room to convert"
        try:
            async with self._scratch.held() as folder:
                fetched, made = (
                    folder / f"{holding.task.id}.source",
                    folder / f"{holding.task.id}.raw",
                )
                holding.progress = lambda: f"Fetched {source.received // 2**20} MiB"
                inspection = Inspection(disk_format, self._formats)
                sent = await self._fetch(source, fetched, inspection, expected.digests)
                verify(sent, expected)
                inside = inspection.finish(sent.size)
                self._require_room(sent.size, inside or 0)
                kill_point("conversion_fetched")
                size = await qemu.virtual_size(self._program, fetched, disk_format)
                # a VHD has two sizes, and qemu chooses
                if size != inside and disk_format != "vhd":
                    raise UnsafeFormat(f"The {disk_format} data says two sizes of its disk.")
                self._require_room(sent.size, size)
                await asyncio.to_thread(_make_hole, made, size)
                percent = 0

                def went(now: int) -> None:
                    nonlocal percent
                    percent = now

                holding.progress = lambda: f"Converted {percent}%"
                await qemu.convert(self._program, fetched, disk_format, made, size, went=went)
                await asyncio.to_thread(fetched.unlink)
                kill_point("conversion_made")
                if (await asyncio.to_thread(made.stat)).st_size != size:
                    raise UnsafeFormat(f"The {disk_format} data cannot be converted to raw.")
                async with SparseFile(made, size) as result:
                    yield result
        except OSError as error:
            kind = StoreFull if error.errno in FULL else StoreBroke
            raise kind("scratch", error.strerror or "it cannot be used") from error

    def _require_room(self, source: int, made: int) -> None:
        """TooLarge: there never is."""
        if made > self._max_size:
            raise TooLarge(
                f"A disk of {made} bytes is larger than max_image_size ({self._max_size} bytes) "
                "allows."
            )
        if source + made > self._scratch.max_size:
            raise TooLarge(
                f"Converting this needs {source + made} bytes at a time, and scratch_size is "
                f"{self._scratch.max_size}."
            )

    async def _fetch(
        self, source: Fetching, path: Path, inspection: Inspection, algorithms: Collection[str]
    ) -> Sent:
        digesting = self._digests.open(sorted(algorithms))
        reservation = await self._arena.reserve(BLOCK)
        file = -1
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            (block, *_), size = reservation.blocks, 0
            while count := await source.readinto(block):
                self._require_room(size + count, 0)
                data = block[:count]
                digesting.feed(data)
                inspection.feed(data)
                await run_through(None, write_at, file, data, size)
                await digesting.mark()
                size += count
            return Sent(size, digesting.hexdigests())
        finally:
            digesting.drop()
            reservation.release()
            if file >= 0:
                os.close(file)


def _make_hole(path: Path, size: int) -> None:
    with path.open("xb") as file:
        file.truncate(size)
