"""One URL in, a database to run statements on out; all that differs between engines is here.

SQLite: WAL, ``synchronous=FULL``, one writing connection whose transactions begin IMMEDIATE (a
deferred one that reads and then writes fails at once when another process writes, whatever the
busy timeout), and reading connections beside it. PostgreSQL is a second ``case`` in ``_driver``,
``Clock`` and the aggregate functions below.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import orjson
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    String,
    column,
    create_engine,
    event,
    func,
    inspect,
    select,
    table,
)
from sqlalchemy import exc as sql_errors
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from tidegate.catalog.point_reads import PointReads
from tidegate.domain.errors import CatalogDown

T = TypeVar("T")

BUSY_TIMEOUT = 10.0
"""Seconds a statement waits for another process's transaction."""

READERS = 2

_VERSION = "alembic_version"

_PRAGMAS = (
    f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -16384",
)
_DRIVERS = ("sqlite",)


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock of leases. ``name`` tells clocks apart that cannot be compared: SQLite serves one
    host, so it is the host's boot-time clock, which no step of the wall clock moves, and a
    reboot makes another one of it."""

    name: str

    def now(self) -> float:
        """Seconds."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    @classmethod
    def of_this_host(cls) -> "Clock":
        return cls(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())


class Database:
    """Transactions, and reads beside them. Raises nothing but CatalogDown of its own."""

    def __init__(self, url: str) -> None:
        self.url = _parse(url)
        self.clock = Clock.of_this_host()
        self._writer: AsyncEngine | None = None
        self._reader: AsyncEngine | None = None
        self._points: PointReads | None = None
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def open(self) -> None:
        await asyncio.to_thread(_make_sound, self.url.render_as_string(hide_password=False))
        driver = self.url.set(drivername="sqlite+aiosqlite")
        self._writer = create_async_engine(driver, pool_size=1, max_overflow=0, pool_timeout=30)
        self._reader = create_async_engine(driver, pool_size=READERS, max_overflow=0)
        for engine in (self._writer, self._reader):
            event.listen(engine.sync_engine, "connect", _prepare)
        event.listen(self._writer.sync_engine, "begin", _begin_immediate)
        event.listen(self._writer.sync_engine, "invalidate", _roll_back)
        with translated():
            self._points = PointReads(await asyncio.to_thread(self._connect))

    async def close(self) -> None:
        """After what is under way: a connection that is in use would be closed by nobody."""
        with suppress(TimeoutError):
            async with asyncio.timeout(BUSY_TIMEOUT):
                await self._idle.wait()
        if self._points is not None:
            await self._points.close()
            self._points = None
        for engine in (self._writer, self._reader):
            if engine is not None:
                await engine.dispose()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Commits at the end, rolls back on an exception; durable when it returns."""
        assert self._writer is not None
        with translated(), self._used():
            async with self._writer.begin() as connection:
                yield connection

    async def rows(self, statement: Select[Any]) -> Sequence[Mapping[str, Any]]:
        assert self._reader is not None
        with translated(), self._used():
            async with self._reader.connect() as connection:
                found = await connection.execute(statement)
                return list(found.mappings())

    async def hot_row(
        self, sql: str, parameters: Mapping[str, Any], make: Callable[[Sequence[Any]], T]
    ) -> T | None:
        """What ``make`` makes of the one row of a statement compiled before (``compiled``),
        straight on the driver; None without a row."""
        assert self._points is not None
        with translated():
            return await self._points.first(sql, parameters, make)

    @contextmanager
    def _used(self) -> Iterator[None]:
        self._under_way += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(str(self.url.database), check_same_thread=False)
        _prepare(connection, None)
        connection.execute("PRAGMA query_only = ON")
        return connection


def is_there(url: str) -> bool:
    """Whether there is a catalog already, of whatever version. CatalogDown: no such URL."""
    return Path(str(_parse(url).database)).exists()


def is_current(url: str) -> bool:
    """Whether the schema is there, and of this version. CatalogDown."""
    with connection_to(url, writing=False) as connection:
        return _is_current(connection)


def _is_current(connection: Connection) -> bool:
    if not inspect(connection).has_table(_VERSION):
        return False
    version = select(column("version_num", String())).select_from(table(_VERSION))
    return connection.execute(version).scalar() == newest_version()


def newest_version() -> str:
    """Of the migrations there are; each one's file begins with its version."""
    files = resources.files("tidegate.catalog").joinpath("migrations", "versions").iterdir()
    return max(file.name[:4] for file in files if file.name[:4].isdigit())


@contextmanager
def connection_to(url: str, *, writing: bool) -> Iterator[Connection]:
    """In a transaction; ``writing``: that has the database's write lock from the begin on.
    CatalogDown."""
    engine = create_engine(_parse(url), connect_args={"timeout": BUSY_TIMEOUT})
    event.listen(engine, "connect", _prepare)
    if writing:
        event.listen(engine, "begin", _begin_immediate)
    try:
        with translated(), engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def compiled(statement: Select[Any]) -> str:
    """The statement's text for ``hot_row``, with ``:name`` parameters. What it holds by itself
    must be literal (``literal_execute``)."""
    return str(
        statement.compile(
            dialect=sqlite.dialect(paramstyle="named"), compile_kwargs={"render_postcompile": True}
        )
    )


def json_array(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """All values of a group as one JSON array."""
    return func.json_group_array(value)


def json_object(name: ColumnElement[Any], value: ColumnElement[Any]) -> ColumnElement[Any]:
    """All pairs of a group as one JSON object."""
    return func.json_group_object(name, value)


def json_tuple(*values: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.json_array(*values)


def from_json(text: str) -> Any:
    return orjson.loads(text)


class translated:  # noqa: N801
    """Let nothing of the driver out. (A class, since a generator costs the hottest read more.)"""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if isinstance(error, sql_errors.SQLAlchemyError | sqlite3.Error | OSError):
            cause = error.orig if isinstance(error, sql_errors.DBAPIError) else error
            raise CatalogDown(_words(str(cause or error))) from error


def _words(text: str) -> str:
    known = {
        "locked": "The catalog is locked by another process; try again.",
        "disk is full": "The catalog's disk is full.",
        "disk I/O error": "The catalog's disk failed.",
        "readonly": "The catalog is read-only.",
        "read-only": "The catalog is read-only.",
        "unable to open": "The catalog's file cannot be opened; is its folder there and writable?",
        "malformed": "The catalog's file is damaged; restore it from a backup.",
        "not a database": "The catalog's file is no SQLite database.",
    }
    for sign, words in known.items():
        if sign in text:
            return words
    return f"The catalog failed: {text.splitlines()[0][:200] if text else 'no reason given'}"


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except sql_errors.ArgumentError:
        raise CatalogDown("catalog.url cannot be read; write it like sqlite:///file.db") from None
    if parsed.drivername not in _DRIVERS or not parsed.database:
        raise CatalogDown(
            f"catalog.url: {parsed.drivername} is not supported; write it like sqlite:///file.db"
        )
    return parsed


def _prepare(connection: Any, record: object) -> None:
    # the driver must not begin transactions by itself
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _roll_back(connection: Any, record: object, error: object) -> None:
    # who is cancelled holds a statement still, and SQLite closes nothing, nor its lock, before that
    connection.rollback()


def _make_sound(url: str) -> None:
    """Upgraded where it must be. CatalogDown, also for a damaged file."""
    with connection_to(url, writing=False) as connection:
        if connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() != "ok":
            raise CatalogDown("The catalog's file is damaged; restore it from a backup.")
        current = _is_current(connection)
    if not current:
        # Alembic stays in memory for good, and nobody needs it after the first start
        from tidegate.catalog.upgrade import upgrade

        upgrade(url)
