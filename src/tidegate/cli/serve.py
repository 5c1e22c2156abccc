"""``tidegate serve`` and ``dev``."""

from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli.options import ConfigFile, load_settings
from tidegate.dev import BUCKET, development
from tidegate.private_files import is_open_to_others
from tidegate.seaweedfs import SeaweedError
from tidegate.server import StartError, Supervisor, say
from tidegate.settings import Settings, SettingsError, secrets_of

_LOOPBACK = ("127.0.0.1", "::1", "localhost")

Host = Annotated[str | None, typer.Option(help="The address to listen on.")]
Port = Annotated[int | None, typer.Option(help="The port to listen on; 0: a free one.")]
Workers = Annotated[int | None, typer.Option(help="How many processes; 0: one per core.")]


def serve(
    config: ConfigFile = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    insecure: Annotated[
        bool, typer.Option(help="Allow no authentication on another address than loopback.")
    ] = False,
) -> None:
    """Serve the Image API. Without a configuration: alone, on the current folder."""
    settings = load_settings(config, server={"host": host, "port": port, "workers": workers})
    if config is not None and (secrets := secrets_of(config)) and is_open_to_others(config):
        names = ", ".join(secrets)
        say(f"warning: {config} is open to others, and holds {names}; run: chmod 600 {config}")
    if not insecure:
        _refuse_open(settings, "; say --insecure if that is meant")
    raise typer.Exit(_run(settings))


def dev(
    data: Annotated[Path, typer.Option(help="Where all data is kept.", file_okay=False)] = Path(
        ".tidegate"
    ),
    port: Port = None,
    workers: Workers = None,
) -> None:
    """Serve on a real S3 server of its own (SeaweedFS), for development."""
    try:
        with development(data) as (defaults, storage):
            settings = load_settings(None, defaults, server={"port": port, "workers": workers})
            _refuse_open(settings)
            code = _run(
                settings,
                f"S3 (SeaweedFS) at {storage.endpoint}, bucket {BUCKET}, "
                f"keys in {data}/seaweedfs/seaweedfs.json",
            )
    except SeaweedError as error:
        raise StartError(str(error)) from error
    raise typer.Exit(code)


def _refuse_open(settings: Settings, hint: str = "") -> None:
    if settings.auth.mode == "none" and settings.server.host not in _LOOPBACK:
        raise SettingsError(
            f"server.host is {settings.server.host} and auth.mode is none: everybody who reaches "
            f"it would be an administrator{hint}"
        )


def _run(settings: Settings, more: str = "") -> int:
    supervisor = Supervisor(settings)
    try:
        supervisor.start()
        url = f"http://{settings.server.host}:{supervisor.port}"
        say(f"serving the Image API on {url}")
        if more:
            say(more)
            say(f"try: tidegate image push FILE --name NAME --url {url}")
        return supervisor.run()
    finally:
        supervisor.close()
