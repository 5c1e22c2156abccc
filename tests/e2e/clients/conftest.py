"""One gateway for all tests of a file, with everything switched on, and the clients before it."""

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest
from tests.kit.command import wait_for
from tests.kit.server import Server, configure
from tests.kit.shells import Glance, Openstack, Shells

DATA = bytes(range(256)) * 100
"""What images are of here."""


@dataclass(frozen=True)
class Gate:
    """Asked directly: what a test needs before its client comes, and looks at after it."""

    server: Server
    token: str = "none"

    def ask(self, method: str, path: str, body: Any = None, kind: str = "json") -> Any:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = {"Content-Type": f"application/{kind}", "X-Auth-Token": self.token}
        request = Request(self.server.url + path, data, headers, method=method)
        with urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def create(self, **fields: Any) -> str:
        """A queued image; its id."""
        body = {"disk_format": "raw", "container_format": "bare", **fields}
        image_id: str = self.ask("POST", "/v2/images", body)["id"]
        return image_id

    def active(self, data: bytes = DATA, **fields: Any) -> str:
        image_id = self.create(**fields)
        self.ask("PUT", f"/v2/images/{image_id}/file", data, "octet-stream")
        return image_id

    def show(self, image_id: str) -> dict[str, Any]:
        image: dict[str, Any] = self.ask("GET", f"/v2/images/{image_id}")
        return image

    def imported(self, image_id: str) -> dict[str, Any]:
        """The image, as soon as no import of it runs."""

        def look() -> dict[str, Any] | None:
            tasks = self.ask("GET", f"/v2/images/{image_id}/tasks")["tasks"]
            over = tasks and all(task["status"] in ("success", "failure") for task in tasks)
            return self.show(image_id) if over else None

        return wait_for(look, f"the imports of {image_id} to end")

    def stores(self, image_id: str) -> set[str]:
        """In which its bytes are, as soon as no import of it runs."""
        return set(self.imported(image_id)["stores"].split(","))

    def task(self, image_id: str) -> str:
        """The id of its last one."""
        found: str = self.ask("GET", f"/v2/images/{image_id}/tasks")["tasks"][-1]["id"]
        return found


@pytest.fixture
def name() -> str:
    """That nothing has yet."""
    return f"n-{uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def shells(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shells]:
    folder = tmp_path_factory.mktemp("clients")
    (folder / "disk").write_bytes(DATA)
    (folder / "disk.qcow2").write_bytes(b"QFI\xfb" + bytes(1000))
    with Shells(folder) as found:
        yield found


@pytest.fixture(scope="session")
def folder(shells: Shells) -> Path:
    """Where the clients run: the file ``disk`` in it is ``DATA``."""
    return shells.folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Of two stores, and with a cache; everybody is an administrator."""
    folder = tmp_path_factory.mktemp("gateway")
    stores = [
        {"type": "filesystem", "id": "fast", "path": str(folder / "fast"), "default": True},
        {"type": "filesystem", "id": "cold", "path": str(folder / "cold"), "description": "slow"},
    ]
    found = Server(folder, "--config", str(folder / "tidegate.toml"))
    configure(
        folder,
        stores,
        cache={"enabled": True, "path": str(folder / "cache")},
        fetch={"allow": ["127.0.0.1"]},
        locations={"show": True},
        export={"stores": ["cold/exports"]},
        **{"import.regions": {"here": found.url}},
    )
    with found:
        yield found


@pytest.fixture(scope="session")
def gate(server: Server) -> Gate:
    return Gate(server)


@pytest.fixture(scope="session")
def openstack(shells: Shells, server: Server) -> Openstack:
    """Without anybody who says who calls."""
    return Openstack(shells, "--os-auth-type", "none", "--os-endpoint", server.url)


@pytest.fixture(scope="session")
def glance(shells: Shells, server: Server) -> Glance:
    return Glance(shells, server)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def origin(folder: Path) -> Iterator[str]:
    """The address of ``disk`` on a server elsewhere."""
    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/disk"
        server.shutdown()
        thread.join()
