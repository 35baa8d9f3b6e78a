"""A trainer that lives and does nothing: found by the lack of reports, killed; its job goes on from where it was."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.integration.fleet import SLOW, Fleet, Gather, wait_for
from tests.processes import children_of, is_alive
from trainyard.database.tables import Job
from trainyard.jobs import jobs

pytestmark = [pytest.mark.end_to_end, pytest.mark.chaos]

HANG_S = 20.0  # no step takes so long, however busy the machine is
PATIENCE_S = 300
LONG_ENOUGH = {"epochs": 12}


@pytest.fixture
def start(gather: Gather) -> Gather:
    return partial(gather, hang_s=HANG_S, backoff_s=0.1, tick_s=0.5, recovery_every_s=0.5, max_failures=20)


def reasons_of(fleet: Fleet, job_id: str) -> list[str | None]:
    return [event.reason for event in fleet.events(job_id) if event.type == "state"]


def wait_until_resumed(fleet: Fleet, job_id: str) -> None:
    wait_for(lambda: fleet.has_event(job_id, "started", 2), PATIENCE_S)
    started = [event.data for event in fleet.events(job_id) if event.type == "started"]
    assert started[1]["resumed_from"], "what was made is not made again"


def writes_a_jobs_log(pid: int) -> bool:
    """Whether a process is the trainer of an attempt; a spare one writes none."""
    try:
        return any("/jobs/" in os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def test_a_trainer_that_is_frozen_alone_is_killed_and_its_job_goes_on(start: Gather) -> None:
    fleet = start()
    worker = fleet.start_worker()
    job_id = fleet.submit(SLOW)
    wait_for(lambda: fleet.job(job_id).latest_checkpoint_id, PATIENCE_S)
    [trainer] = wait_for(lambda: [pid for pid in children_of(worker.pid) if writes_a_jobs_log(pid)])
    os.kill(trainer, signal.SIGSTOP)
    wait_for(lambda: not is_alive(trainer), PATIENCE_S)
    wait_until_resumed(fleet, job_id)
    assert reasons_of(fleet, job_id) == ["submitted", "claimed", "hung", "claimed"]
    step = fleet.job(job_id).committed_step
    wait_for(lambda: fleet.job(job_id).committed_step > step, PATIENCE_S)
    assert worker.poll() is None


@pytest.mark.parametrize("stop", [jobs.pause, jobs.cancel])
def test_a_trainer_that_does_not_stop_in_time_holds_up_no_request(start: Gather, stop: Callable[..., Job]) -> None:
    fleet = start(stop_grace_s=2.0)
    worker = fleet.start_worker()
    job_id = fleet.submit(SLOW)
    wait_for(lambda: fleet.job(job_id).latest_checkpoint_id, PATIENCE_S)
    [trainer] = wait_for(lambda: [pid for pid in children_of(worker.pid) if writes_a_jobs_log(pid)])
    os.kill(trainer, signal.SIGSTOP)
    with fleet.database.writing() as session:
        stop(session, "local", job_id)
    wait_for(lambda: fleet.job(job_id).state in {"paused", "cancelled"}, HANG_S - 4)
    assert not is_alive(trainer)
    assert "hung" not in reasons_of(fleet, job_id)
    assert fleet.job(job_id).failures == 0
    if stop is jobs.cancel:
        return
    with fleet.database.writing() as session:
        jobs.resume(session, "local", job_id)
    wait_until_resumed(fleet, job_id)


def test_a_step_that_never_ends_is_ended_and_the_job_succeeds_with_the_weights_of_an_undisturbed_one(
    start: Gather,
) -> None:
    fleet = start(testing=True, failpoints="step_80=once:sleep:9999")
    worker = fleet.start_worker()
    job_id = fleet.submit(LONG_ENOUGH)
    wait_until_resumed(fleet, job_id)
    assert reasons_of(fleet, job_id)[:4] == ["submitted", "claimed", "hung", "claimed"]
    undisturbed = fleet.submit(LONG_ENOUGH)
    for each in (job_id, undisturbed):
        wait_for(lambda: fleet.job(each).state in {"succeeded", "failed"}, PATIENCE_S)  # noqa: B023
        assert fleet.job(each).state == "succeeded", fleet.job(each).error
    assert fleet.job(job_id).weights_sha256 == fleet.job(undisturbed).weights_sha256
    assert worker.poll() is None
