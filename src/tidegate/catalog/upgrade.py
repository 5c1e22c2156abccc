"""The schema's way to a version of it, by Alembic's migrations."""

from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from tidegate.catalog.engine import connection_to
from tidegate.domain.errors import CatalogDown


def upgrade(url: str, to: str = "head") -> None:
    """By default to the newest one, under the database's own write lock, so that any number of
    processes may do it at once. CatalogDown in one line."""
    config = Config()
    config.set_main_option("script_location", "tidegate:catalog/migrations")
    config.set_main_option("path_separator", "os")
    try:
        with connection_to(url, writing=True) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, to)
    except CommandError as error:
        raise CatalogDown(
            "The catalog's schema is of a newer version, or another program's; use the version "
            "that made it, or another catalog.url."
        ) from error
