"""Where a worker's time goes, under a load that goes on meanwhile: its Python functions by
py-spy, its libraries and the kernel by perf, where that is installed. Neither needs a change to
what is looked at."""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tidegate.bench.answers import BenchError

RATE = 200
"""Samples a second."""

ROWS = 25
SMALLEST = 0.005
"""The least share that is shown."""

_WAITING = {
    "_connection_worker_thread (aiosqlite/core.py)",
    "_worker (concurrent/futures/thread.py)",
    "DigestPool._run (tidegate/transfer/digest.py)",
}
"""Functions which a thread is in by itself only while it has nothing to do."""


def profile(pid: int, seconds: int, files: Path, load: Callable[[], object]) -> None:
    """Look at a process while ``load`` is done again and again. What was seen is kept beside
    ``files``, as ``.stacks`` (collapsed, as flame graphs are made of) and ``.perf``.
    BenchError."""
    stacks, data = files.with_suffix(".stacks"), files.with_suffix(".perf")
    _run(
        [*_py_spy(), "record", "--format", "raw", "--output", str(stacks),
         "--rate", str(RATE), "--duration", str(seconds), "--pid", str(pid)],
        load,
    )  # fmt: skip
    _show_functions(stacks.read_text(encoding="utf-8").splitlines())
    perf = shutil.which("perf")
    if perf is not None:
        _run(
            [perf, "record", "-g", "-o", str(data), "-p", str(pid), "--", "sleep", str(seconds)],
            load,
        )
        _show_libraries(perf, data)


def _run(command: Sequence[str], load: Callable[[], object]) -> None:
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None:
        load()
    assert process.stderr is not None
    with process.stderr as err:
        said = err.read().strip().splitlines()
    if process.returncode != 0:
        raise BenchError(f"{command[0]} failed: {said[-1] if said else process.returncode}")


def _show_functions(stacks: Sequence[str]) -> None:
    """Those in which most of the time was spent: by themselves (with what is not Python), and
    with the functions that they call."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        frames = [_function(frame) for frame in stack.split(";")]
        if frames[-1] in _WAITING:
            continue
        own[frames[-1]] += int(count)
        for frame in set(frames):
            whole[frame] += int(count)
    total = sum(own.values()) or 1
    for words, counter in (("by themselves", own), ("with what they call", whole)):
        rows = ((count / total, frame) for frame, count in counter.most_common(ROWS))
        _show(f"functions, {words}", rows)


def _function(frame: str) -> str:
    """``name (file)``, from the package on, without the line."""
    name, _, place = frame.partition(" (")
    path = place.rstrip(")").rpartition("site-packages/")[2]
    file, _, number = path.rpartition(":")
    return f"{name} ({file if number.isdigit() else path})"


def _show_libraries(perf: str, data: Path) -> None:
    done = subprocess.run(
        [perf, "report", "-i", str(data), "--no-children", "-g", "none", "--stdio",
         "--sort", "dso"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = (line.split() for line in done.stdout.splitlines() if line and line[0] != "#")
    found = [(float(line[0].rstrip("%")) / 100, line[1]) for line in lines if len(line) > 1]
    _show("libraries and the kernel", found[:ROWS])


def _show(title: str, rows: Iterable[tuple[float, str]]) -> None:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("share", justify="right")
    table.add_column("", overflow="fold")
    for share, name in rows:
        if share < SMALLEST:
            continue
        table.add_row(f"{100 * share:.1f} %", escape(name))
    Console().print(table)


def _py_spy() -> list[str]:
    beside = str(Path(sys.executable).parent)
    for command in (["py-spy"], ["uvx", "py-spy"]):
        found = shutil.which(command[0], path=beside) or shutil.which(command[0])
        if found is not None:
            return [found, *command[1:]]
    raise BenchError("neither py-spy nor uvx is installed: pip install py-spy")
