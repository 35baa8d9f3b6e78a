"""Starts an API to be measured, as a process of its own on an empty database, and times its answers."""

from __future__ import annotations

import contextlib
import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import text

from trainyard.client import Client
from trainyard.database.connection import Database
from trainyard.launch.queue_server import free_port

IMPORTS_S = 8.0  # torch is imported in the background after the API is ready


@contextmanager
def serving_api(
    database_url: str | None = None, *, redis_url: str | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], int, Database]]:
    """Start an API on a temporary folder and yield its process, port and database; it ends with the block.

    Args:
        database_url: an empty PostgreSQL database; None: SQLite in the folder.
        redis_url: a queue that it sends wake-up messages to; None: it wakes nobody.
    """
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        environment = os.environ | {"TRAINYARD_DATA_DIR": folder, "TRAINYARD_PORT": str(port)}
        environment |= {"TRAINYARD_DATABASE_URL": database_url} if database_url else {}
        environment |= {"TRAINYARD_REDIS_URL": redis_url} if redis_url else {}
        subprocess.run([sys.executable, "-m", "trainyard", "migrate"], env=environment, check=True)
        api = subprocess.Popen([sys.executable, "-m", "api"], env=environment, stderr=subprocess.DEVNULL)
        try:
            wait_until_ready(port)
            time.sleep(IMPORTS_S)
            yield api, port, Database(database_url or f"sqlite:///{Path(folder) / 'trainyard.db'}")
        finally:
            api.terminate()
            api.wait(30)


@contextmanager
def predicting_api() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start a whole yard that has trained `quick` on digits for an epoch, and yield its API's process and port.

    It is on a temporary folder.
    """
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        environment = os.environ | {"TRAINYARD_DATA_DIR": folder, "TRAINYARD_PORT": str(port)}
        yard = subprocess.Popen(
            [sys.executable, "-m", "trainyard", "up"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until_ready(port)
            with Client(f"http://127.0.0.1:{port}") as client:
                job = client.create_job("digits", overrides={"epochs": 1})
                client.wait(job["id"])
            time.sleep(IMPORTS_S)
            yield yard, port
        finally:
            yard.terminate()
            yard.wait(60)


def time_reads(port: int, path: str, requests: int) -> tuple[float, float, int]:
    """Send the same request many times over one connection, and return the times.

    Returns:
        Milliseconds, median and 99th percentile, and the bytes of the last answer.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port)
    took, length = [], 0
    for _ in range(requests):
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        length = len(answer.read())
        took.append(1000 * (time.perf_counter() - began))
        assert answer.status == 200, path
    cuts = statistics.quantiles(took, n=100)
    return cuts[49], cuts[98], length


def settle(database: Database) -> None:
    """Let PostgreSQL analyse the new rows, as autovacuum would do a little later."""
    if database.engine.dialect.name == "postgresql":
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))


def wait_until_ready(port: int, patience_s: float = 60.0) -> None:
    """Wait for the API's `/readyz`."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError("the API does not get ready")


def find_child(parent: int, module: str) -> int:
    """Return the process that a process has started to run a module.

    Raises:
        LookupError: there is none.
    """
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            is_child = int(stat.read_text().rpartition(")")[2].split()[1]) == parent
            if is_child and module in (stat.parent / "cmdline").read_text().split("\0"):
                return int(stat.parent.name)
    raise LookupError(f"process {parent} runs no {module}")
