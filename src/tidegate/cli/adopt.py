"""``tidegate adopt``: images of objects that lie in a store already."""

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tidegate.cli.options import AsJson, ConfigFile, load_settings
from tidegate.domain.errors import ObjectMissing, StoreError, TooLarge
from tidegate.domain.image import Visibility
from tidegate.settings import CONTAINER_FORMATS, DISK_FORMATS, Settings

if TYPE_CHECKING:
    from tidegate.services.adopting import Adopted, Terms


def adopt(
    store: Annotated[str, typer.Option(help="The id of the store in which the objects lie.")],
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="KEY...", help="The objects, by their keys.")
    ] = None,
    all_keys: Annotated[
        bool, typer.Option("--all", help="Every object that no image has yet.")
    ] = False,
    prefix: Annotated[
        str, typer.Option(help="With --all: only keys that begin so; else put before each KEY.")
    ] = "",
    disk_format: Annotated[str, typer.Option(help=", ".join(DISK_FORMATS))] = "raw",
    container_format: Annotated[str, typer.Option(help=", ".join(CONTAINER_FORMATS))] = "bare",
    owner: Annotated[str | None, typer.Option(help="The project that owns the images.")] = None,
    visibility: Visibility = Visibility.SHARED,
    own: Annotated[
        bool, typer.Option(help="Hand the objects over: they go when their image is deleted.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Only say what would be adopted.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make images of objects that lie in a store already. They are read once, and stay there."""
    if bool(keys) == all_keys:
        raise typer.BadParameter("name the keys, or say --all")
    settings = load_settings(config)
    taken = settings.image_format
    for given, known in (
        (disk_format, taken.disk_formats),
        (container_format, taken.container_formats),
    ):
        if given not in known:
            raise typer.BadParameter(f"{given} is none of {', '.join(known)}")
    from tidegate.services.adopting import Terms

    terms = Terms(
        disk_format=disk_format,
        container_format=container_format,
        owner=owner,
        visibility=visibility,
        own=own,
    )
    wanted = None if all_keys else [prefix + key for key in keys or ()]
    found, failed = asyncio.run(_run(settings, store, prefix, wanted, terms, dry_run))
    if as_json:
        typer.echo(json.dumps([_as_json(one) for one in found], indent=2))
    else:
        table = Table("key", "bytes", "image", "remark")
        for one in found:
            size = "" if one.size is None else str(one.size)
            table.add_row(escape(one.key), size, one.image_id or "", escape(one.message))
        Console().print(table)
    raise typer.Exit(1 if failed else 0)


async def _run(
    settings: Settings,
    store: str,
    prefix: str,
    wanted: list[str] | None,
    terms: "Terms",
    dry_run: bool,
) -> "tuple[list[Adopted], bool]":
    """What became of each object; whether any of them could not be read."""
    # the whole gateway comes with it, which the supervisor does without
    from tidegate.foundation import workbench
    from tidegate.services.adopting import Adopted
    from tidegate.telemetry import configure_logging

    configure_logging("WARNING")
    found, failed = [], False
    async with workbench(settings, new=True) as bench:
        adopting = bench.adopting()
        if wanted is None:
            wanted = [key async for key in adopting.keys(store, prefix)]
        for key in wanted:
            try:
                found.append(await adopting.adopt(store, key, terms, dry_run=dry_run))
            except (ObjectMissing, TooLarge, StoreError) as error:
                failed = True
                found.append(Adopted(key, None, None, error.message))
    return found, failed


def _as_json(one: "Adopted") -> dict[str, object]:
    return {"key": one.key, "size": one.size, "image_id": one.image_id, "message": one.message}
