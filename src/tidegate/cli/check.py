"""``tidegate check``: what the configured stores are able to do."""

import asyncio
import json

import typer
from rich.console import Console
from rich.table import Table

from tidegate.cli.options import AsJson, ConfigFile, load_settings


def check(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Probe each configured store, and say what it supports."""
    # the whole gateway comes with it, which the supervisor does without
    from tidegate.check import probe_all
    from tidegate.transfer import qemu

    settings = load_settings(config)
    if settings.imports.convert_to:
        qemu.find()
    found = asyncio.run(probe_all(settings))
    if as_json:
        typer.echo(json.dumps([probe.as_dict() for probe in found], indent=2))
    else:
        console = Console()
        for probe in found:
            table = Table(title=f"store {probe.store} ({probe.type})", title_justify="left")
            table.add_column("what")
            table.add_column("answer")
            for what, answer in probe.results.items():
                table.add_row(what, f"[{'green' if answer == 'yes' else 'yellow'}]{answer}")
            console.print(table)
    raise typer.Exit(0 if all(probe.usable for probe in found) else 1)
