from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.kit.gateway import Gateway, running
from tests.kit.stores import FaultyStore

from tidegate.stores.memory import MemoryStore


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore())


@pytest.fixture
async def gate(store: FaultyStore, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(store, tmp_path) as found:
        yield found
