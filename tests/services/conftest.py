from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
from tests.kit.server import until
from tests.kit.stores import FaultyStore

from tidegate.catalog.base import Viewer
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.expected import Expected
from tidegate.domain.image import Image
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.status import Event
from tidegate.domain.task import Task, TaskType
from tidegate.domain.upload import Failure
from tidegate.services.attempts import Attempts
from tidegate.services.reaping import Reaping
from tidegate.services.removals import Removals
from tidegate.services.uploads import Uploads
from tidegate.settings import ImageFormat, Locations
from tidegate.settings import Uploads as UploadSettings
from tidegate.stores.memory import MemoryStore
from tidegate.transfer.digest import DigestPool
from tidegate.transfer.memory import Arena
from tidegate.transfer.upload import Source

MIB = 2**20
ADMIN = Caller(roles=frozenset({"admin"}))


@dataclass
class World:
    """A catalog, a store that may fail, and the services on them."""

    url: str
    catalog: SqlCatalog
    store: FaultyStore = field(default_factory=lambda: FaultyStore(MemoryStore()))
    arena: Arena = field(default_factory=lambda: Arena(32 * MIB))
    digests: DigestPool = field(default_factory=lambda: DigestPool(2))

    @property
    def removals(self) -> Removals:
        return Removals(self.catalog, {self.store.id: self.store})

    def attempts(self, **changes: object) -> Attempts:
        return Attempts(
            self.catalog,
            {self.store.id: self.store},
            self.removals,
            settings=_settings(changes),
            formats=ImageFormat(),
            default_store=self.store.id,
            arena=self.arena,
            digests=self.digests,
            node="node",
        )

    def uploads(self, attempts: Attempts | None = None, **changes: object) -> Uploads:
        return Uploads(
            self.catalog,
            Policy(),
            attempts or self.attempts(**changes),
            settings=_settings(changes),
            locations=Locations(),
        )

    def reaping(self, catalog: SqlCatalog | None = None, *, lease: float = 30) -> Reaping:
        stores = {self.store.id: self.store}
        used = catalog or self.catalog
        return Reaping(
            used, stores, Removals(used, stores), broken=Event.BREAK, lease=lease, node="reaper"
        )

    async def queued(self) -> str:
        image = Image(id=str(uuid4()), disk_format="raw", container_format="bare")
        return (await self.catalog.create_image(image)).id

    async def upload(
        self, image_id: str, source: Source, expected: Expected | None = None, **changes: object
    ) -> Image:
        return await self.uploads(**changes).upload(
            ADMIN, image_id, source, expected or Expected(), request_id="req-1"
        )

    async def take(self, *, dead: bool = False) -> Task:
        """A task, by a holder who does nothing more, if ``dead``."""

        async def taken() -> list[Task]:
            return await self.catalog.take_tasks(
                "node", tuple(TaskType), lease=-1 if dead else 30, limit=1
            )

        (task,) = await until(taken, "a task to be due")
        return task

    async def image(self, image_id: str) -> Image:
        return await self.catalog.get_image(image_id, Viewer(admin=True))

    async def failure(self, image_id: str) -> Failure:
        found = (await self.catalog.uploads_of(image_id))[-1].failure
        assert found is not None
        return found


def _settings(changes: Mapping[str, object]) -> UploadSettings:
    return UploadSettings.model_validate(
        {"memory_budget": 32 * MIB, "part_size": 4 * MIB, "part_concurrency": 2, **changes}
    )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    catalog = SqlCatalog(url)
    await catalog.open()
    world = World(url, catalog)
    yield world
    world.digests.close()
    await catalog.close()


@pytest.fixture
async def dead(world: World) -> AsyncIterator[SqlCatalog]:
    """The catalog of a worker that will not come back."""
    catalog = SqlCatalog(world.url)
    await catalog.open()
    yield catalog
    await catalog.close()
