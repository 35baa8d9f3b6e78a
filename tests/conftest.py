"""Fixtures for all tests: an empty, migrated database, once on SQLite and once on a real PostgreSQL server."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.postgres import create_database
from trainyard.database import Database
from trainyard.schema import migrate
from trainyard.tables import Base

START_WITHIN_S = 30


def _find_postgres() -> Path | None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    folders += [Path(on_path).resolve().parent] if on_path else []
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _as_nobody() -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server of this test run alone, on a loopback port, gone at its end."""
    folder = _find_postgres()
    if folder is None:
        pytest.skip("no PostgreSQL server is installed (initdb is neither in /usr/lib/postgresql nor on PATH)")
    home = Path(tempfile.mkdtemp(prefix="trainyard-pg-"))
    if os.getuid() == 0:
        shutil.chown(home, "nobody", "nogroup")
    data, port = home / "data", _free_port()
    initdb = [folder / "initdb", "-D", data, "-U", "trainyard", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"]
    subprocess.run([*_as_nobody(), *initdb], check=True, cwd=home, capture_output=True)
    options = {
        "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": home, "fsync": "off",
        "synchronous_commit": "off", "full_page_writes": "off", "max_connections": 100,
    }  # fmt: skip
    serve = [folder / "postgres", "-D", data, *[f"--{name}={value}" for name, value in options.items()]]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen([*_as_nobody(), *serve], cwd=home, stdout=log, stderr=log)
    url = f"postgresql+psycopg://trainyard@127.0.0.1:{port}/postgres"
    try:
        _wait_for(url, server)
        yield url
    finally:
        server.send_signal(signal.SIGINT)  # a fast shutdown
        server.wait(30)
        shutil.rmtree(home, ignore_errors=True)


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    database = Database(url)
    while True:
        try:
            database.ping()
        except Exception:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return database.close()


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
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty, migrated database."""
    if request.param == "sqlite":
        path = tmp_path / "trainyard.db"
        shutil.copyfile(request.getfixturevalue("migrated_sqlite_file"), path)
        database = Database(f"sqlite:///{path}")
        yield database
        database.close()
        return
    database = request.getfixturevalue("migrated_postgres")
    names = ", ".join(name for name in Base.metadata.tables if name != "counters")
    with database.writing() as session:
        session.execute(text(f"TRUNCATE {names} CASCADE"))
        session.execute(text("UPDATE counters SET value = 0"))
    yield database


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    yield create_database(request.getfixturevalue("postgres_url"))
