"""Staging and imports as a person does them, by glanceclient."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import orjson
import pytest
from tests.kit.command import environment, wait_for
from tests.kit.server import Server, configure

GLANCE = str(Path(sys.executable).parent / "glance")
FORMATS = ("--disk-format", "raw", "--container-format", "bare")


class Client:
    def __init__(self, server: Server) -> None:
        self._server = server

    def run(self, *arguments: str) -> dict[str, str]:
        """The table of two columns that it printed."""
        command = [GLANCE, "--os-image-url", self._server.url, "--os-auth-token", "none"]
        done = subprocess.run(
            # an open standard input would be taken for an image's data
            ["bash", "-c", 'exec "$@" <&-', "glance", *command, *arguments],
            capture_output=True,
            text=True,
            cwd=self._server.folder,
            env=environment(COLUMNS="200"),
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        rows = (line.split("|") for line in done.stdout.splitlines() if "|" in line)
        return {row[1].strip(): row[2].strip() for row in rows}

    def show(self, image_id: str) -> dict[str, Any]:
        with urlopen(f"{self._server.url}/v2/images/{image_id}") as answer:
            image: dict[str, Any] = orjson.loads(answer.read())
        return image

    def active(self, image_id: str) -> dict[str, Any]:
        wait_for(lambda: "os_glance_import_task" not in self.show(image_id), "the import to end")
        image = self.show(image_id)
        assert image["status"] == "active"
        return image


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("imports")
    (folder / "disk").write_bytes(b"hello")
    stores = [
        {"type": "filesystem", "id": name, "path": str(folder / name)} for name in ("one", "two")
    ]
    config = configure(folder, stores, fetch={"allow": ["127.0.0.1"]}, locations={"show": True})
    with Server(folder, "--config", str(config)) as server:
        yield Client(server)


def test_create_by_importing_a_file(client: Client) -> None:
    made = client.run("image-create-via-import", "--name", "n", *FORMATS, "--file", "disk")
    assert made["size"] == "5"
    image = client.active(made["id"])
    assert image["checksum"] == "5d41402abc4b2a76b9719d911017c592"


def test_create_by_importing_a_file_into_all_stores(client: Client) -> None:
    made = client.run("image-create-via-import", *FORMATS, "--file", "disk",
                      "--all-stores", "true")  # fmt: skip
    assert len(client.active(made["id"])["locations"]) == 2


def test_stage_import_and_copy_step_by_step(client: Client) -> None:
    image_id = client.run("image-create", *FORMATS)["id"]
    client.run("image-stage", "--file", "disk", image_id)
    assert client.show(image_id)["status"] == "uploading"
    client.run("image-import", image_id, "--import-method", "glance-direct", "--store", "two")
    assert len(client.active(image_id)["locations"]) == 1
    client.run("image-import", image_id, "--import-method", "copy-image", "--all-stores", "true")
    assert len(client.active(image_id)["locations"]) == 2


def test_what_is_offered(client: Client) -> None:
    assert "Import methods available." in client.run("import-info")["import-methods"]
