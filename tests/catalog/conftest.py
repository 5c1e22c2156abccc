from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tidegate.catalog.sql import SqlCatalog


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[SqlCatalog]:
    catalog = SqlCatalog(f"sqlite:///{tmp_path / 'catalog.db'}")
    await catalog.open()
    yield catalog
    await catalog.close()


@pytest.fixture
async def other(tmp_path: Path, catalog: SqlCatalog) -> AsyncIterator[SqlCatalog]:
    """Another worker's, on the same database."""
    other = SqlCatalog(f"sqlite:///{tmp_path / 'catalog.db'}")
    await other.open()
    yield other
    await other.close()
