"""``tidegate fsck``: catalog and store damaged in every way; found, repaired, and then clean."""

import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from tests.kit.command import run
from tests.kit.server import configure
from tests.kit.sources import pattern
from tests.kit.stores import objects, part_of, read_all, unfinished
from tests.stores.test_contract import s3_settings

from tidegate.catalog.base import ImageQuery, Viewer
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import CatalogDown, Forbidden
from tidegate.domain.image import Image, Location
from tidegate.domain.status import Event, Status
from tidegate.domain.task import Task, TaskType
from tidegate.domain.upload import Failure, Purpose, Sent, Upload
from tidegate.foundation import open_store, workbench
from tidegate.seaweedfs import SeaweedFS
from tidegate.services.checking import Finding
from tidegate.settings import Fetch, FilesystemStore, Settings
from tidegate.stores.base import Store
from tidegate.stores.fetch import Fetcher

ADMIN = Viewer(admin=True)
DATA = pattern(1000)
BROKEN = Failure("store", "part 1", "It broke.")


@dataclass
class Place:
    """A catalog and a store on which no gateway runs, and the ways to damage them."""

    settings: Settings
    catalog: SqlCatalog
    store: Store
    database: Path

    def sql(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute(statement, values)

    async def check(
        self, *, repair: bool = False, grace: float = 0, remove_unknown: bool = False
    ) -> list[Finding]:
        async with workbench(self.settings) as bench:
            checking = bench.checking(grace=grace, remove_unknown=remove_unknown)
            return [finding async for finding in checking.check(repair=repair)]

    async def claimed(self, purpose: Purpose = Purpose.FILL, *, lease: float = 3600) -> Upload:
        """An attempt that has just begun."""
        image = Image(id=str(uuid4()), disk_format="raw", container_format="bare")
        await self.catalog.create_image(image)
        attempt = uuid4().hex
        upload = Upload(
            id=attempt,
            image_id=image.id,
            store=self.store.id,
            key=f"{image.id}/{attempt}",
            purpose=purpose,
        )
        await self.catalog.start_upload(upload, lease=lease)
        return upload

    async def active(self) -> Image:
        return await self._filled(await self.claimed())

    async def staged(self) -> Upload:
        upload = await self.claimed(Purpose.STAGE)
        await self._filled(upload)
        return upload

    async def _filled(self, upload: Upload) -> Image:
        await self.store.put(upload.key, part_of(DATA))
        sent = Sent(len(DATA), {"md5": "0" * 32}, part_of(DATA).crc64nvme)
        await self.catalog.upload_completing(upload.id, sent)
        return await self.catalog.publish_upload(upload.id, sent)

    async def overwrite(self, key: str, data: bytes) -> None:
        await self.store.delete(key)
        await self.store.put(key, part_of(data))

    async def image(self, image_id: str) -> Image:
        return await self.catalog.get_image(image_id, ADMIN)


@pytest.fixture(params=["filesystem", "seaweedfs"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    database = tmp_path / "tidegate.db"
    if request.param == "filesystem":
        one: object = FilesystemStore(id="main", path=tmp_path / "images")
    else:
        server: SeaweedFS = request.getfixturevalue("seaweedfs")
        one = s3_settings(server.endpoint, server.access_key, server.secret_key)
    settings = Settings.model_validate(
        {"catalog": {"url": f"sqlite:///{database}"}, "stores": [one]}
    )
    catalog = SqlCatalog(settings.catalog.url)
    await catalog.open()
    store = open_store(settings.stores[0], Fetcher(Fetch(), timeout=5))
    await store.open()
    yield Place(settings, catalog, store, database)
    await store.close()
    await catalog.close()


def key_of(image: Image) -> str:
    (location,) = image.locations
    return location.key


# the damages: what is to be found


async def orphan(place: Place) -> list[str]:
    image = await place.active()
    await place.catalog.delete_image(image.id)
    place.sql("DELETE FROM removals WHERE key = ?", key_of(image))
    return ["orphan"]


async def orphan_of_a_purged_image(place: Place) -> list[str]:
    image = await place.active()
    for removal in await place.catalog.delete_image(image.id):
        await place.catalog.removal_done(removal.id)
    assert await place.catalog.purge(after=0) >= 1
    return ["orphan"]


async def missing(place: Place) -> list[str]:
    await place.store.delete(key_of(await place.active()))
    return ["missing"]


async def missing_of_a_deactivated_image(place: Place) -> list[str]:
    image = await place.active()
    await place.catalog.advance(image.id, Event.DEACTIVATE)
    await place.store.delete(key_of(image))
    return ["missing"]


async def short(place: Place) -> list[str]:
    await place.overwrite(key_of(await place.active()), DATA[:-1])
    return ["size"]


async def other_bytes(place: Place) -> list[str]:
    await place.overwrite(key_of(await place.active()), pattern(len(DATA), seed=1))
    known = place.settings.stores[0].type == "s3"  # a folder keeps no checksums
    return ["checksum"] if known else []


async def open_upload(place: Place) -> list[str]:
    await place.store.begin(key_of(await place.active()))
    return ["upload"]


async def abandoned(place: Place) -> list[str]:
    upload = await place.claimed()
    writing = await place.store.begin(upload.key)
    await place.catalog.upload_began(upload.id, writing.upload_id)
    place.sql("UPDATE uploads SET lease_until = -100000 WHERE id = ?", upload.id)
    place.catalog.let_go(upload.id)
    return ["lease"]


async def saving(place: Place) -> list[str]:
    upload = await place.claimed()
    place.sql("DELETE FROM uploads WHERE id = ?", upload.id)
    return ["saving"]


async def uploading(place: Place) -> list[str]:
    upload = await place.claimed(Purpose.STAGE)
    place.sql("DELETE FROM uploads WHERE id = ?", upload.id)
    return ["uploading"]


async def importing(place: Place) -> list[str]:
    upload = await place.staged()
    place.sql("UPDATE images SET status = 'importing' WHERE id = ?", upload.image_id)
    return ["importing"]


async def staged_for_nobody(place: Place) -> list[str]:
    upload = await place.staged()
    place.sql("UPDATE images SET status = 'killed' WHERE id = ?", upload.image_id)
    return ["staged"]


async def stuck_removal(place: Place) -> list[str]:
    (removal,) = await place.catalog.delete_image((await place.active()).id)
    for _ in range(6):
        await place.catalog.removal_failed(removal.id, "refused", retry_in=3600)
    return ["removal"]


async def removal_of_what_is_needed(place: Place) -> list[str]:
    image = await place.active()
    place.sql(
        "INSERT INTO removals (store, key, attempts, created_at, lease_clock, lease_until) "
        "SELECT store, key, 0, 9e18, lease_clock, 1e12 FROM uploads WHERE image_id = ?", image.id,
    )  # fmt: skip
    return ["needed"]


async def rows_of_no_image(place: Place) -> list[str]:
    image_id = str(uuid4())
    place.sql(
        "INSERT INTO image_locations (image_id, position, store, key, own, metadata) "
        "VALUES (?, 0, 'main', ?, 1, '{}')", image_id, f"{image_id}/{uuid4().hex}",
    )  # fmt: skip
    place.sql("INSERT INTO image_tags (image_id, tag) VALUES (?, 'x')", image_id)
    return ["rows", "rows"]


async def stale_copy(place: Place) -> list[str]:
    place.sql("UPDATE images SET tags = '[\"x\"]' WHERE id = ?", (await place.active()).id)
    return ["copies"]


async def forgotten_deletion(place: Place) -> list[str]:
    image = await place.active()
    await place.catalog.delete_image(image.id, delayed=True)
    place.sql("DELETE FROM deletions WHERE image_id = ?", image.id)
    return ["deletion"]


Damage = Callable[[Place], Awaitable[list[str]]]

DAMAGES: list[Damage] = [
    orphan, orphan_of_a_purged_image, missing, missing_of_a_deactivated_image, short, other_bytes,
    open_upload, abandoned, saving, uploading, importing, staged_for_nobody, stuck_removal,
    removal_of_what_is_needed, rows_of_no_image, stale_copy, forgotten_deletion,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damage_is_found_repaired_and_gone(place: Place, damage: Damage) -> None:
    kept = await place.active()
    assert await place.check() == []
    expected = await damage(place)
    found = await place.check()
    assert [finding.what for finding in found] == expected
    assert [finding.done for finding in found] == [""] * len(expected)
    assert [finding.what for finding in await place.check()] == expected  # nothing was changed
    repaired = await place.check(repair=True)
    assert [finding.what for finding in repaired] == expected
    assert all(finding.done for finding in repaired)
    assert await place.check() == []
    assert await place.check(repair=True) == []
    assert await read_all(place.store, key_of(kept)) == DATA
    assert (await place.image(kept.id)) == kept


async def test_all_damages_at_once(place: Place) -> None:
    expected = [what for damage in DAMAGES for what in await damage(place)]
    assert sorted(finding.what for finding in await place.check()) == sorted(expected)
    assert all(finding.done for finding in await place.check(repair=True))
    assert await place.check() == []
    assert await unfinished(place.store) == []
    for image in await place.catalog.list_images(ImageQuery(viewer=ADMIN, limit=100)):
        if image.status is Status.ACTIVE:
            assert len(await read_all(place.store, key_of(image))) == len(DATA)


async def test_no_byte_that_an_image_needs_is_ever_to_go(place: Place) -> None:
    """Whatever else is damaged, and even of a catalog that never knew half of the store."""
    active, deactivated, waiting = [await place.active() for _ in range(3)]
    await place.catalog.deactivate(deactivated.id, by_admin=False)
    await place.catalog.delete_image(waiting.id, delayed=True)
    shared = await place.active()
    sharing = Image(
        id=str(uuid4()), status=Status.ACTIVE, size=len(DATA),
        locations=(Location("main", key_of(shared)),),
    )  # fmt: skip
    await place.catalog.create_image(sharing)
    await place.catalog.delete_image(shared.id)
    uploading = await place.claimed()
    await place.store.put(uploading.key, part_of(DATA))
    # an image whose attempts are not known any more, as after a damage of that table
    forgotten = await place.active()
    place.sql("DELETE FROM uploads WHERE image_id = ?", forgotten.id)
    needed = {key_of(one) for one in (active, deactivated, waiting, shared, forgotten)}
    needed.add(uploading.key)
    for damage in DAMAGES:
        await damage(place)
    for repair in (False, True, True):
        for finding in await place.check(repair=repair, remove_unknown=True):
            assert finding.subject not in needed, finding
        found = await objects(place.store)
        assert {key: found.get(key) for key in needed} == dict.fromkeys(needed, len(DATA))
    assert await place.check(repair=True, remove_unknown=True) == []
    for image in (active, deactivated, sharing, forgotten):
        assert await read_all(place.store, key_of(image)) == DATA


# what is done about it


async def test_an_image_without_its_object_is_deactivated_and_says_why(place: Place) -> None:
    image = await place.active()
    await place.store.delete(key_of(image))
    (finding,) = await place.check(repair=True)
    assert finding.done == "image deactivated"
    after = await place.image(image.id)
    assert after.status is Status.DEACTIVATED
    assert after.properties == {}
    failure = (await place.catalog.uploads_of(image.id))[-1].failure
    assert failure is not None
    assert (failure.reason, failure.where) == ("wrong_bytes", "fsck")
    assert "its object is not there" in failure.message
    with pytest.raises(Forbidden):
        await place.catalog.reactivate(image.id, by_admin=False)
    # an administrator who says that it is well, is told again if it is not
    await place.catalog.advance(image.id, Event.REACTIVATE)
    assert [finding.what for finding in await place.check()] == ["missing"]


async def test_of_two_locations_the_lost_one_is_dropped(place: Place) -> None:
    image = await place.active()
    copy = f"{image.id}/{uuid4().hex}"
    await place.store.put(copy, part_of(DATA))
    place.sql(
        "INSERT INTO image_locations (image_id, position, store, key, own, metadata) "
        "VALUES (?, 1, 'main', ?, 1, '{}')", image.id, copy,
    )  # fmt: skip
    await place.overwrite(key_of(image), DATA[:5])
    found = await place.check(repair=True)
    assert [finding.done for finding in found] == ["mended", "location dropped"]
    after = await place.image(image.id)
    assert after.status is Status.ACTIVE
    assert [location.key for location in after.locations] == [copy]
    assert await objects(place.store) == {copy: len(DATA)}


async def test_what_the_catalog_never_wrote_down_is_left_unless_told(place: Place) -> None:
    image = await place.active()
    stray = [f"{uuid4()}/{uuid4().hex}", f"{image.id}/{uuid4().hex}"]
    for key in stray:
        await place.store.put(key, part_of(b"x"))
    await place.store.begin(f"{uuid4()}/{uuid4().hex}")
    for repair in (False, True):
        found = await place.check(repair=repair)
        assert sorted(finding.what for finding in found) == ["unknown", "unknown", "upload"]
        assert [finding.done for finding in found] == [""] * 3
    found = await place.check(repair=True, remove_unknown=True)
    assert sorted(finding.done for finding in found) == ["aborted", "removed", "removed"]
    assert await place.check() == []
    assert await objects(place.store) == {key_of(image): len(DATA)}


async def test_what_is_young_is_left_alone(place: Place) -> None:
    await orphan(place)
    await open_upload(place)
    assert await place.check(repair=True, remove_unknown=True, grace=60) == []


async def test_a_running_upload_is_left_alone_however_old(place: Place) -> None:
    writing_to, completing = await place.claimed(), await place.claimed()
    writing = await place.store.begin(writing_to.key)
    await place.catalog.upload_began(writing_to.id, writing.upload_id)
    await place.store.put(completing.key, part_of(DATA))
    assert await place.check(repair=True, remove_unknown=True) == []
    assert await objects(place.store) == {completing.key: len(DATA)}
    assert await unfinished(place.store) == [(writing_to.key, writing.upload_id)]


async def test_while_an_attempt_is_open_its_object_is_its_holders(place: Place) -> None:
    upload = await place.claimed()
    await place.store.put(upload.key, part_of(DATA))
    await place.catalog.delete_image(upload.image_id)
    assert await place.check(repair=True, remove_unknown=True) == []
    assert await objects(place.store) == {upload.key: len(DATA)}


@pytest.mark.parametrize("begun", [False, True])
async def test_objects_of_an_import_are_its_own(place: Place, begun: bool) -> None:
    staged = await place.staged()
    if begun:
        stores = [place.store.id]
        task = Task(id=str(uuid4()), type=TaskType.API_IMAGE_IMPORT, image_id=staged.image_id,
                    input={"import_req": {}, "backend": stores})  # fmt: skip
        await place.catalog.ask_for_import(task, Status.UPLOADING)
        (held,) = await place.catalog.take_tasks("node", tuple(TaskType), lease=60, limit=1)
        await place.catalog.begin_import(held, Status.UPLOADING, stores)
    key = f"{staged.image_id}/{uuid4().hex}"
    await place.store.put(key, part_of(DATA))
    await place.store.begin(key)
    assert await place.check(repair=True, remove_unknown=True) == []
    assert await objects(place.store) == {key: len(DATA), staged.key: len(DATA)}


async def test_an_object_that_waits_for_its_removal_is_needed_no_less(place: Place) -> None:
    later = await place.active()
    await place.catalog.delete_image(later.id, delayed=True)
    assert await place.check(repair=True, remove_unknown=True) == []
    assert await read_all(place.store, key_of(later)) == DATA


async def test_bytes_that_another_image_uses_are_no_orphan(place: Place) -> None:
    image = await place.active()
    sharing = Image(
        id=str(uuid4()), status=Status.ACTIVE, size=len(DATA),
        locations=(Location("main", key_of(image)),),
    )  # fmt: skip
    await place.catalog.create_image(sharing)
    await place.catalog.delete_image(image.id)
    assert await place.check(repair=True, remove_unknown=True) == []
    assert await read_all(place.store, key_of(image)) == DATA


async def test_a_store_under_a_new_name_loses_nothing(place: Place) -> None:
    image, killed = await place.active(), await place.claimed()
    await place.store.put(killed.key, part_of(DATA))
    await place.catalog.fail_upload(killed.id, BROKEN, Event.BREAK, leftovers=[])
    before = await objects(place.store)
    for table in ("image_locations", "uploads"):
        place.sql(f"UPDATE {table} SET store = 'as it was called before'")
    found = await place.check(repair=True)
    assert sorted(finding.what for finding in found) == ["copies", "store", "unknown"]
    assert await objects(place.store) == before
    await place.check(repair=True, remove_unknown=True)
    assert await objects(place.store) == {key_of(image): len(DATA)}


async def test_what_is_not_ours_is_not_seen(place: Place) -> None:
    if place.settings.stores[0].type == "s3":
        await place.store.put("somebody/elses", part_of(b"x"))
        await place.store.begin("somebody/elses too")
    else:
        folder = place.database.parent / "images"
        (folder / "notes.txt").write_text("x", encoding="utf-8")
        (folder / ".unfinished" / "notes.txt").write_text("x", encoding="utf-8")
    assert await place.check(repair=True, remove_unknown=True) == []


async def test_a_store_that_is_configured_no_more_is_told(place: Place) -> None:
    await place.active()
    place.sql("UPDATE image_locations SET store = 'gone'")
    place.sql("UPDATE images SET locations = replace(locations, 'main', 'gone')")
    found = await place.check(repair=True)
    assert [(one.what, one.done) for one in found if one.store == "gone"] == [("store", "")]


async def test_where_there_is_no_catalog_none_is_made(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {"catalog": {"url": f"sqlite:///{tmp_path / 'none.db'}"},
         "stores": [{"type": "filesystem", "path": str(tmp_path / "images")}]}
    )  # fmt: skip
    with pytest.raises(CatalogDown):
        async with workbench(settings):
            pass
    assert list(tmp_path.iterdir()) == []


# the command


async def test_the_command_says_what_it_found_and_did(tmp_path: Path) -> None:
    config = configure(tmp_path, [{"id": "main", "type": "filesystem", "path": "images"}])
    database = tmp_path / "tidegate.db"
    store = open_store(
        FilesystemStore(id="main", path=tmp_path / "images"), Fetcher(Fetch(), timeout=5)
    )
    await store.open()
    catalog = SqlCatalog(f"sqlite:///{database}")
    await catalog.open()
    place = Place(Settings(), catalog, store, database)
    command = ["fsck", "--config", str(config), "--grace", "0s"]
    clean = run(*command, folder=tmp_path)
    assert (clean.code, clean.out) == (0, b"0 found, 0 repaired, 0 left.\n")
    image = await place.active()
    await store.delete(key_of(image))
    dry = run(*command, "--json", folder=tmp_path)
    assert dry.code == 1
    assert json.loads(dry.out) == {
        "findings": [
            {"what": "missing", "store": "main", "subject": key_of(image), "done": "",
             "detail": f"image {image.id}: its object is not there"}
        ],
        "found": 1,
        "left": 1,
    }  # fmt: skip
    repaired = run(*command, "--repair", folder=tmp_path)
    assert repaired.code == 0
    assert b"1 found, 1 repaired, 0 left." in repaired.out
    again = run(*command, "--json", folder=tmp_path)
    assert (again.code, json.loads(again.out)) == (0, {"findings": [], "found": 0, "left": 0})
    wrong = run("fsck", "--grace", "soon", folder=tmp_path)
    assert wrong.code == 2
    await catalog.close()
    await store.close()


async def test_what_the_command_writes_for_machines_is_nothing_but_json(tmp_path: Path) -> None:
    config = configure(tmp_path, [{"id": "main", "type": "filesystem", "path": "images"}])
    database = tmp_path / "tidegate.db"
    store = open_store(
        FilesystemStore(id="main", path=tmp_path / "images"), Fetcher(Fetch(), timeout=5)
    )
    await store.open()
    catalog = SqlCatalog(f"sqlite:///{database}")
    await catalog.open()
    place = Place(Settings(), catalog, store, database)
    for damage in (orphan, missing, abandoned, stuck_removal):
        await damage(place)
    place.sql("UPDATE image_locations SET store = '[red]odd[/]' WHERE id = 2")
    place.sql("UPDATE images SET locations = replace(locations, 'main', '[red]odd[/]')")
    command = ["fsck", "--config", str(config), "--grace", "0s"]
    words = run(*command, folder=tmp_path)
    assert b"[red]odd[/]" in words.out.replace(b"\n", b"")
    repaired = json.loads(run(*command, "--repair", "--json", folder=tmp_path).out)
    assert {finding["what"] for finding in repaired["findings"]} >= {"orphan", "lease", "removal"}
    useless = run(*command, "--remove-unknown", folder=tmp_path)
    assert (useless.code, "--repair" in useless.err) == (2, True)
    await catalog.close()
    await store.close()
