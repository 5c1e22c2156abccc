"""The command line: arguments to settings, settings to one call."""

import sys

import typer

from tidegate.cli import (
    adopt,
    bench,
    catalog,
    check,
    fsck,
    image,
    metadefs,
    policy,
    scrub,
    serve,
    statuses,
    token,
)
from tidegate.domain.errors import TidegateError
from tidegate.server import StartError, say
from tidegate.settings import SettingsError

app = typer.Typer(
    name="tidegate",
    help="An image upload gateway: the Image API in front of any S3-compatible store.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(serve.serve)
app.command()(serve.dev)
app.command()(check.check)
app.command()(fsck.fsck)
app.command()(bench.bench)
app.command()(scrub.scrub)
app.command()(adopt.adopt)
app.command()(statuses.statuses)
app.add_typer(image.app, name="image")
app.add_typer(token.app, name="token")
app.add_typer(policy.app, name="policy")
app.add_typer(catalog.app, name="db")
app.add_typer(metadefs.app, name="metadefs")


def main() -> None:
    """Exit codes: 0 done, 1 failed, 2 used wrongly."""
    try:
        app()
    except SettingsError as error:
        say(str(error))
        sys.exit(1)
    except StartError as error:
        if str(error):
            say(str(error))
        sys.exit(1)
    except TidegateError as error:
        say(error.message)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
