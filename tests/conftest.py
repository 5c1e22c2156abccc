import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from sqlalchemy import make_url
from tests.kit.keystone import Keystone

from tidegate.catalog import engine
from tidegate.catalog.upgrade import upgrade
from tidegate.seaweedfs import SeaweedFS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, so that no process is left alone with it at the end."""
    first = ("model", "e2e")

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        return first.index(folder) if folder in first else len(first)

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """All that was collected stays to the end: no garbage collection need look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The migrations run once; each new catalog of a test's own process begins as a copy of what
    they make."""
    made, real = tmp_path_factory.mktemp("schema") / "catalog.db", engine._make_sound
    upgrade(f"sqlite:///{made}")

    def make_sound(url: str) -> None:
        path = Path(str(make_url(url).database))
        if path.parent.is_dir() and not path.exists():
            shutil.copyfile(made, path)
        real(url)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_make_sound", make_sound)
        yield


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """The real S3 server, one for all tests; each test takes a bucket of its own."""
    with SeaweedFS(Path(tmp_path_factory.mktemp("seaweedfs"))) as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The endpoint of a second, different S3."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    """A real identity service, one for all tests."""
    with Keystone(Path(tmp_path_factory.mktemp("keystone"))) as server:
        yield server
