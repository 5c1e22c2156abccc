"""``tidegate metadefs``: metadata definitions from an operator's files."""

import asyncio
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tidegate.cli.options import AsJson, ConfigFile, load_settings
from tidegate.domain.errors import Conflict, Invalid
from tidegate.domain.metadef import Loading
from tidegate.settings import Settings

app = typer.Typer(help="Metadata definitions.", no_args_is_help=True)

_DONE = {
    None: "added",
    Loading.KEEP: "kept",
    Loading.ADD: "completed",
    Loading.UPDATE: "updated",
    Loading.REPLACE: "replaced",
}


@dataclass(frozen=True, slots=True)
class _Loaded:
    file: str
    namespace: str | None
    result: str


@app.callback()
def _group() -> None: ...


@app.command()
def load(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            exists=True,
            help="A JSON file, or a folder of them: one namespace each.",
        ),
    ],
    existing: Annotated[
        Loading,
        typer.Option(
            help="A namespace that is there already is kept; or what it lacks is added; or it is "
            "updated, and keeps only what the file does not name; or it is replaced."
        ),
    ] = Loading.KEEP,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Load metadata definitions, in the form of Glance's files; gateways may run meanwhile.

    Exit code 1: a file could not be read; the others are loaded.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise typer.BadParameter(f"there is no file *.json in {path}")
    found, failed = asyncio.run(_load(load_settings(config), files, existing))
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False))
    else:
        table = Table("file", "namespace", "result")
        for one in found:
            table.add_row(one.file, one.namespace or "", one.result)
        Console().print(table)
    raise typer.Exit(1 if failed else 0)


async def _load(
    settings: Settings, files: list[Path], existing: Loading
) -> tuple[list[_Loaded], bool]:
    """What became of each file; whether any of them could not be read."""
    # the database's libraries come with it, which the supervisor does without
    from tidegate.api.v2.metadefs.bodies import loaded_namespace
    from tidegate.catalog.sql import SqlCatalog
    from tidegate.telemetry import configure_logging

    configure_logging("WARNING")
    catalog = SqlCatalog(settings.catalog.url)
    await catalog.open()
    found, failed = [], False
    try:
        for file in files:
            try:
                namespace, contents = loaded_namespace(json.loads(file.read_bytes()))
                done = await catalog.load_namespace(namespace, contents, existing)
            except (OSError, ValueError, RecursionError, Invalid, Conflict) as error:
                failed = True
                found.append(_Loaded(file.name, None, str(error)))
            else:
                found.append(_Loaded(file.name, namespace.name, _DONE[done]))
    finally:
        await catalog.close()
    return found, failed
