"""The child has limits, and does not outlive who waits for it."""

import asyncio
import time
from pathlib import Path

import psutil
import pytest
from tests.kit import formats as f
from tests.kit.formats import MIB
from tests.kit.server import until
from tests.kit.sources import pattern

from tidegate.domain.errors import UnsafeFormat
from tidegate.transfer import qemu

pytestmark = pytest.mark.skipif(not f.HAS_QEMU, reason="qemu-img is not installed")


def script(folder: Path, text: str) -> str:
    """A program that takes qemu-img's place."""
    path = folder / "qemu-img"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


async def convert(program: str, folder: Path, size: int = MIB) -> None:
    target = folder / "t.raw"
    await qemu.convert(program, folder / "s", "qcow2", target, size, went=lambda _: None)


async def test_what_the_child_may_take(tmp_path: Path) -> None:
    program = script(
        tmp_path, "".join(f"ulimit -{one} >> {tmp_path}/said\n" for one in ("t", "v", "f", "c"))
    )
    (tmp_path / "said").touch()
    await convert(program, tmp_path, 64 * MIB)
    cpu, memory, file, core = map(int, (tmp_path / "said").read_text().split())
    assert (cpu, memory, core) == (qemu.CPU + 2, qemu.MEMORY // 1024, 0)
    assert file * 512 == 64 * MIB


async def test_it_needs_a_fraction_of_the_memory_however_many_threads_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu, "MEMORY", 256 * MIB)
    size, disk = 24 * MIB, pattern(24 * MIB)
    (tmp_path / "s.raw").write_bytes(disk)
    f.qemu_img("convert", "-c", "-O", "qcow2", "s.raw", "s", folder=tmp_path)
    for _ in range(5):
        with (tmp_path / "t.raw").open("wb") as file:
            file.truncate(size)
        await convert(qemu.find(), tmp_path, size)
    assert (tmp_path / "t.raw").read_bytes() == disk


async def test_a_file_larger_than_the_disk_ends_it(tmp_path: Path) -> None:
    with pytest.raises(UnsafeFormat):
        await convert(script(tmp_path, f"head -c 2000000 /dev/zero > {tmp_path}/t.raw"), tmp_path)
    assert (tmp_path / "t.raw").stat().st_size <= MIB


async def test_a_full_disk_is_not_the_data_s_fault(tmp_path: Path) -> None:
    program = script(
        tmp_path, "echo 'qemu-img: error while writing: No space left on device'; false"
    )
    with pytest.raises(OSError, match="No space left"):
        await convert(program, tmp_path)


async def test_one_that_takes_too_much_of_the_processor_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu, "CPU", 1)
    with pytest.raises(UnsafeFormat):
        await convert(script(tmp_path, "while :; do :; done"), tmp_path)


async def test_one_that_takes_too_much_memory_is_ended(tmp_path: Path) -> None:
    grow = f"exec python3 -c 'b = bytearray({qemu.MEMORY})'"
    with pytest.raises(UnsafeFormat):
        await convert(script(tmp_path, grow), tmp_path)


async def test_one_that_lasts_too_long_is_ended_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu, "PATIENCE", 0.05)
    begun = time.monotonic()
    with pytest.raises(UnsafeFormat):
        await convert(script(tmp_path, f"echo $$ > {tmp_path}/pid; sleep 100 & wait"), tmp_path)
    assert time.monotonic() - begun < 20
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


async def test_it_ends_with_who_waits_for_it(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    program = script(tmp_path, f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {pid}; exec sleep 100")
    waiting = asyncio.ensure_future(convert(program, tmp_path))

    async def begun() -> bool:
        return pid.exists()

    await until(begun, "the child to run")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not psutil.pid_exists(int(pid.read_text()))


async def test_a_file_that_qemu_sees_otherwise_is_refused(tmp_path: Path) -> None:
    program = qemu.find()
    (tmp_path / "base").write_bytes(bytes(MIB))
    create = ["create", "-f", "qcow2", "-b", "base", "-F", "raw", "disk"]
    f.qemu_img(*create, folder=tmp_path)
    for disk_format in ("qcow2", "vmdk"):
        with pytest.raises(UnsafeFormat):
            await qemu.virtual_size(program, tmp_path / "disk", disk_format)
