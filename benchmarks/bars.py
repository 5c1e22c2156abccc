"""Figures beside the bars that they have to hold: as a table, as JSON, as a picture."""

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Bar:
    """``limit`` None: the value is reported only."""

    name: str
    value: float
    limit: float | None = None
    sign: str = ""
    compare: Callable[[float, float], bool] = operator.le

    @property
    def holds(self) -> bool:
        return self.limit is None or self.compare(self.value, self.limit)


def at_most(limit: float, name: str, value: float) -> Bar:
    return Bar(name, value, limit, "≤", operator.le)


def at_least(limit: float, name: str, value: float) -> Bar:
    return Bar(name, value, limit, "≥", operator.ge)


def only_reported(name: str, value: float) -> Bar:
    return Bar(name, value)


def show_table(bars: Sequence[Bar], title: str) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("bar", justify="right")
    table.add_column("holds")
    for bar in bars:
        limit = "" if bar.limit is None else f"{bar.sign} {bar.limit:g}"
        verdict = "" if bar.limit is None else "[green]yes" if bar.holds else "[red]no"
        table.add_row(bar.name, f"{bar.value:.4g}", limit, verdict)
    Console().print(table)


def save(
    bars: Sequence[Bar],
    samples: Mapping[str, Sequence[float]],
    file: Path | None,
    picture: Path | None,
) -> None:
    if file is not None:
        found = [
            {"name": bar.name, "value": bar.value, "bar": bar.limit, "holds": bar.holds}
            for bar in bars
        ]
        file.write_text(json.dumps({"figures": found, "rounds": samples}, indent=2) + "\n")
    if picture is not None:
        draw([bar for bar in bars if bar.limit], picture)


def draw(bars: Sequence[Bar], file: Path) -> None:
    """Each value as a share of its bar; nothing is a share of 0, so such bars are left out."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.6 * len(bars) + 1.2), layout="constrained")
    axes = figure.subplots()
    for row, bar in enumerate(reversed(bars)):
        assert bar.limit is not None
        axes.barh(row, bar.value / bar.limit, color="#2a9d8f" if bar.holds else "#d1495b")
        axes.text(0.02, row, f"{bar.value:.3g} (bar: {bar.sign} {bar.limit:g})", va="center")
    axes.set_yticks(range(len(bars)), [bar.name for bar in reversed(bars)])
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel("share of the bar: ≤ must end before the line, ≥ behind it")
    figure.savefig(file)
