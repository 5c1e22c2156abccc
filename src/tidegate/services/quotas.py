"""What projects may hold, and reading no further than that."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from tidegate.domain.errors import TooLarge
from tidegate.domain.quota import Allowance
from tidegate.settings import Quotas
from tidegate.transfer.upload import Source

STEP = 64 * 2**20
"""Bytes that are reserved at a time, at least, for a body of unknown length."""

_GROWTH = 8


class Limits(Protocol):
    async def of(self, project: str) -> Allowance:
        """IdentityDown: nobody can say now."""


class ProjectQuotas:
    """The one place where a project's allowance is asked for; by the settings all have the same,
    and what no project owns. ``limits`` knows of each project its own."""

    def __init__(self, quotas: Quotas, limits: Limits | None = None) -> None:
        self._allowance = Allowance(
            images=None if quotas.images < 0 else quotas.images,
            bytes=None if quotas.bytes < 0 else quotas.bytes,
        )
        self._limits = limits

    async def of(self, project: str | None) -> Allowance:
        """IdentityDown."""
        if self._limits is None or project is None:
            return self._allowance
        return await self._limits.of(project)


class Rationed:
    """A body of unknown length, of which no byte is read before there is room for it.

    ``reserve`` is asked for so many bytes at most and gives how many there are, or raises
    TooLarge.
    """

    def __init__(self, source: Source, reserve: Callable[[int], Awaitable[int]]) -> None:
        self._source = source
        self._reserve = reserve
        self._reserved = 0
        self._read = 0

    async def readinto(self, block: memoryview) -> int:
        if self._read == self._reserved:
            try:
                self._reserved += await self._reserve(max(STEP, self._reserved // _GROWTH))
            except TooLarge:
                if await self._source.readinto(memoryview(bytearray(1))):
                    raise
                return 0  # the body ends where the room does
        count = await self._source.readinto(block[: self._reserved - self._read])
        self._read += count
        return count
