"""``tidegate db``: the catalog's schema."""

import typer

from tidegate.cli.options import ConfigFile, load_settings

app = typer.Typer(help="The catalog's schema.", no_args_is_help=True)


@app.callback()
def _group() -> None: ...


@app.command("upgrade")
def upgrade_schema(config: ConfigFile = None) -> None:
    """Bring the catalog's schema to this version's (``serve`` does so by itself)."""
    # the database's libraries come with it, which the supervisor does without
    from tidegate.catalog.upgrade import upgrade

    upgrade(load_settings(config).catalog.url)
    typer.echo("The catalog's schema is up to date.")
