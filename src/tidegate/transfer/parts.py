"""The size of a part: pure arithmetic, tested at its limits."""

from dataclasses import dataclass

from tidegate.domain.errors import TooLarge
from tidegate.stores.base import Limits
from tidegate.transfer.memory import BLOCK

GROWTH = 500
"""A part is never smaller than 1/GROWTH of what went before it: with 10,000 parts of at most
half of a 256 MiB budget that reaches past 1 TiB."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a body is cut. ``size`` is the first part's and, for a known length, every part's but
    the last; an unknown length grows up to ``largest``. All are bytes, multiples of a block."""

    size: int
    largest: int
    declared: int | None

    def next(self, done: int) -> int:
        """The size of the part that begins at offset ``done``; 0: a known length is through."""
        if self.declared is not None:
            return min(self.size, self.declared - done)
        return min(self.largest, max(self.size, _whole_blocks(done // GROWTH)))


def plan(declared: int | None, *, framed: bool, start: int, budget: int, limits: Limits) -> Plan:
    """Cut a body of ``declared`` bytes (None: unknown) for a store with ``limits``.

    ``framed``: the body's framing ends it after ``declared`` bytes; otherwise the number is a
    client's word, and only the end of the body is its end. No part is larger than half of
    ``budget``, since a part is kept for its resend while the next one fills. Raises TooLarge
    when the declared size is out of reach.
    """
    largest = max(BLOCK, min(limits.max_part, budget // 2) // BLOCK * BLOCK)
    size = min(largest, _whole_blocks(max(start, limits.min_part)))
    if declared is None:
        return Plan(size, largest, None)
    if declared > limits.max_object:
        raise TooLarge(
            f"The store takes objects of at most {limits.max_object} bytes; "
            f"{declared} bytes were announced."
        )
    needed = _whole_blocks(-(-declared // limits.parts))
    if needed > largest:
        raise TooLarge(
            f"An image of {declared} bytes needs parts of {needed} bytes, more than half of "
            f"memory_budget; with this memory_budget at most {largest * limits.parts} bytes can "
            f"be uploaded."
        )
    return Plan(max(size, needed), largest, declared if framed else None)


def _whole_blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
