from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from tests.e2e.bucket import Bucket
from tests.kit.proxy import FaultProxy
from tests.kit.server import Remote, Server, client

from tidegate.seaweedfs import SeaweedFS


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


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with client() as found:
        yield found


@pytest.fixture
def gate(server: Server, session: aiohttp.ClientSession) -> Remote:
    """The module's gateway."""
    return Remote(server.port, session)
