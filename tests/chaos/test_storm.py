"""A real yard under random faults keeps every guarantee."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.storm import find_missed
from tests.postgres import create_database, server_pid

SHORT = ["--jobs", "3", "--faults", "17", "--fault-every", "1.2", "--workers", "2", "--epochs", "3", "--promises-only"]


@pytest.mark.slow
@pytest.mark.alone
def test_a_short_storm_with_every_kind_of_fault_breaks_no_promise(tmp_path: Path) -> None:
    """Nothing may be lost, doubled or misreported.

    There is no limit on what a busy machine makes slow.
    """
    weather(tmp_path, SHORT)


@pytest.mark.chaos
def test_a_short_storm_on_postgresql_with_its_faults_too(tmp_path: Path, postgres_url: str) -> None:
    url = create_database(postgres_url)
    weather(tmp_path, [*SHORT, "--faults", "20", "--postgres", url, str(server_pid(url))])


@pytest.mark.chaos
def test_a_short_storm_on_an_object_store_with_its_faults_too(tmp_path: Path) -> None:
    weather(tmp_path, [*SHORT, "--faults", "22", "--object-store"])


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("empty_url", "options"),
    [
        pytest.param("sqlite", [], id="sqlite"),
        pytest.param("postgres", [], id="postgres", marks=pytest.mark.postgres),
        pytest.param("postgres", ["--object-store"], id="postgres and an object store", marks=pytest.mark.postgres),
    ],
    indirect=["empty_url"],
)
def test_a_hundred_jobs_and_three_hundred_faults(tmp_path: Path, empty_url: str, options: list[str]) -> None:
    """Each takes 20 to 25 minutes on an otherwise idle machine.

    A busy one takes longer, and may repeat too many steps.
    """
    postgres = [] if empty_url.startswith("sqlite") else ["--postgres", empty_url, str(server_pid(empty_url))]
    weather(tmp_path, [*postgres, *options])


def weather(folder: Path, options: list[str]) -> None:
    command = [sys.executable, "-m", "tests.chaos.storm", str(folder / "yard"), *options]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    print(run.stdout)
    assert run.returncode == 0, run.stderr


BROKEN = "1 no loss: job_a was accepted and is not there"
WITHIN = {"count": 9, "p50": 5.0, "p95": 9.9, "max": 30.0}
GOOD: dict[str, Any] = {
    "ends": {"succeeded": 9, "cancelled": 1}, "faults": 20, "broken": [], "doubles": 0, "server_errors": [],
    "wasted_share": 0.05, "claimed_again_with_a_free_peer_s": WITHIN,
}  # fmt: skip
WORSE: dict[str, dict[str, Any]] = {
    "broken": {"broken": [BROKEN]},
    "doubles": {"doubles": 1},
    "server_errors": {"server_errors": ["POST /jobs: oh"]},
    "9 jobs ended": {"ends": {"succeeded": 9, "running": 4}},
    "19 faults": {"faults": 19},
    "steps made again": {"wasted_share": 0.1},
    "claimed again": {"claimed_again_with_a_free_peer_s": WITHIN | {"p95": 10.1}},
    "claimed again with a free peer: p95 None": {"claimed_again_with_a_free_peer_s": WITHIN | {"p95": None}},
}


def test_a_storm_that_meets_every_bar() -> None:
    assert find_missed(GOOD, num_jobs=10, num_faults=20, promises_only=False) == []


@pytest.mark.parametrize("name", WORSE)
def test_a_storm_that_misses_a_bar_fails(name: str) -> None:
    (missed,) = find_missed(GOOD | WORSE[name], num_jobs=10, num_faults=20, promises_only=False)
    assert missed.startswith(name)


def test_a_busy_machine_is_asked_for_the_promises_alone() -> None:
    slow = GOOD | WORSE["steps made again"] | WORSE["claimed again"]
    assert find_missed(slow, num_jobs=10, num_faults=20, promises_only=True) == []
    assert find_missed(slow | WORSE["broken"], num_jobs=10, num_faults=20, promises_only=True) == ["broken"]
