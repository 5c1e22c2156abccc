"""One at a time has the folder, and holes are read as what they are."""

import asyncio
import os
from pathlib import Path

from tests.kit.sources import pattern

from tidegate.transfer.scratch import Scratch, SparseFile

MIB = 2**20


async def test_a_second_holder_waits_for_the_first(tmp_path: Path) -> None:
    one, two = Scratch(tmp_path / "s", 10), Scratch(tmp_path / "s", 10)
    await one.open()
    order = []

    async def wait() -> None:
        async with two.held() as folder:
            order.append("two")
            assert os.listdir(folder) == ["lock"]

    async with one.held() as folder:
        (folder / "a.raw").write_bytes(b"mine")
        waiting = asyncio.ensure_future(wait())
        await two.clean()  # what is in use stays
        assert (folder / "a.raw").exists()
        order.append("one")
    await asyncio.wait_for(waiting, 20)
    assert order == ["one", "two"]


async def test_a_sparse_file_is_read_whole(tmp_path: Path) -> None:
    data = bytes(3 * MIB) + pattern(MIB) + bytes(2 * MIB) + pattern(5000) + bytes(MIB)
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        for at in range(0, len(data), 1000):
            if any(data[at : at + 1000]):
                os.pwrite(file.fileno(), data[at : at + 1000], at)
        file.truncate(len(data))
    assert path.stat().st_blocks * 512 < len(data) // 2
    found, block = bytearray(), memoryview(bytearray(b"\xff" * MIB))
    async with SparseFile(path, len(data)) as source:
        while count := await source.readinto(block):
            found += block[:count]
    assert found == data
