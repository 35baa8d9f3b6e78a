"""Ctrl-C on a yard with a running job: once, and twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.integration.running import PATIENCE_S, RunningYard, start_yard
from trainyard.client import Client
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint, Job, JobEvent

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

SLOW = {"image_px": 64, "batch_size": 64, "epochs": 50}

Start = Callable[..., RunningYard]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts yards on one folder, one after the other."""
    yards: list[RunningYard] = []

    def start_one(**settings: str) -> RunningYard:
        yards.append(start_yard(tmp_path / "data", **settings))
        return yards[-1]

    yield start_one
    for yard in yards:
        yard.stop()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'data' / 'trainyard.db'}")
    yield database
    database.close()


def submit_slow_job(yard: RunningYard) -> str:
    with Client(yard.url) as client:
        return str(client.create_job("digits", overrides=SLOW, seed=1)["id"])


def wait_for(look: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
    return found


def find_event(database: Database, job_id: str, event: str, lease_epoch: int) -> JobEvent | None:
    """The event of that type or reason of an attempt."""
    of_attempt = (JobEvent.job_id == job_id, JobEvent.lease_epoch == lease_epoch)
    named = (JobEvent.type == event) | (JobEvent.reason == event)
    with database.reading() as session:
        return session.scalars(select(JobEvent).where(*of_attempt, named)).first()


def list_steps(database: Database, job_id: str) -> list[int]:
    """The steps of the job's checkpoints, newest first."""
    with database.reading() as session:
        of_job = select(Checkpoint.step).where(Checkpoint.job_id == job_id)
        return list(session.scalars(of_job.order_by(Checkpoint.step.desc())))


def look(database: Database, job_id: str) -> Job:
    with database.reading() as session:
        return session.scalars(select(Job).where(Job.id == job_id)).one()


def read_until(yard: RunningYard, words: str) -> None:
    assert yard.process.stdout is not None
    for line in yard.process.stdout:
        if words in line:
            return
    raise AssertionError(f"the yard never said {words!r}")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_death(pids: list[int]) -> None:
    deadline = time.monotonic() + 10  # to give their memory back may take a moment
    while alive := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < deadline, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in alive]
        time.sleep(0.05)


def resumed_at(database: Database, job_id: str, lease_epoch: int) -> int:
    started = wait_for(lambda: find_event(database, job_id, "started", lease_epoch))
    return int(started.data["step"])


def test_ctrl_c_writes_a_checkpoint_and_the_next_up_goes_on_from_it(start: Start, database: Database) -> None:
    yard = start()
    job_id = submit_slow_job(yard)
    wait_for(lambda: find_event(database, job_id, "first_step", 1))
    below = yard.descendants()
    assert len(below) >= 4, "queue server, API, worker and trainer"
    assert list_steps(database, job_id) == []

    pressed_at = time.monotonic()
    yard.press_ctrl_c()
    read_until(yard, "stopping: 1 running job(s) write a checkpoint first")
    assert yard.process.wait(timeout=PATIENCE_S) == 0
    print(f"Ctrl-C: stopped after {time.monotonic() - pressed_at:.2f} s")
    wait_for_death(below)
    job = look(database, job_id)
    assert (job.state, job.state_reason, job.failures) == ("queued", "drain", 0)
    [step] = list_steps(database, job_id)
    assert step >= 1

    start()
    assert resumed_at(database, job_id, 2) == step


def test_a_second_ctrl_c_kills_at_once_and_the_next_up_goes_on_from_the_last_checkpoint(
    start: Start, database: Database
) -> None:
    settings = {"TRAINYARD_LEASE_TTL_S": "3", "TRAINYARD_REAPER_S": "1"}
    yard = start(TRAINYARD_RECOVERY_EVERY_S="0.1", **settings)
    job_id = submit_slow_job(yard)
    wait_for(lambda: list_steps(database, job_id))
    below = yard.descendants()

    yard.press_ctrl_c()
    read_until(yard, "Ctrl-C again: kill at once")
    pressed_at = time.monotonic()
    yard.press_ctrl_c()
    yard.process.wait(timeout=PATIENCE_S)
    print(f"second Ctrl-C: ended after {time.monotonic() - pressed_at:.2f} s")
    wait_for_death(below)
    assert look(database, job_id).state == "running", "there was no time to give it back"
    step = list_steps(database, job_id)[0]

    start(**settings)
    assert resumed_at(database, job_id, 2) == step
    job = look(database, job_id)
    assert (job.state, job.failures) == ("running", 1)
