"""Many askers, one thread: each gets its own answer, or its own error."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tidegate.catalog.point_reads import PointReads, Row

READ = "SELECT value FROM numbers WHERE id = :id"


@pytest.fixture
def connection(tmp_path: Path) -> sqlite3.Connection:
    found = sqlite3.connect(tmp_path / "numbers.db", check_same_thread=False)
    found.execute("CREATE TABLE numbers (id INTEGER PRIMARY KEY, value INTEGER)")
    found.executemany("INSERT INTO numbers VALUES (?, ?)", [(n, n * n) for n in range(100)])
    found.commit()
    return found


@pytest.fixture
async def reads(connection: sqlite3.Connection) -> AsyncIterator[PointReads]:
    found = PointReads(connection)
    yield found
    await found.close()


async def test_each_asker_gets_its_own_row(reads: PointReads) -> None:
    rows = await asyncio.gather(*(reads.first(READ, {"id": n}, tuple) for n in range(100)))
    assert rows == [(n * n,) for n in range(100)]


async def test_what_is_not_there_is_none(reads: PointReads) -> None:
    assert await reads.first(READ, {"id": 1000}, tuple) is None


@pytest.mark.parametrize(
    ("sql", "value", "kind"),
    [
        ("SELECT nothing FROM nowhere WHERE id = :id", 1, sqlite3.Error),
        (READ, "\ud800", UnicodeEncodeError),
        (READ, object(), sqlite3.Error),
    ],
)
async def test_an_error_is_its_askers_alone(
    reads: PointReads, sql: str, value: object, kind: type[Exception]
) -> None:
    wrong, right = await asyncio.gather(
        reads.first(sql, {"id": value}, tuple),
        reads.first(READ, {"id": 3}, tuple),
        return_exceptions=True,
    )
    assert isinstance(wrong, kind)
    assert right == (9,)


async def test_the_thread_makes_the_value_and_what_it_cannot_make_is_its_askers_alone(
    reads: PointReads,
) -> None:
    def refuse(row: Row) -> None:
        raise KeyError("of no use")

    wrong, right = await asyncio.gather(
        reads.first(READ, {"id": 4}, refuse),
        reads.first(READ, {"id": 4}, lambda row: (threading.current_thread().name, row[0])),
        return_exceptions=True,
    )
    assert isinstance(wrong, KeyError)
    assert right == ("point-reads", 16)


async def test_who_no_longer_waits_disturbs_nobody(reads: PointReads) -> None:
    leaving = asyncio.ensure_future(reads.first(READ, {"id": 1}, tuple))
    staying = asyncio.ensure_future(reads.first(READ, {"id": 2}, tuple))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == (4,)


async def test_closing_answers_first_and_lets_go_of_the_connection(
    connection: sqlite3.Connection,
) -> None:
    reads = PointReads(connection)
    asking = asyncio.ensure_future(reads.first(READ, {"id": 5}, tuple))
    await asyncio.sleep(0)
    await reads.close()
    assert await asking == (25,)
    with pytest.raises(sqlite3.ProgrammingError):
        connection.execute("SELECT 1")
