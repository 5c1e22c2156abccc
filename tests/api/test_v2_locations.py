"""Locations registered by POST: answered at once, read by a task, and the image never saving."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit.gateway import Answer, Gateway, running
from tests.kit.identity import ADMIN, READER, Named, of
from tests.kit.origins import Origin, serving
from tests.kit.server import until
from tests.kit.stores import FaultyStore

from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.status import Event

OWNER, STRANGER = of("p"), of("q")
SERVICE = {"X-Auth-Token": "p:reader,service"}
BYTES = b"external bytes" * 100_000
MD5 = hashlib.md5(BYTES, usedforsecurity=False).hexdigest()
SHA512 = hashlib.sha512(BYTES).hexdigest()
RIGHT = {"os_hash_algo": "sha512", "os_hash_value": SHA512}
WRONG = {"os_hash_algo": "sha512", "os_hash_value": "0" * 128}
LOCK = "os_glance_import_task"


class World:
    """A gateway whose callers say who they are, another worker's catalog, and bytes elsewhere."""

    def __init__(self, gate: Gateway, catalog: SqlCatalog, origin: Origin) -> None:
        self.gate = gate
        self.catalog = catalog
        self.origin = origin

    async def queued(self, **fields: Any) -> str:
        return await self.gate.create(owner="p", **fields)

    async def add(
        self, image_id: str, url: str | None = None, caller: dict[str, str] = OWNER, **more: Any
    ) -> Answer:
        body = {"url": self.origin.url if url is None else url, **more}
        return await self.post(image_id, caller, json=body)

    async def post(self, image_id: str, caller: dict[str, str] = OWNER, **options: Any) -> Answer:
        path = f"/v2/images/{image_id}/locations"
        return await self.gate.ask("POST", path, headers=caller, **options)

    async def listed(self, image_id: str, caller: dict[str, str] = SERVICE) -> Answer:
        return await self.gate.ask("GET", f"/v2/images/{image_id}/locations", headers=caller)

    async def task(self, image_id: str) -> dict[str, Any]:
        """The image's task, once it has ended."""

        async def ended() -> dict[str, Any] | None:
            answer = await self.gate.ask("GET", f"/v2/images/{image_id}/tasks", headers=ADMIN)
            found: dict[str, Any] = answer.json["tasks"][-1]
            return found if found["status"] in ("success", "failure") else None

        return await until(ended, "the task to end")

    async def wait_for(self, image_id: str, status: str) -> dict[str, Any]:
        async def reached() -> dict[str, Any] | None:
            image = await self.gate.show(image_id)
            return image if image["status"] == status else None

        return await until(reached, f"the image to be {status}")


@pytest.fixture
async def world(store: FaultyStore, tmp_path: Path) -> AsyncIterator[World]:
    catalog = SqlCatalog(f"sqlite:///{tmp_path / 'tidegate.db'}")
    async with (
        running(store, tmp_path, identity=Named(), locations={"show": False}) as gate,
        serving(BYTES) as origin,
    ):
        await catalog.open()
        yield World(gate, catalog, origin)
        await catalog.close()


class TestWithoutDigests:
    async def test_it_is_202_without_a_body_and_active_before_it_is_read(
        self, world: World
    ) -> None:
        world.origin.pause = asyncio.Event()
        image_id = await world.queued()
        answer = await world.add(image_id)
        assert (answer.status, answer.body) == (202, b"")
        image = await world.wait_for(image_id, "active")
        assert image["size"] == len(BYTES)
        assert (image["os_hash_algo"], image["os_hash_value"]) == ("sha512", None)
        assert (image["checksum"], image["stores"]) == (None, "http")
        assert image[LOCK]  # for as long as it is read
        world.origin.pause.set()
        assert (await world.task(image_id))["status"] == "success"

    async def test_then_its_digests_are_known_and_the_lock_is_gone(self, world: World) -> None:
        image_id = await world.queued()
        await world.add(image_id, validation_data={})
        task = await world.task(image_id)
        assert (task["type"], task["status"]) == ("location_import", "success")
        image = await world.gate.show(image_id)
        assert (image["checksum"], image["os_hash_value"]) == (MD5, SHA512)
        assert LOCK not in image
        got = await world.gate.ask("GET", f"/v2/images/{image_id}/file")
        assert got.body == BYTES
        assert (await world.gate.ask("GET", f"/v2/images/{image_id}/uploads")).json["uploads"] == []

    async def test_a_source_that_breaks_while_it_is_read_leaves_it_active_without_digests(
        self, world: World
    ) -> None:
        world.origin.etag, world.origin.breaks = None, [1000]
        image_id = await world.queued()
        await world.add(image_id)
        task = await world.task(image_id)
        assert (task["status"], "broke off" in task["message"]) == ("failure", True)
        image = await world.gate.show(image_id)
        assert (image["status"], image["os_hash_algo"]) == ("active", "sha512")
        assert (image["checksum"], image["os_hash_value"]) == (None, None)
        assert LOCK not in image

    async def test_a_location_that_is_removed_while_it_is_read_is_not_described(
        self, world: World
    ) -> None:
        world.origin.pause = asyncio.Event()
        image_id = await world.queued()
        await world.add(image_id)
        await world.wait_for(image_id, "active")
        await world.catalog.advance(image_id, Event.UNREGISTER)
        world.origin.pause.set()
        assert (await world.task(image_id))["status"] == "failure"
        image = await world.gate.show(image_id)
        assert (image["checksum"], LOCK in image) == (None, False)


class TestWithDigests:
    async def test_the_image_is_importing_while_it_is_read_and_then_active(
        self, world: World
    ) -> None:
        world.origin.pause = asyncio.Event()
        image_id = await world.queued()
        assert (await world.add(image_id, validation_data=RIGHT)).status == 202
        await asyncio.wait_for(world.origin.paused.wait(), 20)
        image = await world.wait_for(image_id, "importing")
        assert (image["checksum"], image["os_hash_value"], image["size"]) == (None, None, None)
        assert "stores" not in image
        world.origin.pause.set()
        assert (await world.task(image_id))["status"] == "success"
        image = await world.gate.show(image_id)
        assert (image["status"], image["size"]) == ("active", len(BYTES))
        assert (image["checksum"], image["os_hash_value"]) == (MD5, SHA512)

    @pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
    async def test_by_another_algorithm(self, world: World, algorithm: str) -> None:
        value = hashlib.new(algorithm, BYTES, usedforsecurity=False).hexdigest()
        image_id = await world.queued()
        vouched = {"os_hash_algo": algorithm, "os_hash_value": value.upper()}
        await world.add(image_id, validation_data=vouched)
        assert (await world.task(image_id))["status"] == "success"
        image = await world.gate.show(image_id)
        assert (image["os_hash_algo"], image["os_hash_value"]) == (algorithm, value)
        assert image["checksum"] == MD5

    async def test_other_bytes_leave_it_queued_and_nothing_behind(self, world: World) -> None:
        image_id = await world.queued()
        await world.add(image_id, validation_data=WRONG)
        task = await world.task(image_id)
        assert (task["status"], "sha512 digest" in task["message"]) == ("failure", True)
        image = await world.gate.show(image_id)
        assert image["status"] == "queued"
        assert {image[name] for name in ("checksum", "os_hash_algo", "os_hash_value")} == {None}
        assert (await world.listed(image_id)).json == []
        assert LOCK not in image
        assert (await world.add(image_id, validation_data=RIGHT)).status == 202
        assert (await world.task(image_id))["status"] == "success"

    async def test_an_image_that_is_deleted_meanwhile_stays_deleted(self, world: World) -> None:
        world.origin.pause = asyncio.Event()
        image_id = await world.queued()
        await world.add(image_id, validation_data=RIGHT)
        await asyncio.wait_for(world.origin.paused.wait(), 20)
        assert (await world.gate.ask("DELETE", f"/v2/images/{image_id}")).status == 204
        world.origin.pause.set()
        (task,) = (await world.gate.ask("GET", "/v2/tasks")).json["tasks"]

        async def failed() -> bool:
            path = f"/v2/tasks/{task['id']}"
            found: dict[str, Any] = (await world.gate.ask("GET", path)).json
            return found["status"] == "failure"

        await until(failed, "the task to fail")
        assert (await world.gate.ask("GET", f"/v2/images/{image_id}")).status == 404


class TestChecksInTheirOrder:
    async def test_an_invisible_image_is_404_before_the_body(self, world: World) -> None:
        image_id = await world.queued(visibility="private")
        assert (await world.post(image_id, STRANGER)).status == 404
        assert (await world.post("nope", OWNER, json=[])).status == 404

    async def test_no_body_is_400(self, world: World) -> None:
        answer = await world.post(await world.queued())
        assert (answer.status, answer.message) == (400, "Body expected in request.")

    @pytest.mark.parametrize(
        "body",
        [
            {},
            [],
            {"url": 1},
            {"url": "http://h/", "validation_data": None},
            {"url": "http://h/", "validation_data": []},
            {"url": "http://h/", "validation_data": {**RIGHT, "checksum": MD5}},
            {"url": "http://h/", "validation_data": {**RIGHT, "os_hash_algo": "crc32"}},
            {"url": "http://h/", "validation_data": {"os_hash_algo": "sha512"}},
            {"url": "http://h/", "validation_data": {"os_hash_value": SHA512}},
        ],
    )
    async def test_a_body_of_another_form_is_400_before_the_status(
        self, world: World, body: object
    ) -> None:
        image_id = await world.gate.active(b"x", owner="p")
        answer = await world.post(image_id, OWNER, json=body)
        assert answer.status == 400
        assert answer.message.startswith("Provided object does not match schema 'location': ")

    async def test_what_else_is_in_the_body_does_not_matter(self, world: World) -> None:
        assert (await world.add(await world.queued(), more="x", metadata={})).status == 202

    async def test_an_image_that_is_not_queued_is_409_before_the_policy(self, world: World) -> None:
        image_id = await world.gate.active(b"x", owner="p", visibility="public")
        answer = await world.add(image_id, caller=STRANGER)
        assert answer.status == 409
        assert answer.message == "It's not allowed to add locations if image status is active."

    async def test_the_policy_is_asked_before_the_url_is_looked_at(self, world: World) -> None:
        image_id = await world.queued(visibility="public")
        for caller in (STRANGER, {"X-Auth-Token": "p:reader"}):
            answer = await world.add(image_id, "file:///etc/passwd", caller)
            assert (answer.status, "add_image_location" in answer.message) == (403, True)

    @pytest.mark.parametrize("caller", [OWNER, ADMIN, SERVICE])
    async def test_who_may(self, world: World, caller: dict[str, str]) -> None:
        assert (await world.add(await world.queued(), caller=caller)).status == 202

    @pytest.mark.parametrize("caller", [OWNER, ADMIN])
    @pytest.mark.parametrize("url", ["cinder://fast/6b0f3b1e", "file:///etc/passwd", "x", ""])
    async def test_another_scheme_is_403_but_for_services_before_the_digests(
        self, world: World, caller: dict[str, str], url: str
    ) -> None:
        vouched = {**RIGHT, "os_hash_value": "no hex"}
        answer = await world.add(await world.queued(), url, caller, validation_data=vouched)
        assert answer.status == 403
        said = "http store must be enabled to use location API by normal user."
        assert answer.message == said

    async def test_another_scheme_is_400_for_services(self, world: World) -> None:
        image_id = await world.queued()
        for url in ("cinder://fast/6b0f3b1e", "file:///etc/passwd", "s3://AK:SECRET@host/b/k"):
            answer = await world.add(image_id, url, SERVICE)
            assert (answer.status, "SECRET" in answer.message) == (400, False)

    @pytest.mark.parametrize("value", ["x" * 128, "0" * 127, "0" * 64, ""])
    async def test_what_is_no_digest_is_400_before_the_filter(
        self, world: World, value: str
    ) -> None:
        vouched = {"os_hash_algo": "sha512", "os_hash_value": value}
        answer = await world.add(await world.queued(), "http://[::1]/", validation_data=vouched)
        assert (answer.status, answer.message.startswith("os_hash_value")) == (400, True)

    @pytest.mark.parametrize(
        "url", ["http://10.0.0.1/", "http://user:secret@example.org/", "http://169.254.169.254/x"]
    )
    async def test_a_url_that_does_not_pass_the_filter_is_400_and_not_repeated(
        self, world: World, url: str
    ) -> None:
        image_id = await world.queued()
        answer = await world.add(image_id, url)
        assert answer.status == 400
        assert answer.message.startswith("URI for add location does not pass filtering: ")
        assert "secret" not in answer.message
        assert (await world.gate.show(image_id))["status"] == "queued"

    async def test_an_image_that_a_task_has_already_is_409(self, world: World) -> None:
        world.origin.pause = asyncio.Event()
        image_id = await world.queued()
        await world.add(image_id, validation_data=RIGHT)
        await world.wait_for(image_id, "importing")
        assert (await world.add(image_id)).status == 409
        world.origin.pause.set()
        await world.task(image_id)

    async def test_of_many_at_once_one_is_202(self, world: World) -> None:
        world.origin.pause = asyncio.Event()
        image_id = await world.queued()
        answers = await asyncio.gather(*(world.add(image_id) for _ in range(8)))
        assert sorted(answer.status for answer in answers) == [202] + [409] * 7
        world.origin.pause.set()
        assert (await world.task(image_id))["status"] == "success"


class TestWhatOnlyTheTaskFinds:
    @pytest.mark.parametrize("vouched", [{}, RIGHT])
    @pytest.mark.parametrize("status", [404, 500])
    async def test_a_source_that_is_not_there_is_202_and_leaves_it_queued(
        self, world: World, status: int, vouched: dict[str, str]
    ) -> None:
        world.origin.status = status
        image_id = await world.queued()
        assert (await world.add(image_id, validation_data=vouched)).status == 202
        task = await world.task(image_id)
        said = "The source is not reachable."
        assert (task["status"], task["message"]) == ("failure", said)
        image = await world.gate.show(image_id)
        assert (image["status"], LOCK in image) == ("queued", False)
        assert (await world.listed(image_id)).json == []

    @pytest.mark.parametrize("vouched", [{}, RIGHT])
    async def test_a_redirect_inside_is_not_followed(
        self, world: World, vouched: dict[str, str]
    ) -> None:
        world.origin.redirect = "http://169.254.169.254/latest/meta-data"
        image_id = await world.queued()
        assert (await world.add(image_id, validation_data=vouched)).status == 202
        assert (await world.task(image_id))["status"] == "failure"
        assert (await world.gate.show(image_id))["status"] == "queued"

    async def test_formats_that_are_not_set(self, world: World) -> None:
        answer = await world.gate.ask("POST", "/v2/images", json={"owner": "p"})
        image_id = answer.json["id"]
        assert (await world.add(image_id)).status == 202
        task = await world.task(image_id)
        assert (task["status"], "must be set" in task["message"]) == ("failure", True)
        assert (await world.gate.show(image_id))["status"] == "queued"
        assert world.origin.seen == []  # it is not asked in vain

    async def test_an_empty_source(self, world: World) -> None:
        world.origin.data = b""
        image_id = await world.queued()
        await world.add(image_id)
        assert (await world.task(image_id))["status"] == "failure"
        assert (await world.gate.show(image_id))["status"] == "queued"

    async def test_an_upload_that_was_first(self, world: World) -> None:
        world.origin.pause = asyncio.Event()
        image_id = await world.queued()
        async with serving(BYTES, status=500) as broken:
            await world.add(image_id, broken.url)
            await world.task(image_id)
        assert (await world.gate.put(image_id, b"abc")).status == 204
        assert (await world.add(image_id)).status == 409


async def test_bytes_that_were_active_once_are_replaced_by_administrators_alone(
    world: World,
) -> None:
    image_id = await world.gate.active(b"x", owner="p")
    await world.catalog.advance(image_id, Event.UNREGISTER)
    assert (await world.add(image_id)).status == 409
    assert (await world.add(image_id, caller=ADMIN)).status == 202


async def test_no_location_where_none_may_be(store: FaultyStore, tmp_path: Path) -> None:
    async with running(store, tmp_path, quotas={"locations": 0}) as gate:
        path = f"/v2/images/{await gate.create()}/locations"
        answer = await gate.ask("POST", path, json={"url": "http://example.org/"})
        assert (answer.status, "Maximum: 0" in answer.message) == (413, True)


async def test_a_slow_pace_is_kept(store: FaultyStore, tmp_path: Path) -> None:
    rate = len(BYTES)  # a second for all
    async with (
        running(store, tmp_path, locations={"hash_rate": str(rate)}) as gate,
        serving(BYTES) as origin,
    ):
        image_id = await gate.create()
        begun = asyncio.get_running_loop().time()
        await gate.ask("POST", f"/v2/images/{image_id}/locations", json={"url": origin.url})

        async def hashed() -> bool:
            return bool((await gate.show(image_id))["checksum"])

        await until(hashed, "the digests")
        assert asyncio.get_running_loop().time() - begun > 0.9


class TestFetched:
    @pytest.mark.parametrize("caller", [SERVICE, ADMIN])
    async def test_services_and_administrators_are_told_where_it_lies(
        self, world: World, caller: dict[str, str]
    ) -> None:
        image_id = await world.queued()
        assert (await world.listed(image_id, caller)).json == []
        await world.add(image_id)
        await world.task(image_id)
        answer = await world.listed(image_id, caller)
        assert answer.status == 200
        assert answer.json == [{"url": world.origin.url, "metadata": {"store": "http"}}]

    @pytest.mark.parametrize("caller", [OWNER, READER])
    async def test_others_are_403(self, world: World, caller: dict[str, str]) -> None:
        answer = await world.listed(await world.queued(visibility="public"), caller)
        assert (answer.status, "fetch_image_location" in answer.message) == (403, True)

    async def test_an_invisible_image_is_404(self, world: World) -> None:
        image_id = await world.gate.create(owner="other", visibility="private")
        assert (await world.listed(image_id)).status == 404

    async def test_a_deactivated_image_hides_them_but_from_administrators(
        self, world: World
    ) -> None:
        image_id = await world.gate.active(b"x", owner="p")
        await world.catalog.advance(image_id, Event.DEACTIVATE)
        assert (await world.listed(image_id)).json == []
        assert len((await world.listed(image_id, ADMIN)).json) == 1
