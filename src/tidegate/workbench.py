"""The parts of a gateway without a server, for a command that works beside running ones."""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from tidegate.app import open_stores
from tidegate.catalog.engine import is_there
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import CatalogDown
from tidegate.domain.status import WHEN_BROKEN
from tidegate.services.adopting import Adopting
from tidegate.services.checking import Checking
from tidegate.services.reaping import Reaping
from tidegate.services.removals import Removals
from tidegate.services.scrubbing import Scrubbing
from tidegate.settings import Settings
from tidegate.stores.base import Store
from tidegate.transfer.digest import DigestPool
from tidegate.transfer.memory import Arena


@dataclass(frozen=True, slots=True)
class Workbench:
    settings: Settings
    catalog: SqlCatalog
    stores: Mapping[str, Store]
    arena: Arena
    digests: DigestPool
    node: str

    @property
    def removals(self) -> Removals:
        return Removals(self.catalog, self.stores, lease=self.settings.uploads.lease)

    def scrubbing(self, *, rate: int) -> Scrubbing:
        return Scrubbing(
            self.catalog,
            self.stores,
            self.removals,
            rate=rate,
            uploads=self.settings.uploads,
            arena=self.arena,
            digests=self.digests,
            node=self.node,
        )

    def checking(self, *, grace: float, remove_unknown: bool) -> Checking:
        reaping = Reaping(
            self.catalog,
            self.stores,
            self.removals,
            broken=WHEN_BROKEN[self.settings.uploads.on_broken],
            lease=self.settings.uploads.lease,
            node=self.node,
        )
        return Checking(
            self.catalog,
            self.stores,
            self.removals,
            reaping,
            grace=grace,
            remove_unknown=remove_unknown,
        )

    def adopting(self) -> Adopting:
        return Adopting(
            self.catalog,
            self.stores,
            exports=self.settings.exports.stores,
            algorithms=self.settings.uploads.digests,
            max_size=self.settings.uploads.max_image_size,
            arena=self.arena,
            digests=self.digests,
        )


@asynccontextmanager
async def workbench(settings: Settings, *, new: bool = False) -> AsyncIterator[Workbench]:
    """``new``: a catalog is made where there is none. CatalogDown, StoreError: a part cannot be
    opened."""
    if not new and not is_there(settings.catalog.url):
        raise CatalogDown("There is no catalog yet at catalog.url; nothing was done.")
    async with AsyncExitStack() as stack:
        catalog = SqlCatalog(settings.catalog.url)
        await catalog.open()
        stack.push_async_callback(catalog.close)
        stores = await stack.enter_async_context(open_stores(settings))
        digests = DigestPool(os.cpu_count() or 1)
        stack.push_async_callback(asyncio.to_thread, digests.close)
        arena = Arena(settings.uploads.memory_budget)
        node = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        yield Workbench(settings, catalog, stores, arena, digests, node)
