"""Bodies of unknown length, and what there is room for."""

import pytest
from tests.kit.sources import Bytes

from tidegate.domain.errors import TooLarge
from tidegate.domain.quota import Allowance
from tidegate.services.quotas import STEP, ProjectQuotas, Rationed
from tidegate.settings import Quotas


class Room:
    """So many bytes; ``asked`` are the requests for some of them."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.asked: list[int] = []

    async def reserve(self, most: int) -> int:
        self.asked.append(most)
        if not self.left:
            raise TooLarge("no room")
        granted = min(most, self.left)
        self.left -= granted
        return granted


async def read(source: Rationed, block: int = 4) -> bytes:
    found = b""
    buffer = memoryview(bytearray(block))
    while count := await source.readinto(buffer):
        found += buffer[:count]
    return found


@pytest.mark.parametrize("size", [0, 1, 9, 10])
async def test_what_fits_comes_through(size: int) -> None:
    data = bytes(range(size))
    assert await read(Rationed(Bytes(data), Room(10).reserve)) == data


@pytest.mark.parametrize("block", [1, 4, 100])
async def test_not_one_byte_more_is_let_through(block: int) -> None:
    source = Bytes(bytes(11))
    with pytest.raises(TooLarge):
        await read(Rationed(source, Room(10).reserve), block)
    assert source.at == 11  # the last of them is how it was told from the end


async def test_steps_grow_with_what_came() -> None:
    class Endless:
        async def readinto(self, block: memoryview) -> int:
            return len(block)

    room = Room(12 * STEP)
    source = Rationed(Endless(), room.reserve)
    block = memoryview(bytearray(STEP))
    for _ in range(12):
        await source.readinto(block)
    assert room.asked[0] == STEP
    assert room.asked == sorted(room.asked)
    assert room.asked[-1] > STEP


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ({}, Allowance()),
        ({"images": -5, "bytes": ""}, Allowance()),
        ({"images": 0, "bytes": "1KiB"}, Allowance(images=0, bytes=1024)),
        ({"bytes": 0}, Allowance(bytes=0)),
    ],
)
async def test_the_settings_are_every_projects(
    given: dict[str, object], allowed: Allowance
) -> None:
    quotas = ProjectQuotas(Quotas.model_validate(given))
    assert await quotas.of("p") == await quotas.of(None) == allowed
