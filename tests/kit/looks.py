"""Waiting for the jobs of a running gateway: after each look, and not after some time."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Looks:
    def __init__(self) -> None:
        self._looked: asyncio.Queue[None] = asyncio.Queue()

    @contextmanager
    def at(self, job: Any) -> Iterator[None]:
        """Watch this class of jobs, which begin to work inside."""
        once = job.once

        async def look(one: Any) -> int:
            try:
                done: int = await once(one)
                return done
            finally:
                self._looked.put_nowait(None)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(job, "once", look)
            yield

    async def next(self) -> None:
        """Until a look has ended."""
        async with asyncio.timeout(20):
            await self._looked.get()

    async def until(self, true: Callable[[], bool], *, within: float = 20) -> None:
        """Until it is so after a look."""
        async with asyncio.timeout(within):
            while not true():
                await self._looked.get()
