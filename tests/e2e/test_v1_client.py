"""The last client of API v1 that is still shipped, as a person uses it."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from tests.kit.glance import FORMATS, Glance
from tests.kit.server import Server, configure


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Glance]:
    folder = tmp_path_factory.mktemp("v1")
    (folder / "disk").write_bytes(b"hello")
    store = {"type": "filesystem", "id": "local", "path": str(folder / "images")}
    with Server(folder, "--config", str(configure(folder, [store]))) as server:
        yield Glance(server, version=1)


@pytest.fixture
def image_id(client: Glance) -> str:
    """An image of its own name, ``hello`` in it."""
    image_id = str(uuid4())
    client.run("image-create", "--id", image_id, "--name", f"of {image_id}", *FORMATS,
               "--file", "disk", "--property", "distro=none")  # fmt: skip
    return image_id


def test_create_and_show(client: Glance, image_id: str) -> None:
    shown = client.fields("image-show", f"of {image_id}")
    assert shown["id"] == image_id
    assert (shown["status"], shown["size"]) == ("active", "5")
    assert shown["checksum"] == "5d41402abc4b2a76b9719d911017c592"
    assert shown["Property 'distro'"] == "none"
    assert client.run("image-download", image_id) == "hello"


def test_list(client: Glance, image_id: str) -> None:
    row = [image_id, f"of {image_id}", "raw", "bare", "5", "active"]
    assert row in client.rows("image-list")
    filters = ("--name", f"of {image_id}", "--size-min", "5", "--property-filter", "distro=none")
    assert client.rows("image-list", *filters) == [row]
    assert client.rows("image-list", "--name", f"of {image_id}", "--size-max", "4") == []


def test_update_keeps_properties_unless_told_to_purge(client: Glance, image_id: str) -> None:
    shown = client.fields("image-update", image_id, "--name", "näw", "--property", "a=1")
    assert (shown["name"], shown["Property 'a'"]) == ("näw", "1")
    assert shown["Property 'distro'"] == "none"
    shown = client.fields("image-update", image_id, "--purge-props", "--property", "b=2")
    assert shown["name"] == "näw"
    assert {name for name in shown if name.startswith("Property '")} == {"Property 'b'"}


def test_reserve_and_fill(client: Glance) -> None:
    reserved = client.fields("image-create", "--name", "later")
    assert reserved["status"] == "queued"
    filled = client.fields("image-update", reserved["id"], *FORMATS, "--file", "disk")
    assert (filled["status"], filled["size"]) == ("active", "5")


def test_members(client: Glance, image_id: str) -> None:
    client.run("member-create", image_id, "p2", "--can-share")
    client.run("member-create", image_id, "p3")
    assert client.rows("member-list", "--image-id", image_id) == [
        [image_id, "p2", "True"],
        [image_id, "p3", ""],
    ]
    assert [image_id, "p2", "True"] in client.rows("member-list", "--tenant-id", "p2")
    client.run("member-delete", image_id, "p2")
    assert client.rows("member-list", "--image-id", image_id) == [[image_id, "p3", ""]]


def test_delete(client: Glance, image_id: str) -> None:
    client.run("image-delete", image_id)
    assert client.fields("image-show", image_id)["status"] == "deleted"  # to an admin
    assert image_id not in client.run("image-list")
    client.run("image-download", image_id, fails=True)


def test_a_wrong_checksum_is_told(client: Glance) -> None:
    told = client.run("image-create", "--name", "broken", *FORMATS, "--file", "disk",
                      "--checksum", "0" * 32, fails=True)  # fmt: skip
    assert "is not the digest of the bytes that came" in told
    assert "broken" not in client.run("image-list")
