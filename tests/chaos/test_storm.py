"""A real yard under random faults keeps every promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trainyard.database import Database

SHORT = ["--jobs", "3", "--faults", "13", "--fault-every", "1.2", "--workers", "2", "--epochs", "3", "--promises-only"]


def test_a_short_storm_with_every_kind_of_fault_breaks_no_promise(tmp_path: Path) -> None:
    """No bar for what a busy machine makes slow: only that nothing is lost, doubled or lied about."""
    weather(tmp_path, SHORT)


@pytest.mark.chaos
def test_a_hundred_jobs_and_three_hundred_faults(tmp_path: Path, empty_url: str) -> None:
    """25 minutes on an otherwise idle machine: on a busy one, too many steps are made again."""
    weather(tmp_path, [] if empty_url.startswith("sqlite") else ["--postgres", empty_url, str(server_pid(empty_url))])


def weather(folder: Path, options: list[str]) -> None:
    command = [sys.executable, "-m", "tests.chaos.storm", str(folder / "yard"), *options]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"


def server_pid(url: str) -> int:
    """Of the server behind a URL, on this machine: the first line of its pid file."""
    database = Database(url)
    with database.engine.connect() as connection:
        folder = connection.exec_driver_sql("SHOW data_directory").scalar_one()
    database.close()
    return int((Path(folder) / "postmaster.pid").read_text().split()[0])
