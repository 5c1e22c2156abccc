import asyncio

import pytest

from tidegate.transfer.memory import BLOCK, Arena


async def test_a_reservation_is_whole_blocks_of_the_arena() -> None:
    arena = Arena(8 * BLOCK)
    reservation = await arena.reserve(2 * BLOCK + 1)
    assert [len(block) for block in reservation.blocks] == [BLOCK] * 3
    assert arena.in_use == 3 * BLOCK


async def test_nothing_is_reserved_for_no_bytes_but_one_block() -> None:
    assert len((await Arena(4 * BLOCK).reserve(0)).blocks) == 1


async def test_releasing_twice_gives_back_once() -> None:
    arena = Arena(4 * BLOCK)
    reservation = await arena.reserve(BLOCK)
    reservation.release()
    reservation.release()
    assert arena.in_use == 0
    assert len((await arena.reserve(4 * BLOCK)).blocks) == 4


async def test_who_finds_no_room_waits_and_is_served_in_order() -> None:
    arena = Arena(2 * BLOCK)
    first = await arena.reserve(2 * BLOCK)
    order: list[str] = []

    async def take(name: str, size: int) -> None:
        reservation = await arena.reserve(size)
        order.append(name)
        reservation.release()

    async with asyncio.TaskGroup() as group:
        group.create_task(take("large", 2 * BLOCK))
        await asyncio.sleep(0)
        group.create_task(take("small", BLOCK))
        await asyncio.sleep(0)
        assert arena.waiting == 2
        first.release()
    assert order == ["large", "small"]


async def test_a_large_reservation_is_not_passed_by_smaller_ones() -> None:
    arena = Arena(4 * BLOCK)
    held = await arena.reserve(2 * BLOCK)
    large = asyncio.ensure_future(arena.reserve(3 * BLOCK))
    await asyncio.sleep(0)
    small = asyncio.ensure_future(arena.reserve(BLOCK))
    await asyncio.sleep(0)
    assert not small.done()
    held.release()
    assert len((await large).blocks) == 3
    assert len((await small).blocks) == 1


async def test_a_cancelled_waiter_leaves_the_line_and_loses_nothing() -> None:
    arena = Arena(2 * BLOCK)
    held = await arena.reserve(2 * BLOCK)
    waiting = asyncio.ensure_future(arena.reserve(2 * BLOCK))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert arena.waiting == 0
    held.release()
    assert arena.in_use == 0


async def test_a_waiter_cancelled_just_when_served_gives_its_blocks_back() -> None:
    arena = Arena(2 * BLOCK)
    held = await arena.reserve(2 * BLOCK)
    waiting = asyncio.ensure_future(arena.reserve(BLOCK))
    await asyncio.sleep(0)
    held.release()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert arena.in_use == 0


async def test_more_than_the_arena_can_never_be_reserved() -> None:
    with pytest.raises(ValueError, match="never"):
        await Arena(2 * BLOCK).reserve(3 * BLOCK)


async def test_trimming_an_arena_in_use_keeps_its_bytes() -> None:
    arena = Arena(2 * BLOCK)
    reservation = await arena.reserve(BLOCK)
    reservation.blocks[0][:4] = b"tide"
    arena.trim()
    assert bytes(reservation.blocks[0][:4]) == b"tide"


async def test_trimming_an_idle_arena_drops_its_bytes() -> None:
    arena = Arena(2 * BLOCK)
    reservation = await arena.reserve(BLOCK)
    block = reservation.blocks[0]
    block[:4] = b"tide"
    reservation.release()
    arena.trim()
    assert bytes(block[:4]) == bytes(4)
