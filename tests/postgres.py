"""A PostgreSQL server as tests need it: a database of one's own, and all its processes frozen."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import text

from tests.processes import children_of
from trainyard.database import Database


def create_database(server_url: str) -> str:
    """The URL of a new, empty database."""
    name = f"test_{time.time_ns()}"
    server = Database(server_url)
    with server.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    server.close()
    return server_url.rsplit("/", 1)[0] + f"/{name}"


def server_pid(url: str) -> int:
    """Of the server behind a URL, on this machine."""
    database = Database(url)
    with database.reading() as session:
        pid = int(str(session.scalar(text("SELECT pg_read_file('postmaster.pid')"))).split()[0])
    database.close()
    return pid


@contextmanager
def frozen(postmaster: int) -> Iterator[None]:
    """Inside, no process of the server runs; connections stay open, and nobody answers.

    Args:
        postmaster: see `server_pid`.
    """
    _send([postmaster], signal.SIGSTOP)  # first: no more children then
    pids = [postmaster, *children_of(postmaster)]
    _send(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        _send(pids, signal.SIGCONT)


def _send(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
