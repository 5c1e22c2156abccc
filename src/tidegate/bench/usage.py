"""What processes cost: CPU seconds to the nanosecond, and resident memory with its peak."""

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one process."""

    now: int
    peak: int


class Processes:
    """A process and all its descendants, as they are at each question."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def all(self) -> list[int]:
        """Parents before their children."""
        found = [self.pid]
        for pid in found:
            found.extend(_children(pid))
        return found

    def cpu(self) -> float:
        """Seconds used so far by those that live."""
        return sum(cpu_of(pid) for pid in self.all())

    def memory(self) -> dict[int, Memory]:
        found = ((pid, _memory_of(pid)) for pid in self.all())
        return {pid: memory for pid, memory in found if memory is not None}

    def peak(self) -> int:
        """The sum of each process's own peak, in bytes."""
        return sum(memory.peak for memory in self.memory().values())

    def forget_peaks(self) -> None:
        """Let peaks begin at what is used now, where the kernel allows it."""
        for pid in self.all():
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def cpu_of(pid: int) -> float:
    """Seconds; 0 for a process that is gone."""
    clock = ctypes.c_int()
    if _libc.clock_getcpuclockid(pid, ctypes.byref(clock)) != 0:
        return 0.0
    with suppress(OSError):
        return time.clock_gettime(clock.value)
    return 0.0


def exists(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}/stat")


def _children(pid: int) -> Iterator[int]:
    # any of its threads may have started them
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            yield from map(int, path.read_text(encoding="ascii").split())


def _memory_of(pid: int) -> Memory | None:
    """None: it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return None
    values = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if "VmRSS" not in values:  # ended, and not yet waited for
        return None
    now, peak = (int(values[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return Memory(now, peak)
