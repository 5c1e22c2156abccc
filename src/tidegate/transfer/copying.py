"""An object made by its store of another of its objects: none of the bytes comes here."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from awscrt.checksums import combine_crc64nvme

from tidegate.domain.errors import (
    ObjectChanged,
    ObjectMissing,
    SourceBroke,
    StoreBroke,
    StoreError,
    first_failure,
)
from tidegate.domain.upload import Sent
from tidegate.killpoints import kill_point
from tidegate.stores.base import Part, Store, Stored, Writing
from tidegate.transfer.fetching import CHANGED
from tidegate.transfer.inspect import Inspection
from tidegate.transfer.parts import plan

PART = 64 * 2**20
"""Bytes that one call copies, unless the object would then have too many parts: a slow store is
done with them well before it counts as silent."""


@dataclass(slots=True, kw_only=True)
class Original:
    """An object, its version, and what is known of its bytes; ``formats`` are its disk_format and
    container_format. ``received`` counts the bytes that were copied."""

    key: str
    etag: str | None
    sent: Sent
    formats: tuple[str | None, str | None]
    received: int = 0


class Copying:
    """The sibling of ``Sending``. No part is larger than the store takes; ``in_flight`` are asked
    for at a time. Nothing is held here, and an object of no bytes is just put."""

    def __init__(
        self,
        original: Original,
        store: Store,
        key: str,
        *,
        in_flight: int,
        began: Callable[[str], Awaitable[None]],
    ) -> None:
        self._original = original
        self._store = store
        self._key = key
        self._slots = asyncio.Semaphore(in_flight)
        self._began = began
        self._writing: Writing | None = None
        self._parts: dict[int, tuple[int, int | None]] = {}
        self.step = "copying"
        self.finishing = False

    @property
    def received(self) -> int:
        return self._original.received

    @property
    def upload_id(self) -> str | None:
        return None if self._writing is None else self._writing.upload_id

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    async def run(self, inspection: Inspection | None = None) -> Sent:
        """What is known of the original, once its bytes are copied and, where the store tells what
        they are, are known to be these. Nobody can look into them. SourceBroke: the original is
        gone, or another; NotCopied, StoreError."""
        assert inspection is None
        if self._original.sent.size:
            try:
                async with asyncio.TaskGroup() as group:
                    await self._copy(group)
            except BaseExceptionGroup as failures:
                raise first_failure(failures) from failures
            self._verify()
        return replace(self._original.sent, parts=max(1, len(self._parts)))

    async def finish(self) -> Stored:
        self.step = "complete"
        self.finishing = True
        sent = self._original.sent
        if self._writing is None:
            return await self._store.put(self._key, Part(1, 0, 0, [], 0))
        return await self._writing.complete(sent.size, sent.crc64nvme)

    async def _copy(self, group: asyncio.TaskGroup) -> None:
        size, limits = self._original.sent.size, self._store.limits
        # no memory is needed, so none bounds a part
        cut = plan(size, framed=True, start=PART, budget=2 * limits.max_part, limits=limits)
        self.step = "begin"
        self._writing = await self._store.begin(self._key)
        kill_point("after_create")
        await self._began(self._writing.upload_id)
        kill_point("after_create_recorded")
        self.step = "copying"
        start = number = 0
        while start < size:
            await self._slots.acquire()
            number, stop = number + 1, start + cut.next(start)
            group.create_task(self._copy_part(self._writing, number, start, stop))
            start = stop

    async def _copy_part(self, writing: Writing, number: int, start: int, stop: int) -> None:
        original = self._original
        try:
            crc = await writing.copy_part(number, original.key, start, stop, etag=original.etag)
        except StoreError as error:
            self.step = f"part {number}"
            if isinstance(error, ObjectMissing | ObjectChanged):
                raise SourceBroke(CHANGED) from error
            raise
        kill_point("after_part")
        self._parts[number] = stop - start, crc
        original.received += stop - start
        self._slots.release()

    def _verify(self) -> None:
        """StoreBroke: the parts are other bytes than the original's."""
        whole = 0
        for number in sorted(self._parts):
            size, crc = self._parts[number]
            if crc is None:
                return
            whole = combine_crc64nvme(whole, crc, size)
        if whole != self._original.sent.crc64nvme:
            raise StoreBroke(self._store.id, "the copy is not what was uploaded")
