"""What may go well another time, tried a few times."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

from tidegate.domain.errors import (
    SourceBroke,
    StoreError,
    StoreFull,
    StoreReadOnly,
    TargetBroke,
    TargetRefused,
)

T = TypeVar("T")

TRIES = 3
"""How often in all, each from the start."""

_BROKE = (SourceBroke, StoreError, TargetBroke)
_FINAL = (StoreFull, StoreReadOnly, TargetRefused)


async def again_and_again(once: Callable[[], Awaitable[T]]) -> T:
    """``once()``, repeated while a source, store or target breaks off."""
    async for attempt in stamina.retry_context(
        on=lambda error: isinstance(error, _BROKE) and not isinstance(error, _FINAL),
        attempts=TRIES,
        timeout=None,
        wait_initial=1.0,
        wait_max=10.0,
        wait_jitter=1.0,
    ):
        with attempt:
            answer = await once()
    return answer
