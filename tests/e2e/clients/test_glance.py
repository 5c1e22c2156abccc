"""``glance …`` of python-glanceclient, call by call, to a gateway without authentication."""

import hashlib
import json
from pathlib import Path
from uuid import uuid4

import pytest
from tests.e2e.clients.conftest import DATA, Gate
from tests.kit import glance as program
from tests.kit.command import wait_for
from tests.kit.glance import FORMATS
from tests.kit.server import Server
from tests.kit.shells import Glance, Shells

MD5 = hashlib.md5(DATA).hexdigest()


def test_as_a_program_of_its_own(server: Server, gate: Gate, name: str) -> None:
    """And as each test below runs it, but for the start of the process."""
    (server.folder / "disk").write_bytes(DATA)
    own = program.Glance(server, version=None)
    made = own.fields("image-create", "--name", name, *FORMATS, "--file", "disk")
    assert (made["status"], made["checksum"]) == ("active", MD5)


def test_with_the_version_in_the_address(server: Server, shells: Shells) -> None:
    shells.run("glance", "--os-image-url", f"{server.url}/v2", "--os-auth-token", "x", "image-list")


# create


def test_image_create_at_a_terminal_has_no_data(glance: Glance, name: str) -> None:
    made = glance.fields("image-create", "--name", name)
    assert (made["status"], made["name"], made["size"]) == ("queued", name, "None")


def test_image_create_with_a_file(glance: Glance, name: str) -> None:
    made = glance.fields("image-create", "--name", name, *FORMATS, "--file", "disk")
    assert (made["status"], made["size"], made["checksum"]) == ("active", str(len(DATA)), MD5)
    assert hashlib.sha512(DATA).hexdigest().startswith(made["os_hash_value"])  # cut by the table


def test_image_create_from_a_pipe(glance: Glance, gate: Gate, name: str) -> None:
    glance.run("image-create", "--name", name, *FORMATS, given=DATA)
    (image,) = gate.ask("GET", f"/v2/images?name={name}")["images"]
    assert (image["status"], image["checksum"]) == ("active", MD5)


def test_image_create_with_all_that_can_be_said(glance: Glance, name: str) -> None:
    image_id = str(uuid4())
    made = glance.fields(
        "image-create", "--id", image_id, "--name", name, "--disk-format", "qcow2",
        "--container-format", "ovf", "--min-disk", "3", "--min-ram", "64", "--visibility", "public",
        "--protected", "True", "--hidden", "True", "--tags", "x", "y", "--property", "a.b=c d",
    )  # fmt: skip
    assert (made["id"], made["visibility"], made["a.b"]) == (image_id, "public", "c d")
    assert (made["min_disk"], made["min_ram"]) == ("3", "64")
    assert (made["protected"], made["os_hidden"]) == ("True", "True")
    assert sorted(json.loads(made["tags"])) == ["x", "y"]


def test_image_create_in_a_store(glance: Glance, name: str) -> None:
    made = glance.fields("image-create", "--name", name, *FORMATS, "--file", "disk",
                         "--store", "cold")  # fmt: skip
    assert (made["status"], made["stores"]) == ("active", "cold")
    told = glance.run("image-create", *FORMATS, "--file", "disk", "--store", "none", fails=True)
    assert "not valid" in told


def test_names_and_values_in_any_script(glance: Glance, gate: Gate, name: str) -> None:
    odd = f"Räck & 名/🐧 100% {name}"
    made = glance.fields("image-create", "--name", odd, "--tags", "名 x", "--property", "a=ü=🐧")
    image = gate.show(made["id"])
    assert (image["name"], image["a"], image["tags"]) == (odd, "ü=🐧", ["名 x"])
    assert glance.rows("image-list", "--property-filter", f"name={odd}", "--tag", "名 x") == [
        [made["id"], odd]
    ]
    glance.run("image-tag-delete", made["id"], "名 x")
    assert gate.show(made["id"])["tags"] == []


def test_image_create_under_an_id_that_is_taken(glance: Glance, gate: Gate) -> None:
    told = glance.run("image-create", "--id", gate.create(), fails=True)
    assert "already exists" in told


@pytest.mark.parametrize(
    ("options", "stores"),
    [
        ((), {"fast"}),
        (("--store", "cold"), {"cold"}),
        (("--stores", "fast,cold"), {"cold", "fast"}),
        (("--all-stores", "True"), {"cold", "fast"}),
    ],
)
def test_image_create_via_import(
    glance: Glance, gate: Gate, name: str, options: tuple[str, ...], stores: set[str]
) -> None:
    made = glance.fields("image-create-via-import", "--name", name, *FORMATS, "--file", "disk",
                         *options)  # fmt: skip
    image = gate.imported(made["id"])
    assert (image["status"], image["checksum"]) == ("active", MD5)
    assert gate.stores(made["id"]) == stores


def test_image_create_via_import_from_the_web(
    glance: Glance, gate: Gate, name: str, origin: str
) -> None:
    made = glance.fields("image-create-via-import", "--name", name, *FORMATS,
                         "--import-method", "web-download", "--uri", origin)  # fmt: skip
    assert gate.imported(made["id"])["checksum"] == MD5


def test_image_create_via_import_from_another_service(
    glance: Glance, gate: Gate, name: str
) -> None:
    made = glance.fields(
        "image-create-via-import", "--name", name, *FORMATS, "--import-method", "glance-download",
        "--remote-region", "here", "--remote-image-id", gate.active(),
    )  # fmt: skip
    assert gate.imported(made["id"])["checksum"] == MD5


# upload, stage, import


def test_image_upload(glance: Glance, gate: Gate) -> None:
    image_id = gate.create()
    glance.run("image-upload", "--file", "disk", image_id)
    assert gate.show(image_id)["checksum"] == MD5
    told = glance.run("image-upload", "--file", "disk", image_id, fails=True)
    assert "transition from active to saving is not allowed" in told


def test_image_upload_of_another_format(glance: Glance, gate: Gate) -> None:
    image_id = gate.create()
    told = glance.run("image-upload", "--file", "disk.qcow2", image_id, fails=True)
    assert "The image's disk_format is raw, but its data is qcow2." in told


def test_image_upload_of_another_size(glance: Glance, gate: Gate) -> None:
    image_id = gate.create()
    told = glance.run("image-upload", "--size", "7", image_id, given=DATA, fails=True)
    assert f"7 bytes were announced and {len(DATA)} bytes came" in told
    assert gate.show(image_id)["status"] == "killed"


def test_image_stage_and_image_import(glance: Glance, gate: Gate) -> None:
    image_id = gate.create()
    glance.run("image-stage", "--file", "disk", image_id)
    assert gate.show(image_id)["status"] == "uploading"
    glance.run("image-import", image_id, "--import-method", "glance-direct", "--store", "cold")
    image = gate.imported(image_id)
    assert (image["checksum"], image["stores"]) == (MD5, "cold")


def test_image_import_from_the_web(glance: Glance, gate: Gate, origin: str) -> None:
    image_id = gate.create()
    glance.run("image-import", image_id, "--import-method", "web-download", "--uri", origin)
    assert gate.imported(image_id)["checksum"] == MD5


def test_image_import_by_copying(glance: Glance, gate: Gate) -> None:
    image_id = gate.active()
    glance.run("image-import", image_id, "--import-method", "copy-image", "--stores", "cold")
    assert gate.stores(image_id) == {"cold", "fast"}


def test_image_import_from_another_service(glance: Glance, gate: Gate) -> None:
    image_id = gate.create()
    glance.run("image-import", image_id, "--import-method", "glance-download",
               "--remote-region", "here", "--remote-image-id", gate.active())  # fmt: skip
    assert gate.imported(image_id)["checksum"] == MD5


def test_import_info(glance: Glance) -> None:
    assert "Import methods available." in glance.fields("import-info")["import-methods"]


# download


def test_image_download_compares_the_digests(
    glance: Glance, gate: Gate, name: str, folder: Path
) -> None:
    image_id = gate.active()
    glance.run("image-download", "--file", f"{name}.copy", image_id)
    assert (folder / f"{name}.copy").read_bytes() == DATA


def test_image_download_to_standard_output(glance: Glance, gate: Gate, shells: Shells) -> None:
    assert glance.run("image-download", gate.active(b"hello"), "--prefer", "cold") == "hello"


def test_image_download_without_data(glance: Glance, gate: Gate) -> None:
    image_id = gate.create()
    told = glance.run("image-download", image_id, fails=True)
    assert f"Image {image_id} has no data." in told


# show, list


def test_image_show(glance: Glance, gate: Gate, name: str) -> None:
    image_id = gate.active(name=name, key="value", tags=["t"])
    shown = glance.fields("image-show", image_id)
    assert (shown["name"], shown["status"], shown["key"]) == (name, "active", "value")
    assert (shown["tags"], shown["stores"]) == ('["t"]', "fast")
    assert "file:///" in shown["locations"]
    human = glance.fields("image-show", "--human-readable", image_id)
    assert human["size"] in ("25kB", "25.0kB")


def test_image_show_of_nothing(glance: Glance) -> None:
    assert "No image found" in glance.run("image-show", str(uuid4()), fails=True)


@pytest.fixture(scope="module")
def herd(gate: Gate) -> str:
    """The tag of five images, each of another kind."""
    tag = f"herd-{uuid4().hex[:8]}"
    gate.active(b"1", name="a", visibility="public", tags=[tag, f"{tag}-2"], key="s")
    gate.active(b"4444", name="b", visibility="community", tags=[tag])
    gate.active(b"333", name="c", visibility="shared", tags=[tag], key="l")
    gate.active(b"22", name="d", visibility="private", tags=[tag])
    gate.create(name="e", tags=[tag], os_hidden=True)
    return tag


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ((), "abcd"),
        (("--page-size", "2"), "abcd"),
        (("--limit", "3", "--page-size", "2"), "abc"),
        (("--visibility", "public"), "a"),
        (("--visibility", "private"), "d"),
        (("--visibility", "community"), "b"),
        (("--visibility", "shared"), "c"),
        (("--member-status", "all"), "abcd"),
        (("--owner", "nobody-at-all"), ""),
        (("--property-filter", "key=s"), "a"),
        (("--property-filter", "status=queued"), ""),
        (("--property-filter", "name=c"), "c"),
        (("--checksum", hashlib.md5(b"22").hexdigest()), "d"),
        (("--hash", hashlib.sha512(b"333").hexdigest()), "c"),
        (("--hidden",), "e"),
        (("--sort-key", "size", "--sort-dir", "desc"), "bcda"),
        (("--sort-key", "status", "--sort-key", "size"), "bcda"),
        (("--sort", "name:desc"), "dcba"),
        (("--sort", "size:asc,name"), "adcb"),
    ],
)
def test_image_list(glance: Glance, herd: str, options: tuple[str, ...], names: str) -> None:
    rows = glance.rows("image-list", "--tag", herd, *options)
    assert "".join(row[1] for row in rows) == names


def test_image_list_by_two_tags_and_with_stores(glance: Glance, herd: str) -> None:
    rows = glance.rows("image-list", "--tag", herd, "--tag", f"{herd}-2", "--include-stores")
    assert [row[1:] for row in rows] == [["a", "fast"]]


# update


def test_image_update(glance: Glance, gate: Gate, name: str) -> None:
    image_id = gate.create(name="old", tags=["t"], gone="x", kept="y")
    shown = glance.fields(
        "image-update", image_id, "--name", name, "--min-disk", "3", "--min-ram", "4",
        "--disk-format", "iso", "--container-format", "ovf", "--visibility", "public",
        "--protected", "True", "--hidden", "True", "--property", "z=1", "--property", "kept=w",
        "--remove-property", "gone", "--os-distro", "none",
    )  # fmt: skip
    assert (shown["name"], shown["z"], shown["kept"]) == (name, "1", "w")
    assert "gone" not in shown
    image = gate.show(image_id)
    assert (image["min_disk"], image["min_ram"], image["disk_format"]) == (3, 4, "iso")
    assert (image["visibility"], image["protected"], image["os_hidden"]) == ("public", True, True)
    assert (image["tags"], image["os_distro"]) == (["t"], "none")


def test_image_update_of_what_cannot_be(glance: Glance, gate: Gate) -> None:
    told = glance.run("image-update", gate.active(), "--disk-format", "iso", fails=True)
    assert "disk_format can be only replaced for a queued image" in told


def test_image_tag_update_and_delete(glance: Glance, gate: Gate) -> None:
    image_id = gate.create(tags=["one"])
    (row,) = glance.rows("image-tag-update", image_id, "two words")
    assert row[0] == image_id
    assert sorted(gate.show(image_id)["tags"]) == ["one", "two words"]
    glance.run("image-tag-delete", image_id, "one")
    assert gate.show(image_id)["tags"] == ["two words"]
    assert "has no tag 'one'" in glance.run("image-tag-delete", image_id, "one", fails=True)


def test_image_deactivate_and_reactivate(glance: Glance, gate: Gate) -> None:
    image_id = gate.active()
    glance.run("image-deactivate", image_id)
    assert gate.show(image_id)["status"] == "deactivated"
    glance.run("image-reactivate", image_id)
    assert gate.show(image_id)["status"] == "active"


# members


def test_members(glance: Glance, gate: Gate) -> None:
    image_id = gate.create(visibility="shared")
    assert glance.rows("member-create", image_id, "p9") == [[image_id, "p9", "pending"]]
    glance.run("member-create", image_id, "p8")
    assert "duplicated" in glance.run("member-create", image_id, "p8", fails=True)
    assert glance.rows("member-update", image_id, "p9", "accepted") == [
        [image_id, "p9", "accepted"]
    ]
    assert glance.rows("member-update", image_id, "p8", "rejected") == [
        [image_id, "p8", "rejected"]
    ]
    assert sorted(glance.rows("member-list", "--image-id", image_id)) == [
        [image_id, "p8", "rejected"],
        [image_id, "p9", "accepted"],
    ]
    assert glance.fields("member-get", image_id, "p9")["status"] == "accepted"
    glance.run("member-delete", image_id, "p9")
    assert "p9" in glance.run("member-get", image_id, "p9", fails=True)


# delete


def test_image_delete(glance: Glance, gate: Gate) -> None:
    one, two = gate.active(), gate.create()
    glance.run("image-delete", one, two)
    told = glance.run("image-delete", one, fails=True)
    assert f"No image with an ID of '{one}' exists." in told


def test_image_delete_of_a_protected_image(glance: Glance, gate: Gate) -> None:
    image_id = gate.create(protected=True)
    told = glance.run("image-delete", image_id, fails=True)
    assert f"You are not permitted to delete the image '{image_id}'." in told
    assert gate.show(image_id)["status"] == "queued"


def test_stores_delete(glance: Glance, gate: Gate) -> None:
    image_id = gate.active(b"hello")
    told = glance.run("stores-delete", "--store", "fast", image_id, fails=True)
    assert "only store containing it" in told
    glance.run("image-import", image_id, "--import-method", "copy-image", "--all-stores", "True")
    gate.imported(image_id)
    glance.run("stores-delete", "--store", "fast", image_id)
    assert gate.show(image_id)["stores"] == "cold"
    assert glance.run("image-download", image_id) == "hello"
    told = glance.run("stores-delete", "--store", "nowhere", image_id, fails=True)
    assert "not available on this node" in told


# stores, usage, locations


def test_stores_info(glance: Glance) -> None:
    said = glance.run("stores-info")
    for word in ("fast", "cold", "slow", "read-only"):
        assert word in said
    assert "data_dir" in glance.run("stores-info", "--detail")


def test_usage(glance: Glance) -> None:
    quotas = {row[0] for row in glance.rows("usage")}
    assert quotas == {
        "image_size_total", "image_stage_total", "image_count_total", "image_count_uploading",
    }  # fmt: skip


def test_location_add_update_and_delete(glance: Glance, gate: Gate, origin: str) -> None:
    image_id = gate.create()
    glance.run("location-add", "--url", origin, "--checksum", MD5, "--hash-algo", "sha512",
               "--hash-value", hashlib.sha512(DATA).hexdigest(), image_id)  # fmt: skip
    image = gate.show(image_id)
    assert (image["status"], image["checksum"]) == ("active", MD5)
    glance.run("location-update", "--url", origin, "--metadata", '{"rack": "7"}', image_id)
    assert gate.show(image_id)["locations"][0]["metadata"]["rack"] == "7"
    glance.run("location-add", "--url", f"{origin}?2", image_id)
    glance.run("location-delete", "--url", f"{origin}?2", image_id)
    assert [one["url"] for one in gate.show(image_id)["locations"]] == [origin]
    told = glance.run("location-delete", "--url", f"{origin}?3", image_id, fails=True)
    assert "Unknown URL" in told


def test_add_location(glance: Glance, gate: Gate, origin: str) -> None:
    image_id = gate.create()
    glance.run("add-location", "--url", origin, image_id)
    image = wait_for(
        lambda: found if (found := gate.show(image_id))["checksum"] else None, "the digests"
    )
    assert (image["status"], image["checksum"]) == ("active", MD5)


def test_add_location_with_a_digest(glance: Glance, gate: Gate, origin: str) -> None:
    image_id = gate.create()
    vouched = {"os_hash_algo": "sha512", "os_hash_value": hashlib.sha512(DATA).hexdigest()}
    glance.run("add-location", "--url", origin, "--validation-data", json.dumps(vouched), image_id)
    wait_for(lambda: gate.show(image_id)["status"] == "active", "the digest to be verified")
    assert gate.show(image_id)["os_hash_value"] == vouched["os_hash_value"]


# tasks


def test_task_create_show_and_list(glance: Glance, gate: Gate, origin: str) -> None:
    task_input = {
        "import_from": origin, "import_from_format": "raw",
        "image_properties": {"disk_format": "raw", "container_format": "bare"},
    }  # fmt: skip
    made = glance.fields("task-create", "--type", "import", "--input", json.dumps(task_input))
    wait_for(
        lambda: glance.fields("task-show", made["id"])["status"] == "success", "the task to end"
    )
    rows = glance.rows("task-list", "--type", "import", "--status", "success", "--sort-key",
                       "id", "--sort-dir", "asc", "--page-size", "1")  # fmt: skip
    assert [made["id"], "import", "success"] in [row[:3] for row in rows]


def test_task_create_of_an_export(glance: Glance, gate: Gate) -> None:
    image_id = gate.active()
    given = {"image_id": image_id, "store": "cold", "key": f"exports/{image_id}.raw"}
    made = glance.fields("task-create", "--type", "export", "--input", json.dumps(given))
    wait_for(
        lambda: glance.fields("task-show", made["id"])["status"] == "success", "the task to end"
    )
    rows = glance.rows("task-list", "--type", "export")
    assert [made["id"], "export", "success"] in [row[:3] for row in rows]


def test_image_tasks(glance: Glance, gate: Gate, origin: str) -> None:
    image_id = gate.create()
    glance.run("image-import", image_id, "--import-method", "web-download", "--uri", origin)
    gate.imported(image_id)
    (row,) = glance.rows("image-tasks", image_id)
    assert "success" in row


# the cache


def test_cache(glance: Glance, gate: Gate) -> None:
    image_id = gate.active()

    def cached() -> bool:
        said = glance.rows("cache-list")
        return any(row[0] == image_id and row[1] == "cached" for row in said)

    glance.run("cache-queue", image_id)
    wait_for(cached, "the image to be cached")
    glance.run("cache-clear", "--target", "queue")
    assert cached()
    glance.run("cache-delete", image_id)
    assert not cached()
    glance.run("cache-queue", image_id)
    wait_for(cached, "the image to be cached again")
    glance.run("cache-clear")
    assert not cached()


def test_what_the_cache_does_by_itself(glance: Glance, gate: Gate) -> None:
    assert "Glance does not support" in glance.outcome("cache-clean").err
    assert "Glance does not support" in glance.outcome("cache-prune").err
    assert "Unable to list" in glance.outcome("cache-nodes-list", gate.create()).err


# schemas


def test_explain(glance: Glance) -> None:
    for model in ("image", "member", "task"):
        attributes = {row[0] for row in glance.rows("explain", model)}
        assert {"status", "created_at"} <= attributes
    assert "Unable to find requested model" in glance.run("explain", "nothing", fails=True)
