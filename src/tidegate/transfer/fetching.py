"""Bytes in from elsewhere: one stream, taken up where it broke for as long as it is the same thing.

Whatever goes wrong here is the source's doing: SourceBroke, in words that tell nobody what lies
behind an address.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Self

from tidegate.domain.errors import (
    ObjectChanged,
    ObjectMissing,
    SourceBroke,
    StoreBroke,
    StoreDown,
    StoreError,
)
from tidegate.domain.image import Location
from tidegate.stores.base import Reading, Store, Stored
from tidegate.telemetry import log

TRIES = 10
"""How often, in all, a source that broke off is opened again."""

PAUSE = 0.2
"""Seconds before the first of them; each pause is twice the one before, up to LONGEST_PAUSE."""

LONGEST_PAUSE = 5.0

MIN_RATE = 1024
"""Bytes per second, averaged over ``patience``, below which a source is given up."""

UNREACHABLE = "The source is not reachable."
CHANGED = "The source changed while it was read."


class Fetching:
    """A whole object as a source, open while its context is. ``patience`` is seconds.

    Entering it: SourceBroke, LocationRefused. ``size`` is what the source announces (bytes; None:
    nothing), and never more or fewer bytes end well then. It is opened again only if it says its
    size, and by ``ETag`` or ``Last-Modified`` which version this is.
    """

    def __init__(self, store: Store, key: str, *, patience: float) -> None:
        self._store = store
        self._key = key
        self._patience = patience
        self._stack = AsyncExitStack()
        self._reading: Reading | None = None
        self._first = Stored(None)
        self._tries = 0
        self._waited = 0.0
        self._came = 0
        self.received = 0

    @property
    def size(self) -> int | None:
        return self._first.size

    async def __aenter__(self) -> Self:
        try:
            self._first = await self._open()
        except StoreError as error:
            raise SourceBroke(UNREACHABLE) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def readinto(self, block: memoryview) -> int:
        """SourceBroke."""
        while True:
            begun = time.monotonic()
            try:
                count = await self._read(block)
            except StoreError as error:
                await self._reopen(error)
                continue
            self.received += count
            self._judge_rate(count, time.monotonic() - begun)
            return count

    async def _open(self) -> Stored:
        self._reading = None
        await self._stack.aclose()
        reading = self._store.read(self._key, self.received, etag=self._first.etag)
        self._reading = await self._stack.enter_async_context(reading)
        return self._reading.stored

    async def _read(self, block: memoryview) -> int:
        assert self._reading is not None
        count = await self._reading.readinto(block)
        if not count and self.size not in (None, self.received):
            raise StoreBroke(self._store.id, "the source ended early")
        return count

    async def _reopen(self, broke: StoreError) -> None:
        first = self._first
        log.info("source broke off", store=self._store.id, bytes=self.received, of=first.size,
                 error=broke.reason)  # fmt: skip
        if first.size is None or (first.etag is None and first.last_modified is None):
            raise SourceBroke(
                f"The source broke off after {self.received} bytes, and says too little of itself "
                "to go on from there."
            ) from broke
        while self._tries < TRIES:
            pause = min(LONGEST_PAUSE, PAUSE * 2**self._tries)
            self._tries += 1
            await asyncio.sleep(pause)
            try:
                now = await self._open()
            except (ObjectMissing, ObjectChanged) as error:
                raise SourceBroke(CHANGED) from error
            except StoreError:
                continue
            if now != first:
                raise SourceBroke(CHANGED)
            return
        raise SourceBroke(
            f"The source broke off after {self.received} of {first.size} bytes, again and again."
        ) from broke

    def _judge_rate(self, count: int, seconds: float) -> None:
        # only time spent waiting for the source counts, never for our memory or the store
        self._came += count
        self._waited += seconds
        if self._waited >= self._patience:
            if self._came < MIN_RATE * self._patience and count:
                raise SourceBroke(f"The source gives less than {MIN_RATE} bytes per second.")
            self._came, self._waited = 0, 0.0


@asynccontextmanager
async def fetching_from_one_of(
    stores: Mapping[str, Store], locations: Iterable[Location], *, patience: float
) -> AsyncIterator[Fetching]:
    """Open at the first location that can be opened, our own before others. SourceBroke,
    StoreDown, LocationRefused: why the last cannot."""
    places = sorted(locations, key=lambda location: not location.own)
    async with AsyncExitStack() as stack:
        for left, place in zip(range(len(places) - 1, -1, -1), places, strict=True):
            store = stores.get(place.store)
            try:
                if store is None:
                    raise StoreDown(place.store, "it is not configured on this node")
                fetching = Fetching(store, place.key, patience=patience)
                source = await stack.enter_async_context(fetching)
            except (SourceBroke, StoreDown):
                if not left:
                    raise
            else:
                break
        yield source
