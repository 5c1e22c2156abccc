"""``tidegate image``: images of a running gateway."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from tidegate.cli.options import AsJson
from tidegate.server import say

if TYPE_CHECKING:
    from tidegate.client import Client

T = TypeVar("T")

app = typer.Typer(help="Images of a running gateway.", no_args_is_help=True)

Url = Annotated[str, typer.Option(envvar="TIDEGATE_URL", help="The gateway.", show_default=True)]
Token = Annotated[str, typer.Option(envvar="TIDEGATE_TOKEN", help="Sent as X-Auth-Token.")]
Which = Annotated[str, typer.Argument(metavar="ID|NAME")]
DiskFormat = Annotated[
    str | None, typer.Option(help="raw, qcow2, iso, …; found by looking if not given.")
]
ContainerFormat = Annotated[str, typer.Option()]
Properties = Annotated[list[str] | None, typer.Option("--property", metavar="NAME=VALUE")]
Tags = Annotated[list[str] | None, typer.Option("--tag")]
Visibility = Annotated[str | None, typer.Option(help="private, shared, community or public.")]

DEFAULT_URL = "http://127.0.0.1:9292"
_MAGIC = (
    (0, b"QFI\xfb", "qcow2"),
    (0, b"KDMV", "vmdk"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"conectix", "vhd"),
    (0x40, b"\x7f\x10\xda\xbe", "vdi"),
    (0x8001, b"CD001", "iso"),
)
_WIDE = 300
_COLUMNS = ("id", "name", "status", "size", "disk_format", "visibility")


@app.command()
def push(
    file: Annotated[str, typer.Argument(help="A file, or - for standard input.")],
    name: Annotated[str | None, typer.Option(help="By default the file's.")] = None,
    disk_format: DiskFormat = None,
    container_format: ContainerFormat = "bare",
    visibility: Visibility = None,
    properties: Properties = None,
    tags: Tags = None,
    min_disk: Annotated[int, typer.Option(help="GiB")] = 0,
    min_ram: Annotated[int, typer.Option(help="MiB")] = 0,
    protected: Annotated[bool, typer.Option()] = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """Make an image of a file, or of what comes through a pipe."""
    from tidegate.client import CHUNK

    with _source(file) as (source, size):
        first = source.read(CHUNK)
        body: dict[str, Any] = {
            "name": name or (None if file == "-" else Path(file).name),
            "disk_format": disk_format or _look(first),
            "container_format": container_format,
            "min_disk": min_disk,
            "min_ram": min_ram,
            "protected": protected,
            "tags": tags or [],
            **_pairs(properties),
        }
        if visibility is not None:
            body["visibility"] = visibility

        async def work(client: "Client") -> dict[str, Any]:
            image = await client.create(body)
            with _bar("pushing", size) as advance:
                return await client.upload(image["id"], source, size, advance, first)

        _show(_call(url, token, work), as_json)


@app.command()
def pull(
    which: Which,
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="A file, or - for standard output.")
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Fetch an image's bytes; the file appears when its digests agree."""

    async def work(client: "Client") -> None:
        image = await client.find(which)
        with (
            _target(output or _file_name(image)) as target,
            _bar("pulling", image["size"]) as advance,
        ):
            await client.download(image, target, advance)

    _call(url, token, work)


@app.command("list")
def list_images(
    name: Annotated[str | None, typer.Option()] = None,
    status: Annotated[str | None, typer.Option()] = None,
    tag: Annotated[str | None, typer.Option()] = None,
    limit: Annotated[int, typer.Option(min=1)] = 1000,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """List images, the newest first."""
    given = {"name": name and f"eq:{name}", "status": status, "tag": tag}
    query = {key: value for key, value in given.items() if value is not None}
    images = _call(url, token, lambda client: client.list(query, limit=limit))
    if as_json:
        typer.echo(json.dumps(images, indent=2, ensure_ascii=False))
        return
    table = Table()
    for column in _COLUMNS:
        table.add_column(column, no_wrap=column == "id", overflow="fold")
    for image in images:
        table.add_row(*(_text(column, image[column]) for column in _COLUMNS))
    _print(table)


@app.command()
def show(which: Which, url: Url = DEFAULT_URL, token: Token = "", as_json: AsJson = False) -> None:
    """Show one image."""
    _show(_call(url, token, lambda client: client.find(which)), as_json)


@app.command("set")
def set_image(
    which: Which,
    name: Annotated[str | None, typer.Option()] = None,
    visibility: Visibility = None,
    protected: Annotated[bool | None, typer.Option("--protected/--unprotected")] = None,
    hidden: Annotated[bool | None, typer.Option("--hidden/--shown")] = None,
    min_disk: Annotated[int | None, typer.Option(help="GiB")] = None,
    min_ram: Annotated[int | None, typer.Option(help="MiB")] = None,
    properties: Properties = None,
    drop: Annotated[list[str] | None, typer.Option("--unset", metavar="PROPERTY")] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="Replaces all tags.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """Change what is said of an image."""
    given = {"name": name, "visibility": visibility, "protected": protected, "os_hidden": hidden,
             "min_disk": min_disk, "min_ram": min_ram, "tags": tags}  # fmt: skip
    values = {key: value for key, value in given.items() if value is not None}
    operations = [
        {"op": "add", "path": _pointer(key), "value": value}
        for key, value in {**values, **_pairs(properties)}.items()
    ]
    operations += [{"op": "remove", "path": _pointer(key)} for key in drop or ()]

    async def work(client: "Client") -> dict[str, Any]:
        image = await client.find(which)
        return await client.change(image["id"], operations)

    _show(_call(url, token, work), as_json)


@app.command()
def delete(
    which: Annotated[list[str], typer.Argument(metavar="ID|NAME…")],
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Delete images, with their bytes."""

    async def work(client: "Client") -> None:
        for one in which:
            await client.delete((await client.find(one))["id"])

    _call(url, token, work)


@app.command()
def deactivate(
    which: Annotated[list[str], typer.Argument(metavar="ID|NAME…")],
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Close images' bytes to everybody but administrators; downloads that run are cut."""
    _act("deactivate", which, url, token)


@app.command()
def reactivate(
    which: Annotated[list[str], typer.Argument(metavar="ID|NAME…")],
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Open the bytes of deactivated images again."""
    _act("reactivate", which, url, token)


@app.command()
def register(
    location: Annotated[str, typer.Argument(metavar="URL", help="Where the bytes lie.")],
    name: Annotated[str | None, typer.Option()] = None,
    disk_format: DiskFormat = None,
    container_format: ContainerFormat = "bare",
    size: Annotated[
        int | None, typer.Option(help="Bytes; asked from the source if absent.")
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: AsJson = False,
) -> None:
    """Make an image of bytes that stay where they are."""
    headers = {
        "x-image-meta-disk_format": disk_format or "raw",
        "x-image-meta-container_format": container_format,
        "x-image-meta-name": name or location.rpartition("/")[2] or location,
    }
    if size is not None:
        headers["x-image-meta-size"] = str(size)
    _show(_call(url, token, lambda client: client.register(location, headers)), as_json)


def _act(action: str, which: list[str], url: str, token: str) -> None:
    async def work(client: "Client") -> None:
        for one in which:
            await client.act((await client.find(one))["id"], action)

    _call(url, token, work)


def _call(url: str, token: str, work: "Callable[[Client], Awaitable[T]]") -> T:
    # aiohttp comes with it, which other commands do without
    from tidegate.client import Client, ClientError

    async def run() -> T:
        async with Client(url, token) as client:
            return await work(client)

    try:
        return asyncio.run(run())
    except ClientError as error:
        say(str(error))
        raise typer.Exit(1) from error


@contextmanager
def _source(file: str) -> Iterator[tuple[BinaryIO, int | None]]:
    if file == "-":
        yield sys.stdin.buffer, None
        return
    try:
        with Path(file).open("rb") as source:
            yield source, os.fstat(source.fileno()).st_size or None
    except OSError as error:
        say(f"cannot read {file}: {error.strerror}")
        raise typer.Exit(1) from error


def _file_name(image: dict[str, Any]) -> str:
    """The image's name, which somebody else may have chosen; its id where that is no file's."""
    name = image["name"] or ""
    usable = name not in ("", ".", "..", "-") and "/" not in name and name.isprintable()
    return name if usable else str(image["id"])


@contextmanager
def _target(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(file)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        unfinished.replace(path)
    except OSError as error:
        say(f"cannot write {file}: {error.strerror}")
        raise typer.Exit(1) from error
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    progress = Progress(
        TextColumn(what),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    with progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)


def _look(first: bytes) -> str:
    """The disk's format, by its first bytes; raw if they say nothing."""
    for offset, magic, name in _MAGIC:
        if first[offset : offset + len(magic)] == magic:
            return name
    return "raw"


def _pairs(items: list[str] | None) -> dict[str, str]:
    found = {}
    for item in items or ():
        name, sign, value = item.partition("=")
        if not sign:
            raise typer.BadParameter(f"{item!r} must be written NAME=VALUE")
        found[name] = value
    return found


def _pointer(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _show(image: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(image, indent=2, ensure_ascii=False))
        return
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in sorted(image.items()):
        table.add_row(key, _text(key, value))
    _print(table)


def _print(table: Table) -> None:
    # nothing is cut short for a program that reads it
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)


def _text(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key == "size" and isinstance(value, int):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
