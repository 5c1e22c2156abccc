"""Failed tokens of each client address, limited by a token bucket.

What is limited is the work that strangers cause. The bucket is asked before a token is checked at a
price, and before a failed one is answered: a token that is known to be good is let in, whatever
others behind the same address do.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from cachetools import TTLCache

from tidegate.domain.errors import Busy
from tidegate.telemetry import log

MOST_ADDRESSES = 10_000
"""Buckets that are kept, some 500 bytes each. One that is forgotten is full again."""

_FULL_AFTER = 60.0
"""Seconds in which any bucket fills up."""


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float
    told: bool = False


class FailedTokens:
    """Of one address ``per_minute`` in a row, and so many in each minute after; 0: no limit. An
    IPv6 network of 64 bits is one address, since whoever has one of it has all."""

    def __init__(self, per_minute: int = 0, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: in seconds, that never goes back."""
        self._most = per_minute
        self._clock = clock
        self._buckets: TTLCache[str, _Bucket] = TTLCache(MOST_ADDRESSES, _FULL_AFTER, timer=clock)

    def take(self, address: str) -> None:
        """One more of this address, unless it had its share already (Busy)."""
        if not self._most:
            return
        place, now = _place(address), self._clock()
        bucket = self._buckets.get(place) or _Bucket(self._most, now)
        rate = self._most / _FULL_AFTER
        bucket.left = min(self._most, bucket.left + (now - bucket.at) * rate)
        bucket.at = now
        self._buckets[place] = bucket
        if bucket.left >= 1:
            bucket.left -= 1
            return
        if not bucket.told:
            bucket.told = True
            log.warning("too many failed tokens", address=place)
        raise Busy(
            "Too many requests with tokens that are not valid came from your address.",
            retry_after=math.ceil((1 - bucket.left) / rate),
        )

    def give_back(self, address: str) -> None:
        """What was taken for a token that has not failed."""
        bucket = self._buckets.get(_place(address)) if self._most else None
        if bucket is not None:
            bucket.left = min(self._most, bucket.left + 1)


def _place(address: str) -> str:
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return f"{IPv6Address(int(found) >> 64 << 64)}/64"
    return str(found)
