from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from tests.e2e.bucket import MIB, Bucket
from tests.kit.proxy import FaultProxy
from tests.kit.server import Remote, Server, client
from tests.kit.sources import pattern

from tidegate.seaweedfs import SeaweedFS

TIMEOUT = 1.5
"""Seconds for which the gateway behind the proxy waits for its store."""

BIG = pattern(12 * MIB)
"""Three parts."""

SMALL = pattern(100_000)
"""One put."""


@pytest.fixture(scope="module")
def bucket(seaweedfs: SeaweedFS) -> Iterator[Bucket]:
    with Bucket(seaweedfs) as found:
        yield found


@pytest.fixture(scope="module")
def proxy_of_module(seaweedfs: SeaweedFS) -> Iterator[FaultProxy]:
    with FaultProxy(seaweedfs.endpoint) as found:
        yield found


@pytest.fixture
def proxy(proxy_of_module: FaultProxy) -> Iterator[FaultProxy]:
    """Between the gateway and its store; without faults at the beginning of a test."""
    proxy_of_module.clear()
    yield proxy_of_module
    proxy_of_module.clear()


@pytest.fixture(scope="module")
def behind_proxy(
    bucket: Bucket, proxy_of_module: FaultProxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A gateway whose way to its store can fail."""
    folder = tmp_path_factory.mktemp("gateway")
    store = {"endpoint": proxy_of_module.endpoint, "timeout": f"{TIMEOUT}s", "attempts": 2}
    path = bucket.configure(folder, store=store)
    with Server(folder, "--config", str(path)) as found:
        yield found


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with client() as found:
        yield found


@pytest.fixture(scope="module")
def server(config: Path) -> Iterator[Server]:
    """The gateway of a module that says only how it is configured; that has the file's folder."""
    with Server(config.parent, "--config", str(config)) as found:
        yield found


@pytest.fixture
def gate(server: Server, session: aiohttp.ClientSession) -> Remote:
    """The module's gateway."""
    return Remote(server.port, session)
