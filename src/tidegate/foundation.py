"""What a gateway stands on, and a command beside running ones: catalog, stores, memory, threads."""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import assert_never

from tidegate.catalog.engine import is_there
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import CatalogDown
from tidegate.domain.status import WHEN_BROKEN
from tidegate.services.adopting import Adopting
from tidegate.services.checking import GRACE, Checking
from tidegate.services.reaping import Reaping
from tidegate.services.removals import Removals
from tidegate.services.scrubbing import Scrubbing
from tidegate.settings import FilesystemStore as FilesystemSettings
from tidegate.settings import HttpStore as HttpSettings
from tidegate.settings import S3Store as S3Settings
from tidegate.settings import Settings, StoreSettings
from tidegate.stores.base import Store
from tidegate.stores.fetch import Fetcher
from tidegate.stores.filesystem import FilesystemStore
from tidegate.stores.http import HttpStore
from tidegate.stores.s3 import S3Store
from tidegate.transfer.digest import DigestPool
from tidegate.transfer.memory import Arena


@dataclass(frozen=True, slots=True)
class Foundation:
    """``node`` names this process among all that share the catalog."""

    settings: Settings
    catalog: SqlCatalog
    stores: Mapping[str, Store]
    removals: Removals
    arena: Arena
    digests: DigestPool
    node: str

    @property
    def remote(self) -> HttpStore:
        """The store of registered URLs."""
        return next(store for store in self.stores.values() if isinstance(store, HttpStore))

    def reaping(self) -> Reaping:
        return Reaping(
            self.catalog,
            self.stores,
            self.removals,
            broken=WHEN_BROKEN[self.settings.uploads.on_broken],
            lease=self.settings.uploads.lease,
            node=self.node,
        )

    def checking(self, *, grace: float = GRACE, remove_unknown: bool = False) -> Checking:
        return Checking(
            self.catalog,
            self.stores,
            self.removals,
            self.reaping(),
            grace=grace,
            remove_unknown=remove_unknown,
        )

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
async def foundation(
    settings: Settings, stores: Mapping[str, Store] | None = None
) -> AsyncIterator[Foundation]:
    """``stores`` replaces the configured ones (open already). CatalogDown, StoreError: a part
    cannot be opened."""
    async with AsyncExitStack() as stack:
        catalog = SqlCatalog(settings.catalog.url)
        await catalog.open()
        stack.push_async_callback(catalog.close)
        if stores is None:
            stores = await stack.enter_async_context(open_stores(settings))
        digests = DigestPool(os.cpu_count() or 1)
        stack.push_async_callback(asyncio.to_thread, digests.close)
        yield Foundation(
            settings,
            catalog,
            stores,
            Removals(catalog, stores, lease=settings.uploads.lease),
            Arena(settings.uploads.memory_budget),
            digests,
            f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
        )


@asynccontextmanager
async def workbench(settings: Settings, *, new: bool = False) -> AsyncIterator[Foundation]:
    """For a command. ``new``: a catalog is made where there is none. CatalogDown, StoreError: a
    part cannot be opened."""
    if not new and not is_there(settings.catalog.url):
        raise CatalogDown("There is no catalog yet at catalog.url; nothing was done.")
    async with foundation(settings) as found:
        yield found


def open_store(settings: StoreSettings, fetcher: Fetcher) -> Store:
    match settings:
        case S3Settings():
            return S3Store(settings)
        case FilesystemSettings():
            return FilesystemStore(settings)
        case HttpSettings():
            return HttpStore(settings, fetcher)
        case other:
            assert_never(other)


@asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[dict[str, Store]]:
    """All stores by id, ready; one for registered URLs is always among them. StoreError."""
    configured = list(settings.stores)
    if not any(isinstance(store, HttpSettings) for store in configured):
        configured.append(HttpSettings(type="http"))
    async with AsyncExitStack() as stack:
        stores: dict[str, Store] = {}
        for one in configured:
            timeout = one.timeout if isinstance(one, HttpSettings) else 30.0
            fetcher = Fetcher(settings.fetch, timeout=timeout)
            if isinstance(one, HttpSettings):
                await fetcher.open()
                stack.push_async_callback(fetcher.close)
            store = open_store(one, fetcher)
            stack.push_async_callback(store.close)
            await store.open()
            stores[one.id] = store
        yield stores
