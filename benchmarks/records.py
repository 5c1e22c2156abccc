"""A catalog full of images, written straight into its tables."""

import random
import time
from pathlib import Path
from uuid import UUID

from sqlalchemy import create_engine, insert, update

from tidegate.catalog import tables
from tidegate.catalog.rows import copies
from tidegate.catalog.upgrade import upgrade

_BATCH = 5000


def fill(database: Path, count: int) -> list[str]:
    """Put ``count`` active images into a new catalog, with a location, two properties and a tag
    each; their ids."""
    url = f"sqlite:///{database.absolute()}"
    upgrade(url)
    source = random.Random(4711)
    ids = [str(UUID(int=source.getrandbits(128), version=4)) for _ in range(count)]
    engine = create_engine(url)
    begun = time.time_ns() // 1000 - count
    with engine.begin() as connection:
        for first in range(0, count, _BATCH):
            batch = list(enumerate(ids[first : first + _BATCH], first))
            connection.execute(
                insert(tables.images),
                [
                    {
                        "id": image_id,
                        "name": f"image-{number}",
                        "status": "active",
                        "visibility": "public" if number % 10 == 0 else "shared",
                        "owner": f"project-{number % 100}",
                        "protected": False,
                        "hidden": False,
                        "disk_format": "qcow2",
                        "container_format": "bare",
                        "min_disk": 0,
                        "min_ram": 0,
                        "size": 2**30 + number,
                        "checksum": source.randbytes(16).hex(),
                        "hash_algo": "sha512",
                        "hash_value": source.randbytes(64).hex(),
                        "was_active": True,
                        "created_at": begun + number,
                        "updated_at": begun + number,
                    }
                    for number, image_id in batch
                ],
            )
            connection.execute(
                insert(tables.locations),
                [
                    {
                        "image_id": image_id,
                        "position": 0,
                        "store": "main",
                        "key": f"{image_id}/{number:032x}",
                        "own": True,
                        "metadata": {},
                    }
                    for number, image_id in batch
                ],
            )
            connection.execute(
                insert(tables.properties),
                [
                    {"image_id": image_id, "name": name, "value": value}
                    for _, image_id in batch
                    for name, value in (("os_distro", "debian"), ("architecture", "x86_64"))
                ],
            )
            connection.execute(
                insert(tables.tags),
                [{"image_id": image_id, "tag": f"tag-{number % 50}"} for number, image_id in batch],
            )
        connection.execute(update(tables.images).values(copies()))
    engine.dispose()
    return ids
