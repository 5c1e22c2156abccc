"""The database itself: its schema, its plans, its failures."""

import asyncio
import multiprocessing
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, select, text
from sqlalchemy.dialects import sqlite

from tidegate.api.v2.listing import SORT_KEYS
from tidegate.catalog.base import Condition, ImageQuery, Viewer
from tidegate.catalog.engine import Database, is_current
from tidegate.catalog.query import image_page
from tidegate.catalog.sql import ONE_IMAGE, SqlCatalog
from tidegate.catalog.tables import metadata
from tidegate.catalog.upgrade import upgrade
from tidegate.domain.errors import CatalogDown
from tidegate.domain.image import Image


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


# indexes of expressions are compared by the next test
@pytest.mark.filterwarnings("ignore:.*expression-based index")
def test_the_migrations_make_the_schema(url: str) -> None:
    upgrade(url)
    engine = create_engine(url)
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()
    assert found == []


def test_the_migrations_make_the_indexes_of_orders(url: str, path: Path, tmp_path: Path) -> None:
    upgrade(url)
    engine = create_engine(f"sqlite:///{tmp_path / 'tables.db'}")
    metadata.create_all(engine)
    engine.dispose()
    assert _orders(path) == _orders(tmp_path / "tables.db") != {}


def _orders(path: Path) -> dict[str, str]:
    connection = sqlite3.connect(path)
    found = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE name LIKE 'ix_images_by_%'"
    ).fetchall()
    connection.close()
    return dict(found)


def test_an_upgrade_of_what_is_up_to_date_changes_nothing(url: str, path: Path) -> None:
    upgrade(url)
    before = _schema(path)
    upgrade(url)
    assert _schema(path) == before


def test_a_catalog_is_current_when_it_has_every_migration(url: str) -> None:
    assert not is_current(url)
    upgrade(url, "0001")
    assert not is_current(url)
    upgrade(url)
    assert is_current(url)


def test_images_of_the_first_schema_are_brought_into_one_row(url: str, path: Path) -> None:
    upgrade(url, "0001")
    connection = sqlite3.connect(path)
    for image in ("full", "plain"):
        connection.execute(
            "INSERT INTO images (id, status, visibility, protected, hidden, min_disk, min_ram, "
            "was_active, created_at, updated_at) "
            "VALUES (?, 'active', 'shared', 0, 0, 0, 0, 1, 1, 1)",
            [image],
        )
    connection.execute("INSERT INTO image_properties VALUES ('full', 'os', 'debian')")
    connection.execute("INSERT INTO image_tags VALUES ('full', 'stable')")
    for position, key in ((1, "second"), (0, "first")):
        connection.execute(
            "INSERT INTO image_locations (image_id, position, store, key, own, metadata) "
            "VALUES ('full', ?, 'main', ?, 1, '{}')",
            [position, key],
        )
    connection.commit()
    upgrade(url)
    rows = {
        row[0]: row[1:]
        for row in connection.execute("SELECT id, properties, tags, locations FROM images")
    }
    connection.close()
    assert rows == {
        "full": (
            '{"os":"debian"}',
            '["stable"]',
            '[["main","first",1,"{}"],["main","second",1,"{}"]]',
        ),
        "plain": (None, None, None),
    }


def test_of_an_older_catalog_nobody_knows_which_registered_data_was_read(
    url: str, path: Path
) -> None:
    upgrade(url, "0013")
    connection = sqlite3.connect(path)
    connection.execute(
        "INSERT INTO images (id, status, visibility, protected, hidden, min_disk, min_ram, "
        "was_active, created_at, updated_at) "
        "VALUES ('image', 'active', 'shared', 0, 0, 0, 0, 1, 1, 1)"
    )
    places = [("main", "uploaded", 1), ("main", "adopted", 0), ("http", "https://host/x", 0)]
    for position, (store, key, own) in enumerate(places):
        connection.execute(
            "INSERT INTO image_locations (image_id, position, store, key, own, metadata) "
            "VALUES ('image', ?, ?, ?, ?, '{}')",
            [position, store, key, own],
        )
    connection.commit()
    upgrade(url)
    marked = connection.execute("SELECT key FROM image_locations WHERE unverified").fetchall()
    connection.close()
    assert marked == [("https://host/x",)]


def test_processes_may_upgrade_at_once(url: str, path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=upgrade, args=(url,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert "images" in _schema(path)


def _schema(path: Path) -> dict[str, str]:
    connection = sqlite3.connect(path)
    found = dict(connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name"))
    connection.close()
    return found


def plan(path: Path, query: ImageQuery, marker: Image | None = None) -> str:
    """How SQLite would find a page."""
    statement = image_page(query, marker).compile(
        dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}
    )
    return explain(path, str(statement), ())


def explain(path: Path, sql: str, values: object) -> str:
    connection = sqlite3.connect(path)
    rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
    connection.close()
    return "\n".join(row[3] for row in rows)


MARKER = Image(id="00000000-0000-0000-0000-000000000000", name="n", created_at=1)


@pytest.mark.parametrize("marker", [None, MARKER])
def test_a_page_of_the_list_walks_an_index(url: str, path: Path, marker: Image | None) -> None:
    upgrade(url)
    found = plan(path, ImageQuery(viewer=Viewer(project="p", admin=True)), marker)
    assert "ix_images_created_at_id" in found
    assert "TEMP B-TREE" not in found
    assert "SCAN images\n" not in found + "\n"


@pytest.mark.parametrize("marker", [None, MARKER])
@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("key", SORT_KEYS)
def test_so_does_a_page_in_every_order(
    url: str, path: Path, key: str, descending: bool, marker: Image | None
) -> None:
    upgrade(url)
    viewer = Viewer(project="p", admin=True)
    found = plan(path, ImageQuery(viewer=viewer, sort=[(key, descending)]), marker)
    assert "TEMP B-TREE" not in found
    first = found.splitlines()[0]
    assert first.startswith("SCAN images USING INDEX" if marker is None else "SEARCH images USING")


USERS = [
    ImageQuery(viewer=Viewer(project="p"), member_status="all"),
    ImageQuery(viewer=Viewer(project="p", admin=True), member_status="all", as_user=True),
]
SINCE = (Condition(column="updated_at", op="gt", value=1),)


@pytest.mark.parametrize("conditions", [(), SINCE])
@pytest.mark.parametrize("query", USERS)
def test_a_users_list_looks_at_what_the_user_may_see_alone(
    url: str, path: Path, query: ImageQuery, conditions: tuple[Condition, ...]
) -> None:
    upgrade(url)
    found = plan(path, replace(query, conditions=conditions))
    assert "ix_images_owner_created_at_id (owner=?)" in found
    assert found.count("SEARCH images USING INDEX ix_images_visibility_created_at_id") == 1
    assert "SEARCH image_members USING INDEX ix_image_members_member_status (member=?)" in found
    assert "SEARCH images USING INDEX sqlite_autoindex_images_1 (id=?)" in found
    assert "SCAN images" not in found


@pytest.mark.parametrize("column", ["created_at", "updated_at"])
def test_what_changed_since_a_time_is_found_by_that_time(url: str, path: Path, column: str) -> None:
    upgrade(url)
    viewer = Viewer(project="p", admin=True)
    query = ImageQuery(viewer=viewer, conditions=SINCE, without=frozenset(), sort=[(column, False)])
    assert "SEARCH images USING INDEX ix_images_by_updated_at (updated_at>?)" in plan(path, query)


def test_a_list_by_name_searches_an_index(url: str, path: Path) -> None:
    upgrade(url)
    condition = Condition(column="name", op="eq", value="x")
    found = plan(path, ImageQuery(viewer=Viewer(project="p", admin=True), conditions=[condition]))
    assert "SEARCH images USING INDEX ix_images_name" in found or "ix_images_created_at" in found


@pytest.mark.parametrize("admin", [True, False])
def test_one_image_is_found_by_its_key(url: str, path: Path, admin: bool) -> None:
    upgrade(url)
    found = explain(path, ONE_IMAGE[admin], {"id": "x", "project": "p"})
    assert "SEARCH images USING INDEX sqlite_autoindex_images_1" in found
    assert "SCAN" not in found.replace("SCAN anon", "")


@pytest.mark.parametrize("writing", [False, True])
async def test_closing_lets_what_is_under_way_end(url: str, writing: bool) -> None:
    database = Database(url)
    await database.open()

    async def write() -> None:
        async with database.transaction() as connection:
            await connection.execute(text("SELECT 1"))

    using = asyncio.ensure_future(write() if writing else database.rows(select(text("1"))))
    await asyncio.sleep(0)
    await database.close()
    assert using.done()
    await using


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("nonsense", "cannot be read"),
        ("mysql://h/db", "not supported"),
        ("sqlite://", "not supported"),
        ("sqlite:////no/such/folder/c.db", "cannot be opened"),
    ],
)
async def test_a_catalog_that_cannot_be_opened_says_why(text: str, word: str) -> None:
    with pytest.raises(CatalogDown, match=word):
        await SqlCatalog(text).open()


async def test_a_damaged_file_is_refused(path: Path, url: str) -> None:
    upgrade(url)
    data = bytearray(path.read_bytes())
    data[4096:12288] = b"\xff" * 8192
    path.write_bytes(data)
    with pytest.raises(CatalogDown, match="damaged"):
        await SqlCatalog(url).open()


async def test_a_file_that_is_no_database_is_refused(path: Path, url: str) -> None:
    path.write_bytes(b"no database at all, but long enough to look like one" * 100)
    with pytest.raises(CatalogDown, match="no SQLite database"):
        await SqlCatalog(url).open()
