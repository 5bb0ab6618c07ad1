"""The database of the job table: SQLite in WAL mode, or another one that SQLAlchemy knows (PostgreSQL is tested).

Several processes may use it at once, so a database whose locks do not keep them apart is refused with the reason.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self, final

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, make_url, select, text, update
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, TimeoutError
from sqlalchemy.pool import QueuePool

from recall_server.core.io.storage_errors import handles_are_scarce, storage_failure
from recall_server.errors import StorageBusy, StorageFailed
from recall_server.jobs.rows.postgresql import bounded_engine
from recall_server.jobs.rows.table import SCHEMA_VERSION, metadata, schema

BUSY_SECONDS = 10.0  # the longest time that a writer waits for another one
READING = "recall_reading"
SETUP_LOCK = 0x7265_6361_6C6C  # the number of a PostgreSQL advisory lock, which nobody else uses

logger = logging.getLogger(__name__)


@final
class Database:
    """Transactions on tables that exist and have this version. Every failure of the database raises StorageFailed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reader = engine.execution_options(**{READING: True})

    @classmethod
    def open(cls, url: str) -> Self:
        """Connect, create missing tables, and check that the database can be relied on. Raises StorageFailed.

        `sqlite://` is a database in memory, which `close` discards.
        """
        engine = _engine(url)
        database = cls(engine)
        try:
            if engine.dialect.name == "sqlite" and engine.url.database:
                database._check_sqlite()
            database._set_up()
        except StorageBusy as error:
            engine.dispose()
            raise StorageFailed(f"the database of the job table cannot be used: {_first_line(error)}") from error
        except BaseException:
            engine.dispose()
            raise
        return database

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that may write. SQLite runs one at a time; on PostgreSQL, the caller has to lock rows."""
        with _failures(), self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads, and never waits."""
        with _failures(), self._reader.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close all connections. A later transaction opens new ones."""
        self._engine.dispose()

    def _check_sqlite(self) -> None:
        with self.reading() as connection:
            file = connection.exec_driver_sql("PRAGMA database_list").one().file
            mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        if mode != "wal":
            raise StorageFailed(
                "the job table cannot be shared by processes where it is: SQLite's journal mode there is "
                f"{mode!r}, not 'wal'; put it on a local disk that can be written to, or use PostgreSQL"
            )
        _check_locks(Path(file).parent)

    def _set_up(self) -> None:
        with self.writing() as connection:
            if connection.dialect.name == "postgresql":  # on which two servers could create the same table at once
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": SETUP_LOCK})
            if not inspect(connection).has_table(schema.name):
                metadata.create_all(connection)
                connection.execute(insert(schema).values(version=SCHEMA_VERSION, id=uuid.uuid4().hex, folder=""))
            version = connection.execute(select(schema.c.version)).scalar_one()
        if version != SCHEMA_VERSION:
            raise StorageFailed(
                f"the job table is of version {version}, and this server reads version {SCHEMA_VERSION}: "
                "install the server that made it, or name another database"
            )
        with self.writing() as connection:  # changes nothing, but fails if the table cannot be written to
            connection.execute(update(schema).values(version=SCHEMA_VERSION))


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "postgresql":
            return bounded_engine(parsed)
        if parsed.get_backend_name() != "sqlite":
            return create_engine(parsed, pool_pre_ping=True)
        if parsed.database and not parsed.database.startswith("file:"):
            with _folder_errors():
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        # A database in memory belongs to one connection, so all threads have to share it.
        # In a file, writers that wait for each other keep no connection from a reader.
        pool: dict[str, Any] = (
            {"max_overflow": -1} if parsed.database else {"pool_size": 1, "max_overflow": 0, "pool_timeout": 60}
        )
        engine = create_engine(
            parsed,
            poolclass=QueuePool,
            connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS},
            **pool,
        )
    except (ArgumentError, NoSuchModuleError) as error:
        raise StorageFailed("the database must be a SQLAlchemy URL, such as sqlite:////folder/jobs.sqlite") from error
    except ModuleNotFoundError as error:
        raise StorageFailed(f"the database needs a driver that is not installed: {error.name}") from error
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # `_begin_sqlite` begins
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # accepted jobs survive a power failure
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at once. A transaction that begins as a reader may be refused when it begins to write."""
    reading = connection.get_execution_options().get(READING, False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _check_locks(folder: Path) -> None:
    """Raise StorageFailed for a file system on which the locks of one process do not keep out another."""
    with (
        _folder_errors(),
        tempfile.NamedTemporaryFile(dir=folder, prefix=".locks-") as one,
        open(one.name, "rb") as other,
    ):
        reason = _fault_of_locks(one.fileno(), other.fileno())
    if reason:
        raise StorageFailed(
            f"the job table cannot be shared by processes where it is: {reason}; "
            "put it on a local disk, or use PostgreSQL"
        )


def _fault_of_locks(one: int, other: int) -> str:
    """What is wrong with the locks of a file that is open under both numbers; empty if they work."""
    try:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return ""
    except OSError as error:
        return f"its file system has no locks ({error.strerror})"
    return "a lock on its file system keeps nobody out"


@contextlib.contextmanager
def _folder_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_failure("the folder of the job table cannot be written", error) from error


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """Log errors of the database and turn them into StorageFailed, of a database server into StorageBusy.

    Only SQLite's messages are repeated to callers.
    """
    try:
        yield
    except (DBAPIError, TimeoutError, sqlite3.Error) as error:  # the last from `_prepare_sqlite`
        cause = error.orig if isinstance(error, DBAPIError) else error
        logger.error("job table: %s", cause)
        if isinstance(cause, sqlite3.Error):
            kind = StorageBusy if handles_are_scarce() else StorageFailed
            raise kind(f"the job table cannot be used: {cause}") from error
        raise StorageBusy("the database of the job table does not answer as it should") from error


def _first_line(error: StorageBusy) -> str:
    """What the driver says of the connection, for whoever starts the server."""
    cause = error.__cause__.orig if isinstance(error.__cause__, DBAPIError) else error.__cause__
    return next(iter(str(cause).splitlines()), str(error))
