"""Bodies on their way in."""

from collections.abc import Awaitable, Callable

from tidegate.domain.errors import ClientGone


def pattern(size: int, seed: int = 0) -> bytes:
    """Bytes in which every place is told from its neighbours, and every seed from another."""
    unit = bytes((value + seed) % 251 for value in range(251))
    return (unit * (size // 251 + 1))[:size]


class Bytes:
    """A source of given bytes, in uneven steps. ``breaks_at``: the client goes after so many;
    ``at_byte``: awaited once when so many were taken."""

    def __init__(
        self,
        data: bytes,
        *,
        breaks_at: int | None = None,
        at_byte: tuple[int, Callable[[], Awaitable[None]]] | None = None,
    ) -> None:
        self.data = data
        self.at = 0
        self.breaks_at = breaks_at
        self.at_byte = at_byte

    async def readinto(self, block: memoryview) -> int:
        if self.at_byte is not None and self.at >= self.at_byte[0]:
            hook, self.at_byte = self.at_byte[1], None
            await hook()
        if self.breaks_at is not None and self.at >= self.breaks_at:
            raise ClientGone("The client broke off before it had sent all of the data.")
        count = min(len(block), len(self.data) - self.at, 70_001)
        block[:count] = self.data[self.at : self.at + count]
        self.at += count
        return count
