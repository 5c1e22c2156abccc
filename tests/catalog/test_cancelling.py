"""A caller that is cancelled in the middle of a transaction leaves the database to the others."""

import asyncio
import sqlite3
from pathlib import Path

from sqlalchemy import insert, select, text

from tidegate.catalog import tables
from tidegate.catalog.engine import Database


async def test_a_transaction_that_is_cut_off_at_any_moment_locks_nobody_out(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'catalog.db'}")
    await database.open()
    began = [0]

    async def write() -> None:
        async with database.transaction() as connection:
            began[0] += 1
            await connection.execute(insert(tables.tombstones).values(id=str(began[0])))
            await connection.execute(select(text("1")))

    kept = []  # who was cancelled may be remembered for long, with all that it held
    for moment in range(0, 400, 2):
        writing = asyncio.ensure_future(write())
        for _ in range(moment):
            await asyncio.sleep(0)
        writing.cancel()
        kept += await asyncio.gather(writing, return_exceptions=True)
        other = sqlite3.connect(tmp_path / "catalog.db", timeout=1, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        other.close()
    assert any(isinstance(one, asyncio.CancelledError) for one in kept)
    await write()
    await database.close()
