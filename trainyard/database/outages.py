"""Recognises the driver errors that mean that the database can't do something now but may do it later.

Drivers classify their errors by who made the mistake, not by whether it is worth trying again: psycopg raises a
read-only database as `InternalError`, SQLite a missing table as `OperationalError`. So the server's own code decides:
PostgreSQL's SQLSTATE (documentation, appendix A), or SQLite's primary result code.
"""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from trainyard.errors import DatabaseFull, DatabaseUnavailable

READ_ONLY = (
    "The database takes no writes right now, as a standby does that has not taken over yet. Nothing was changed; try "
    "again in a moment."
)
BUSY = (
    "The database could not do this now: it is overloaded, or others held what it needed. Nothing was changed; try "
    "again in a moment."
)
OTHER_TABLES = (
    "The database's tables are not those of this version of Trainyard. Nothing was changed; bring both to the same "
    "version (`trainyard migrate`), then try again."
)

_READ_ONLY_STATE = "25006"
_FULL_STATE = "53100"
_MISSING_STATES = {"42P01", "42703"}  # a table, a column
_BUSY_STATES = {"55P03", "57014"}  # a lock that did not come in time; a query that was cancelled or took too long
_BUSY_CLASSES = {"40", "53"}  # a transaction that met another one; connections, memory and the like
_AWAY_STATES = {"25P03", "25P04"}  # the server ended a transaction that was too old
_AWAY_CLASSES = {"08", "55", "57", "58"}  # connections; states that pass; an administrator; files of the server

# SQLite's primary result codes
_SQLITE_ERROR, _SQLITE_READ_ONLY, _SQLITE_FULL = 1, 8, 13
_SQLITE_BUSY = {5, 6, 7, 9, 15}  # locked by others; no memory; interrupted; the locking protocol
_SQLITE_AWAY = {10, 14}  # the disk fails; the file can't be opened
_SQLITE_MISSING = ("no such table", "no such column", "has no column named")


def find_outage(exc: DBAPIError) -> DatabaseUnavailable | None:
    """Translate a driver's error. None: trying again would not help, as the mistake is in our code."""
    state = getattr(exc.orig, "sqlstate", None)
    if state is not None:
        return _of_postgresql(str(state), exc)
    code = getattr(exc.orig, "sqlite_errorcode", None)
    if code is not None:
        return _of_sqlite(int(code) & 0xFF, str(exc.orig))
    # no code: the driver itself found that nobody answers
    is_away = exc.connection_invalidated or isinstance(exc, OperationalError | InterfaceError)
    return DatabaseUnavailable() if is_away else None


def is_read_only(exc: BaseException | None) -> bool:
    """Whether PostgreSQL refused a write as read-only. Then this connection's server is not the primary."""
    return getattr(exc, "sqlstate", None) == _READ_ONLY_STATE


def _of_postgresql(state: str, exc: DBAPIError) -> DatabaseUnavailable | None:
    if state == _FULL_STATE:
        return DatabaseFull()
    if state == _READ_ONLY_STATE:
        return DatabaseUnavailable(READ_ONLY)
    if state in _MISSING_STATES:
        return DatabaseUnavailable(OTHER_TABLES)
    if state in _BUSY_STATES or state[:2] in _BUSY_CLASSES:
        return DatabaseUnavailable(BUSY)
    if state in _AWAY_STATES or state[:2] in _AWAY_CLASSES or exc.connection_invalidated:
        return DatabaseUnavailable()
    return None


def _of_sqlite(code: int, message: str) -> DatabaseUnavailable | None:
    if code == _SQLITE_FULL:
        return DatabaseFull()
    if code == _SQLITE_READ_ONLY:
        return DatabaseUnavailable(READ_ONLY)
    if code == _SQLITE_ERROR and any(text in message for text in _SQLITE_MISSING):
        return DatabaseUnavailable(OTHER_TABLES)
    if code in _SQLITE_BUSY:
        return DatabaseUnavailable(BUSY)
    return DatabaseUnavailable() if code in _SQLITE_AWAY else None
