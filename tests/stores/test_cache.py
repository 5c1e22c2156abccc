"""The folder of cached copies: one worker and several, and what deaths leave in it."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tidegate.domain.errors import ObjectChanged, StoreDown
from tidegate.stores.cache import CacheFolder
from tidegate.stores.cache_filling import Filling

MIB = 2**20
DATA = bytes(range(256)) * 4096  # 1 MiB
A = f"image-a+{'a' * 32}"
A2 = f"image-a+{'b' * 32}"
B = f"image-b+{'a' * 32}"
C = f"image-c+{'a' * 32}"


class Right:
    """Finds all bytes right, or none."""

    def __init__(self, right: bool = True) -> None:
        self._right = right

    def update(self, data: memoryview) -> None: ...

    def right(self) -> bool:
        return self._right


@asynccontextmanager
async def opened(path: Path, max_size: int = 10 * MIB) -> AsyncIterator[CacheFolder]:
    folder = CacheFolder(path / "cache", max_size)
    await folder.open()
    yield folder
    await folder.close()


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[CacheFolder]:
    async with opened(tmp_path) as found:
        yield found


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[CacheFolder]:
    """Another worker's."""
    async with opened(tmp_path) as found:
        yield found


async def begun(
    folder: CacheFolder, name: str, data: bytes = DATA, *, right: bool = True
) -> Filling:
    filling = await folder.begin(name, len(data), Right(right))
    assert filling is not None
    await asyncio.wrap_future(filling.write(memoryview(data)))
    return filling


async def ended(filling: Filling) -> bool:
    filling.finish()
    assert filling.finished is not None
    return await asyncio.wrap_future(filling.finished)


async def fill(folder: CacheFolder, name: str, data: bytes = DATA) -> bool:
    return await ended(await begun(folder, name, data))


async def use(folder: CacheFolder, name: str, data: bytes = DATA) -> bytes | None:
    async with folder.held(name, len(data)) as held:
        if held is None:
            return None
        block = memoryview(bytearray(len(data)))
        async with held.read("") as reading:
            at = 0
            while count := await reading.readinto(block[at:]):
                at += count
        return bytes(block[:at])


async def names(folder: CacheFolder) -> set[str]:
    return {entry.name for entry in await folder.entries()}


def parts(path: Path) -> list[str]:
    return os.listdir(path / "cache" / "filling")


async def test_a_copy_gives_back_its_bytes_and_counts(folder: CacheFolder) -> None:
    assert await use(folder, A) is None
    assert await fill(folder, A)
    assert await use(folder, A) == DATA
    (entry,) = await folder.entries()
    assert (entry.image_id, entry.size, entry.hits) == ("image-a", MIB, 1)
    assert entry.used >= entry.made


async def test_a_copy_is_not_seen_before_it_is_whole(folder: CacheFolder) -> None:
    filling = await begun(folder, A)
    assert await use(folder, A) is None
    assert await names(folder) == set()
    assert await ended(filling)
    assert await names(folder) == {A}


@pytest.mark.parametrize("short", [True, False])
async def test_a_short_or_wrong_one_is_none(
    folder: CacheFolder, tmp_path: Path, short: bool
) -> None:
    filling = await folder.begin(A, MIB + short, Right(short))
    assert filling is not None
    await asyncio.wrap_future(filling.write(memoryview(DATA)))
    assert not await ended(filling)
    assert await names(folder) == set()
    assert parts(tmp_path) == []


async def test_one_that_is_left_is_none_and_can_be_begun_again(
    folder: CacheFolder, tmp_path: Path
) -> None:
    filling = await begun(folder, A)
    filling.leave()
    assert filling.finished is not None
    await asyncio.wrap_future(filling.finished)
    assert parts(tmp_path) == []
    assert await fill(folder, A)


async def test_of_two_workers_one_makes_the_copy(folder: CacheFolder, other: CacheFolder) -> None:
    filling = await begun(folder, A)
    assert await other.begin(A, MIB, Right()) is None
    assert await other.sweep() == 0  # it is being made
    assert await ended(filling)
    assert await other.begin(A, MIB, Right()) is None
    assert await use(other, A) == DATA


async def test_two_workers_count_together(folder: CacheFolder, other: CacheFolder) -> None:
    await fill(folder, A)
    for _ in range(3):
        await asyncio.gather(*(use(one, A) for one in (folder, other, other)))
        await asyncio.gather(folder.note_uses(), other.note_uses())
    (entry,) = await folder.entries()
    assert entry.hits == 9


async def test_room_is_made_by_last_use_of_any_worker(tmp_path: Path) -> None:
    async with opened(tmp_path, 2 * MIB + 1000) as one, opened(tmp_path, 2 * MIB + 1000) as two:
        await fill(one, A)
        await fill(one, B)
        await use(two, A)
        await two.note_uses()
        assert await fill(one, C)
        assert await names(one) == {A, C}


async def test_what_is_being_made_counts_and_is_never_removed_for_room(tmp_path: Path) -> None:
    async with opened(tmp_path, 2 * MIB + 1000) as one, opened(tmp_path, 2 * MIB + 1000) as two:
        making = await begun(one, A)
        also = await begun(two, B)
        third = await begun(one, C)  # finds no room
        assert not await ended(third)
        assert await ended(making)
        assert await ended(also)
        assert await names(one) == {A, B}
        used = sum(file.stat().st_size for file in (tmp_path / "cache" / "entries").iterdir())
        assert 2 * MIB < used <= 2 * MIB + 1000


async def test_a_smaller_limit_is_heeded_at_the_start(tmp_path: Path) -> None:
    async with opened(tmp_path) as folder:
        await fill(folder, A)
        await fill(folder, B)
        await use(folder, A)
    async with opened(tmp_path, 2 * MIB) as folder:
        assert await names(folder) == {A}


async def test_a_new_copy_of_an_image_replaces_the_old_one(folder: CacheFolder) -> None:
    await fill(folder, A)
    await fill(folder, B)
    await fill(folder, A2)
    assert await names(folder) == {A2, B}


async def test_who_reads_a_copy_that_is_removed_reads_on(folder: CacheFolder) -> None:
    await fill(folder, A)
    async with folder.held(A, MIB) as held:
        assert held is not None
        assert await folder.drop([A]) == 1
        block = memoryview(bytearray(MIB))
        async with held.read("", 10) as reading:
            assert await reading.readinto(block) == MIB - 10
        assert block[: MIB - 10] == DATA[10:]
    assert await use(folder, A) is None


async def test_a_file_that_gets_shorter_while_it_is_read(
    folder: CacheFolder, tmp_path: Path
) -> None:
    await fill(folder, A)
    async with folder.held(A, MIB) as held:
        assert held is not None
        os.truncate(tmp_path / "cache" / "entries" / A, 100)
        async with held.read("", 200) as reading:
            with pytest.raises(ObjectChanged):
                await reading.readinto(memoryview(bytearray(10)))


@pytest.mark.parametrize("kind", ["empty", "other size", "trailer", "link", "folder"])
async def test_what_is_no_copy_is_removed_and_never_read(
    folder: CacheFolder, tmp_path: Path, kind: str
) -> None:
    await fill(folder, A)
    path = tmp_path / "cache" / "entries" / A
    if kind == "empty":
        os.truncate(path, 0)
    elif kind == "trailer":
        with path.open("r+b") as file:
            file.seek(MIB + 9)
            file.write(b"\xff")
    elif kind == "link":
        path.unlink()
        path.symlink_to("/etc/passwd")
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    size = MIB if kind != "other size" else MIB + 1
    async with folder.held(A, size) as held:
        assert held is None
    if kind in ("empty", "other size", "trailer"):
        assert not path.exists()


async def test_the_queue_is_shared_and_in_order(folder: CacheFolder, other: CacheFolder) -> None:
    for number, image_id in enumerate(("z", "a", "m")):
        await folder.enqueue(image_id)
        os.utime(Path(folder._queue) / image_id, (number, number))
    assert await other.queued() == ["z", "a", "m"]
    assert await other.dequeue(["a", "../../lock"]) == 1
    assert await folder.queued() == ["z", "m"]


async def test_of_two_workers_one_has_the_turn(
    folder: CacheFolder, other: CacheFolder, tmp_path: Path
) -> None:
    await folder.take_turn(60)
    os.utime(tmp_path / "cache" / "lock", (1, 1))
    assert sorted([await folder.take_turn(60), await other.take_turn(60)]) == [False, True]


async def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(StoreDown, match="cannot be used"):
        async with opened(tmp_path):
            pass


async def test_a_folder_that_vanishes_costs_the_copies_alone(
    folder: CacheFolder, tmp_path: Path
) -> None:
    await fill(folder, A)
    (tmp_path / "cache").rename(tmp_path / "away")
    assert await use(folder, A) is None
    assert await folder.begin(A, MIB, Right()) is None
    await folder.sweep()
    assert await fill(folder, A)


async def test_a_file_size_limit_is_a_full_disk(folder: CacheFolder, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB // 2, before[1]))
    try:
        filling = await begun(folder, A)
        assert not await ended(filling)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert parts(tmp_path) == []
    assert await fill(folder, A)


WORKER = """
import asyncio, sys
from pathlib import Path
from tests.stores.test_cache import A, B, C, MIB, fill
from tidegate.stores.cache import CacheFolder

async def main():
    folder = CacheFolder(Path(sys.argv[1]) / "cache", 2 * MIB + 1000)
    await folder.open()
    await fill(folder, globals()[sys.argv[2]])

asyncio.run(main())
"""


def kill_at(point: str, path: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(path), name],
        env={**os.environ, "TIDEGATE_KILL": point, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("point", ["cache_half_filled", "cache_whole", "cache_published"])
async def test_a_death_while_a_copy_is_made(tmp_path: Path, point: str) -> None:
    kill_at(point, tmp_path, "A")
    assert (parts(tmp_path) == []) is (point == "cache_published")
    async with opened(tmp_path) as folder:  # which sweeps
        assert parts(tmp_path) == []
        assert await names(folder) == ({A} if point == "cache_published" else set())
        assert await use(folder, A) == (DATA if point == "cache_published" else None)
        if point != "cache_published":
            assert await fill(folder, A)


async def test_a_death_while_room_is_made(tmp_path: Path) -> None:
    async with opened(tmp_path, 2 * MIB + 1000) as folder:
        await fill(folder, A)
        await fill(folder, B)
        kill_at("cache_evicting", tmp_path, "C")
        assert await names(folder) == {B}
        assert await use(folder, B) == DATA
        assert await folder.sweep() == 1  # what the dead one was making
        assert await fill(folder, C)
        assert await names(folder) == {B, C}


async def test_what_a_death_left_is_begun_anew_without_a_sweep(
    folder: CacheFolder, tmp_path: Path
) -> None:
    (tmp_path / "cache" / "filling" / A).write_bytes(b"x" * 2 * MIB)
    assert await fill(folder, A)
    assert await use(folder, A) == DATA
