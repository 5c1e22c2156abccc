"""What becomes of a clone whose server died or stopped, or whose source may be read no more: copied
by the store, or sent through here."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import pytest
from awscrt.checksums import crc64nvme
from tests.kit.sources import Bytes, pattern
from tests.kit.stores import FaultyStore, objects, read_all, unfinished
from tests.services.conftest import ADMIN, World

from tidegate.catalog.base import AddLocation, ImageChange, RemoveLocation, Viewer
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import (
    Conflict,
    Forbidden,
    NotCopied,
    NotFound,
    StoreDown,
    TidegateError,
    TooLarge,
)
from tidegate.domain.image import Image, Location, Visibility
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.protections import Protections
from tidegate.domain.status import Event, Status
from tidegate.domain.task import Task, TaskStatus, TaskType
from tidegate.domain.upload import Upload
from tidegate.services import filling
from tidegate.services.cloning import Cloning
from tidegate.services.filling import Filling
from tidegate.services.images import Images
from tidegate.services.locations import Locations
from tidegate.services.tasks import Tasks
from tidegate.services.watching import Watch
from tidegate.settings import Fetch, Quotas
from tidegate.settings import HttpStore as HttpSettings
from tidegate.settings import Locations as LocationSettings
from tidegate.stores.base import Part
from tidegate.stores.fetch import Fetcher
from tidegate.stores.http import HttpStore
from tidegate.stores.memory import MemoryStore

BODY = pattern(300_000)
DIED = "The server that took the data died."
DEACTIVATED = "The requested image has been deactivated. Image data download is forbidden."
HIDES_SECRETS = """
[^secret$]
create = !
read = !
update = !
delete = !
[.*]
create = @
read = @
update = @
delete = @
"""
MEMBER = Caller(project="p1", roles=frozenset({"member", "reader"}))


@dataclass
class Clones:
    """A world with an image that is cloned there, ``source``, and a second store to read from."""

    world: World
    source: str = ""
    policy: Policy = field(default_factory=Policy)
    settings: dict[str, Any] = field(default_factory=dict)
    second: FaultyStore = field(default_factory=lambda: FaultyStore(MemoryStore("second")))

    def __post_init__(self) -> None:
        self.watch = Watch(self.world.catalog)

    @property
    def tasks(self) -> Tasks:
        return Tasks(self.world.catalog, self.policy, keep=60, lease=30, node="node")

    @property
    def cloning(self) -> Cloning:
        world, policy = self.world, self.policy
        stores = {one.id: one for one in (world.store, self.second)}
        remote = HttpStore(HttpSettings(type="http"), Fetcher(Fetch(), timeout=5))
        locations = Locations(
            stores, policy, remote=remote, settings=LocationSettings(), limit=-1, max_size=2**40
        )
        quotas = Quotas(properties=3)
        images = Images(world.catalog, policy, locations, world.removals, quotas=quotas)
        attempts = world.attempts(**self.settings)
        uploads = world.uploads(attempts)
        filling = Filling(world.catalog, policy, images, uploads, world.removals)
        return Cloning(
            world.catalog, stores, policy, images, attempts, filling, self.tasks, self.watch,
            patience=30,
        )  # fmt: skip

    async def asked(self, caller: Caller = ADMIN, **properties: Any) -> Task:
        given = {"image_id": self.source, "image_properties": properties}
        return await self.cloning.add_clone(caller, given, request_id="r")

    async def perform(self, task: Task) -> Task:
        """To its end, or until it is put back; as it is then."""
        async with asyncio.timeout(20):
            await self.tasks.perform(task, self.cloning.works[task.type])
        return await self.world.catalog.get_task(task.id, Viewer(admin=True))

    async def done(self) -> Image:
        """The new image, when all goes well."""
        ended = await self.perform(await self.world.take())
        assert ended.status is TaskStatus.SUCCESS, ended.message
        assert ended.result == {"image_id": ended.image_id}
        return await self.world.image(ended.image_id or "")

    async def named(self, task: Task) -> str:
        """The image that a holder, dead by now, made for its task."""
        image_id = await self.world.queued()
        await self.world.catalog.renew_task(task, lease=-1, image_id=image_id)
        return image_id

    @property
    def inner(self) -> MemoryStore:
        inner = self.world.store.inner
        assert isinstance(inner, MemoryStore)
        return inner

    async def deactivate(self) -> None:
        await self.world.catalog.advance(self.source, Event.DEACTIVATE)

    async def failed(self, ended: Task, words: str) -> None:
        """The task failed, and left nothing but its source."""
        assert (ended.status, words in ended.message) == (TaskStatus.FAILURE, True), ended.message
        with pytest.raises(NotFound):
            await self.world.image(ended.image_id or "")
        (key,) = await objects(self.world.store)
        assert key.startswith(self.source)
        assert await read_all(self.world.store, key) == BODY
        assert await unfinished(self.world.store) == []


@pytest.fixture(params=["copied", "sent"])
async def clones(
    request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Clones]:
    monkeypatch.setattr(filling, "LOOK_EVERY", 0.01)
    found = Clones(world, await world.queued())
    await world.upload(found.source, Bytes(BODY))
    if request.param == "sent":
        found.inner.can = replace(found.inner.can, copy=False)
    yield found
    calls = world.store.calls
    assert ("copy_part" not in calls) or request.param == "copied"


@pytest.fixture
async def copies(world: World, monkeypatch: pytest.MonkeyPatch) -> Clones:
    """Where the store copies."""
    monkeypatch.setattr(filling, "LOOK_EVERY", 0.01)
    found = Clones(world, await world.queued())
    await world.upload(found.source, Bytes(BODY))
    return found


async def test_a_clone_has_bytes_of_its_own_and_is_like_its_source(clones: Clones) -> None:
    catalog = clones.world.catalog
    fields = {"name": "disk", "min_disk": 3, "min_ram": 5, "hidden": True}
    put = {"os_distro": "debian", "os_glance_x": "theirs"}
    await catalog.change_image(
        clones.source, ImageChange(fields=fields, put=put, tags=("a", "b"), max_properties=-1)
    )
    await clones.asked()
    new, source = await clones.done(), await clones.world.image(clones.source)
    assert (new.status, new.hidden, new.visibility) == (
        Status.ACTIVE, False, Visibility.SHARED,
    )  # fmt: skip
    for name in ("name", "disk_format", "container_format", "min_disk", "min_ram", "tags",
                 "size", "checksum", "hash_algo", "hash_value"):  # fmt: skip
        assert getattr(new, name) == getattr(source, name), name
    assert dict(new.properties) == {"os_distro": "debian"}
    (location,) = new.locations
    assert location.key.startswith(new.id)
    await clones.world.removals.carry_out(await catalog.delete_image(clones.source))
    assert await read_all(clones.world.store, location.key) == BODY


async def test_what_the_caller_says_of_it_goes_before_what_the_source_is(clones: Clones) -> None:
    await clones.world.catalog.change_image(
        clones.source,
        ImageChange(fields={"name": "disk"}, put={"a": "1", "b": "1"}, tags=("a",)),
    )
    await clones.asked(name="mine", tags=["c"], owner="p9", visibility="public", b="2")
    new = await clones.done()
    assert (new.name, new.tags, new.owner, new.visibility) == (
        "mine", ("c",), "p9", Visibility.PUBLIC,
    )  # fmt: skip
    assert dict(new.properties) == {"a": "1", "b": "2"}


async def test_a_property_that_the_caller_may_not_read_is_not_cloned(clones: Clones) -> None:
    clones.policy = Policy(protections=Protections(HIDES_SECRETS))
    await clones.world.catalog.change_image(
        clones.source, ImageChange(put={"secret": "1", "open": "1"})
    )
    await clones.asked()
    assert dict((await clones.done()).properties) == {"open": "1"}


# who died


async def test_a_holder_that_died_before_it_began_is_followed_by_one_that_begins(
    clones: Clones,
) -> None:
    await clones.asked()
    await clones.world.take(dead=True)
    assert (await clones.done()).size == len(BODY)


async def test_a_holder_that_died_with_its_image_made_is_followed_by_one_that_fills_it(
    clones: Clones,
) -> None:
    await clones.asked()
    image_id = await clones.named(await clones.world.take(dead=True))
    assert (await clones.done()).id == image_id


async def test_a_holder_that_died_while_it_cloned_leaves_no_image(
    clones: Clones, dead: SqlCatalog
) -> None:
    await clones.asked()
    task = await clones.world.take(dead=True)
    image_id = await clones.named(task)
    upload = Upload(id=task.attempt, image_id=image_id, store=clones.world.store.id,
                    key=f"{image_id}/{task.attempt}")  # fmt: skip
    await dead.start_upload(upload, lease=-1)
    performing = asyncio.ensure_future(clones.perform(await clones.world.take()))
    await clones.world.reaping().reap()
    await clones.failed(await performing, DIED)


async def test_what_a_dead_holder_published_is_a_success_whatever_became_of_the_source(
    clones: Clones,
) -> None:
    await clones.asked()
    task = await clones.world.take(dead=True)
    image_id = await clones.named(task)
    await clones.world.uploads().upload(
        ADMIN, image_id, Bytes(BODY), filling.Expected(), attempt=task.attempt
    )
    await clones.deactivate()
    assert (await clones.done()).id == image_id


async def stopped(clones: Clones) -> None:
    """A server stops in the middle of the clone."""
    performing = asyncio.ensure_future(clones.perform(await clones.world.take()))
    await sending(clones)
    performing.cancel()
    await asyncio.wait({performing})
    clones.world.store.before.clear()


async def sending(clones: Clones) -> None:
    """Until the clone's bytes are sent or copied, which hangs from then on."""
    begun = asyncio.Event()

    async def hang(*_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    clones.world.store.before |= {"put": hang, "put_part": hang, "copy_part": hang}
    async with asyncio.timeout(20):
        await begun.wait()


async def test_a_server_that_stops_hands_its_clone_to_the_next(clones: Clones) -> None:
    await clones.asked()
    await stopped(clones)
    assert (await clones.done()).size == len(BODY)
    assert len(await objects(clones.world.store)) == 2


# sources that may be read no more


async def test_a_source_that_is_deactivated_before_is_not_cloned(clones: Clones) -> None:
    await clones.asked()
    await clones.deactivate()
    await clones.failed(await clones.perform(await clones.world.take()), DEACTIVATED)


async def test_a_source_that_is_deactivated_before_another_takes_it_up_is_not_cloned(
    clones: Clones,
) -> None:
    await clones.asked()
    await stopped(clones)
    await clones.deactivate()
    await clones.failed(await clones.perform(await clones.world.take()), DEACTIVATED)


async def test_a_source_that_is_deactivated_meanwhile_is_read_no_further(clones: Clones) -> None:
    await clones.asked()
    performing = asyncio.ensure_future(clones.perform(await clones.world.take()))
    await sending(clones)
    await clones.deactivate()
    assert await clones.watch.look() == 1
    assert (await performing).status is TaskStatus.PROCESSING  # put back, to see how it stands
    clones.world.store.before.clear()
    await clones.failed(await clones.perform(await clones.world.take()), DEACTIVATED)


async def test_a_source_that_is_deleted_before_is_not_cloned(clones: Clones) -> None:
    await clones.asked()
    removals = await clones.world.catalog.delete_image(clones.source)
    await clones.world.removals.carry_out(removals)
    ended = await clones.perform(await clones.world.take())
    assert (ended.status, clones.source in ended.message) == (TaskStatus.FAILURE, True)
    with pytest.raises(NotFound):
        await clones.world.image(ended.image_id or "")
    assert await objects(clones.world.store) == {}


# sources that fail


async def test_stored_bytes_that_changed_make_no_image(clones: Clones) -> None:
    other = await clones.world.queued()
    await clones.world.upload(other, Bytes(BODY[::-1]))
    keys = {key.split("/")[0]: key for key in await objects(clones.world.store)}
    objects_of = clones.inner._objects
    objects_of[keys[clones.source]] = objects_of[keys[other]]
    await clones.asked()
    ended = await clones.perform(await clones.world.take())
    assert (ended.status, "digest" in ended.message) == (TaskStatus.FAILURE, True)
    assert len(await objects(clones.world.store)) == 2


async def placed(clones: Clones, *, first: bool) -> None:
    """The source has a location that is not ours as well, in the second store."""
    await clones.second.put("there", Part(1, 0, len(BODY), [memoryview(BODY)], crc64nvme(BODY)))
    change = AddLocation(
        location=Location("second", "there", own=False), position=0 if first else None
    )
    await clones.world.catalog.change_image(clones.source, ImageChange(locations=[change]))


async def test_of_several_locations_one_of_ours_is_read(clones: Clones) -> None:
    await placed(clones, first=True)
    await clones.asked()
    assert (await clones.done()).size == len(BODY)
    assert clones.second.read_ranges == []


async def test_a_location_that_cannot_be_opened_is_followed_by_the_next(clones: Clones) -> None:
    await placed(clones, first=False)
    for call in ("look", "read"):
        clones.world.store.fail(call, StoreDown("memory", "it is not reachable"))
    await clones.asked()
    assert (await clones.done()).size == len(BODY)
    assert len(clones.second.read_ranges) == 1


async def test_a_source_that_cannot_be_opened_anywhere_leaves_no_image(clones: Clones) -> None:
    for call in ("look", "read"):
        clones.world.store.fail(call, StoreDown("memory", "it is not reachable"))
    await clones.asked()
    ended = await clones.perform(await clones.world.take())
    clones.world.store.before.clear()
    await clones.failed(ended, "The source is not reachable.")


# copied by the store, and when not


def is_sent(clones: Clones) -> bool:
    """Whether the bytes of the source were read."""
    return bool(clones.world.store.read_ranges)


async def test_bytes_that_the_store_copies_are_not_read(copies: Clones) -> None:
    await copies.asked()
    new, source = await copies.done(), await copies.world.image(copies.source)
    assert not is_sent(copies)
    for name in ("virtual_size", "crc64nvme", "checksum", "hash_algo", "hash_value", "size"):
        assert getattr(new, name) == getattr(source, name) is not None, name
    (upload,) = await copies.world.catalog.uploads_of(new.id)
    assert (upload.received, upload.upload_id is not None) == (len(BODY), True)


async def test_a_clone_of_a_clone_is_copied_too(copies: Clones) -> None:
    await copies.asked()
    copies.source = (await copies.done()).id
    await copies.asked()
    new = await copies.done()
    assert not is_sent(copies)
    assert await read_all(copies.world.store, new.locations[0].key) == BODY


@pytest.mark.parametrize("image_format", ["disk_format", "container_format"])
async def test_a_clone_of_another_format_is_looked_into(copies: Clones, image_format: str) -> None:
    copies.settings = {"check_format": False}
    await copies.asked(**{image_format: "ami"})
    await copies.done()
    assert is_sent(copies)


@pytest.mark.parametrize("forgotten", ["virtual_size", "crc64nvme", "checksum", "hash_value"])
async def test_what_is_not_known_of_the_source_is_measured(copies: Clones, forgotten: str) -> None:
    await copies.world.catalog.change_image(copies.source, ImageChange(fields={forgotten: None}))
    await copies.asked()
    assert getattr(await copies.done(), forgotten) is not None
    assert is_sent(copies)


async def test_digests_that_the_settings_ask_for_by_now_are_computed(copies: Clones) -> None:
    copies.settings = {"digests": ("sha256", "md5")}
    await copies.asked()
    assert (await copies.done()).hash_algo == "sha512"  # still the strongest
    assert is_sent(copies)


async def test_a_source_that_lies_elsewhere_is_sent(copies: Clones) -> None:
    await placed(copies, first=True)
    for location in (await copies.world.image(copies.source)).locations:
        if location.own:
            key = location.key
    await copies.world.catalog.change_image(
        copies.source, ImageChange(locations=[RemoveLocation(index=1)])
    )
    await copies.world.store.delete(key)
    await copies.asked()
    await copies.done()
    assert len(copies.second.read_ranges) == 1


async def test_a_store_that_says_that_it_does_not_copy_has_the_bytes_sent(copies: Clones) -> None:
    copies.world.store.fail("copy_part", NotCopied("memory", "it does not copy"))
    await copies.asked()
    ended = await copies.perform(await copies.world.take())
    assert ended.status is TaskStatus.PROCESSING  # put back
    queued = await copies.world.image(ended.image_id or "")
    assert queued.status is Status.QUEUED
    assert (await copies.world.failure(queued.id)).reason == "not_copied"
    assert await unfinished(copies.world.store) == []
    new = await copies.done()
    assert is_sent(copies)
    assert await read_all(copies.world.store, new.locations[0].key) == BODY


async def test_an_image_that_got_another_format_meanwhile_is_looked_into(copies: Clones) -> None:
    change = copies.world.catalog.start_upload

    async def changed(upload: Upload, **given: Any) -> Image:
        fields = {"container_format": "ovf"}
        await copies.world.catalog.change_image(upload.image_id, ImageChange(fields=fields))
        return await change(upload, **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies.world.catalog, "start_upload", changed)
        await copies.asked()
        ended = await copies.perform(await copies.world.take())
    assert (await copies.world.failure(ended.image_id or "")).reason == "not_copied"
    assert (await copies.done()).container_format == "ovf"
    assert is_sent(copies)


async def test_a_source_that_is_deleted_meanwhile_leaves_no_image(copies: Clones) -> None:
    async def delete(*_: object) -> None:
        removals = await copies.world.catalog.delete_image(copies.source)
        await copies.world.removals.carry_out(removals)

    copies.world.store.before["copy_part"] = delete
    await copies.asked()
    ended = await copies.perform(await copies.world.take())
    assert (ended.status, ended.message) == (
        TaskStatus.FAILURE, "The source changed while it was read.",
    )  # fmt: skip
    with pytest.raises(NotFound):
        await copies.world.image(ended.image_id or "")
    assert await objects(copies.world.store) == {}
    assert await unfinished(copies.world.store) == []


async def test_a_copy_of_other_bytes_is_not_published(copies: Clones) -> None:
    (key,) = copies.inner._objects
    data, stored = copies.inner._objects[key]

    async def damage(*_: object) -> None:
        copies.inner._objects[key] = data[::-1], stored

    async def mend(*_: object) -> None:
        copies.inner._objects[key] = data, stored

    copies.world.store.before["copy_part"], copies.world.store.after["copy_part"] = damage, mend
    await copies.asked()
    ended = await copies.perform(await copies.world.take())
    await copies.failed(ended, "the copy is not what was uploaded")


# who may, and what is said at once


async def refused(clones: Clones, kind: type[TidegateError], **asked: Any) -> str:
    with pytest.raises(kind) as error:
        await clones.asked(**asked)
    assert await clones.world.catalog.take_tasks("node", tuple(TaskType), lease=1, limit=1) == []
    return error.value.message


async def owned(clones: Clones, **fields: object) -> None:
    await clones.world.catalog.change_image(clones.source, ImageChange(fields=fields))


async def test_who_may_clone(clones: Clones) -> None:
    await owned(clones, owner="p2", visibility=Visibility.PRIVATE)
    await refused(clones, NotFound, caller=MEMBER)
    await owned(clones, visibility=Visibility.COMMUNITY)
    await refused(clones, Forbidden, caller=MEMBER, visibility="public")
    await refused(clones, Forbidden, caller=MEMBER, owner="p9")
    reader = Caller(project="p1", roles=frozenset({"reader"}))
    assert "download_image" in await refused(clones, Forbidden, caller=reader)
    await clones.asked(MEMBER)
    assert (await clones.done()).owner == "p1"


async def test_an_image_that_is_shared_with_the_caller_is_cloned(clones: Clones) -> None:
    await owned(clones, owner="p2")
    await refused(clones, NotFound, caller=MEMBER)
    await clones.world.catalog.put_member(clones.source, "p1")
    await clones.asked(MEMBER)
    assert (await clones.done()).owner == "p1"


async def test_a_clone_is_done_with_the_rights_that_its_caller_has_by_then(clones: Clones) -> None:
    await owned(clones, owner="p2", visibility=Visibility.COMMUNITY)
    await clones.asked(MEMBER)
    await owned(clones, visibility=Visibility.PRIVATE)
    ended = await clones.perform(await clones.world.take())
    await clones.failed(ended, f"No image found with ID {clones.source}")


async def test_what_cannot_be_cloned_is_refused_at_once(clones: Clones) -> None:
    await refused(clones, TooLarge, a="1", b="1", c="1", d="1")
    await clones.deactivate()
    assert await refused(clones, Forbidden) == DEACTIVATED  # an administrator
    clones.source = await clones.world.queued()
    await refused(clones, Conflict)
    clones.source = str(uuid4())
    await refused(clones, NotFound)


async def test_an_image_that_is_active_without_data_is_not_cloned(clones: Clones) -> None:
    empty = Image(id=str(uuid4()), status=Status.ACTIVE, size=0)
    clones.source = (await clones.world.catalog.create_image(empty)).id
    await refused(clones, Conflict)
