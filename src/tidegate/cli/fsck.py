"""``tidegate fsck``: whether catalog and stores tell the same."""

import asyncio
import dataclasses
import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tidegate.cli.options import AsJson, ConfigFile, load_settings
from tidegate.settings import Settings, parse_duration

if TYPE_CHECKING:
    from tidegate.services.checking import Finding

SHOWN = 1000
"""Findings that a table shows; the rest is counted."""


def _grace(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    assert isinstance(seconds, float)
    return seconds


def fsck(
    config: ConfigFile = None,
    repair: Annotated[bool, typer.Option("--repair", help="Repair what can be repaired.")] = False,
    remove_unknown: Annotated[
        bool,
        typer.Option(
            "--remove-unknown",
            help="With --repair: also remove objects that this catalog never wrote down. Not with "
            "a catalog that is new or was restored: it does not know what is needed.",
        ),
    ] = False,
    grace: Annotated[
        float,
        typer.Option(
            parser=_grace,
            metavar="DURATION",
            show_default="1h",
            help="Leave alone what is younger.",
        ),
    ] = 3600.0,
    as_json: AsJson = False,
) -> None:
    """Compare the catalog with every store, both ways; gateways may run meanwhile.

    Exit code 0: nothing found, or all of it repaired; 1: something is left.
    """
    if remove_unknown and not repair:
        raise typer.BadParameter("--remove-unknown is for --repair")
    report = _Json() if as_json else _Words()
    settings = load_settings(config)
    asyncio.run(_check(settings, report, repair, remove_unknown, grace))
    report.end()
    raise typer.Exit(1 if report.left else 0)


async def _check(
    settings: Settings, report: "_Report", repair: bool, remove_unknown: bool, grace: float
) -> None:
    # the whole gateway comes with it, which the supervisor does without
    from tidegate.foundation import workbench
    from tidegate.telemetry import configure_logging

    configure_logging("WARNING")
    async with workbench(settings) as bench:
        checking = bench.checking(grace=grace, remove_unknown=remove_unknown)
        async for finding in checking.check(repair=repair):
            report.add(finding)


class _Report(ABC):
    def __init__(self) -> None:
        self.found = 0
        self.left = 0

    def add(self, finding: "Finding") -> None:
        self.found += 1
        self.left += not finding.done

    @abstractmethod
    def end(self) -> None: ...


class _Words(_Report):
    def __init__(self) -> None:
        super().__init__()
        self._table = Table(title="findings", title_justify="left")
        for name in ("what", "store", "which", "detail", "done"):
            self._table.add_column(name, overflow="fold")

    def add(self, finding: "Finding") -> None:
        super().add(finding)
        if self.found <= SHOWN:
            shown = (finding.what, finding.store, finding.subject, finding.detail)
            self._table.add_row(*map(escape, shown), finding.done or "-")

    def end(self) -> None:
        if self.found:
            Console().print(self._table)
        typer.echo(f"{self.found} found, {self.found - self.left} repaired, {self.left} left.")


class _Json(_Report):
    """Written as it comes: a list may be long."""

    def add(self, finding: "Finding") -> None:
        typer.echo(("," if self.found else '{"findings": [') + "\n  ", nl=False)
        typer.echo(json.dumps(dataclasses.asdict(finding)), nl=False)
        super().add(finding)

    def end(self) -> None:
        typer.echo("\n], " if self.found else '{"findings": [], ', nl=False)
        typer.echo(f'"found": {self.found}, "left": {self.left}}}')
