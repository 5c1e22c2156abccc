"""The check of catalog and stores, with everything it needs opened and closed."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tidegate.app import open_stores
from tidegate.catalog.engine import is_there
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import CatalogDown
from tidegate.domain.status import Event
from tidegate.services.checking import Checking
from tidegate.services.reaping import Reaping
from tidegate.services.removals import Removals
from tidegate.settings import Settings


@asynccontextmanager
async def checking(
    settings: Settings, *, grace: float, remove_unknown: bool
) -> AsyncIterator[Checking]:
    """CatalogDown, also where there is no catalog yet; StoreError."""
    if not is_there(settings.catalog.url):
        raise CatalogDown("There is no catalog yet at catalog.url; nothing was checked.")
    catalog = SqlCatalog(settings.catalog.url)
    await catalog.open()
    try:
        async with open_stores(settings) as stores:
            lease = settings.uploads.lease
            removals = Removals(catalog, stores, lease=lease)
            reaping = Reaping(
                catalog,
                stores,
                removals,
                broken=Event.BREAK if settings.uploads.on_broken == "killed" else Event.RELEASE,
                lease=lease,
                node=f"fsck {socket.gethostname()}:{os.getpid()}",
            )
            yield Checking(
                catalog, stores, removals, reaping, grace=grace, remove_unknown=remove_unknown
            )
    finally:
        await catalog.close()
