"""Options that several commands share."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tidegate.settings import Settings, load

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", help="The configuration, a TOML file.", dir_okay=False, readable=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def load_settings(
    config: Path | None, defaults: Mapping[str, Any] | None = None, **sections: dict[str, Any]
) -> Settings:
    """``sections`` are the command line's values; None: not given."""
    given = {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in sections.items()
    }
    return load(config, overrides=given, defaults=defaults)
