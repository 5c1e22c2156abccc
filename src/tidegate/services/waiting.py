"""Waiting for what may come sooner than the clock."""

import asyncio
from contextlib import suppress


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set within so many seconds. Unlike a cancelled sleep, an event cuts
    nothing short that the waiting task does between two waits."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
