"""Image API v2: the schemas, from which clients build their models."""

from typing import Any

import jsonschema
import pytest
from tests.kit.gateway import Gateway

from tidegate.domain.status import Status

UUID = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"
IMAGE = [
    "id", "name", "status", "visibility", "protected", "os_hidden", "checksum", "os_hash_algo",
    "os_hash_value", "owner", "size", "virtual_size", "container_format", "disk_format",
    "created_at", "updated_at", "tags", "direct_url", "min_ram", "min_disk", "self", "file",
    "stores", "schema", "locations", "kernel_id", "ramdisk_id", "instance_uuid", "architecture",
    "os_distro", "os_version", "description", "cinder_encryption_key_id",
    "cinder_encryption_key_deletion_policy",
]  # fmt: skip
READ_ONLY = {
    "status", "checksum", "os_hash_algo", "os_hash_value", "size", "virtual_size", "created_at",
    "updated_at", "direct_url", "self", "file", "stores", "schema",
}  # fmt: skip
EXTRA = set(IMAGE[IMAGE.index("kernel_id") :])


async def schema(gate: Gateway, name: str) -> Any:
    answer = await gate.ask("GET", f"/v2/schemas/{name}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    return answer.json


async def test_the_schema_of_an_image(gate: Gateway) -> None:
    image = await schema(gate, "image")
    assert list(image) == ["name", "properties", "additionalProperties", "links"]
    assert (image["name"], image["additionalProperties"]) == ("image", {"type": "string"})
    assert image["links"] == [
        {"rel": "self", "href": "{self}"},
        {"rel": "enclosure", "href": "{file}"},
        {"rel": "describedby", "href": "{schema}"},
    ]
    fields = image["properties"]
    assert list(fields) == IMAGE
    assert {name for name, field in fields.items() if field.get("readOnly")} == READ_ONLY
    assert {name for name, field in fields.items() if field.get("is_base") is False} == EXTRA
    assert not any("is_base" in fields[name] for name in set(IMAGE) - EXTRA)
    assert all(field["description"] for field in fields.values())
    assert fields["id"]["pattern"] == fields["kernel_id"]["pattern"] == UUID
    assert fields["disk_format"]["enum"][:2] == [None, "ami"]
    assert fields["container_format"]["enum"][:2] == [None, "ami"]
    assert set(fields["status"]["enum"]) == set(Status)
    assert fields["visibility"]["enum"] == ["community", "public", "private", "shared"]
    lengths = {name: field["maxLength"] for name, field in fields.items() if "maxLength" in field}
    assert lengths == {
        "name": 255, "checksum": 32, "os_hash_algo": 64, "os_hash_value": 128, "owner": 255,
    }  # fmt: skip
    assert fields["tags"]["items"] == {"type": "string", "maxLength": 255}
    location = fields["locations"]["items"]
    assert location["required"] == ["url", "metadata"]
    assert location["properties"]["validation_data"]["writeOnly"] is True


async def test_the_schema_of_a_list_holds_that_of_an_image(gate: Gateway) -> None:
    images = await schema(gate, "images")
    assert list(images) == ["name", "properties", "links"]
    assert images["properties"]["images"] == {"type": "array", "items": await schema(gate, "image")}
    assert {link["rel"]: link["href"] for link in images["links"]} == {
        "first": "{first}",
        "next": "{next}",
        "describedby": "{schema}",
    }


async def test_the_schemas_of_tasks(gate: Gateway) -> None:
    task, tasks = await schema(gate, "task"), await schema(gate, "tasks")
    assert list(task) == ["name", "properties"]
    assert list(tasks) == ["name", "properties", "links"]
    shown = set(tasks["properties"]["tasks"]["items"]["properties"])
    assert set(task["properties"]) - shown == {"input", "result", "message"}
    assert tasks["links"] == [{"rel": "describedby", "href": "{schema}"}]


async def test_what_is_answered_fits_the_schemas(gate: Gateway) -> None:
    await gate.active(b"x", name="n", k="v", tags=["t"], kernel_id=None)
    await gate.create()
    page = (await gate.ask("GET", "/v2/images?limit=1")).json
    jsonschema.validate(page, await schema(gate, "images"))
    for image in (await gate.ask("GET", "/v2/images")).json["images"]:
        jsonschema.validate(image, await schema(gate, "image"))


@pytest.mark.parametrize("name", ["image", "images", "member", "members", "task", "tasks"])
async def test_a_schema_is_only_read(gate: Gateway, name: str) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE", "HEAD"):
        answer = await gate.ask(method, f"/v2/schemas/{name}")
        assert (answer.status, answer.headers["Allow"]) == (405, "GET")
    assert (await gate.ask("GET", f"/v2/schemas/{name}", data=b"{}")).status == 400
    assert (await gate.ask("GET", f"/v2/schemas/{name}?unknown=x")).status == 200


@pytest.mark.parametrize("path", ["/v2/schemas", "/v2/schemas/", "/v2/schemas/nope"])
async def test_other_schemas_there_are_none(gate: Gateway, path: str) -> None:
    assert (await gate.ask("GET", path)).status == 404
