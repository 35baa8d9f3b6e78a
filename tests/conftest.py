"""Fixtures for all tests: an empty, migrated database, once on SQLite and once on a real PostgreSQL server."""

from __future__ import annotations

import functools
import gc
import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from tests.postgres import create_database, find_postgres, serving
from trainyard.database.connection import Database
from trainyard.database.numbers import Numbers
from trainyard.database.postgresql import PatientConnection
from trainyard.database.schema import migrate
from trainyard.database.tables import Base

if "PYTEST_XDIST_WORKER" in os.environ:  # several tests at a time, each with the threads of all cores, would only spin
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without Python's garbage collector, which would take half the time, and keep it off what is there now."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()  # modules and tests stay until the end, and to look at them again and again is of no use
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the tests that wait for whole yards, where several run at a time: no core is idle at the end."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.get_closest_marker("end_to_end") is None)


@pytest.fixture(scope="session", autouse=True)
def caches_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for caches, for the processes that tests start too: none of them reads or writes the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        yield


@pytest.fixture(scope="session", autouse=True)
def certificates_read_once() -> Iterator[None]:
    """Clients of HTTP that trust the usual certificates share them: to read them takes longer than most requests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", functools.cache(httpx.create_ssl_context))
        yield


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server of this test run alone, on a loopback port, gone at its end.

    It may answer late beside other tests, so that what waits for it in this process has more patience than usual.
    """
    if find_postgres() is None:
        pytest.skip("no PostgreSQL server is installed (initdb is neither in /usr/lib/postgresql nor on PATH)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PatientConnection, "answer_within_s", 60.0)
        with serving() as url:
            yield url


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str) -> Iterator[Database]:
    """The server's database, migrated once."""
    database = Database(postgres_url)
    migrate(database)
    yield database
    database.close()


@pytest.fixture(scope="session")
def migrated_sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    database = Database(f"sqlite:///{path}")
    migrate(database)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    database.close()
    return path


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty, migrated database."""
    if request.param == "sqlite":
        path = tmp_path / "trainyard.db"
        shutil.copyfile(request.getfixturevalue("migrated_sqlite_file"), path)
        database = Database(f"sqlite:///{path}")
        yield database
        database.close()
        return
    database = request.getfixturevalue("migrated_postgres")
    names = ", ".join(name for name in Base.metadata.tables if name not in {"counters", "yard_secrets"})
    with database.writing() as session:
        session.execute(text(f"TRUNCATE {names} CASCADE"))
        session.execute(text("UPDATE counters SET value = 0"))
        for numbers in Numbers:
            session.execute(text(f"ALTER SEQUENCE {numbers} RESTART"))
    yield database


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    yield create_database(request.getfixturevalue("postgres_url"))
