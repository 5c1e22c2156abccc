from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.kit.gateway import Gateway, running
from tests.kit.identity import Named
from tests.kit.stores import FaultyStore

from tidegate.catalog.sql import SqlCatalog
from tidegate.stores.memory import MemoryStore


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore())


@pytest.fixture
async def gate(store: FaultyStore, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(store, tmp_path) as found:
        yield found


@pytest.fixture
async def shared_gate(store: FaultyStore, tmp_path: Path) -> AsyncIterator[Gateway]:
    """Whose callers say who they are (``tests.kit.identity``)."""
    async with running(store, tmp_path, identity=Named(), quotas={"members": 3}) as found:
        yield found


@pytest.fixture
async def catalog(shared_gate: Gateway, tmp_path: Path) -> AsyncIterator[SqlCatalog]:
    """Another worker's, on the gateway's database."""
    found = SqlCatalog(f"sqlite:///{tmp_path / 'tidegate.db'}")
    await found.open()
    yield found
    await found.close()
