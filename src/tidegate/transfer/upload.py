"""Bytes in: source → blocks → digests | parts → store.

One direction, no copy that is not needed, no temporary file, never a whole image in memory. The
reading stops at the first part that fails.
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Protocol, Self

from awscrt.checksums import combine_crc64nvme, crc64nvme

from tidegate import telemetry
from tidegate.domain.errors import SizeMismatch, StoreError, TooLarge, first_failure
from tidegate.domain.upload import Sent
from tidegate.killpoints import kill_point
from tidegate.stores.base import Part, Store, Stored, Writing
from tidegate.transfer.digest import Digests
from tidegate.transfer.inspect import Inspection
from tidegate.transfer.memory import Arena, Reservation
from tidegate.transfer.parts import Plan


class Source(Protocol):
    """A body on its way in."""

    async def readinto(self, block: memoryview) -> int:
        """Fill some of ``block``; how many bytes, 0 only at the regular end. ClientGone,
        ClientStalled: whatever goes wrong here is the client's doing."""


class Sending:
    """One object on its way into a store.

    ``run`` reads the source to its end; ``finish`` makes the object. A body that fits one part
    is held and becomes one PutObject in ``finish``, so nothing reaches the store before the
    caller has verified it; not if it must be ``in_parts``, where the key may be another's by the
    time that a late request is carried out. Leaving the context releases the memory; ending what
    was begun at the store is the caller's, who knows ``upload_id`` and ``finishing``.
    """

    def __init__(
        self,
        source: Source,
        store: Store,
        key: str,
        *,
        plan: Plan,
        arena: Arena,
        digests: Digests,
        in_flight: int,
        max_size: int,
        expected_size: int | None,
        began: Callable[[str], Awaitable[None]],
        in_parts: bool = False,
    ) -> None:
        self._source = source
        self._store = store
        self._key = key
        self._plan = plan
        self._arena = arena
        self._digests = digests
        self._slots = asyncio.Semaphore(in_flight + 1)  # one fills while the others go out
        self._max_size = max_size
        self._expected_size = expected_size
        self._began = began
        self._in_parts = in_parts
        self._inspection: Inspection | None = None
        self._held: Reservation | None = None
        self._only_part: Part | None = None
        self._writing: Writing | None = None
        self._reservations: set[Reservation] = set()
        self._crc = 0
        self._parts = 0
        self.received = 0
        self.step = "reading"
        self.finishing = False

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
    ) -> None:
        self._digests.drop()
        for reservation in list(self._reservations):
            self._release(reservation)

    async def run(self, inspection: Inspection | None = None) -> Sent:
        """Read to the end, or until ``inspection`` refuses what comes. ClientGone, SizeMismatch,
        TooLarge, WrongFormat, UnsafeFormat, StoreError."""
        self._inspection = inspection
        try:
            async with asyncio.TaskGroup() as group:
                await self._read(group)
        except BaseExceptionGroup as failures:
            raise first_failure(failures) from failures
        self.step = "digests"
        await self._digests.mark()
        return Sent(self.received, self._digests.hexdigests(), self._crc, self._parts)

    async def finish(self) -> Stored:
        """Make the object of what was read. StoreError: it is not there, or cannot be told."""
        self.step = "complete"
        self.finishing = True
        if self._writing is not None:
            return await self._writing.complete(self.received, self._crc)
        assert self._only_part is not None
        return await self._store.put(self._key, self._only_part)

    async def _read(self, group: asyncio.TaskGroup) -> None:
        while True:
            size = self._plan.next(self.received)
            await self._slots.acquire()
            reservation = await self._arena.reserve(size)
            self._reservations.add(reservation)
            part, ended = await self._fill(reservation, size)
            if ended and self._writing is None and not self._in_parts:
                self._only_part = part
                self._parts = 1
                return
            if part.size > 0 or self._writing is None:
                if self._writing is None:
                    await self._begin()
                group.create_task(self._put(part, reservation))
                self._parts += 1
            else:
                self._release(reservation)
            if ended:
                return

    async def _begin(self) -> None:
        self.step = "begin"
        self._writing = await self._store.begin(self._key)
        kill_point("after_create")
        await self._began(self._writing.upload_id)
        kill_point("after_create_recorded")
        self.step = "reading"

    async def _fill(self, reservation: Reservation, size: int) -> tuple[Part, bool]:
        """Fill one part; True: the body ended with it. Blocks are hashed as they fill."""
        offset, left, crc = self.received, size, 0
        filled: list[memoryview] = []
        ended = False
        for block in reservation.blocks:
            room = block if left >= len(block) else block[:left]
            at = 0
            while at < len(room) and not ended:
                count = await self._source.readinto(room[at:])
                ended = count == 0
                at += count
                self._count(count)
            await asyncio.sleep(0)  # a client that is never behind must not have the loop alone
            if at:
                data = room[:at]
                self._digests.feed(data)
                if self._inspection is not None:
                    self._inspection.feed(data)
                crc = crc64nvme(data, crc)
                filled.append(data)
                left -= at
            if ended or left == 0:
                break
        done = size - left
        self._crc = combine_crc64nvme(self._crc, crc, done) if offset else crc
        if not ended and self._plan.declared is not None:
            ended = self.received == self._plan.declared
        return Part(self._parts + 1, offset, done, filled, crc), ended

    def _count(self, count: int) -> None:
        self.received += count
        telemetry.BYTES_IN.inc(count)
        if self._expected_size is not None and self.received > self._expected_size:
            raise SizeMismatch(self._expected_size, self.received)
        if self.received > self._max_size:
            raise TooLarge(
                f"The image is larger than max_image_size ({self._max_size} bytes) allows."
            )

    async def _put(self, part: Part, reservation: Reservation) -> None:
        assert self._writing is not None
        hashed = self._digests.mark()
        try:
            await self._writing.put_part(part)
        except StoreError:
            self.step = f"part {part.number}"
            raise
        kill_point("after_part")
        await hashed
        self._release(reservation)

    def _release(self, reservation: Reservation) -> None:
        self._reservations.discard(reservation)
        reservation.release()
        self._slots.release()
