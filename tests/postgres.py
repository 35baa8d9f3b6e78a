"""A PostgreSQL server as tests need it: their own, a database for each, and all its processes frozen."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import text

from tests.processes import children_of
from trainyard.database.connection import Database

START_WITHIN_S = 30


def find_postgres() -> Path | None:
    """The folder of the newest server's programs; None: there is none."""
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


@contextmanager
def serving(*, settings: Mapping[str, object] | None = None, **environment: str) -> Iterator[str]:
    """Inside, a server runs on a loopback port, with these variables beside ours; yields its URL.

    `settings` are the server's own; by default it is fast, and safe from nothing.
    """
    folder = find_postgres()
    assert folder is not None
    home = Path(tempfile.mkdtemp(prefix="trainyard-pg-"))
    if os.getuid() == 0:
        shutil.chown(home, "nobody", "nogroup")
    data = home / "data"
    initdb: list[Any] = [
        folder / "initdb",
        "-D",
        data,
        "-U",
        "trainyard",
        "-A",
        "trust",
        "--no-sync",
        "-E",
        "UTF8",
        "--locale=C",
    ]
    subprocess.run([*_as_nobody(), *initdb], check=True, cwd=home, capture_output=True)
    with _running(home, settings, environment) as url:
        yield url


@contextmanager
def standing_by(primary_url: str) -> Iterator[str]:
    """Inside, a standby of a server runs, and the server's commits wait for it; yields the standby's URL.

    It takes over with `SELECT pg_promote()`.
    """
    folder = find_postgres()
    assert folder is not None
    home = Path(tempfile.mkdtemp(prefix="trainyard-pg-"))
    if os.getuid() == 0:
        shutil.chown(home, "nobody", "nogroup")
    source = primary_url.replace("+psycopg", "")
    copy: list[str | Path] = [
        folder / "pg_basebackup",
        "-d",
        source,
        "-D",
        home / "data",
        "-R",
        "-X",
        "stream",
        "-c",
        "fast",
        "-N",
    ]
    subprocess.run([*_as_nobody(), *copy], check=True, cwd=home, capture_output=True)
    with _running(home, None, {}) as url:
        _set(primary_url, "synchronous_standby_names", "*")
        yield url


@contextmanager
def _running(home: Path, settings: Mapping[str, object] | None, environment: Mapping[str, str]) -> Iterator[str]:
    """Inside, the server whose data is in a folder runs; the folder is gone at the end."""
    folder = find_postgres()
    assert folder is not None
    data, port = home / "data", _free_port()
    options = {
        "listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": home, "fsync": "off",
        "synchronous_commit": "off", "full_page_writes": "off", "max_connections": 100,
    } | dict(settings or {})  # fmt: skip
    variables = [f"{name}={value}" for name, value in environment.items()]  # for the server, not for what changes user
    serve: list[Any] = [
        "env",
        *variables,
        folder / "postgres",
        "-D",
        data,
        *[f"--{key}={options[key]}" for key in options],
    ]
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


def create_database(server_url: str) -> str:
    """The URL of a new, empty database."""
    name = f"test_{time.time_ns()}"
    server = Database(server_url)
    with server.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    server.close()
    return server_url.rsplit("/", 1)[0] + f"/{name}"


@contextmanager
def read_only(url: str) -> Iterator[None]:
    """Inside, the server behind a URL takes no writes in any transaction that begins, as a standby would not."""
    _set_read_only(url, "on")
    try:
        yield
    finally:
        _set_read_only(url, "off")


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Inside, nobody writes to the jobs, and whoever wants to is told so after 20 ms."""
    server = Database(url, frozen_s=3600)
    try:
        with server.engine.connect() as holder:
            holder.exec_driver_sql("LOCK TABLE jobs IN EXCLUSIVE MODE")
            _set(url, "lock_timeout", "20ms")
            try:
                yield
            finally:
                _set(url, "lock_timeout", "0")
    finally:
        server.close()


@contextmanager
def crowded(url: str) -> Iterator[int]:
    """Inside, the server has no connection left, and what others had of them is closed; yields how many that were."""
    address = url.replace("+psycopg", "")
    held = [psycopg.connect(address, autocommit=True, connect_timeout=10)]
    try:
        others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        closed = held[0].execute(f"{others} AND pid <> pg_backend_pid()").fetchone()
        with suppress(psycopg.OperationalError):  # too many
            while True:
                held.append(psycopg.connect(address, connect_timeout=10))
        yield 0 if closed is None else int(closed[0])
    finally:
        for connection in held:
            connection.close()


def _set_read_only(url: str, value: str) -> None:
    _set(url, "default_transaction_read_only", value)


def _set(url: str, name: str, value: str) -> None:
    """Change a setting of the whole server; each session reads it before its next statement."""
    server = Database(url)
    try:
        with server.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"ALTER SYSTEM SET {name} = '{value}'")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
            deadline = time.monotonic() + START_WITHIN_S
            while connection.exec_driver_sql(f"SHOW {name}").scalar() != value:
                assert time.monotonic() < deadline, "the server does not read its settings"
                time.sleep(0.01)
            time.sleep(0.5)  # the server signals one session after the other: ours may be the first
    finally:
        server.close()


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
