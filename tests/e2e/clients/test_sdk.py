"""openstacksdk, call by call, to a gateway without authentication."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import openstack
import pytest
from openstack import exceptions
from tests.e2e.clients.conftest import DATA, Gate
from tests.kit.command import wait_for
from tests.kit.server import Server

pytestmark = pytest.mark.filterwarnings("ignore")  # of the library, about itself

MD5 = hashlib.md5(DATA).hexdigest()
SHA512 = hashlib.sha512(DATA).hexdigest()
FORMATS = {"disk_format": "raw", "container_format": "bare"}


@pytest.fixture(scope="module")
def sdk(server: Server) -> Iterator[Any]:
    cloud = openstack.connect(
        auth_type="none", endpoint=server.url, image_api_version="2", region_name="x",
        load_yaml_config=False, load_envvars=False,
    )  # fmt: skip
    yield cloud.image
    cloud.close()


@pytest.fixture(scope="module")
def disk(folder: Path) -> str:
    return str(folder / "disk")


# create


def test_create_image_from_a_file(sdk: Any, name: str, disk: str) -> None:
    image = sdk.create_image(name, filename=disk, validate_checksum=True, **FORMATS)
    assert (image.status, image.size, image.checksum) == ("active", len(DATA), MD5)
    assert (image.hash_algo, image.hash_value) == ("sha512", SHA512)


def test_create_image_twice_uploads_once(sdk: Any, name: str, disk: str) -> None:
    first = sdk.create_image(name, filename=disk, validate_checksum=True, **FORMATS)
    again = sdk.create_image(name, filename=disk, validate_checksum=True, **FORMATS)
    assert again.id == first.id


def test_create_image_from_bytes(sdk: Any, name: str) -> None:
    image = sdk.create_image(name, data=DATA, tags=["t"], wait=True, min_disk=2, x="y", **FORMATS)
    image = sdk.get_image(image)
    assert (image.checksum, image.tags, image.min_disk) == (MD5, ["t"], 2)
    assert image.properties["x"] == "y"


def test_create_image_without_data(sdk: Any, name: str) -> None:
    assert sdk.create_image(name, **FORMATS).status == "queued"


def test_create_image_by_an_import_into_a_store(sdk: Any, gate: Gate, name: str, disk: str) -> None:
    image = sdk.create_image(name, filename=disk, use_import=True, stores=["cold"], **FORMATS)
    found = gate.imported(image.id)
    assert (found["checksum"], found["stores"]) == (MD5, "cold")


def test_create_image_of_another_format_leaves_nothing(sdk: Any, name: str, folder: Path) -> None:
    qcow2 = (folder / "disk.qcow2").read_bytes()
    with pytest.raises(exceptions.SDKException, match="qcow2"):
        sdk.create_image(name, data=qcow2, **FORMATS)
    assert sdk.find_image(name) is None


def test_upload_image(sdk: Any, name: str) -> None:
    image = sdk.upload_image("bare", "raw", data=io.BytesIO(DATA), name=name)
    assert sdk.get_image(image).checksum == MD5


def test_upload_of_an_images_data_later(sdk: Any, gate: Gate) -> None:
    image = sdk.get_image(gate.create())
    image.data = DATA
    image.upload(sdk)
    assert sdk.get_image(image.id).status == "active"


# stage and import


def test_stage_image_and_import_image(sdk: Any, gate: Gate, disk: str) -> None:
    image = sdk.get_image(gate.create())
    sdk.stage_image(image, filename=disk)
    assert sdk.get_image(image.id).status == "uploading"
    sdk.import_image(image, method="glance-direct", stores=["cold"])
    found = gate.imported(image.id)
    assert (found["checksum"], found["stores"]) == (MD5, "cold")


def test_import_image_from_the_web(sdk: Any, gate: Gate, origin: str) -> None:
    image = sdk.get_image(gate.create())
    sdk.import_image(image, method="web-download", uri=origin, all_stores=True)
    assert gate.stores(image.id) == {"cold", "fast"}
    image = sdk.wait_for_status(sdk.get_image(image.id), "active", interval=0.1, wait=20)
    assert image.checksum == MD5


def test_import_image_by_copying(sdk: Any, gate: Gate) -> None:
    image = sdk.get_image(gate.active())
    sdk.import_image(image, method="copy-image", stores=["cold"], all_stores_must_succeed=True)
    assert gate.stores(image.id) == {"cold", "fast"}


def test_import_image_names_one_store_twice_and_does_not_look_at_the_answer(
    sdk: Any, gate: Gate
) -> None:
    image = sdk.get_image(gate.active())
    answer = sdk.import_image(image, method="copy-image", store="cold")
    assert answer.status_code == 400
    assert "x-image-meta-store" in answer.json()["error"]["message"]


def test_import_image_from_another_service(sdk: Any, gate: Gate) -> None:
    image = sdk.get_image(gate.create())
    sdk.import_image(
        image, method="glance-download", remote_region="here", remote_image_id=gate.active(),
        remote_service_interface="public",
    )  # fmt: skip
    assert gate.imported(image.id)["checksum"] == MD5


def test_get_import_info(sdk: Any) -> None:
    methods = sdk.get_import_info().import_methods["value"]
    assert set(methods) == {"glance-direct", "web-download", "copy-image", "glance-download"}


# download


def test_download_image_compares_the_digests(sdk: Any, gate: Gate, tmp_path: Path) -> None:
    image_id = gate.active()
    assert sdk.download_image(image_id).content == DATA
    sdk.download_image(image_id, output=str(tmp_path / "copy"), chunk_size=1000)
    assert (tmp_path / "copy").read_bytes() == DATA


def test_download_image_as_a_stream(sdk: Any, gate: Gate) -> None:
    answer = sdk.download_image(gate.active(), stream=True)
    assert b"".join(answer.iter_content(1000)) == DATA


def test_download_image_from_a_preferred_store(sdk: Any, gate: Gate) -> None:
    answer = sdk.download_image(gate.active(), store_preferences=["cold", "fast"])
    assert answer.content == DATA


# show and list


def test_get_image_and_find_image(sdk: Any, gate: Gate, name: str) -> None:
    image_id = gate.active(name=name, tags=["t"], key="value", os_hidden=True)
    for image in (sdk.get_image(image_id), sdk.find_image(name), sdk.find_image(image_id)):
        assert (image.id, image.name, image.tags) == (image_id, name, ["t"])
        assert (image.is_hidden, image.is_protected) == (True, False)
        assert (image.properties["key"], image.owner_id) == ("value", None)
    with pytest.raises(exceptions.NotFoundException):
        sdk.get_image(str(uuid4()))
    assert sdk.find_image(f"{name}-not") is None


def test_names_and_values_in_any_script(sdk: Any, name: str) -> None:
    odd = f"Räck & 名/🐧 100% {name}"
    made = sdk.create_image(odd, tags=["名 x"], a="ü=🐧", **FORMATS)
    found = sdk.find_image(odd)
    assert (found.id, found.properties["a"], found.tags) == (made.id, "ü=🐧", ["名 x"])
    sdk.remove_tag(found, "名 x")
    assert sdk.get_image(made.id).tags == []


def test_find_image_of_a_name_that_two_have(sdk: Any, gate: Gate, name: str) -> None:
    for _ in range(2):
        gate.create(name=name)
    with pytest.raises(exceptions.DuplicateResource):
        sdk.find_image(name)


@pytest.fixture(scope="module")
def herd(gate: Gate) -> str:
    """The tag of five images, each of another kind."""
    tag = f"herd-{uuid4().hex[:8]}"
    gate.active(b"1", name="a", visibility="public", tags=[tag])
    gate.active(b"4444", name="b", visibility="community", tags=[tag])
    gate.active(b"333", name="c", visibility="shared", tags=[tag], disk_format="ploop")
    gate.active(b"22", name="d", visibility="private", tags=[tag], protected=True)
    gate.create(name="e", tags=[tag], os_hidden=True)
    return tag


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, "abcd"),
        ({"limit": 2}, "abcd"),
        ({"limit": 1}, "abcd"),
        ({"name": "b"}, "b"),
        ({"visibility": "public"}, "a"),
        ({"visibility": "all"}, "abcd"),
        ({"member_status": "all"}, "abcd"),
        ({"status": "active"}, "abcd"),
        ({"status": "queued"}, ""),
        ({"size_min": 2, "size_max": 3}, "cd"),
        ({"disk_format": "ploop"}, "c"),
        ({"is_hidden": True}, "e"),
        ({"is_protected": True}, "d"),
        ({"owner": "nobody-at-all"}, ""),
        ({"sort": "size:desc"}, "bcda"),
        ({"sort_key": "name", "sort_dir": "desc"}, "dcba"),
    ],
    ids=str,
)
def test_images(sdk: Any, herd: str, query: dict[str, Any], names: str) -> None:
    found = [image.name for image in sdk.images(tag=herd, **query)]
    assert "".join(found if "sort" in query or "sort_key" in query else sorted(found)) == names


def test_images_by_a_filter_that_is_not_spelt_as_the_api_has_it(sdk: Any) -> None:
    with pytest.raises(exceptions.BadRequestException, match="'protected' filter"):
        list(sdk.images(protected=True))


def test_images_from_a_marker_on(sdk: Any, herd: str) -> None:
    everything = [image.id for image in sdk.images(tag=herd)]
    assert [image.id for image in sdk.images(tag=herd, marker=everything[1])] == everything[2:]


# update


def test_update_image(sdk: Any, gate: Gate, name: str) -> None:
    image = sdk.get_image(gate.create(name="old", tags=["t"]))
    sdk.update_image(image, name=name, min_disk=3, is_protected=True, visibility="public")
    sdk.update_image(image.id, is_hidden=True, tags=["u"])
    image = sdk.get_image(image.id)
    assert (image.name, image.min_disk, image.visibility) == (name, 3, "public")
    assert (image.is_protected, image.is_hidden, image.tags) == (True, True, ["u"])


def test_update_image_properties(sdk: Any, gate: Gate) -> None:
    image = sdk.get_image(gate.create(kept="x"))
    sdk.update_image_properties(image=image, k="v", n=1)
    properties = sdk.get_image(image.id).properties
    assert (properties["kept"], properties["k"], properties["n"]) == ("x", "v", "1")


def test_add_tag_and_remove_tag(sdk: Any, gate: Gate) -> None:
    image = sdk.get_image(gate.create())
    sdk.add_tag(image, "two words")
    assert sdk.get_image(image.id).tags == ["two words"]
    sdk.remove_tag(image, "two words")
    assert sdk.get_image(image.id).tags == []


def test_deactivate_image_and_reactivate_image(sdk: Any, gate: Gate) -> None:
    image_id = gate.active()
    sdk.deactivate_image(image_id)
    assert sdk.get_image(image_id).status == "deactivated"
    sdk.reactivate_image(image_id)
    assert sdk.get_image(image_id).status == "active"


def test_members(sdk: Any, gate: Gate) -> None:
    image = sdk.get_image(gate.create(visibility="shared"))
    assert sdk.add_member(image, member_id="p9").status == "pending"
    sdk.add_member(image, member_id="p8")
    with pytest.raises(exceptions.ConflictException):
        sdk.add_member(image, member_id="p8")
    sdk.update_member("p9", image, status="accepted")
    sdk.update_member("p8", image, status="rejected")
    assert {one.member_id: one.status for one in sdk.members(image)} == {
        "p8": "rejected", "p9": "accepted",
    }  # fmt: skip
    assert sdk.get_member("p9", image).status == "accepted"
    assert sdk.find_member("p9", image).status == "accepted"
    sdk.remove_member("p9", image)
    assert [one.member_id for one in sdk.members(image)] == ["p8"]
    assert sdk.find_member("p9", image) is None


# delete


def test_delete_image(sdk: Any, gate: Gate) -> None:
    image = sdk.get_image(gate.active())
    sdk.delete_image(image)
    sdk.wait_for_delete(image, interval=0.1, wait=10)
    sdk.delete_image(image)  # says nothing
    with pytest.raises(exceptions.NotFoundException):
        sdk.delete_image(image, ignore_missing=False)


def test_delete_image_that_is_protected(sdk: Any, gate: Gate) -> None:
    with pytest.raises(exceptions.ForbiddenException, match="protected"):
        sdk.delete_image(gate.create(protected=True))


def test_delete_image_from_one_store(sdk: Any, gate: Gate) -> None:
    image_id = gate.active()
    with pytest.raises(exceptions.ForbiddenException):
        sdk.delete_image(image_id, store="fast")
    sdk.import_image(sdk.get_image(image_id), method="copy-image", stores=["cold"])
    gate.imported(image_id)
    sdk.delete_image(image_id, store="fast")
    assert gate.show(image_id)["stores"] == "cold"


# stores, locations, tasks


def test_stores(sdk: Any) -> None:
    stores = {store.id: store for store in sdk.stores()}
    assert (stores["fast"].is_default, stores["cold"].description) == (True, "slow")
    details = {store.id: store for store in sdk.stores(details=True)}
    assert "data_dir" in details["fast"].properties


def test_add_image_location_and_image_locations(sdk: Any, gate: Gate, origin: str) -> None:
    image_id = gate.create()
    sdk.add_image_location(
        image_id, origin, validation_data={"os_hash_algo": "sha512", "os_hash_value": SHA512}
    )
    wait_for(lambda: sdk.get_image(image_id).status == "active", "the digest to be verified")
    assert sdk.get_image(image_id).hash_value == SHA512
    assert [one.url for one in sdk.image_locations(image_id)] == [origin]


def test_tasks(sdk: Any, origin: str) -> None:
    properties = {"disk_format": "raw", "container_format": "bare"}
    task_input = {"import_from": origin, "image_properties": properties}
    task = sdk.create_task(type="import", input={**task_input, "import_from_format": "raw"})
    task = sdk.wait_for_task(task, interval=0.1, wait=20)
    assert task.status == "success"
    assert sdk.get_image(task.result["image_id"]).checksum == MD5
    assert sdk.get_task(task.id).input["import_from"] == origin
    assert task.id in {one.id for one in sdk.tasks(type="import", status="success")}


def test_an_export(sdk: Any, gate: Gate) -> None:
    image_id = gate.active()
    given = {"image_id": image_id, "store": "cold", "key": f"exports/{image_id}.img"}
    task = sdk.create_task(type="export", input=given)
    task = sdk.wait_for_task(task, interval=0.1, wait=20)
    assert (task.status, task.result["checksum"]) == ("success", MD5)
    assert task.result["location"].endswith(f"/cold/exports/{image_id}.img")
    assert task.id in {one.id for one in sdk.tasks(type="export", status="success")}


def test_image_tasks(sdk: Any, gate: Gate, origin: str) -> None:
    image = sdk.get_image(gate.create())
    sdk.import_image(image, method="web-download", uri=f"{origin}.not")
    gate.imported(image.id)
    (task,) = sdk.image_tasks(image)
    assert (task.status, task.message) == ("failure", "The source is not reachable.")


# the cache


def test_cache(sdk: Any, gate: Gate) -> None:
    image_id = gate.active()

    def cached() -> bool:
        return image_id in [one.image_id for one in sdk.get_image_cache().cached_images]

    sdk.queue_image(image_id)
    wait_for(cached, "the image to be cached")
    sdk.cache_delete_image(image_id)
    assert not cached()
    sdk.queue_image(image_id)
    wait_for(cached, "the image to be cached again")
    sdk.clear_cache("queue")
    assert cached()
    sdk.clear_cache()
    assert sdk.get_image_cache().cached_images == []


def test_what_the_cache_does_by_itself(sdk: Any, gate: Gate) -> None:
    with pytest.raises(exceptions.HttpException, match="405"):
        sdk.clean_cache()
    with pytest.raises(exceptions.HttpException, match="405"):
        sdk.prune_cache()
    with pytest.raises(exceptions.NotFoundException):
        sdk.cached_image_nodes(gate.create())


# schemas


def test_schemas(sdk: Any) -> None:
    assert "disk_format" in sdk.get_image_schema().properties
    assert "images" in sdk.get_images_schema().properties
    assert "member_id" in sdk.get_member_schema().properties
    assert "members" in sdk.get_members_schema().properties
    assert "type" in sdk.get_task_schema().properties
    assert "tasks" in sdk.get_tasks_schema().properties
