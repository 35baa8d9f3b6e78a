"""A queue server that goes and comes again and again while a job trains."""

from __future__ import annotations

import os
import signal

import pytest

from tests.integration.fleet import FAST, NEVER_S, SLOW, Gather, wait_for

pytestmark = [pytest.mark.end_to_end, pytest.mark.chaos]


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_wake_ups_are_heard_again_after_the_queue_went_many_times(gather: Gather, how: str) -> None:
    fleet = gather(idle_poll_s=NEVER_S, wake_again_s=2.0, slots=2, recovery_every_s=0.5)
    worker = fleet.start_worker()
    running = fleet.submit(SLOW)
    for _ in range(8):
        checkpoint = wait_for(lambda: fleet.job(running).latest_checkpoint_id)
        if how == "killed":
            fleet.kill_queue()
        else:
            assert fleet.queue.process is not None
            os.kill(fleet.queue.process.pid, signal.SIGSTOP)
        wait_for(lambda: fleet.job(running).latest_checkpoint_id != checkpoint)  # noqa: B023
        if how == "killed":
            fleet.queue.start()
        else:
            assert fleet.queue.process is not None
            os.kill(fleet.queue.process.pid, signal.SIGCONT)
        fleet.queue.wait_until_it_answers()
    late = [
        fleet.submit(FAST, seed=seed) for seed in range(3)
    ]  # nobody looks for them: only a wake-up message can tell
    wait_for(lambda: all(fleet.job(job_id).state == "succeeded" for job_id in late) or worker.poll() is not None)
    assert worker.poll() is None, fleet.log(worker)
    job = fleet.job(running)
    assert (job.state, job.attempt, job.lease_epoch) == ("running", 1, 1)
    assert [fleet.job(job_id).attempt for job_id in late] == [1, 1, 1]
