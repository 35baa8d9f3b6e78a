"""A job that is interrupted at any step ends with the same bits as one that is not, with real workers and trainers."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.integration.fleet import Fleet, wait_for
from trainyard.database.tables import Job, JobEvent, JobMetric
from trainyard.jobs import jobs
from trainyard.states import JobState

STEPS = 63  # of 3 epochs of 21, the last one of an epoch with fewer images
TINY = {
    "image_px": 16, "width_multiplier": 0.5, "batch_size": 64, "epochs": 3, "interval_steps": 1, "rotate_deg": 5.0,
}  # fmt: skip
KINDS: list[dict[str, Any]] = [  # by the seed: each carries another state from step to step
    {},
    {"optimiser": "adamw", "lr": 0.002, "schedule": "cosine", "warmup_fraction": 0.2},
    {"schedule": "plateau", "plateau_patience": 1, "lr": 0.01, "norm": "lrn", "momentum": 0.8},
    {"optimiser": "sgd_lr_in_velocity", "schedule": "multistep", "lr_steps": ((0, 0.02), (2, 0.002)), "groups": 2},
]
KILLED, PAUSED, DRAINED = "kill of the trainer", "pause and resume", "SIGTERM and another worker"
WAYS = {  # and the reasons of the states that a job then goes through
    KILLED: ["trainer_killed"],
    PAUSED: ["requested", "paused", "resumed"],
    DRAINED: ["drain"],
}
Plan = list[tuple[str, int]]  # ways, each with a step


class Yard:
    """One worker at a time, whose trainer stops at the step that a test names."""

    def __init__(self, folder: Path, hook: Path) -> None:
        self._hook, self._held = hook, hook / "held"
        self.fleet = Fleet(
            folder, lease_ttl_s=60.0, tick_s=0.1, idle_poll_s=0.3, backoff_s=0.0, recovery_every_s=0.3, max_failures=9
        )
        self.worker = self.fleet.start_worker()
        self._undisturbed: dict[int, Job] = {}

    def undisturbed(self, seed: int) -> Job:
        """Run the job of a seed without an interruption."""
        if seed not in self._undisturbed:
            self._undisturbed[seed] = job = self.wait(self.submit(seed))
            assert (job.attempt, job.progress and job.progress["step"]) == (1, STEPS)
        return self._undisturbed[seed]

    def submit(self, seed: int) -> str:
        return self.fleet.submit(TINY | KINDS[seed % len(KINDS)], seed=seed)

    def wait(self, job_id: str) -> Job:
        wait_for(lambda: JobState(self.fleet.job(job_id).state).is_final)
        job = self.fleet.job(job_id)
        assert job.state == "succeeded", job.error
        return job

    def interrupt(self, seed: int, plan: Plan) -> str:
        """Run the job of a seed, interrupt it as planned, and let it go on."""
        self._stop_at(plan[0][1])
        job_id = self.submit(seed)
        for index, (way, _) in enumerate(plan):
            wait_for(self._held.exists)
            trainer = int(self._held.read_text())
            self._held.unlink()
            if index + 1 < len(plan):
                self._stop_at(plan[index + 1][1])
            if way == KILLED:
                os.kill(trainer, signal.SIGKILL)
            elif way == PAUSED:
                self._pause(job_id)
            else:
                self._drain()
        return job_id

    def _stop_at(self, step: int) -> None:
        (self._hook / "new").write_text(str(step))
        (self._hook / "new").rename(self._hook / "stop-at")

    def _pause(self, job_id: str) -> None:
        self._act(jobs.pause, job_id)
        wait_for(lambda: self.fleet.job(job_id).state == "paused")
        self._act(jobs.resume, job_id)
        self.fleet.reconciler.wake()

    def _drain(self) -> None:
        self.worker.terminate()
        assert self.worker.wait(120) == 0, self.fleet.log(self.worker)
        self.worker = self.fleet.start_worker()

    def _act(self, action: Callable[..., object], job_id: str) -> None:
        with self.fleet.database.writing() as session:
            action(session, "local", job_id)

    def epochs(self, job_id: str) -> list[dict[str, Any]]:
        """Return what was measured at the end of each epoch, without the seconds."""
        return [{key: row[key] for key in row if key != "seconds"} for row in self._series(job_id, "epoch")]

    def _series(self, job_id: str, kind: str) -> list[dict[str, Any]]:
        query = select(JobMetric.data).where(JobMetric.job_id == job_id, JobMetric.kind == kind)
        with self.fleet.database.reading() as session:
            return list(session.scalars(query.order_by(JobMetric.step)))

    def events(self, job_id: str, kind: str) -> list[JobEvent]:
        return [event for event in self.fleet.events(job_id) if event.type == kind]

    def clear(self) -> None:
        """Remove everything that could affect the next test."""
        for path in (self._hook / "stop-at", self._held):
            path.unlink(missing_ok=True)
        with self.fleet.database.reading() as session:
            left = list(session.scalars(select(Job.id).where(Job.finished_at.is_(None))))
        for job_id in left:
            self._act(jobs.cancel, job_id)
            wait_for(lambda: JobState(self.fleet.job(job_id).state).is_final)  # noqa: B023


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    folder = tmp_path_factory.mktemp("exactness")
    hook = folder / "hook"
    hook.mkdir()
    shutil.copyfile(Path(__file__).with_name("gate.py"), hook / "sitecustomize.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(hook))
        yard = Yard(folder / "data", hook)
        yield yard
        yard.fleet.stop()


@pytest.fixture
def yard(running: Yard) -> Iterator[Yard]:
    yield running
    running.clear()


def ends_with_the_same_bits(yard: Yard, seed: int, plan: Plan) -> None:
    expected = yard.undisturbed(seed)
    job = yard.wait(yard.interrupt(seed, plan))
    reasons = [reason for way, _ in plan for reason in ["claimed", *WAYS[way]]]
    assert [event.reason for event in yard.events(job.id, "state")] == ["submitted", *reasons, "claimed", "finished"]
    assert (job.attempt, job.failures) == (len(plan) + 1, 0), "the checkpoints since then set the count back"
    first, *later = [event.data for event in yard.events(job.id, "started")]
    assert first["step"] == 0
    for (way, step), start in zip(plan, later, strict=True):
        assert start["bit_exact"]
        if way == KILLED:
            assert start["step"] <= step
        else:
            assert step <= start["step"] <= step + 1
            assert start["resumed_from"] is not None
    assert job.weights_sha256 == expected.weights_sha256, (plan, [start["step"] for start in later])
    assert job.test == expected.test
    assert yard.epochs(job.id) == yard.epochs(expected.id)


def plan_one(seed: int, way: str) -> Plan:
    return [(way, random.Random(f"{seed} {way}").randint(1, STEPS))]


@pytest.mark.end_to_end
@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_an_interrupted_job_ends_with_the_bits_of_an_undisturbed_one(yard: Yard, way: str) -> None:
    ends_with_the_same_bits(yard, 0, plan_one(0, way))


@pytest.mark.chaos
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(1, 21))
def test_twenty_interrupted_jobs_end_with_the_bits_of_undisturbed_ones(yard: Yard, seed: int, way: str) -> None:
    ends_with_the_same_bits(yard, seed, plan_one(seed, way))


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(1, 5))
def test_a_job_that_is_interrupted_six_times_ends_with_the_bits_of_an_undisturbed_one(yard: Yard, seed: int) -> None:
    rng = random.Random(seed)
    steps = [3 * third for third in sorted(rng.sample(range(1, STEPS // 3), 6))]  # a stop takes effect a step later
    ways = [*WAYS, *WAYS]
    rng.shuffle(ways)
    ends_with_the_same_bits(yard, seed, list(zip(ways, steps, strict=True)))


@pytest.mark.chaos
def test_no_two_of_the_undisturbed_jobs_are_the_same(running: Yard) -> None:
    assert len({running.undisturbed(seed).weights_sha256 for seed in range(1, 21)}) == 20
