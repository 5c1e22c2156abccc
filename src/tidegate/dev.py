"""A whole gateway for development: SeaweedFS, a SQLite catalog and safe settings in one folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tidegate.seaweedfs import SeaweedFS

BUCKET = "images"


@contextmanager
def development(data: Path) -> Iterator[tuple[dict[str, Any], SeaweedFS]]:
    """Settings, as a file would hold them, for a gateway on an S3 server that runs as long as the
    context. SeaweedError."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with SeaweedFS(data / "seaweedfs") as storage:
        yield _settings(data, storage), storage


def _settings(data: Path, storage: SeaweedFS) -> dict[str, Any]:
    return {
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
