"""How fast something may go: a token bucket without a burst."""

import time
from collections.abc import Callable


class Pace:
    """``rate`` is bytes a second; 0: no limit."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._paid_until = 0.0

    def spend(self, count: int) -> float:
        """So many bytes went: how many seconds to wait before the next ones. Time that was not
        used is lost."""
        if not self._rate:
            return 0.0
        now = self._clock()
        self._paid_until = max(self._paid_until, now) + count / self._rate
        return self._paid_until - now
