"""Clients that log in by name and password, in two projects, and find the gateway in Keystone's
catalog."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openstack as library
import pytest
from openstack import exceptions
from tests.e2e.clients.conftest import DATA, Gate
from tests.kit.glance import FORMATS
from tests.kit.keystone import SERVICE_PASSWORD, Keystone
from tests.kit.server import Server, configure
from tests.kit.shells import Glance, Openstack, Shells

pytestmark = [
    pytest.mark.timeout(300),  # the first test waits until Keystone is up
    pytest.mark.filterwarnings("ignore"),  # of the library, about itself
]


@pytest.fixture(scope="module")
def cloud(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("cloud")
    (folder / "password").touch(0o600)
    (folder / "password").write_text(SERVICE_PASSWORD, encoding="utf-8")
    store = {"type": "filesystem", "id": "local", "path": str(folder / "images")}
    account = {
        "url": keystone.url, "username": "tidegate", "password_file": str(folder / "password"),
    }  # fmt: skip
    config = configure(folder, [store], auth={"mode": "keystone"}, **{"auth.keystone": account})
    with Server(folder, "--config", str(config)) as server:
        keystone.set_image_endpoint(server.url)
        yield server


@pytest.fixture(scope="module")
def openstack_of(shells: Shells, cloud: Server, keystone: Keystone) -> Callable[[str], Openstack]:
    return lambda user: Openstack(shells, environ=keystone.account(user))


@pytest.fixture(scope="module")
def glance_of(shells: Shells, cloud: Server, keystone: Keystone) -> Callable[[str], Glance]:
    return lambda user: Glance(shells, cloud, environ=keystone.account(user))


@pytest.fixture(scope="module")
def sdk_of(cloud: Server, keystone: Keystone) -> Iterator[Callable[[str], Any]]:
    clouds = []

    def of(user: str) -> Any:
        account = {
            name.removeprefix("OS_").lower(): value
            for name, value in keystone.account(user).items()
            if name not in ("OS_IDENTITY_API_VERSION", "OS_REGION_NAME")
        }
        clouds.append(
            library.connect(
                auth=account, region_name="RegionOne", load_yaml_config=False, load_envvars=False
            )
        )
        return clouds[-1].image

    yield of
    for one in clouds:
        one.close()


@pytest.fixture
def mine(cloud: Server, keystone: Keystone) -> Gate:
    """Asks as ``mem1``, a member of p1."""
    return Gate(cloud, keystone.token("mem1"))


# one's own images


def test_openstack_creates_saves_and_deletes(
    openstack_of: Callable[[str], Openstack], keystone: Keystone, name: str
) -> None:
    openstack = openstack_of("mem1")
    made = openstack.json("image", "create", "--file", "disk", name)
    assert (made["status"], made["owner"]) == ("active", keystone.ids["p1"])
    assert openstack("image", "save", name) == DATA
    openstack("image", "delete", name)
    assert openstack.json("image", "list", "--name", name) == []


def test_glance_creates_downloads_and_deletes(
    glance_of: Callable[[str], Glance], keystone: Keystone, name: str, folder: Path
) -> None:
    glance = glance_of("mem1")
    made = glance.fields("image-create", "--name", name, *FORMATS, "--file", "disk")
    assert (made["status"], made["owner"]) == ("active", keystone.ids["p1"])
    glance.run("image-download", "--file", f"{name}.copy", made["id"])
    assert (folder / f"{name}.copy").read_bytes() == DATA
    glance.run("image-delete", made["id"])


def test_the_sdk_creates_downloads_and_deletes(
    sdk_of: Callable[[str], Any], keystone: Keystone, name: str
) -> None:
    sdk = sdk_of("mem1")
    made = sdk.create_image(name, data=DATA, disk_format="raw", container_format="bare")
    image = sdk.get_image(made)
    assert (image.status, image.owner_id) == ("active", keystone.ids["p1"])
    assert sdk.download_image(image).content == DATA
    sdk.delete_image(image, ignore_missing=False)


def test_a_wrong_password(shells: Shells, cloud: Server, keystone: Keystone) -> None:
    account = {**keystone.account("mem1"), "OS_PASSWORD": "wrong"}
    assert "401" in Openstack(shells, environ=account).fails("image", "list")


def test_a_token_instead_of_a_password(
    shells: Shells, cloud: Server, keystone: Keystone, mine: Gate
) -> None:
    by_token = Openstack(shells, "--os-auth-type", "admin_token", "--os-token", mine.token,
                         "--os-endpoint", f"{cloud.url}/v2")  # fmt: skip
    assert isinstance(by_token.json("image", "list"), list)
    bad = Glance(shells, cloud, token="gAAAA" + "x" * 178)
    assert "Invalid OpenStack Identity credentials." in bad.run("image-list", fails=True)


# roles


def test_what_a_stranger_sees(
    openstack_of: Callable[[str], Openstack], glance_of: Callable[[str], Glance],
    sdk_of: Callable[[str], Any], mine: Gate,
) -> None:  # fmt: skip
    image_id = mine.active()
    for command in ("show", "save", "delete"):
        assert openstack_of("mem2").run("image", command, image_id).code == 1
    assert "No Image found" in openstack_of("mem2").fails("image", "show", image_id)
    for command in (("image-show",), ("image-update", "--name", "x")):
        told = glance_of("mem2").run(*command, image_id, fails=True)
        assert "No image found" in told
    assert sdk_of("mem2").find_image(image_id) is None
    assert image_id not in [image.id for image in sdk_of("mem2").images()]


def test_what_a_reader_may(
    openstack_of: Callable[[str], Openstack], sdk_of: Callable[[str], Any], mine: Gate, name: str
) -> None:
    image_id = mine.active(name=name)
    reader = openstack_of("rea1")
    assert reader.json("image", "show", name)["id"] == image_id
    assert image_id in {row["ID"] for row in reader.json("image", "list")}
    assert "403" in reader.fails("image", "create", name)
    assert "403" in reader.fails("image", "set", "--name", "x", name)
    assert "403" in reader.fails("image", "delete", name)
    reader("image", "set", "--deactivate", name)  # which does not look at the answer
    assert mine.show(image_id)["status"] == "active"
    with pytest.raises(exceptions.ForbiddenException):
        sdk_of("rea1").update_image(image_id, name="x")


def test_what_only_an_administrator_may(
    openstack_of: Callable[[str], Openstack], glance_of: Callable[[str], Glance], mine: Gate,
    keystone: Keystone, name: str,
) -> None:  # fmt: skip
    image_id = mine.active(name=name)
    member, administrator = openstack_of("mem1"), openstack_of("adm1")
    assert "403" in member.fails("image", "set", "--public", name)
    assert "403" in member.fails("image", "task", "list")
    administrator("image", "set", "--public", name)
    assert openstack_of("mem2").json("image", "show", image_id)["visibility"] == "public"
    assert isinstance(administrator.json("image", "task", "list"), list)
    administrator("image", "set", "--project", keystone.ids["p2"], image_id)
    assert administrator.json("image", "show", image_id)["owner"] == keystone.ids["p2"]
    rows = administrator.json("image", "list", "--project", keystone.ids["p2"])
    assert image_id in {row["ID"] for row in rows}
    assert "data_dir" in glance_of("adm1").run("stores-info", "--detail")
    told = glance_of("mem1").run("stores-info", "--detail", fails=True)
    assert "not authorized to complete stores_info_detail" in told


# sharing


def test_sharing_by_openstack(
    openstack_of: Callable[[str], Openstack], mine: Gate, keystone: Keystone, name: str
) -> None:
    owner, consumer, p2 = openstack_of("mem1"), openstack_of("mem2"), keystone.ids["p2"]
    image_id = mine.active(name=name)
    assert "No Image found" in consumer.fails("image", "set", "--accept", image_id)
    made = owner.json("image", "add", "project", name, p2)
    assert (made["member_id"], made["status"]) == (p2, "pending")
    # it can be seen, and is not yet listed
    assert consumer.json("image", "show", image_id)["id"] == image_id
    listed = ("image", "list", "--shared")
    assert image_id not in {row["ID"] for row in consumer.json(*listed)}
    rows = consumer.json(*listed, "--member-status", "pending")
    assert image_id in {row["ID"] for row in rows}
    consumer("image", "set", "--accept", image_id)
    assert image_id in {row["ID"] for row in consumer.json(*listed)}
    assert consumer("image", "save", image_id) == DATA
    assert owner.json("image", "member", "get", name, p2)["status"] == "accepted"
    consumer("image", "set", "--reject", image_id)
    (row,) = owner.json("image", "member", "list", name)
    assert (row["Member ID"], row["Status"]) == (p2, "rejected")
    consumer("image", "set", "--pending", image_id)
    owner("image", "remove", "project", name, p2)
    assert "No Image found" in consumer.fails("image", "show", image_id)


def test_an_owner_does_not_accept_for_others(
    openstack_of: Callable[[str], Openstack], mine: Gate, keystone: Keystone
) -> None:
    image_id, p2 = mine.active(), keystone.ids["p2"]
    openstack_of("mem1")("image", "add", "project", image_id, p2)
    told = openstack_of("mem1").fails("image", "set", "--accept", "--project", p2, image_id)
    assert "403" in told
    openstack_of("adm1")("image", "set", "--accept", "--project", p2, image_id)
    assert openstack_of("mem2")("image", "save", image_id) == DATA


def test_sharing_by_glance(
    glance_of: Callable[[str], Glance], mine: Gate, keystone: Keystone
) -> None:
    owner, consumer, p2 = glance_of("mem1"), glance_of("mem2"), keystone.ids["p2"]
    image_id = mine.active(b"shared")
    assert owner.rows("member-create", image_id, p2) == [[image_id, p2, "pending"]]
    assert consumer.rows("member-update", image_id, p2, "accepted") == [[image_id, p2, "accepted"]]
    assert consumer.run("image-download", image_id) == "shared"
    owner.run("member-delete", image_id, p2)
    assert "No image found" in consumer.run("image-show", image_id, fails=True)


def test_sharing_by_the_sdk(sdk_of: Callable[[str], Any], mine: Gate, keystone: Keystone) -> None:
    owner, consumer, p2 = sdk_of("mem1"), sdk_of("mem2"), keystone.ids["p2"]
    image_id = mine.active()
    owner.add_member(image_id, member_id=p2)
    assert [one.member_id for one in consumer.members(image_id)] == [p2]
    consumer.update_member(p2, image_id, status="accepted")
    assert image_id in [image.id for image in consumer.images(visibility="shared")]
    assert consumer.download_image(image_id).content == DATA
    owner.remove_member(p2, image_id)
    assert consumer.find_image(image_id) is None


def test_a_community_image_is_found_by_its_id(
    openstack_of: Callable[[str], Openstack], mine: Gate, name: str
) -> None:
    image_id = mine.active(name=name, visibility="community")
    consumer = openstack_of("mem2")
    assert consumer("image", "save", image_id) == DATA
    assert image_id not in {row["ID"] for row in consumer.json("image", "list")}
    assert image_id in {row["ID"] for row in consumer.json("image", "list", "--community")}


def test_no_token_and_no_password_is_in_the_log(cloud: Server) -> None:
    assert not re.search(f"gAAAA|{SERVICE_PASSWORD}", cloud.log)
