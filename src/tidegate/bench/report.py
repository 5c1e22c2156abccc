"""Figures for people: a table, a picture. Figures for machines: JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tidegate.bench.answers import BenchError
from tidegate.bench.figures import Figure

PICTURES = (".svg", ".png")
MIB = 2**20

_COLUMNS = ("MB/s", "ops/s", "p50 ms", "p95 ms", "p99 ms", "CPU", "peak MiB")


def show(figures: Sequence[Figure], title: str, console: Console) -> None:
    """``CPU`` (per GiB moved, else per operation) and ``peak`` are the gateway's, of all its
    processes together."""
    spent = sum(figure.driver_cpu for figure in figures)
    table = Table(
        title=title, caption=f"the driver itself: {spent:.2f} CPU s", box=box.SIMPLE_HEAD,
        title_justify="left", caption_justify="left", padding=(0, 1, 0, 0),
    )  # fmt: skip
    table.add_column("scenario", no_wrap=True)
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for figure in figures:
        table.add_row(
            figure.scenario,
            _number(figure.megabytes_per_second),
            _number(figure.operations_per_second),
            *(_number(figure.latency(share) * 1000) for share in (0.5, 0.95, 0.99)),
            _cpu(figure),
            _number(None if figure.peak is None else figure.peak / MIB),
        )
    console.print(table)


def as_json(
    figures: Sequence[Figure], repetitions: Sequence[Figure], setting: Mapping[str, Any]
) -> str:
    """``figures`` are the medians of ``repetitions``; ``setting`` says what was measured."""
    found = {
        **setting,
        "figures": [figure.as_dict() for figure in figures],
        "repetitions": [figure.as_dict() for figure in repetitions],
    }
    return json.dumps(found, indent=2)


def need_matplotlib() -> None:
    """BenchError: no picture can be drawn; asked before anything is measured."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise BenchError("a picture needs matplotlib: pip install 'tidegate[bench]'") from None


def draw(figures: Sequence[Figure], file: Path, title: str) -> None:
    """Rate and CPU of what moves data, rate and latency of what asks for records."""
    # it is an extra, and slow to load
    from matplotlib.figure import Figure as Canvas

    moving = [figure for figure in figures if figure.bytes]
    asking = [figure for figure in figures if not figure.bytes]
    canvas = Canvas(figsize=(12, 1.6 + 0.45 * max(len(moving), len(asking))), layout="constrained")
    canvas.suptitle(title)
    panels: list[tuple[str, list[Figure], list[float | None]]] = [
        ("MB/s", moving, [figure.megabytes_per_second for figure in moving]),
        ("CPU s/GiB", moving, [figure.cpu_per_gib for figure in moving]),
        ("operations/s", asking, [figure.operations_per_second for figure in asking]),
        ("p99, ms", asking, [figure.latency(0.99) * 1000 for figure in asking]),
    ]
    shown = [panel for panel in panels if any(value is not None for value in panel[2])]
    for place, (label, of, values) in enumerate(shown, 1):
        axes = canvas.add_subplot(1, len(shown), place)
        bars = axes.barh([figure.scenario for figure in of], [value or 0.0 for value in values])
        axes.bar_label(bars, labels=[_number(value) for value in values], padding=2)
        axes.margins(x=0.45)
        axes.invert_yaxis()
        axes.set_xlabel(label)
    canvas.savefig(file)


def _cpu(figure: Figure) -> str:
    if figure.cpu_per_gib is not None:
        return f"{_number(figure.cpu_per_gib)} s/GiB"
    if figure.cpu_per_operation is not None:
        return f"{_number(figure.cpu_per_operation * 1000)} ms/op"
    return ""


def _number(value: float | None) -> str:
    """Three digits, or all that stand before the point."""
    if value is None:
        return ""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"
