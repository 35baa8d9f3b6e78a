"""Access to SQLite and PostgreSQL alike: engines, read and write transactions, and the database's own clock.

Times are stored as seconds since 1970 (UTC, float) and always come from the database, so that no machine's wrong clock
can end a lease early or keep one alive.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from sqlalchemy import (
    Connection,
    CursorResult,
    Engine,
    ExceptionContext,
    Float,
    Update,
    create_engine,
    event,
    select,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql.functions import FunctionElement

from trainyard.database.outages import BUSY, READ_ONLY, find_outage, is_read_only
from trainyard.database.repeated import prepare
from trainyard.errors import DatabaseUnavailable

MIN_SQLITE = (3, 51, 3)  # older ones can corrupt a WAL database that several processes write
BUSY_TIMEOUT_MS = 10_000
FROZEN_S = 30.0  # a client that holds a transaction open for so long without a word is frozen or gone
CLIENT_GONE_S = 1.0  # PostgreSQL ends a statement, also one that waits, whose client is gone for so long
_POOL: dict[str, Any] = {"pool_size": 10, "max_overflow": 20, "pool_timeout": BUSY_TIMEOUT_MS / 1000}
_WRITE = "trainyard_write"


class now(FunctionElement[float]):  # noqa: N801 - reads as the SQL function that it is
    """The SQL expression for the present time of the database's clock, in seconds since 1970."""

    type = Float()
    inherit_cache = True


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: Any, **kw: Any) -> str:
    return "unixepoch('subsec')"


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: Any, **kw: Any) -> str:
    return "date_part('epoch', clock_timestamp())"


def read_clock(session: Session) -> float:
    """Read the present time of the database's clock."""
    return float(session.scalar(select(now())) or 0.0)


class _ReadingSession(Session):
    """A session in which nothing may be changed: nobody would take it back."""


def _refuse_changes(*_: object) -> None:
    raise AssertionError("a session that reads has changed something: see `Database.writing`")


event.listen(_ReadingSession, "before_flush", _refuse_changes)


class Database:
    """An engine and its two kinds of transactions. Safe to share between threads, not across a fork."""

    def __init__(self, url: str, *, frozen_s: float = FROZEN_S) -> None:
        """Open a database.

        Args:
            url: SQLAlchemy's.
            frozen_s: PostgreSQL ends a transaction whose client is silent for so long: a process that freezes within
                one would hold its rows, and with them every claim, until it wakes.
        """
        self.engine = _build_engine(url, frozen_s)
        is_sqlite = self.engine.dialect.name == "sqlite"
        self._writer = threading.Lock() if is_sqlite else None
        self._reads = self.engine if is_sqlite else self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a session that only reads; on SQLite it never blocks a writer.

        On SQLite it is a transaction, and sees one moment. On PostgreSQL each statement sees what is committed before
        it, as in any of our transactions. So there is none: its start and end would be two messages, and at its end the
        driver would also forget the statements that it has prepared on the connection.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        with _translated_errors(), _ReadingSession(self._reads, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open a transaction that is committed at the end of the block, and rolled back if anything is raised.

        On SQLite it takes the write lock at its start (BEGIN IMMEDIATE), because a read that turns into a write would
        fail at once, whatever the time-out. Do no file or network work inside.

        Raises:
            DatabaseUnavailable: the database did not answer, or stayed locked, for ten seconds. What was written may,
                very seldom, be there all the same: PostgreSQL fell silent in the middle of its commit.
        """
        with (
            _translated_errors(),
            self._write_turn(),
            self.engine.connect().execution_options(**{_WRITE: True}) as connection,
            Session(connection, expire_on_commit=False) as session,
        ):
            session.connection()  # begins; else the first statement would, and the lock be free until then
            yield session
            session.commit()

    @contextmanager
    def autocommitting(self) -> Iterator[Session]:
        """Open a session in which each statement is a transaction of its own, on PostgreSQL.

        Raises:
            DatabaseUnavailable: as `writing` does.
        """
        assert self._writer is None, "on SQLite a write takes its turn: see `writing`"
        options = {"isolation_level": "AUTOCOMMIT"}
        with (
            _translated_errors(),
            self.engine.connect().execution_options(**options) as connection,
            Session(connection, expire_on_commit=False) as session,
        ):
            yield session

    @contextmanager
    def _write_turn(self) -> Iterator[None]:
        """Let the threads of this process wait for each other before they take SQLite's only write lock.

        A thread that finds the lock taken sleeps up to a tenth of a second before its next try, while others get ahead
        of it.
        """
        if self._writer is None:
            yield
            return
        if not self._writer.acquire(timeout=BUSY_TIMEOUT_MS / 1000):
            raise DatabaseUnavailable
        try:
            yield
        finally:
            self._writer.release()

    def ping(self) -> None:
        """Check that the database answers.

        Raises:
            DatabaseUnavailable: there is none.
        """
        with self.reading() as session:
            session.execute(text("SELECT 1"))

    def check_writes(self) -> None:
        """Check that the database would accept a write.

        Raises:
            DatabaseUnavailable: it would not.
        """
        with self.writing() as session:
            if self.engine.dialect.name == "sqlite":  # takes the write lock of a file that can only be read, too
                session.execute(text("CREATE TABLE trainyard_probe (x)"))
                session.rollback()
            elif session.scalar(text("SHOW transaction_read_only")) == "on":
                raise DatabaseUnavailable(READ_ONLY)

    def close(self) -> None:
        """Close all connections that nobody uses."""
        self.engine.dispose()


def update_rows(session: Session, statement: Update) -> int:
    """Run an UPDATE that returns nothing, and return the number of rows that it matched."""
    result = session.execute(statement)
    assert isinstance(result, CursorResult)
    return result.rowcount


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except DBAPIError as exc:
        if (outage := find_outage(exc)) is None:
            raise
        raise outage from exc
    except PoolExhausted as exc:
        raise DatabaseUnavailable(BUSY) from exc


def _leave_read_only_server(context: ExceptionContext) -> None:
    """Close the connections to a server that was the primary and is now a standby.

    Otherwise they would stay in the pool and always be refused. A new connection is led to the primary by the address,
    by libpq's `target_session_attrs`, or by a proxy in between.
    """
    context.is_disconnect = context.is_disconnect or is_read_only(context.original_exception)


def _build_engine(url: str, frozen_s: float) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        engine = create_engine(url, connect_args={"connect_timeout": 5}, **_POOL)
        from trainyard.database import postgresql

        event.listen(engine, "do_connect", postgresql.connect)
        event.listen(engine, "connect", partial(_prepare_postgresql, frozen_s))
        event.listen(engine, "connect", postgresql.note_use)
        event.listen(engine, "checkin", postgresql.note_use)
        event.listen(engine, "checkout", postgresql.check)
        event.listen(engine, "do_execute", prepare)
        event.listen(engine, "handle_error", _leave_read_only_server)
        return engine
    driver = _sqlite_driver()
    if driver.sqlite_version_info < MIN_SQLITE:
        raise RuntimeError(
            f"SQLite {driver.sqlite_version} can corrupt a database that several processes write; "
            f"{'.'.join(map(str, MIN_SQLITE))} or newer is needed: `pip install pysqlite3`"
        )
    engine = create_engine(url, module=driver, **_POOL)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _sqlite_driver() -> Any:
    if sys.platform == "linux":
        from pysqlite3 import dbapi2

        return dbapi2
    import sqlite3

    return sqlite3


def _prepare_postgresql(frozen_s: float, connection: Any, _record: object) -> None:
    from psycopg.errors import InvalidParameterValue

    bears = f"SET idle_in_transaction_session_timeout = {round(frozen_s * 1000)}"
    looks = f"SET client_connection_check_interval = {round(CLIENT_GONE_S * 1000)}"
    with connection.cursor() as cursor:
        try:
            cursor.execute(f"{bears}; {looks}")
        except InvalidParameterValue:  # a server on Windows can't look
            connection.rollback()
            cursor.execute(bears)
    connection.commit()


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself: `_begin_sqlite` does
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={BUSY_TIMEOUT_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
