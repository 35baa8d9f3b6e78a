"""Workers as real processes, and what a queue server, a signal or a freeze may do to them."""

from __future__ import annotations

import base64
import json
import os
import pickle
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.fleet import FAST, NEVER_S, SLOW, Fleet, wait_for
from tests.integration.running import PATIENCE_S
from tests.processes import children_of, is_alive, stop_threads
from trainyard.database.connection import Database
from trainyard.errors import DatabaseUnavailable
from trainyard.scheduling.queue import QUEUE_NAME, CeleryWaker

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

Gather = Callable[..., Fleet]


@pytest.fixture
def gather(tmp_path: Path) -> Iterator[Gather]:
    fleets: list[Fleet] = []

    def start(**settings: Any) -> Fleet:
        fleets.append(Fleet(tmp_path / "data", **settings))
        return fleets[-1]

    yield start
    for fleet in fleets:
        fleet.stop()


def test_jobs_start_after_the_queue_was_killed_and_came_back_empty(gather: Gather) -> None:
    fleet = gather(idle_poll_s=NEVER_S, wake_again_s=2.0)
    fleet.start_worker()
    fleet.kill_queue()
    made = [fleet.submit(FAST, seed=seed) for seed in range(2)]
    wait_for(lambda: not fleet.reconciler.relay.queue_is_up)
    shutil.rmtree(fleet.folder / "queue")
    fleet.queue.start()
    fleet.queue.wait_until_it_answers()
    wait_for(lambda: all(fleet.job(job_id).state == "succeeded" for job_id in made))


def test_a_job_whose_wake_up_was_lost_is_announced_again(gather: Gather) -> None:
    fleet = gather(idle_poll_s=NEVER_S, wake_again_s=2.0)
    made = [fleet.submit(FAST, seed=seed) for seed in range(2)]
    redis = fleet.redis()
    wait_for(lambda: redis.llen(QUEUE_NAME) == 2)
    redis.flushall()
    fleet.start_worker()
    wait_for(lambda: all(fleet.job(job_id).state == "succeeded" for job_id in made))


def test_a_worker_that_hears_no_wake_up_takes_jobs_all_the_same(gather: Gather) -> None:
    fleet = gather(idle_poll_s=0.5)
    worker = fleet.start_worker()
    fleet.kill_queue()
    job_id = fleet.submit(FAST)
    wait_for(lambda: fleet.job(job_id).state == "succeeded")
    worker.terminate()
    assert worker.wait(PATIENCE_S) == 0
    assert fleet.worker(worker).stopped_at is not None


def test_fifty_more_wake_ups_change_nothing(gather: Gather) -> None:
    fleet = gather(idle_poll_s=NEVER_S, slots=2)
    fleet.start_worker()
    job_id = fleet.submit({"epochs": 3})
    wait_for(lambda: fleet.has_event(job_id, "first_step", 1))
    waker = CeleryWaker(fleet.queue.url)
    for _ in range(50):
        waker.wake()
    wait_for(lambda: fleet.job(job_id).state == "succeeded")
    changes = [event.reason for event in fleet.events(job_id) if event.type == "state"]
    assert changes == ["submitted", "claimed", "finished"]


def test_sigterm_gives_the_job_back_unharmed_and_the_worker_ends(gather: Gather) -> None:
    fleet = gather(idle_poll_s=0.5)
    worker = fleet.start_worker()
    fleet.kill_queue()
    job_id = fleet.submit(SLOW)
    wait_for(lambda: fleet.has_event(job_id, "first_step", 1))
    trainers = children_of(worker.pid)
    worker.terminate()
    assert worker.wait(2 * fleet.settings.stop_grace_s) == 0
    job = fleet.job(job_id)
    assert (job.state, job.state_reason, job.failures, job.not_before) == ("queued", "drain", 0, 0)
    assert job.committed_step >= 1
    assert [pid for pid in trainers if is_alive(pid)] == []
    row = fleet.worker(worker)
    assert row.stopped_at is not None


def test_two_signals_while_it_drains_leave_a_job_that_goes_on(gather: Gather) -> None:
    fleet = gather(lease_ttl_s=4.0, reaper_s=1.0, backoff_s=0.1, idle_poll_s=1.0)
    job_id = fleet.submit(SLOW)
    for attempt in (1, 2):
        worker = fleet.start_worker()
        wait_for(lambda: fleet.has_event(job_id, "first_step", attempt))  # noqa: B023
        trainers = children_of(worker.pid)
        worker.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        worker.send_signal(signal.SIGQUIT)
        worker.wait(PATIENCE_S)
        wait_for(lambda: not any(is_alive(pid) for pid in trainers))  # noqa: B023
        wait_for(lambda: fleet.job(job_id).state == "queued")
    job = fleet.job(job_id)
    assert job.state_reason in {"drain", "lease_lost"}
    assert job.failures <= 2
    last = fleet.start_worker()
    wait_for(lambda: fleet.has_event(job_id, "first_step", 3))
    assert fleet.job(job_id).lease_owner == fleet.worker_id(last)
    epochs = [event.lease_epoch for event in fleet.events(job_id)]
    assert epochs == sorted(epochs)


def test_a_frozen_worker_that_wakes_after_the_takeover_writes_nothing(gather: Gather) -> None:
    fleet = gather(lease_ttl_s=3.0, reaper_s=1.0, tick_s=0.5, backoff_s=0.1, idle_poll_s=1.0, recovery_every_s=0.5)
    first = fleet.start_worker()
    job_id = fleet.submit(SLOW)
    wait_for(lambda: fleet.job(job_id).latest_checkpoint_id)
    trainers = children_of(first.pid)
    freeze(fleet.database, [first.pid, *trainers])
    second = fleet.start_worker()
    wait_for(lambda: fleet.has_event(job_id, "first_step", 2))
    taken_at = next(it.seq for it in fleet.events(job_id) if (it.reason, it.lease_epoch) == ("claimed", 2))
    for pid in (first.pid, *trainers):
        os.kill(pid, signal.SIGCONT)
    step = fleet.job(job_id).committed_step
    wait_for(lambda: "is over" in fleet.log(first))
    assert len([pid for pid in trainers if is_alive(pid)]) < len(trainers), "its trainer is dead"
    wait_for(lambda: fleet.job(job_id).committed_step > step)
    assert [it.lease_epoch for it in fleet.events(job_id) if it.seq >= taken_at and it.lease_epoch != 2] == []
    assert fleet.job(job_id).lease_owner == fleet.worker_id(second)
    assert first.poll() is None, "the worker itself goes on"


def test_the_trainer_of_a_frozen_worker_ends_by_itself(gather: Gather) -> None:
    fleet = gather(lease_ttl_s=3.0, reaper_s=1.0, tick_s=0.5, backoff_s=0.1, idle_poll_s=1.0, recovery_every_s=0.5)
    first = fleet.start_worker()
    job_id = fleet.submit(SLOW)
    wait_for(lambda: fleet.has_event(job_id, "first_step", 1))
    trainer = next(pid for pid in children_of(first.pid) if f"jobs/{job_id}.log" in os.readlink(f"/proc/{pid}/fd/1"))
    time.sleep(2 * fleet.settings.lease_ttl_s)  # while its worker is there it goes on
    assert is_alive(trainer)
    freeze(fleet.database, [first.pid])
    wait_for(lambda: not is_alive(trainer))
    second = fleet.start_worker()
    wait_for(lambda: fleet.has_event(job_id, "first_step", 2))
    os.kill(first.pid, signal.SIGCONT)
    wait_for(lambda: "is over" in fleet.log(first))
    assert fleet.job(job_id).lease_owner == fleet.worker_id(second)


def freeze(database: Database, pids: list[int]) -> None:
    """Stop processes, but not in the middle of a write, which would hold SQLite's lock for all the others."""
    while True:
        stop_threads(pids)
        try:
            with database.writing():
                return
        except DatabaseUnavailable:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


class Evil:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def test_garbage_in_the_queue_is_survived_and_runs_nothing(gather: Gather, tmp_path: Path) -> None:
    fleet = gather(idle_poll_s=NEVER_S, slots=2)
    worker = fleet.start_worker()
    job_id = fleet.submit(SLOW)
    wait_for(lambda: fleet.has_event(job_id, "first_step", 1))
    before = len(fleet.events(job_id))
    redis = fleet.redis()
    bad = [
        b"\x00\xff garbage",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'{"body": 7, "headers": null, "properties": {}}',
        _message(pickle.dumps([(Evil(tmp_path / "owned"),), {}, {}]), "application/x-python-serialize", "train.wake"),
        _message(b"[[], {}, {}]", "application/json", "os.system"),
        _message(b'[["x"], {"y": 1}, {}]', "application/json", "train.wake"),
    ]
    redis.lpush(QUEUE_NAME, *bad)
    wait_for(lambda: redis.llen(QUEUE_NAME) == 0 or worker.poll() is not None)
    assert worker.poll() is None, fleet.log(worker)
    assert len(fleet.events(job_id)) == before
    second = fleet.submit(FAST)  # only a wake-up message can tell of it
    wait_for(lambda: fleet.job(second).state == "succeeded" or worker.poll() is not None)
    assert worker.poll() is None, fleet.log(worker)
    assert not (tmp_path / "owned").exists()
    assert fleet.job(job_id).lease_epoch == 1, "the running job was let alone"


def _message(body: bytes, content_type: str, task: str) -> bytes:
    headers = {"lang": "py", "task": task, "id": task, "root_id": task, "argsrepr": "()", "kwargsrepr": "{}"}
    properties = {
        "body_encoding": "base64", "delivery_mode": 2, "delivery_tag": task, "priority": 0, "correlation_id": task,
        "delivery_info": {"exchange": "", "routing_key": QUEUE_NAME},
    }  # fmt: skip
    return json.dumps({
        "body": base64.b64encode(body).decode(), "content-encoding": "binary", "content-type": content_type,
        "headers": headers, "properties": properties,
    }).encode()  # fmt: skip
