"""Disks become raw by ``qemu-img``, a child that is told what it reads and how much it may take."""

import asyncio
import errno
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import orjson

from tidegate.domain.errors import UnsafeFormat
from tidegate.settings import SettingsError
from tidegate.telemetry import log
from tidegate.transfer import confined

FORMATS = {"qcow2": "qcow2", "vmdk": "vmdk", "vdi": "vdi", "vhd": "vpc", "vhdx": "vhdx"}
"""The names that qemu has for the formats that can be converted."""

MEMORY = 2**30
"""Bytes of address space."""

CPU = 30
"""Seconds of CPU for any disk; a larger one has one more for each ``CPU_BYTES``."""

CPU_BYTES = 32 * 2**20

PATIENCE = 10
"""How many times its CPU time a child may last."""

# or each thread would take 128 MiB of address space
_ENVIRON = {"PATH": os.defpath, "MALLOC_ARENA_MAX": "1"}

_PERCENT = re.compile(rb"\((\d+)\.\d+/100%\)")
_KEPT = 2**20


def find() -> str:
    """Where ``qemu-img`` is. SettingsError: nowhere."""
    program = shutil.which("qemu-img")
    if program is None:
        raise SettingsError("import.convert_to needs qemu-img, which is not in PATH")
    return program


async def virtual_size(program: str, source: Path, disk_format: str) -> int:
    """Bytes of the disk in a file that was found safe before. UnsafeFormat: qemu sees another
    thing in it."""
    command = ["info", "--output=json", "-f", FORMATS[disk_format], str(source)]
    output = await _run([program, *command], cpu=CPU, file=0)
    try:
        found = orjson.loads(output)
        size = found["virtual-size"]
        special = found.get("format-specific", {}).get("data", {})
        same = found["format"] == FORMATS[disk_format] and isinstance(size, int) and size > 0
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refused(disk_format) from error
    elsewhere = {"backing-filename", "full-backing-filename"} & found.keys()
    if not same or elsewhere or "data-file" in special:
        raise _refused(disk_format)
    return int(size)


async def convert(
    program: str,
    source: Path,
    disk_format: str,
    target: Path,
    size: int,
    *,
    went: Callable[[int], None],
) -> None:
    """Write the disk of ``source`` into ``target``, which is a hole of ``size`` bytes; ``went`` is
    told percents. UnsafeFormat: it cannot be done within the limits; OSError: the disk is full."""

    def heard(text: bytes) -> None:
        if percents := _PERCENT.findall(text):
            went(int(percents[-1]))

    command = ["convert", "-p", "-n", "--target-is-zero", "-f", FORMATS[disk_format], "-O", "raw"]
    cpu = CPU + size // CPU_BYTES
    try:
        await _run([program, *command, str(source), str(target)], cpu=cpu, file=size, heard=heard)
    except UnsafeFormat as error:
        raise _refused(disk_format) from error


async def _run(
    command: list[str], *, cpu: int, file: int, heard: Callable[[bytes], None] | None = None
) -> bytes:
    limits = [os.getpid(), cpu, MEMORY, file]
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", confined.__file__, *map(str, limits), *command,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, start_new_session=True, env=_ENVIRON,
    )  # fmt: skip
    assert child.stdout is not None
    output = b""
    try:
        async with asyncio.timeout(cpu * PATIENCE):
            while text := await child.stdout.read(2**16):
                output = (output + text)[-_KEPT:]
                if heard is not None:
                    heard(output[-100:])
            code = await child.wait()
    except TimeoutError:
        code = None
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await asyncio.shield(child.wait())
    if code != 0:
        said = output[-500:].decode(errors="replace")
        log.warning("qemu-img failed", doing=command[1], code=code, said=said)
        if os.strerror(errno.ENOSPC) in said:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise UnsafeFormat("The data cannot be read as a disk.")
    return output


def _refused(disk_format: str) -> UnsafeFormat:
    return UnsafeFormat(f"The {disk_format} data cannot be converted to raw.")
