"""A whole gateway for development: SeaweedFS, a SQLite catalog and safe settings in one folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidegate.seaweedfs import SeaweedFS
from tidegate.settings import Settings

BUCKET = "images"


@contextmanager
def development(data: Path) -> Iterator[tuple[Settings, SeaweedFS]]:
    """Settings for a gateway on an S3 server that runs as long as the context. SeaweedError."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with SeaweedFS(data / "seaweedfs") as storage:
        yield settings_for(data, storage), storage


def settings_for(data: Path, storage: SeaweedFS) -> Settings:
    return Settings.model_validate(
        {
            "catalog": {"url": f"sqlite:///{(data / 'tidegate.db').absolute()}"},
            "locations": {"show": True},
            "stores": [
                {
                    "id": "main",
                    "type": "s3",
                    "default": True,
                    "endpoint": storage.endpoint,
                    "bucket": BUCKET,
                    "create_bucket": True,
                    "access_key": storage.access_key,
                    "secret_key": storage.secret_key,
                }
            ],
        }
    )
