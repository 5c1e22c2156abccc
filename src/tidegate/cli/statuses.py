"""``tidegate statuses``: the life of an image, and of a task, from the tables that rule them."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tidegate.cli.options import AsJson
from tidegate.diagram import mermaid, svg
from tidegate.domain.status import INITIAL, TRANSITIONS, Actor, Status
from tidegate.domain.task import TASK_TRANSITIONS, TaskStatus
from tidegate.lifecycle import image_diagram, task_diagram


def statuses(
    as_svg: Annotated[bool, typer.Option("--svg", help="Print an SVG picture.")] = False,
    as_mermaid: Annotated[bool, typer.Option("--mermaid", help="Print a Mermaid diagram.")] = False,
    as_json: AsJson = False,
    tasks: Annotated[bool, typer.Option("--tasks", help="Of tasks, not of images.")] = False,
) -> None:
    """Show every status and what leads from one to another."""
    if as_svg + as_mermaid + as_json > 1:
        raise typer.BadParameter("choose one of --svg, --mermaid and --json")
    diagram = task_diagram() if tasks else image_diagram()
    if as_svg:
        typer.echo(svg(diagram), nl=False)
    elif as_mermaid:
        typer.echo(mermaid(diagram), nl=False)
    elif as_json:
        typer.echo(json.dumps(_tasks() if tasks else _images(), indent=2))
    else:
        _print(_tasks() if tasks else _images())


def _images() -> dict[str, Any]:
    return {
        "statuses": [str(status) for status in Status],
        "initial": [str(status) for status in Status if status in INITIAL],
        "events": [
            {
                "event": str(event),
                "from": [str(status) for status in Status if status in row.sources],
                "to": str(row.target),
                "trigger": row.trigger,
                "by": [str(actor) for actor in Actor if actor in row.actors],
            }
            for event, row in TRANSITIONS.items()
        ],
    }


def _tasks() -> dict[str, Any]:
    return {
        "statuses": [str(status) for status in TaskStatus],
        "initial": [str(TaskStatus.PENDING)],
        "events": [
            {
                "event": str(event),
                "from": [str(status) for status in TaskStatus if status in sources],
                "to": str(target),
            }
            for event, (sources, target) in TASK_TRANSITIONS.items()
        ],
    }


def _print(life: dict[str, Any]) -> None:
    columns = list(life["events"][0])
    table = Table(caption=f"begins as {' or '.join(life['initial'])}", caption_justify="left")
    for column in columns:
        table.add_column(column, no_wrap=column in ("event", "to"))
    for event in life["events"]:
        table.add_row(*(_words(event[column]) for column in columns))
    Console().print(table)


def _words(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)
