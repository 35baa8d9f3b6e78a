"""PostgreSQL connections with time limits: a server that does not answer in time counts as down.

Without time limits, a server that is frozen, or behind a network that drops everything, would hold up every request,
heartbeat and round of the reconciler for any length of time. On SQLite the busy time-out does the same.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Connection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry

from trainyard.errors import DatabaseUnavailable

ANSWER_WITHIN_S = 10.0  # as long as SQLite waits for a lock: `database.BUSY_TIMEOUT_MS`
WAKES_AFTER_S = (
    0.5  # to notice a signal; at psycopg's 0.1 s the threads of a process that wait cost as much as what it does
)
TRUSTED_S = 5.0  # a connection that was used so recently is not asked whether its server is still there
_USED_AT = "used_at"
#: A server that was set up without a locale, as in a small container, makes its databases like this.
NO_ENCODING = (
    "The database has no encoding (SQL_ASCII). Nothing was changed; make one that has: "
    "`CREATE DATABASE trainyard OWNER trainyard ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0`."
)
Value = TypeVar("Value")


class PatientConnection(psycopg.Connection[Any]):
    """A connection that waits only so long for an answer. Then it is closed, as the server's state is unknown."""

    answer_within_s: float | None = ANSWER_WITHIN_S

    def wait(self, gen: PQGen[Value], interval: float = WAKES_AFTER_S, timeout: float | None = None) -> Value:
        """Wait as psycopg does. Where psycopg sets a time itself, it also knows what to do after it.

        Raises:
            psycopg.OperationalError: the server did not answer in time. What was asked for may have been done.
        """
        if timeout is not None or self.answer_within_s is None:
            return super().wait(gen, interval, timeout)
        began = time.monotonic()
        try:
            return super().wait(gen, interval, self.answer_within_s)
        except psycopg.OperationalError as exc:
            if exc.sqlstate is not None or time.monotonic() - began < self.answer_within_s:
                raise  # that is the server's answer, or the connection is lost
            self.pgconn.finish()
            raise psycopg.OperationalError("the server was silent for too long") from exc


def connect(_dialect: object, _record: object, arguments: Any, keywords: Any) -> PatientConnection:
    """Open a new connection for SQLAlchemy (`do_connect`).

    Raises:
        DatabaseUnavailable: the database was made without an encoding, so the driver returns bytes in place of text.
    """
    connection = PatientConnection.connect(*arguments, **keywords)
    if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
        connection.close()
        raise DatabaseUnavailable(NO_ENCODING)
    return connection


def note_use(_connection: object, record: ConnectionPoolEntry, *_rest: object) -> None:
    """Note when a connection was used last (`connect` and `checkin`)."""
    record.info[_USED_AT] = time.monotonic()


def check(connection: PatientConnection, record: ConnectionPoolEntry, _checkout: object) -> None:
    """Ask a connection from the pool whether its server is still there (`checkout`), if there is reason for doubt.

    A server that ends tells its clients so, and what it sent can be seen without a message to it. A question before
    each transaction would cost as much as a statement.

    Raises:
        InvalidatePoolError: it is not; SQLAlchemy then makes a new connection, and later does so for the others.
    """
    if time.monotonic() - record.info[_USED_AT] < TRUSTED_S and not _has_something_to_read(connection):
        return
    try:
        connection.autocommit = True
        connection.execute("SELECT 1")
        connection.autocommit = False
    except psycopg.Error as exc:
        raise InvalidatePoolError from exc


def _has_something_to_read(connection: PatientConnection) -> bool:
    if connection.closed:
        return True
    with selectors.DefaultSelector() as selector:
        selector.register(connection.fileno(), selectors.EVENT_READ)
        return bool(selector.select(timeout=0))


@contextmanager
def without_hurry(connection: Connection) -> Iterator[None]:
    """Lift the time limits of a connection, because a migration waits for other processes and large tables."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, PatientConnection):
        yield
        return
    driver.answer_within_s = None
    try:
        yield
    finally:
        del driver.answer_within_s  # the class's value applies again
