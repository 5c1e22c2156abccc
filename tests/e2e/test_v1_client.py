"""The last client of API v1 that is still shipped, as a person uses it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.kit.command import environment
from tests.kit.server import Server, configure

GLANCE = str(Path(sys.executable).parent / "glance")
FORMATS = ("--disk-format", "raw", "--container-format", "bare")


class Client:
    def __init__(self, server: Server) -> None:
        self._server = server

    def run(self, *arguments: str, fails: bool = False) -> str:
        """What it printed."""
        command = [GLANCE, "--os-image-api-version", "1", "--os-image-url", self._server.url,
                   "--os-auth-token", "none", *arguments]  # fmt: skip
        done = subprocess.run(
            # an open standard input would be taken for an image's data
            ["bash", "-c", 'exec "$@" <&-', "glance", *command],
            capture_output=True,
            text=True,
            cwd=self._server.folder,
            env=environment(COLUMNS="200"),
            timeout=60,
            check=False,
        )
        assert (done.returncode != 0) is fails, done.stderr
        return done.stderr if fails else done.stdout

    def fields(self, *arguments: str) -> dict[str, str]:
        """A table of two columns."""
        rows = (line.split("|") for line in self.run(*arguments).splitlines() if "|" in line)
        return {row[1].strip(): row[2].strip() for row in rows}

    def rows(self, *arguments: str) -> list[list[str]]:
        lines = [line for line in self.run(*arguments).splitlines() if "|" in line]
        return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[1:]]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("v1")
    (folder / "disk").write_bytes(b"hello")
    store = {"type": "filesystem", "id": "local", "path": str(folder / "images")}
    with Server(folder, "--config", str(configure(folder, [store]))) as server:
        yield Client(server)


@pytest.fixture
def image_id(client: Client) -> str:
    """An image of its own name, ``hello`` in it."""
    image_id = str(uuid4())
    client.run("image-create", "--id", image_id, "--name", f"of {image_id}", *FORMATS,
               "--file", "disk", "--property", "distro=none")  # fmt: skip
    return image_id


def test_create_and_show(client: Client, image_id: str) -> None:
    shown = client.fields("image-show", f"of {image_id}")
    assert shown["id"] == image_id
    assert (shown["status"], shown["size"]) == ("active", "5")
    assert shown["checksum"] == "5d41402abc4b2a76b9719d911017c592"
    assert shown["Property 'distro'"] == "none"
    assert client.run("image-download", image_id) == "hello"


def test_list(client: Client, image_id: str) -> None:
    row = [image_id, f"of {image_id}", "raw", "bare", "5", "active"]
    assert row in client.rows("image-list")
    filters = ("--name", f"of {image_id}", "--size-min", "5", "--property-filter", "distro=none")
    assert client.rows("image-list", *filters) == [row]
    assert client.rows("image-list", "--name", f"of {image_id}", "--size-max", "4") == []


def test_update_keeps_properties_unless_told_to_purge(client: Client, image_id: str) -> None:
    shown = client.fields("image-update", image_id, "--name", "näw", "--property", "a=1")
    assert (shown["name"], shown["Property 'a'"]) == ("näw", "1")
    assert shown["Property 'distro'"] == "none"
    shown = client.fields("image-update", image_id, "--purge-props", "--property", "b=2")
    assert shown["name"] == "näw"
    assert {name for name in shown if name.startswith("Property '")} == {"Property 'b'"}


def test_reserve_and_fill(client: Client) -> None:
    reserved = client.fields("image-create", "--name", "later")
    assert reserved["status"] == "queued"
    filled = client.fields("image-update", reserved["id"], *FORMATS, "--file", "disk")
    assert (filled["status"], filled["size"]) == ("active", "5")


def test_members(client: Client, image_id: str) -> None:
    client.run("member-create", image_id, "p2", "--can-share")
    client.run("member-create", image_id, "p3")
    assert client.rows("member-list", "--image-id", image_id) == [
        [image_id, "p2", "True"],
        [image_id, "p3", ""],
    ]
    assert [image_id, "p2", "True"] in client.rows("member-list", "--tenant-id", "p2")
    client.run("member-delete", image_id, "p2")
    assert client.rows("member-list", "--image-id", image_id) == [[image_id, "p3", ""]]


def test_delete(client: Client, image_id: str) -> None:
    client.run("image-delete", image_id)
    assert client.fields("image-show", image_id)["status"] == "deleted"  # to an admin
    assert image_id not in client.run("image-list")
    client.run("image-download", image_id, fails=True)


def test_a_wrong_checksum_is_told(client: Client) -> None:
    told = client.run("image-create", "--name", "broken", *FORMATS, "--file", "disk",
                      "--checksum", "0" * 32, fails=True)  # fmt: skip
    assert "is not the digest of the bytes that came" in told
    assert "broken" not in client.run("image-list")
