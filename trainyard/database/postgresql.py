"""PostgreSQL connections with time limits: a server that does not answer in time counts as down.

Without time limits, a server that is frozen, or behind a network that drops everything, would hold up every request,
heartbeat and round of the reconciler for any length of time. On SQLite the busy time-out does the same.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import Connection

from trainyard.errors import DatabaseUnavailable

ANSWER_WITHIN_S = 10.0  # as long as SQLite waits for a lock: `database.BUSY_TIMEOUT_MS`
#: A server that was set up without a locale, as in a small container, makes its databases like this.
NO_ENCODING = (
    "The database has no encoding (SQL_ASCII). Nothing was changed; make one that has: "
    "`CREATE DATABASE trainyard OWNER trainyard ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0`."
)
Value = TypeVar("Value")


class PatientConnection(psycopg.Connection[Any]):
    """A connection that waits only so long for an answer. Then it is closed, as the server's state is unknown."""

    answer_within_s: float | None = ANSWER_WITHIN_S

    def wait(self, gen: PQGen[Value], interval: float = 0.1, timeout: float | None = None) -> Value:
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
