"""``tidegate policy``: who may do what, by the built-in rules and the policy file."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tidegate.cli.options import AsJson, ConfigFile, load_settings
from tidegate.domain.rule_texts import TEXTS
from tidegate.domain.rules import Text

app = typer.Typer(help="The rules by which callers are judged.", no_args_is_help=True)

File = Annotated[
    Path | None,
    typer.Option(
        "--file", help="A policy file; by default the configuration's policy.file.",
        dir_okay=False, readable=False,
    ),
]  # fmt: skip


@app.callback()
def group() -> None:
    pass


@app.command()
def show(config: ConfigFile = None, file: File = None, as_json: AsJson = False) -> None:
    """Show every rule as it holds. A policy file that cannot be used: one line, exit code 1."""
    from tidegate.identity.policy_file import read

    path = file or _configured(config)
    given = {} if path is None else read(path)
    rules = {**TEXTS, **given}
    if as_json:
        typer.echo(json.dumps(rules, indent=2))
        return
    table = Table()
    for column in ("rule", "allows", "from"):
        table.add_column(column, no_wrap=column == "rule", overflow="fold")
    for name, text in rules.items():
        table.add_row(name, _words(text), str(path) if name in given else "built in")
    Console().print(table)


def _configured(config: Path | None) -> Path | None:
    name = load_settings(config).policy.file
    return Path(name) if name else None


def _words(text: Text) -> str:
    if isinstance(text, str):
        return text or '""'
    return json.dumps(text)
