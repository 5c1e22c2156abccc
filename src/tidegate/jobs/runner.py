"""Work on the clock: each job runs by itself, again and again, and its failure is only logged."""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Protocol

from tidegate.services.waiting import set_within
from tidegate.telemetry import log


class Job(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def every(self) -> float:
        """Seconds between two looks."""

    async def once(self) -> int:
        """One look; how many things were mended."""


LOOK_WITHIN = 120.0
"""Seconds that a look may last, unless its job is known to take longer."""

CLOSE_WITHIN = 10.0
"""Seconds that a look which is under way has to end when the runner is closed."""


class Runner:
    """Runs each job at start, if they should ``look_at_once``, and then every ``every`` seconds,
    until closed. ``deadline`` is seconds of one look."""

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        deadline: float | None = LOOK_WITHIN,
        look_at_once: bool = True,
    ) -> None:
        self._jobs = jobs
        self._deadline = deadline
        self._look_at_once = look_at_once
        self._closing = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run(job), name=job.name) for job in self._jobs]

    async def close(self) -> None:
        # a statement cut short costs its connection: let what is under way end
        self._closing.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_WITHIN)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _run(self, job: Job) -> None:
        if not self._look_at_once:
            await self._wait(job)
        while not self._closing.is_set():
            begun = time.monotonic()
            try:
                async with asyncio.timeout(self._deadline):
                    mended = await job.once()
            except Exception as error:
                log.error("job failed", job=job.name, error=f"{type(error).__name__}: {error}")
            else:
                if mended:
                    log.info("job mended", job=job.name, count=mended,
                             seconds=round(time.monotonic() - begun, 3))  # fmt: skip
            await self._wait(job)

    async def _wait(self, job: Job) -> None:
        # several workers look at the same things: spread them
        await set_within(self._closing, job.every * random.uniform(0.8, 1.0))
