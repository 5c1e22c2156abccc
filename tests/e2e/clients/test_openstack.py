"""``openstack image …``, call by call, to a gateway without authentication."""

import hashlib
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from tests.e2e.clients.conftest import DATA, Gate
from tests.kit.command import environment, wait_for
from tests.kit.server import Server
from tests.kit.shells import Openstack, Shells

RAW = ("--disk-format", "raw")


# how it finds the gateway


def test_as_a_program_of_its_own(server: Server, folder: Path, name: str) -> None:
    """And as each test below runs it, but for the start of the process."""
    command = [Path(sys.executable).parent / "openstack", "--os-auth-type", "none", "--os-endpoint",
               server.url, "image"]  # fmt: skip

    def run(*arguments: str, given: bytes = b"") -> bytes:
        return subprocess.run(
            [*command, *arguments],
            input=given,
            capture_output=True,
            cwd=folder,
            env=environment(HOME=str(folder)),
            timeout=60,
            check=True,
        ).stdout

    assert run("create", *RAW, "-f", "value", "-c", "status", name, given=DATA) == b"active\n"
    assert run("save", name) == DATA


def test_with_the_version_in_the_address(server: Server, shells: Shells) -> None:
    versioned = Openstack(shells, "--os-auth-type", "none", "--os-endpoint", f"{server.url}/v2")
    assert isinstance(versioned.json("image", "list"), list)


def test_with_a_token_that_is_not_looked_at(server: Server, shells: Shells) -> None:
    options = ("--os-auth-type", "admin_token", "--os-token", "x", "--os-endpoint")
    found = Openstack(shells, *options, f"{server.url}/v2").json("image", "list")
    assert isinstance(found, list)
    assert "'images'" in Openstack(shells, *options, server.url).fails("image", "list")


# create


def test_create_at_a_terminal_has_no_data(openstack: Openstack, name: str) -> None:
    made = openstack.json("image", "create", name)
    assert (made["status"], made["name"]) == ("queued", name)
    assert "size" not in made
    assert (made["disk_format"], made["container_format"]) == ("raw", "bare")
    assert made["properties"]["owner_specified.openstack.object"] == f"images/{name}"
    assert made["properties"]["owner_specified.openstack.md5"] == ""


def test_create_with_a_file(openstack: Openstack, name: str) -> None:
    made = openstack.json("image", "create", *RAW, "--file", "disk", name)
    assert (made["status"], made["size"]) == ("active", len(DATA))
    assert made["checksum"] == hashlib.md5(DATA).hexdigest()
    assert made["properties"]["os_hash_value"] == hashlib.sha512(DATA).hexdigest()


def test_create_from_a_pipe(openstack: Openstack, name: str) -> None:
    made = openstack.json("image", "create", *RAW, name, given=DATA)
    assert (made["status"], made["checksum"]) == ("active", hashlib.md5(DATA).hexdigest())


def test_create_from_an_empty_pipe(openstack: Openstack, name: str) -> None:
    made = openstack.json("image", "create", *RAW, name, given=b"")
    assert (made["status"], made["size"]) == ("active", 0)
    assert made["checksum"] == "d41d8cd98f00b204e9800998ecf8427e"


def test_create_with_all_that_can_be_said(openstack: Openstack, name: str) -> None:
    image_id = str(uuid4())
    made = openstack.json(
        "image", "create", "--id", image_id, "--disk-format", "qcow2", "--container-format", "ovf",
        "--min-disk", "3", "--min-ram", "64", "--property", "a.b=c d", "--property", "empty=",
        "--tag", "x", "--tag", "y", "--protected", "--community", name,
    )  # fmt: skip
    assert made["id"] == image_id
    assert (made["disk_format"], made["container_format"]) == ("qcow2", "ovf")
    assert (made["min_disk"], made["min_ram"]) == (3, 64)
    assert (made["properties"]["a.b"], made["properties"]["empty"]) == ("c d", "")
    assert sorted(made["tags"]) == ["x", "y"]
    assert (made["protected"], made["visibility"]) == (True, "community")


def test_names_and_values_in_any_script(openstack: Openstack, name: str) -> None:
    odd = f"Räck & 名/🐧 100% {name}"
    openstack("image", "create", "--property", "a=ü=🐧", "--tag", "名 x", odd)
    shown = openstack.json("image", "show", odd)
    assert (shown["name"], shown["properties"]["a"], shown["tags"]) == (odd, "ü=🐧", ["名 x"])
    assert len(openstack.json("image", "list", "--name", odd, "--tag", "名 x")) == 1
    openstack("image", "delete", odd)


def test_create_under_an_id_that_is_taken(openstack: Openstack, gate: Gate, name: str) -> None:
    told = openstack.fails("image", "create", "--id", gate.create(), name)
    assert "409" in told
    assert "already exists" in told


def test_create_of_another_format_leaves_nothing(openstack: Openstack, name: str) -> None:
    told = openstack.fails("image", "create", *RAW, "--file", "disk.qcow2", name)
    assert "415" in told
    assert "qcow2" in told
    assert openstack.json("image", "list", "--name", name) == []


def test_create_by_an_import(openstack: Openstack, gate: Gate, name: str) -> None:
    made = openstack.json("image", "create", *RAW, "--import", "--file", "disk", name)
    image = gate.imported(made["id"])
    assert (image["status"], image["checksum"]) == ("active", hashlib.md5(DATA).hexdigest())


# stage and import


def test_stage_and_import(openstack: Openstack, gate: Gate, name: str) -> None:
    image_id = gate.create(name=name)
    openstack("image", "stage", "--file", "disk", name)
    assert gate.show(image_id)["status"] == "uploading"
    openstack("image", "import", "--method", "glance-direct", name)
    image = gate.imported(image_id)
    assert (image["status"], image["stores"]) == ("active", "fast")


def test_stage_from_a_pipe_and_import_into_a_store(
    openstack: Openstack, gate: Gate, name: str
) -> None:
    image_id = gate.create(name=name)
    openstack("image", "stage", name, given=DATA)
    openstack("image", "import", name, "--store", "cold")
    image = gate.imported(image_id)
    assert (image["size"], image["stores"]) == (len(DATA), "cold")


def test_stage_asks_for_a_queued_image(openstack: Openstack, gate: Gate, name: str) -> None:
    gate.active(name=name)
    assert "queued" in openstack.fails("image", "stage", "--file", "disk", name)


def test_import_from_the_web(openstack: Openstack, gate: Gate, name: str, origin: str) -> None:
    image_id = gate.create(name=name)
    openstack("image", "import", "--method", "web-download", "--uri", origin, "--all-stores", name)
    image = gate.imported(image_id)
    assert (image["status"], gate.stores(image_id)) == ("active", {"cold", "fast"})
    assert image["checksum"] == hashlib.md5(DATA).hexdigest()


def test_import_from_an_address_of_nothing(
    openstack: Openstack, gate: Gate, name: str, origin: str
) -> None:
    image_id = gate.create(name=name)
    openstack("image", "import", "--method", "web-download", "--uri", f"{origin}.not", name)
    assert gate.imported(image_id)["status"] == "queued"
    task = openstack.json("image", "task", "show", gate.task(image_id))
    assert (task["status"], task["message"]) == ("failure", "The source is not reachable.")


def test_import_from_an_address_that_is_not_allowed(
    openstack: Openstack, gate: Gate, name: str
) -> None:
    """Which is refused, but the client does not look at the answer to an import."""
    image_id = gate.create(name=name)
    uri = "http://169.254.169.254/latest"
    openstack("image", "import", "--method", "web-download", "--uri", uri, name)
    assert gate.ask("GET", f"/v2/images/{image_id}/tasks")["tasks"] == []
    assert gate.show(image_id)["status"] == "queued"


def test_import_by_copying(openstack: Openstack, gate: Gate, name: str) -> None:
    image_id = gate.active(name=name)
    openstack("image", "import", "--method", "copy-image", name, "--store", "cold")
    assert gate.stores(image_id) == {"cold", "fast"}
    assert gate.show(image_id)["os_glance_failed_import"] == ""


def test_import_from_another_service(openstack: Openstack, gate: Gate, name: str) -> None:
    source, image_id = gate.active(), gate.create(name=name)
    openstack("image", "import", "--method", "glance-download", "--remote-region", "here",
              "--remote-service-interface", "public", "--remote-image", source, name)  # fmt: skip
    image = gate.imported(image_id)
    assert (image["status"], image["size"]) == ("active", len(DATA))


def test_import_info(openstack: Openstack) -> None:
    methods = openstack.json("image", "import", "info")["import-methods"]
    for method in ("glance-direct", "web-download", "copy-image", "glance-download"):
        assert method in str(methods)


# save


def test_save_compares_the_digests(
    openstack: Openstack, gate: Gate, name: str, folder: Path
) -> None:
    gate.active(name=name)
    openstack("image", "save", "--file", f"{name}.copy", name)
    assert (folder / f"{name}.copy").read_bytes() == DATA


def test_save_to_standard_output(openstack: Openstack, gate: Gate, name: str) -> None:
    gate.active(name=name)
    assert openstack("image", "save", name) == DATA


def test_save_from_a_preferred_store(openstack: Openstack, gate: Gate, name: str) -> None:
    gate.active(name=name)
    assert openstack("image", "save", "--store-preference", "cold", name) == DATA


def test_save_of_a_deactivated_image_by_an_administrator(
    openstack: Openstack, gate: Gate, name: str
) -> None:
    image_id = gate.active(name=name)
    gate.ask("POST", f"/v2/images/{image_id}/actions/deactivate")
    assert openstack("image", "save", name) == DATA


# show and list


def test_show(openstack: Openstack, gate: Gate, name: str) -> None:
    image_id = gate.active(name=name, min_disk=2, tags=["t"], key="value")
    for named in (name, image_id):
        shown = openstack.json("image", "show", named)
        assert (shown["id"], shown["name"], shown["status"]) == (image_id, name, "active")
        assert (shown["min_disk"], shown["tags"]) == (2, ["t"])
        assert (shown["properties"]["key"], shown["properties"]["stores"]) == ("value", "fast")
    assert "25.6k" in openstack("image", "show", "--human-readable", name).decode().lower()


def test_show_of_nothing(openstack: Openstack, name: str) -> None:
    assert f"No Image found for {name}" in openstack.fails("image", "show", name)


def test_show_of_a_name_that_two_have(openstack: Openstack, gate: Gate, name: str) -> None:
    for _ in range(2):
        gate.create(name=name)
    assert "More than one Image" in openstack.fails("image", "show", name)


@pytest.fixture(scope="module")
def herd(gate: Gate) -> str:
    """The tag of five images, each of another kind; ``small`` is a tag of two of them."""
    tag = f"herd-{uuid4().hex[:8]}"
    gate.active(b"1", name="a", visibility="public", tags=[tag, "small"], size_of="s")
    gate.active(b"4444", name="b", visibility="community", tags=[tag, "small"])
    gate.active(b"333", name="c", visibility="shared", tags=[tag], size_of="l", disk_format="ploop")
    gate.active(b"22", name="d", visibility="private", tags=[tag], protected=True)
    gate.create(name="e", tags=[tag], os_hidden=True)
    return tag


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ((), "abcd"),
        (("--name", "b"), "b"),
        (("--tag", "small"), "ab"),
        (("--property", "size_of=s"), "a"),
        (("--status", "active"), "abcd"),
        (("--status", "queued"), ""),
        (("--public",), "a"),
        (("--private",), "d"),
        (("--community",), "b"),
        (("--shared",), "c"),
        (("--all",), "abcd"),
        (("--hidden",), "e"),
        (("--page-size", "2"), "abcd"),
        (("--sort", "size:desc"), "bcda"),
        (("--sort", "name:desc"), "dcba"),
    ],
)
def test_list(openstack: Openstack, herd: str, options: tuple[str, ...], names: str) -> None:
    """What the client sends (``--name``, ``--status``, …) and what it does itself (``--property``,
    ``--sort``) both come to the same end."""
    found = [row["Name"] for row in openstack.json("image", "list", "--tag", herd, *options)]
    assert "".join(found if "--sort" in options else sorted(found)) == names


def test_list_no_more_than(openstack: Openstack, herd: str) -> None:
    assert len(openstack.json("image", "list", "--tag", herd, "--limit", "2")) == 2


def test_list_from_a_marker_on(openstack: Openstack, herd: str) -> None:
    everything = [row["ID"] for row in openstack.json("image", "list", "--tag", herd,
                                                      "--sort", "created_at:desc")]  # fmt: skip
    rest = openstack.json("image", "list", "--tag", herd, "--marker", everything[1])
    assert {row["ID"] for row in rest} == set(everything[2:])


def test_list_long(openstack: Openstack, herd: str) -> None:
    rows = openstack.json("image", "list", "--tag", herd, "--long", "--name", "c")
    assert len(rows) == 1
    (row,) = rows
    assert (row["Disk Format"], row["Size"], row["Visibility"]) == ("ploop", 3, "shared")
    assert (row["Protected"], row["Checksum"]) == (False, hashlib.md5(b"333").hexdigest())
    assert row["Tags"] == [herd]


# set and unset


def test_set(openstack: Openstack, gate: Gate, name: str) -> None:
    image_id = gate.create(name=name, tags=["old"])
    openstack(
        "image", "set", "--name", f"{name}-2", "--min-disk", "5", "--min-ram", "6",
        "--disk-format", "vmdk", "--container-format", "ova", "--property", "k=v", "--tag", "new",
        "--architecture", "x86_64", "--os-distro", "none", "--os-version", "7", "--protected",
        "--public", "--hidden", name,
    )  # fmt: skip
    image = gate.show(image_id)
    assert (image["name"], image["min_disk"], image["min_ram"]) == (f"{name}-2", 5, 6)
    assert (image["disk_format"], image["container_format"]) == ("vmdk", "ova")
    assert (image["k"], image["architecture"], image["os_version"]) == ("v", "x86_64", "7")
    assert sorted(image["tags"]) == ["new", "old"]
    assert (image["protected"], image["visibility"], image["os_hidden"]) == (True, "public", True)


def test_set_back(openstack: Openstack, gate: Gate, name: str) -> None:
    image_id = gate.create(name=name, protected=True, visibility="public", os_hidden=True)
    openstack("image", "set", "--unprotected", "--private", "--unhidden", name)
    image = gate.show(image_id)
    assert (image["protected"], image["visibility"]) == (False, "private")
    assert image["os_hidden"] is False


def test_set_what_cannot_be(openstack: Openstack, gate: Gate, name: str) -> None:
    gate.active(name=name)
    told = openstack.fails("image", "set", "--disk-format", "iso", name)
    assert "403" in told
    assert "ForbiddenException" in told


def test_unset(openstack: Openstack, gate: Gate, name: str) -> None:
    image_id = gate.create(name=name, tags=["stays", "goes"], k="v", kept="w")
    openstack("image", "unset", "--property", "k", "--tag", "goes", name)
    image = gate.show(image_id)
    assert (image["tags"], image["kept"]) == (["stays"], "w")
    assert "k" not in image


def test_unset_what_is_not_there(openstack: Openstack, gate: Gate, name: str) -> None:
    gate.create(name=name, other="x")
    told = openstack.fails("image", "unset", "--property", "k", "--tag", "t", name)
    assert "Failed to unset 1 of 1 tags" in told
    assert "Failed to unset 1 of 1 properties" in told


def test_deactivate_with_another_change_and_reactivate(
    openstack: Openstack, gate: Gate, name: str
) -> None:
    image_id = gate.active(name=name, protected=True)
    openstack("image", "set", "--deactivate", "--unprotected", name)
    image = gate.show(image_id)
    assert (image["status"], image["protected"]) == ("deactivated", False)
    openstack("image", "set", "--activate", name)
    assert gate.show(image_id)["status"] == "active"


# members (those who add them by name need an identity service: test_keystone.py)


def test_members(openstack: Openstack, gate: Gate, name: str) -> None:
    image_id = gate.create(name=name, visibility="shared")
    for project in ("p8", "p9"):
        gate.ask("POST", f"/v2/images/{image_id}/members", {"member": project})
    rows = openstack.json("image", "member", "list", name)
    assert [(row["Member ID"], row["Status"]) for row in rows] == [
        ("p8", "pending"), ("p9", "pending"),
    ]  # fmt: skip
    shown = openstack.json("image", "member", "get", name, "p9")
    assert (shown["member_id"], shown["status"]) == ("p9", "pending")


# delete


def test_delete(openstack: Openstack, gate: Gate, name: str) -> None:
    gate.active(name=name)
    image_id = gate.active()
    openstack("image", "delete", name, image_id)
    for gone in (name, image_id):
        assert "No Image found" in openstack.fails("image", "show", gone)


def test_delete_of_a_protected_image(openstack: Openstack, gate: Gate, name: str) -> None:
    image_id = gate.active(name=name, protected=True)
    told = openstack.fails("image", "delete", name)
    assert "ForbiddenException: 403" in told
    assert "protected" in told
    assert "Failed to delete 1 of 1 images." in told
    assert gate.show(image_id)["status"] == "active"


def test_delete_of_nothing(openstack: Openstack, name: str) -> None:
    """With the client's own words for a 404."""
    assert "Multi Backend support not enabled." in openstack.fails("image", "delete", name)


def test_delete_from_one_store(openstack: Openstack, gate: Gate, name: str, origin: str) -> None:
    image_id = gate.active(name=name)
    told = openstack.fails("image", "delete", "--store", "fast", name)
    assert "403" in told
    gate.ask("POST", f"/v2/images/{image_id}/import",
             {"method": {"name": "copy-image"}, "stores": ["cold"]})  # fmt: skip
    gate.imported(image_id)
    openstack("image", "delete", "--store", "fast", name)
    assert gate.show(image_id)["stores"] == "cold"
    assert openstack("image", "save", name) == DATA


# stores, tasks


def test_stores_list(openstack: Openstack) -> None:
    rows = {row["ID"]: row for row in openstack.json("image", "stores", "list")}
    assert (rows["fast"]["Default"], rows["cold"]["Description"]) == (True, "slow")
    rows = {row["ID"]: row for row in openstack.json("image", "stores", "list", "--detail")}
    assert "data_dir" in rows["fast"]["Properties"]


def test_task_list_and_show(openstack: Openstack, gate: Gate, name: str, origin: str) -> None:
    image_id = gate.create(name=name)
    openstack("image", "import", "--method", "web-download", "--uri", origin, name)
    gate.imported(image_id)
    task_id = gate.task(image_id)
    rows = openstack.json("image", "task", "list", "--status", "success", "--sort-key",
                          "created_at", "--sort-dir", "desc")  # fmt: skip
    assert ("api_image_import", "success") in {
        (row["Type"], row["Status"]) for row in rows if row["ID"] == task_id
    }
    rows = openstack.json("image", "task", "list", "--type", "import")
    assert task_id not in {row["ID"] for row in rows}
    task = openstack.json("image", "task", "show", task_id)
    assert (task["type"], task["status"]) == ("api_image_import", "success")
    assert task["input"]["image_id"] == image_id


# the cache


def test_cached_images(openstack: Openstack, gate: Gate, name: str) -> None:
    image_id = gate.active(name=name)

    def listed() -> dict[str, str]:
        return {row["ID"]: row["State"] for row in openstack.json("cached", "image", "list")}

    def cached() -> bool:
        rows = gate.ask("GET", "/v2/cache")["cached_images"]
        return image_id in [row["image_id"] for row in rows]

    openstack("cached", "image", "queue", name)
    wait_for(cached, "the image to be cached")
    assert listed()[image_id] == "cached"
    openstack("cached", "image", "delete", name)
    assert image_id not in listed()
    openstack("cached", "image", "queue", name)
    wait_for(cached, "the image to be cached again")
    openstack("cached", "image", "clear", "--queue")
    assert cached()
    openstack("cached", "image", "clear")
    assert listed() == {}
