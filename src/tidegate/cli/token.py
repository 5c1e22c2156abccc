"""``tidegate token``: the static tokens of ``auth.mode = "tokens"``."""

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from tidegate.cli.options import AsJson, ConfigFile, load_settings
from tidegate.identity.tokens_file import (
    Token,
    TokensFileError,
    changing,
    hash_of,
    new_token,
    read,
)
from tidegate.server import say
from tidegate.settings import parse_duration

app = typer.Typer(
    help="Static tokens, for auth.mode = tokens; a running gateway heeds a change within seconds.",
    no_args_is_help=True,
)

File = Annotated[
    Path | None,
    typer.Option(
        "--file", help="The tokens; by default the configuration's auth.tokens_file.",
        dir_okay=False, readable=False,
    ),
]  # fmt: skip
_SHOWN = 8
_WIDE = 300


@app.command()
def add(
    user: Annotated[str, typer.Option(help="Who has it.")],
    project: Annotated[str, typer.Option(help="Whose images it is about.")],
    roles: Annotated[
        list[str] | None,
        typer.Option("--role", help="admin, manager, member (the default), reader, service, …"),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="WHEN", help="In 90d, or at 2027-01-01T00:00:00Z.")
    ] = None,
    token_id: Annotated[
        str | None, typer.Option("--id", help="By this the log names it; found if not given.")
    ] = None,
    config: ConfigFile = None,
    file: File = None,
    as_json: AsJson = False,
) -> None:
    """Make a token, and print it this once: only its hash is kept. The file is written anew, and
    made if it is not there; comments in it are lost."""
    path = _path(config, file)
    text = new_token()
    until = None if expires is None else _moment(expires)
    with changing(path) as tokens:
        given = {
            "id": token_id or _free_id(user, tokens),
            "sha256": hash_of(text),
            "user": user,
            "project": project,
            "roles": roles or ["member"],
            "expires": until,
        }
        if any(other.id == given["id"] for other in tokens):
            raise TokensFileError(f"{path} has a token {given['id']} already")
        try:
            token = Token.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            said = first["msg"].removeprefix("Value error, ")
            raise TokensFileError(f"{first['loc'][0]}: {said}") from error
        tokens.append(token)
    if as_json:
        typer.echo(json.dumps({"token": text, **_shown(token)}, indent=2, ensure_ascii=False))
        return
    typer.echo(text)
    say(f"token {token.id} of {user} in {project} ({', '.join(token.roles)}); "
        "it is not shown again")  # fmt: skip


@app.command("list")
def list_tokens(config: ConfigFile = None, file: File = None, as_json: AsJson = False) -> None:
    """List the tokens; none of them can be used by what is shown."""
    found = [_shown(token) for token in read(_path(config, file))]
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    table = Table()
    for column in ("id", "user", "project", "roles", "expires", "sha256"):
        table.add_column(column, overflow="fold")
    for one in found:
        table.add_row(
            one["id"], one["user"], one["project"], ", ".join(one["roles"]),
            one["expires"] or "", one["sha256"],
        )  # fmt: skip
    # nothing is cut short for a program that reads it
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)


@app.command()
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID")],
    config: ConfigFile = None,
    file: File = None,
) -> None:
    """Take a token out of the file; comments in it are lost."""
    path = _path(config, file)
    with changing(path) as tokens:
        kept = [token for token in tokens if token.id != token_id]
        if len(kept) == len(tokens):
            raise TokensFileError(f"{path} has no token {token_id}")
        tokens[:] = kept


def _path(config: Path | None, file: Path | None) -> Path:
    return file or load_settings(config).auth.tokens_file


def _free_id(user: str, tokens: list[Token]) -> str:
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", user)[:50]
    taken = {token.id for token in tokens}
    return next(name for n in range(1, len(taken) + 2) if (name := f"{stem}-{n}") not in taken)


def _moment(text: str) -> datetime:
    try:
        seconds = parse_duration(text)
        assert isinstance(seconds, float)
        moment = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise TokensFileError(
                f"expires: {text!r} is no time; write it like 90d or 2027-01-01T00:00:00Z"
            ) from None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment <= datetime.now(UTC):
        raise TokensFileError(f"expires: {text} is not in the future")
    return moment


def _shown(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "user": token.user,
        "project": token.project,
        "roles": list(token.roles),
        "expires": None if token.expires is None else token.expires.isoformat(),
        "sha256": f"{token.sha256[:_SHOWN]}…",
    }
