"""Data that clients registered by URL and nobody here has read: what is said of its digests is not
made public."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.kit.gateway import Answer, Gateway, running
from tests.kit.origins import Origin, serving
from tests.kit.server import until
from tests.kit.stores import FaultyStore

from tidegate.foundation import workbench
from tidegate.settings import Settings

BYTES = b"external bytes" * 1000
SHA512 = hashlib.sha512(BYTES).hexdigest()
RIGHT = {"os_hash_algo": "sha512", "os_hash_value": SHA512}
WRONG = {"os_hash_algo": "sha512", "os_hash_value": "0" * 128}
WITH_MD5 = {"checksum": hashlib.md5(BYTES, usedforsecurity=False).hexdigest()}
PUBLISH = {"op": "replace", "path": "/visibility", "value": "public"}
V1 = {"x-image-meta-disk_format": "raw", "x-image-meta-container_format": "bare"}


@dataclass
class World:
    gate: Gateway
    origin: Origin
    folder: Path

    def add(self, query: str = "", **more: Any) -> dict[str, Any]:
        value = {"url": self.origin.url + query, "metadata": {}, **more}
        return {"op": "add", "path": "/locations/-", "value": value}

    async def located(self, **more: Any) -> str:
        image_id = await self.gate.create()
        answer = await self.gate.patch(image_id, self.add(**more))
        assert answer.status == 200, answer.body
        return image_id

    async def publish(self, image_id: str) -> Answer:
        return await self.gate.patch(image_id, PUBLISH)

    async def v1(self, method: str, path: str = "/v1/images", **headers: str) -> Answer:
        named = {f"x-image-meta-{name}": value for name, value in headers.items()}
        return await self.gate.ask(method, path, headers={**V1, **named})

    async def post(self, image_id: str, **more: Any) -> Answer:
        body = {"url": self.origin.url, **more}
        return await self.gate.ask("POST", f"/v2/images/{image_id}/locations", json=body)

    async def scrub(self) -> dict[str, int]:
        """As `tidegate scrub` does, beside the gateway."""
        settings = Settings.model_validate(
            {
                "catalog": {"url": f"sqlite:///{self.folder / 'tidegate.db'}"},
                "stores": [{"type": "filesystem", "path": str(self.folder / "scrubbed")}],
                "fetch": {"allow": ["127.0.0.1"]},
            }
        )
        async with workbench(settings) as bench:
            report = await bench.scrubbing(rate=0).verify()
        return {str(verdict): count for verdict, count in report.verdicts.items()}


@asynccontextmanager
async def working(store: FaultyStore, folder: Path, **locations: bool) -> AsyncIterator[World]:
    async with (
        running(store, folder, locations={"show": True, **locations}) as gate,
        serving(BYTES) as origin,
    ):
        yield World(gate, origin, folder)


@pytest.fixture
async def world(store: FaultyStore, tmp_path: Path) -> AsyncIterator[World]:
    async with working(store, tmp_path) as world:
        yield world


def says_what_to_do(answer: Answer) -> bool:
    return answer.status == 403 and "validation_data" in answer.message


async def test_sec_27_digests_that_a_patch_vouches_for_are_not_made_public(world: World) -> None:
    image_id = await world.located(validation_data={**RIGHT, **WITH_MD5})
    assert says_what_to_do(await world.publish(image_id))
    assert (await world.gate.show(image_id))["visibility"] == "shared"


async def test_sec_27_nor_does_a_public_image_get_them(world: World) -> None:
    queued = await world.gate.create(visibility="public")
    uploaded = await world.gate.active(BYTES, visibility="public")
    for image_id, vouched in ((queued, {"validation_data": RIGHT}), (uploaded, {})):
        before = await world.gate.show(image_id)
        assert says_what_to_do(await world.gate.patch(image_id, world.add(**vouched)))
        assert await world.gate.show(image_id) == before


async def test_data_of_which_no_digests_are_said_may_be_public(world: World) -> None:
    assert (await world.publish(await world.located())).status == 200
    queued = await world.gate.create(visibility="public")
    assert (await world.gate.patch(queued, world.add())).status == 200
    made = await world.v1("POST", location=world.origin.url, is_public="true")
    assert (made.status, made.json["image"]["status"]) == (201, "active")


async def test_sec_27_nor_both_in_one_patch(world: World) -> None:
    add = world.add(validation_data=RIGHT)
    for steps in ([PUBLISH, add], [add, PUBLISH]):
        image_id = await world.gate.create()
        assert says_what_to_do(await world.gate.patch(image_id, *steps))
        image = await world.gate.show(image_id)
        assert (image["visibility"], image["status"]) == ("shared", "queued")


async def test_sec_27_nor_by_v1(world: World) -> None:
    url, digest = world.origin.url, WITH_MD5["checksum"]
    public = await world.v1("POST", location=url, checksum=digest, is_public="true")
    assert says_what_to_do(public)
    assert (await world.gate.ask("GET", "/v2/images")).json["images"] == []
    made = await world.v1("POST", location=url, checksum=digest)
    path = f"/v1/images/{made.json['image']['id']}"
    assert says_what_to_do(await world.v1("PUT", path, is_public="true"))
    queued = f"/v1/images/{await world.gate.create()}"
    refused = await world.v1("PUT", queued, location=url, checksum=digest, is_public="true")
    assert says_what_to_do(refused)


async def test_sec_27_one_good_copy_does_not_do_for_another(world: World) -> None:
    image_id = await world.gate.active(BYTES)
    assert (await world.gate.patch(image_id, world.add())).status == 200
    assert says_what_to_do(await world.publish(image_id))
    assert await world.scrub() == {"good": 1}
    assert (await world.publish(image_id)).status == 200


async def test_sec_27_what_post_registers_is_public_once_it_was_read(world: World) -> None:
    for more in ({}, {"validation_data": RIGHT}):
        image_id = await world.gate.create()
        assert (await world.post(image_id, **more)).status == 202

        async def published(image_id: str = image_id) -> bool:
            return (await world.publish(image_id)).status == 200

        await until(published, "it to be read")
    for more in ({}, {"validation_data": RIGHT}):
        read = await world.gate.create(visibility="public")
        assert (await world.post(read, **more)).status == 202


@pytest.mark.parametrize("vouched", [{}, {"validation_data": RIGHT}], ids=["plain", "vouched"])
async def test_sec_27_a_scrub_that_finds_it_right_clears_the_mark(
    world: World, vouched: dict[str, Any]
) -> None:
    image_id = await world.located(**vouched)
    assert await world.scrub() == {"good": 1}
    image = await world.gate.show(image_id)
    assert (image["os_hash_algo"], image["os_hash_value"]) == ("sha512", SHA512)
    assert image["checksum"] == WITH_MD5["checksum"]
    assert (await world.publish(image_id)).status == 200
    assert await world.scrub() == {}


async def test_sec_27_a_scrub_of_v1s_clears_the_mark(world: World) -> None:
    checksum = WITH_MD5["checksum"]
    made = await world.v1("POST", location=world.origin.url, checksum=checksum)
    assert await world.scrub() == {"good": 1}
    path = f"/v1/images/{made.json['image']['id']}"
    assert (await world.v1("PUT", path, is_public="true")).status == 200


async def test_sec_27_of_two_locations_both_must_be_right(world: World) -> None:
    image_id = await world.located()
    assert await world.scrub() == {"good": 1}
    assert (await world.gate.patch(image_id, world.add("?mirror"))).status == 200
    assert says_what_to_do(await world.publish(image_id))
    assert await world.scrub() == {"good": 1}
    assert (await world.publish(image_id)).status == 200


async def test_sec_27_wrong_digests_deactivate_the_image_and_say_why(world: World) -> None:
    image_id = await world.located(validation_data=WRONG)
    assert await world.scrub() == {"wrong": 1}
    assert (await world.gate.show(image_id))["status"] == "deactivated"
    assert (await world.gate.failure(image_id))["reason"] == "wrong_bytes"
    assert says_what_to_do(await world.publish(image_id))


async def test_sec_27_bytes_that_changed_their_length_are_wrong(world: World) -> None:
    await world.located()
    world.origin.data += b"more"
    assert await world.scrub() == {"wrong": 1}


async def test_sec_27_a_source_that_does_not_answer_leaves_the_mark(world: World) -> None:
    image_id = await world.located(validation_data=RIGHT)
    world.origin.status = 503
    assert await world.scrub() == {"unreachable": 1}
    assert (await world.gate.show(image_id))["status"] == "active"
    assert says_what_to_do(await world.publish(image_id))


async def test_sec_27_where_the_operator_allows_it_it_may_be_public(
    store: FaultyStore, tmp_path: Path
) -> None:
    async with working(store, tmp_path, publish_unverified=True) as world:
        vouched = {"validation_data": RIGHT}
        assert (await world.publish(await world.located(**vouched))).status == 200
        queued = await world.gate.create(visibility="public")
        assert (await world.gate.patch(queued, world.add(**vouched))).status == 200
        checksum = WITH_MD5["checksum"]
        made = await world.v1(
            "POST", location=world.origin.url, checksum=checksum, is_public="true"
        )
        assert made.status == 201


async def test_sec_27_one_that_is_public_already_is_changed_as_before(
    store: FaultyStore, tmp_path: Path
) -> None:
    async with working(store, tmp_path, publish_unverified=True) as world:
        image_id = await world.located(validation_data=RIGHT)
        assert (await world.publish(image_id)).status == 200
    async with working(store, tmp_path) as world:
        rename = {"op": "replace", "path": "/name", "value": "x"}
        assert (await world.gate.patch(image_id, rename, PUBLISH)).status == 200


async def test_sec_27_who_vouches_for_something_else_marks_it_again(world: World) -> None:
    checksum = WITH_MD5["checksum"]
    made = await world.v1("POST", location=world.origin.url, checksum=checksum)
    path = f"/v1/images/{made.json['image']['id']}"
    assert await world.scrub() == {"good": 1}
    assert (await world.v1("PUT", path, checksum=checksum, is_public="true")).status == 200
    assert says_what_to_do(await world.v1("PUT", path, checksum="0" * 32))
    assert (await world.v1("PUT", path, is_public="false")).status == 200
    assert (await world.v1("PUT", path, checksum="0" * 32)).status == 200
    assert says_what_to_do(await world.v1("PUT", path, is_public="true"))
    assert await world.scrub() == {"wrong": 1}
