"""The contract of a store: it keeps bytes under keys, and every promise here is a test.

A key is used once, by one attempt. Bytes are unseen under their key until ``put`` returns or
``complete`` is confirmed. Slicing, hashing, verifying, budgets and metrics live above, once; the
one retry loop of each store lives in the store. A store raises ``StoreError`` and its kin only.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

Blocks = Sequence[memoryview]
"""Bytes of a part, in order, as slices of the transfer's memory; never copied, never kept."""


@dataclass(frozen=True, slots=True)
class Part:
    """A slice of an object on its way in. ``number`` counts from 1; ``offset`` and ``size`` are
    bytes; ``crc64nvme`` is of these bytes, for the store to verify."""

    number: int
    offset: int
    size: int
    blocks: Blocks
    crc64nvme: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Can:
    """What a store is able to do; callers ask, they do not try."""

    write: bool = True
    multipart: bool = True
    ranges: bool = True
    part_checksum: str | None = None  # what the store verifies on arrival: crc64nvme, md5, …
    zero_copy: bool = False  # a reading may have a descriptor
    unfinished: bool = True  # can list uploads that were begun and not ended
    copy: bool = False  # a part may be bytes of another of its objects


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bytes, but for ``parts`` (a count). Every part but the last is at least ``min_part``.
    ``settles`` is seconds after which a request that was given up does nothing any more."""

    min_part: int
    max_part: int
    max_object: int
    parts: int = 10_000
    settles: float = 0.0


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store says of an object. ``etag`` names this version of the bytes (None: no such
    notion); ``crc64nvme`` is of the whole object where the store knows it; ``modified`` is
    seconds since 1970 by the store's clock, said by ``look`` alone; ``last_modified`` is when the
    bytes last changed, in words of a source that is not ours."""

    size: int | None
    etag: str | None = None
    crc64nvme: int | None = None
    modified: float | None = field(default=None, compare=False)
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A finished object as a list shows it; ``md5`` (hex) is of its bytes, where the list tells."""

    key: str
    size: int
    md5: str | None = None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An upload begun and neither completed nor aborted; ``begun`` is seconds since 1970."""

    key: str
    upload_id: str
    begun: float


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A file descriptor that gives the asked bytes: a regular file from ``offset`` on
    (``sendfile``), or, with ``offset`` None, a socket after ``early`` was sent (``splice``).
    It belongs to the reading and ends with it."""

    fd: int
    offset: int | None
    early: bytes = b""


class Writing(Protocol):
    """One object on its way in."""

    @property
    def upload_id(self) -> str: ...

    async def put_part(self, part: Part) -> None:
        """Send one part; in any order, many at once, again if need be. Retries inside, also
        when the store says that other bytes arrived. StoreBroke, StoreDown, StoreFull."""

    async def copy_part(
        self, number: int, source: str, start: int, stop: int, *, etag: str | None
    ) -> int | None:
        """Let the store make one part of bytes [start, stop) of another of its objects, of the
        version ``etag``; as ``put_part`` in all else. The part's CRC-64/NVME, where the store
        tells it. ObjectMissing, ObjectChanged: of the source; NotCopied: the store cannot."""

    async def complete(self, size: int, crc64nvme: int | None) -> Stored:
        """Make the object of all parts put, and confirm it.

        An error or silence of the store is ambiguous: it is looked at (the object's size) before
        this raises. Raises StoreBroke or StoreDown when the object is not there, or it cannot be
        told; then ``abort`` and ``delete`` are owed by the caller.
        """


class Reading(Protocol):
    """Bytes of an object on their way out; ``stored`` describes the whole object."""

    @property
    def stored(self) -> Stored: ...

    @property
    def descriptor(self) -> Descriptor | None:
        """Where the bytes can be taken from without passing through this process (asked once,
        before the first ``readinto``); None: only ``readinto`` gives them."""

    async def readinto(self, block: memoryview) -> int:
        """Fill some of ``block`` with the next bytes of the asked range; how many, 0 only at its
        end. StoreBroke when the store breaks off."""


class Store(Protocol):
    """A named place for bytes."""

    @property
    def id(self) -> str: ...

    @property
    def can(self) -> Can: ...

    @property
    def limits(self) -> Limits: ...

    async def open(self) -> None:
        """Make ready: connect, make the bucket or folder if allowed. StoreError if impossible."""

    async def close(self) -> None: ...

    async def ping(self) -> None:
        """Answer soon that the store is there, or raise StoreDown."""

    def url(self, key: str) -> str:
        """The location's URL as shown to those who may see it; never holds a secret."""

    async def put(self, key: str, part: Part) -> Stored:
        """Store a whole object in one request; afterwards it is durable and readable."""

    async def begin(self, key: str) -> Writing:
        """Begin an object of several parts. Where the store's answer was lost, ``unfinished`` may
        list a second upload of the key, which is never the one that is returned."""

    async def look(self, key: str) -> Stored:
        """Size and version of an object, asked from the store. ObjectMissing."""

    def read(
        self, key: str, start: int = 0, stop: int | None = None, *, etag: str | None = None
    ) -> AbstractAsyncContextManager[Reading]:
        """Bytes [start, stop) of an object (stop None: to its end). With ``etag``, of that
        version only. ObjectMissing, ObjectChanged, StoreDown; StoreBroke in the middle."""

    async def delete(self, key: str) -> None:
        """Remove an object; of what is not there: a success."""

    async def abort(self, key: str, upload_id: str) -> None:
        """End a begun upload and free its parts; again and again; of none: a success."""

    def unfinished(self, prefix: str = "") -> AsyncIterator[Unfinished]: ...

    def keys(self, prefix: str = "") -> AsyncIterator[Listed]:
        """The finished objects whose key begins with ``prefix``, a page at a time and in no order.
        What comes or goes meanwhile may be among them or not. StoreError: the list breaks off."""
