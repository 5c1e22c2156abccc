from collections.abc import Iterator

import pytest

from tidegate.bench import processes


@pytest.fixture(scope="session")
def sink() -> Iterator[str]:
    """The endpoint of a running sink; each test takes a bucket of its own."""
    with processes.sink() as endpoint:
        yield endpoint
