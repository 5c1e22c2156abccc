"""Clients with tokens of a file, to a gateway of one store, whose optional parts are off.

It does not check what it sends, so that it is seen that the clients do.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openstack as library
import pytest
from openstack import exceptions
from tests.e2e.clients.conftest import DATA, Gate
from tests.kit.glance import FORMATS
from tests.kit.server import Server, configure
from tests.kit.shells import Glance, Openstack, Shells
from tests.kit.tokens import everybody

pytestmark = pytest.mark.filterwarnings("ignore")  # of the library, about itself

IMAGES = 40
"""As many a project may have."""

BYTES = 10 * len(DATA)
"""In all of them."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plain")


@pytest.fixture(scope="module")
def tokens(gateway: Path) -> dict[str, str]:
    """By the names of ``everybody``."""
    callers = everybody(gateway / "tokens.toml")
    return {name: headers["X-Auth-Token"] for name, headers in callers.items()}


@pytest.fixture(scope="module")
def plain(gateway: Path, tokens: dict[str, str]) -> Iterator[Server]:
    config = configure(
        gateway,
        [{"type": "filesystem", "id": "local", "path": str(gateway / "images")}],
        auth={"mode": "tokens", "tokens_file": str(gateway / "tokens.toml")},
        downloads={"verify": False},
        quotas={"images": IMAGES, "bytes": str(BYTES)},
        **{"import": {"methods": ["glance-direct"]}},
    )
    with Server(gateway, "--config", str(config)) as server:
        yield server


@pytest.fixture(scope="module")
def openstack_of(
    shells: Shells, plain: Server, tokens: dict[str, str]
) -> Callable[[str], Openstack]:
    def of(caller: str) -> Openstack:
        token = tokens.get(caller, caller)
        return Openstack(shells, "--os-auth-type", "admin_token", "--os-token", token,
                         "--os-endpoint", f"{plain.url}/v2")  # fmt: skip

    return of


@pytest.fixture(scope="module")
def glance_of(shells: Shells, plain: Server, tokens: dict[str, str]) -> Callable[[str], Glance]:
    return lambda caller: Glance(shells, plain, token=tokens.get(caller, caller))


@pytest.fixture(scope="module")
def sdk_of(plain: Server, tokens: dict[str, str]) -> Iterator[Callable[[str], Any]]:
    clouds = []

    def of(caller: str) -> Any:
        clouds.append(
            library.connect(
                auth_type="admin_token", auth={"token": tokens.get(caller, caller),
                "endpoint": f"{plain.url}/v2"}, image_api_version="2", region_name="x",
                load_yaml_config=False, load_envvars=False,
            )
        )  # fmt: skip
        return clouds[-1].image

    yield of
    for cloud in clouds:
        cloud.close()


@pytest.fixture
def owner(plain: Server, tokens: dict[str, str]) -> Gate:
    return Gate(plain, tokens["owner"])


# who may do what


def test_a_strangers_image_is_not_found(
    openstack_of: Callable[[str], Openstack], glance_of: Callable[[str], Glance],
    sdk_of: Callable[[str], Any], owner: Gate,
) -> None:  # fmt: skip
    image_id = owner.active(b"x", name="mine")
    told = openstack_of("stranger").fails("image", "show", image_id)
    assert f"No Image found for {image_id}" in told
    told = openstack_of("stranger").fails("image", "show", "mine")
    assert "No Image found for mine" in told
    told = glance_of("stranger").run("image-show", image_id, fails=True)
    assert "No image found" in told
    told = glance_of("stranger").run("image-delete", image_id, fails=True)
    assert f"No image with an ID of '{image_id}' exists." in told
    with pytest.raises(exceptions.NotFoundException):
        sdk_of("stranger").get_image(image_id)
    assert openstack_of("owner").json("image", "show", image_id)["owner"] == "p1"


def test_a_reader_may_not_create(
    openstack_of: Callable[[str], Openstack], glance_of: Callable[[str], Glance],
    sdk_of: Callable[[str], Any], name: str,
) -> None:  # fmt: skip
    told = openstack_of("reader").fails("image", "create", name)
    assert "ForbiddenException: 403" in told
    told = glance_of("reader").run("image-create", "--name", name, fails=True)
    assert "not authorized to complete add_image" in told
    with pytest.raises(exceptions.ForbiddenException):
        sdk_of("reader").create_image(name, disk_format="raw", container_format="bare")


def test_a_member_may_not_publish_or_lift_an_order(
    openstack_of: Callable[[str], Openstack], glance_of: Callable[[str], Glance], owner: Gate
) -> None:
    image_id = owner.active(b"x")
    assert "403" in openstack_of("owner").fails("image", "set", "--public", image_id)
    told = glance_of("owner").run("image-update", image_id, "--visibility", "public", fails=True)
    assert "not authorized to complete publicize_image" in told
    openstack_of("admin")("image", "set", "--deactivate", image_id)
    openstack_of("owner")(
        "image", "set", "--activate", image_id
    )  # which does not look at the answer
    assert owner.show(image_id)["status"] == "deactivated"
    assert "administrator" in glance_of("owner").run("image-reactivate", image_id, fails=True)


def test_a_bad_token(
    openstack_of: Callable[[str], Openstack], glance_of: Callable[[str], Glance],
    sdk_of: Callable[[str], Any],
) -> None:  # fmt: skip
    assert "401" in openstack_of("bad").fails("image", "list")
    told = glance_of("bad").run("image-list", fails=True)
    assert "Invalid OpenStack Identity credentials." in told
    with pytest.raises(exceptions.HttpException) as refused:
        list(sdk_of("bad").images())
    assert refused.value.status_code == 401


def test_a_token_as_a_password(shells: Shells, plain: Server, tokens: dict[str, str]) -> None:
    basic = Openstack(shells, "--os-auth-type", "http_basic", "--os-username", "anybody",
                      "--os-password", tokens["owner"], "--os-endpoint",
                      f"{plain.url}/v2")  # fmt: skip
    assert isinstance(basic.json("image", "list"), list)


# what the clients check themselves


def damaged(owner: Gate, gateway: Path) -> str:
    """An image with one wrong byte; its id."""
    image_id = owner.active()
    (path,) = (found for found in (gateway / "images").rglob("*")
               if found.is_file() and image_id in str(found))  # fmt: skip
    path.write_bytes(b"!" + DATA[1:])
    return image_id


def test_one_wrong_byte_is_seen(
    openstack_of: Callable[[str], Openstack], glance_of: Callable[[str], Glance],
    sdk_of: Callable[[str], Any], owner: Gate, gateway: Path,
) -> None:  # fmt: skip
    image_id = damaged(owner, gateway)
    told = openstack_of("owner").fails("image", "save", "--file", "damaged", image_id)
    assert "checksum mismatch" in told
    told = glance_of("owner").run("image-download", "--file", "damaged", image_id, fails=True)
    assert "Corrupt image download" in told
    with pytest.raises(exceptions.InvalidResponse, match="checksum mismatch"):
        sdk_of("owner").download_image(image_id)


# a deactivated image


def test_a_deactivated_image_is_not_downloaded(
    openstack_of: Callable[[str], Openstack], glance_of: Callable[[str], Glance], owner: Gate
) -> None:
    image_id = owner.active(b"x")
    openstack_of("owner")("image", "set", "--deactivate", image_id)
    assert openstack_of("owner").fails("image", "save", "--file", "none", image_id)
    told = glance_of("owner").run("image-download", "--file", "none", image_id, fails=True)
    assert "deactivated" in told
    openstack_of("owner")("image", "set", "--activate", image_id)
    assert glance_of("owner").run("image-download", image_id) == "x"


# quotas


def test_usage(glance_of: Callable[[str], Glance], owner: Gate) -> None:
    owner.active(b"12345")
    rows = {row[0]: row[1:] for row in glance_of("owner").rows("usage")}
    assert rows["image_count_total"][0] == str(IMAGES)
    assert int(rows["image_count_total"][1]) >= 1


def test_what_is_past_a_quota_is_refused(
    openstack_of: Callable[[str], Openstack], glance_of: Callable[[str], Glance],
    sdk_of: Callable[[str], Any], folder: Path, name: str,
) -> None:  # fmt: skip
    big = folder / "big"
    big.write_bytes(bytes(BYTES + 1))
    told = openstack_of("stranger").fails("image", "create", "--file", "big", name)
    assert "413" in told
    assert "quota" in told
    assert openstack_of("stranger").json("image", "list", "--name", name) == []
    told = glance_of("stranger").run("image-create", "--name", name, *FORMATS, "--file", "big",
                                     fails=True)  # fmt: skip
    assert "quota" in told
    # which that client leaves
    assert glance_of("stranger").rows("image-list", "--property-filter", f"name={name}") != []
    # of a file that it was given by name the library would leave the handle open
    with big.open("rb") as data, pytest.raises(exceptions.HttpException) as refused:
        sdk_of("stranger").create_image(f"{name}-2", data=data, disk_format="raw",
                                        container_format="bare")  # fmt: skip
    assert refused.value.status_code == 413


# what is off


def test_without_a_cache(
    openstack_of: Callable[[str], Openstack], glance_of: Callable[[str], Glance],
    sdk_of: Callable[[str], Any],
) -> None:  # fmt: skip
    assert "not supported" in openstack_of("admin").fails("cached", "image", "list")
    for command in ("cache-list", "cache-clear"):
        assert "Glance does not support" in glance_of("admin").outcome(command).err
    with pytest.raises(exceptions.NotFoundException):
        sdk_of("admin").get_image_cache()


def test_without_an_import_method(
    openstack_of: Callable[[str], Openstack], glance_of: Callable[[str], Glance], owner: Gate
) -> None:
    image_id, uri = owner.create(), ("--uri", "http://127.0.0.1/")
    told = openstack_of("owner").fails("image", "import", "--method", "web-download", *uri,
                                       image_id)  # fmt: skip
    assert "not supported by this deployment. Supported: glance-direct" in told
    told = glance_of("owner").run("image-import", image_id, "--import-method", "web-download",
                                  *uri, fails=True)  # fmt: skip
    assert "is not valid for this cloud" in told


def test_without_locations(glance_of: Callable[[str], Glance], owner: Gate) -> None:
    image_id, url = owner.active(b"x"), ("--url", "http://127.0.0.1/")
    told = glance_of("owner").run("location-add", *url, image_id, fails=True)
    assert "not allowed to add locations" in told
    told = glance_of("owner").run("location-delete", *url, image_id, fails=True)
    assert "disabled API access to image locations" in told
