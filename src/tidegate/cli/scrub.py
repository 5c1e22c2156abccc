"""``tidegate scrub``: are the stored bytes still the right ones?"""

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tidegate.cli.options import AsJson, ConfigFile, load_settings
from tidegate.settings import Settings, parse_duration, parse_rate

if TYPE_CHECKING:
    from tidegate.services.scrubbing import Finding, Report

DEFAULT_RATE = 50 * 2**20

_COLOURS = {"repaired": "green", "skipped": "dim", "unreachable": "yellow"}


def scrub(
    config: ConfigFile = None,
    image: Annotated[str | None, typer.Option(help="Only the image with this id.")] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            help='Bytes a second, like "50MiB"; 0: as fast as it goes. '
            "By default scrub.rate, or 50MiB.",
            show_default=False,
        ),
    ] = None,
    older_than: Annotated[
        str,
        typer.Option(help='Leave alone what was found good within this time, like "25d".'),
    ] = "0s",
    as_json: AsJson = False,
) -> None:
    """Read stored images again, compare them with the catalog, and mend what can be mended; and
    once what was registered by URL.

    Runs beside live gateways. Stopped, it goes on with --older-than where it was.
    """
    settings = load_settings(config)
    speed = _number(parse_rate, rate, "--rate") if rate is not None else settings.scrub.rate
    age = _number(parse_duration, older_than, "--older-than")
    if rate is None and not speed:
        speed = DEFAULT_RATE
    console = Console()
    table = Table("image", "store", "verdict", "why")

    def tell(finding: "Finding") -> None:
        if finding.verdict != "good":
            colour = _COLOURS.get(finding.verdict, "red")
            table.add_row(
                finding.copy.image_id,
                finding.copy.store,
                f"[{colour}]{finding.verdict}",
                escape(finding.message),
            )

    report = asyncio.run(_run(settings, image, int(speed), age, tell))
    if as_json:
        typer.echo(json.dumps(_as_json(report), indent=2))
    else:
        if table.row_count:
            console.print(table)
        counts = ", ".join(f"{count} {name}" for name, count in report.verdicts.items())
        console.print(counts or "nothing to read")
    raise typer.Exit(0 if report.sound else 1)


async def _run(
    settings: Settings,
    image: str | None,
    rate: int,
    older_than: float,
    tell: "Callable[[Finding], None]",
) -> "Report":
    # the whole gateway comes with it, which the supervisor does without
    from tidegate.foundation import workbench
    from tidegate.telemetry import configure_logging

    configure_logging("WARNING")

    async with workbench(settings) as bench:
        scrubbing = bench.scrubbing(rate=rate)
        report = await scrubbing.run(older_than=older_than, image_id=image, tell=tell)
        report.add(await scrubbing.verify(image_id=image, tell=tell))
        return report


def _number(parse: Callable[[object], object], text: str, option: str) -> float:
    try:
        return float(str(parse(text)))
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}") from error


def _as_json(report: "Report") -> dict[str, object]:
    return {
        "verdicts": {str(verdict): count for verdict, count in report.verdicts.items()},
        "findings": [
            {
                "image_id": finding.copy.image_id,
                "store": finding.copy.store,
                "key": finding.copy.key,
                "verdict": str(finding.verdict),
                "message": finding.message,
            }
            for finding in report.findings
        ],
    }
