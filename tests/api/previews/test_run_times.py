from __future__ import annotations

import socket
from typing import Any

import pytest
from sqlalchemy import update

from alexnet_core.config import DatasetFacts
from alexnet_core.recipes import resolve
from api.previews import run_times
from api.previews.run_times import Estimate, Plan, estimate_time
from api.schemas.runs.previews import Basis
from tests.api.served import Served
from trainyard.database.connection import Database
from trainyard.database.ids import new_id
from trainyard.database.tables import Dataset, Job, JobMetric
from trainyard.jobs.finished_runs import FinishedRun
from trainyard.scheduling import leases, workers
from trainyard.scheduling.workers import WorkerIdentity
from trainyard.states import EventType, MetricKind

FACTS = DatasetFacts(
    name="toys",
    num_classes=2,
    class_names=("a", "b"),
    image_px=32,
    channels=3,
    flip_safe=True,
    num_train=100,
    num_val=0,
)
PEAK = 1e11


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[FinishedRun]:
    """What the owner has finished."""
    known: list[FinishedRun] = []
    monkeypatch.setattr(run_times, "list_finished_runs", lambda session, owner: known)
    monkeypatch.setattr(run_times, "measure_flops_per_s", lambda: PEAK)
    return known


def plan(facts: DatasetFacts = FACTS, **overrides: Any) -> Plan:
    recipe, config = resolve("quick", {"epochs": 4} | overrides, facts)
    return Plan(recipe, config, facts)


def finished(like: Plan, image_s: float, *, around_s: float | None = 3.0, device: str = "cpu") -> FinishedRun:
    config, facts = like.config.model_dump(mode="json"), like.facts.model_dump(mode="json")
    epochs_s = image_s * 2 * (like.facts.num_train or 0)
    return FinishedRun(like.recipe, config, facts, device, epochs=2, epochs_s=epochs_s, around_s=around_s)


def estimate(database: Database, wanted: Plan) -> Estimate | None:
    with database.reading() as session:
        return estimate_time(session, "local", wanted)


def register(database: Database, host: str, *devices: str) -> None:
    with database.writing() as session:
        workers.register(session, WorkerIdentity(new_id("wrk"), host, 1, devices))


def test_runs_of_the_same_kind_are_measured(runs: list[FinishedRun], database: Database) -> None:
    """The time of an image counts, so other numbers of epochs and images do not matter."""
    other_size = FACTS.model_copy(update={"num_train": 50})
    runs += [finished(plan(), 0.01), finished(plan(other_size, epochs=9, lr=0.5), 0.02, device="cuda:0")]
    runs.append(finished(plan(width_multiplier=2.0), 9.0))
    found = estimate(database, plan())
    assert found == Estimate(400 * 0.01 / 1.25 + 3.0, 400 * 0.02 * 1.25 + 3.0, Basis.MEASURED, 2, ("cpu", "cuda:0"))


@pytest.mark.parametrize("differing", [{"batch_size": 16}, {"width_multiplier": 0.5}, {"precision": "fp32"}])
def test_other_runs_are_scaled_by_their_multiplications(
    runs: list[FinishedRun], database: Database, differing: dict[str, Any]
) -> None:
    other = plan(**differing)
    runs.append(finished(other, 0.01))
    found = estimate(database, plan())
    assert found is not None
    factor = plan().flops_per_image / other.flops_per_image
    assert (found.basis, found.num_runs) == (Basis.SCALED, 1)
    assert found.low_s == pytest.approx(400 * 0.01 * factor / 3 + 3)
    assert found.high_s == pytest.approx(400 * 0.01 * factor * 3 + 3)


def test_a_run_that_this_release_cannot_read_is_left_out(runs: list[FinishedRun], database: Database) -> None:
    known = finished(plan(), 0.01)
    runs += [
        FinishedRun(known.recipe, {"widths": "of tomorrow"}, known.facts, "cpu", 2, 1.0, None),
        FinishedRun(known.recipe, known.config, known.facts | {"num_train": None}, "cpu", 2, 1.0, None),
    ]
    assert estimate(database, plan()) is None
    runs.append(known)
    found = estimate(database, plan())
    assert found is not None
    assert found.num_runs == 1


def test_without_runs_this_machines_speed_counts_where_it_trains(runs: list[FinishedRun], database: Database) -> None:
    assert estimate(database, plan()) is None  # there is no worker
    register(database, socket.gethostname(), "cpu", "cpu")
    found = estimate(database, plan())
    assert found is not None
    flops = 400 * plan().flops_per_image
    assert found.basis is Basis.MACHINE
    assert found.low_s < flops / PEAK + 2 < found.high_s


@pytest.mark.parametrize("device", [("elsewhere", "cpu"), (socket.gethostname(), "cuda:0")])
def test_another_machine_or_device_has_no_estimate(
    runs: list[FinishedRun], database: Database, device: tuple[str, str]
) -> None:
    register(database, socket.gethostname(), "cpu")
    register(database, *device)
    assert estimate(database, plan()) is None


def test_a_dataset_of_unknown_size_has_no_estimate(runs: list[FinishedRun], database: Database) -> None:
    runs.append(finished(plan(), 0.01))
    assert estimate(database, plan(FACTS.model_copy(update={"num_train": None}))) is None


def test_the_preview_of_a_finished_job_is_measured(served: Served) -> None:
    """From the rows that a worker writes."""
    body = {"dataset": "digits", "overrides": {"epochs": 4}}
    assert served.http.post("/recipes/preview", json=body).json()["seconds"] is None
    job_id = served.http.post("/jobs", json=body).json()["id"]
    with served.database.writing() as session:
        digits = session.get(Dataset, "ds_digits")
        assert digits is not None
        session.execute(update(Dataset).values(facts=digits.facts | {"num_train": 1000, "num_val": 0, "num_test": 10}))
        claimed = leases.claim(session, "wrk_test", 60)
        assert claimed is not None
        leases.report_event(session, claimed[1], EventType.STARTED, data={"device": "cpu"})
        metric = {"job_id": job_id, "kind": MetricKind.EPOCH, "epoch": 1, "lease_epoch": 1, "at": 0.0}
        session.add(JobMetric(step=10, data={"seconds": 5.0}, **metric))
        session.flush()
        leases.end_attempt(session, claimed[1], leases.Ending(succeeded=True), first_backoff_s=1)
        session.execute(update(Job).where(Job.id == job_id).values(started_at=100.0, finished_at=107.0))
    seconds = served.http.post("/recipes/preview", json=body).json()["seconds"]
    assert seconds["basis"] == "measured"
    assert (seconds["low"], seconds["high"]) == (18.0, 27.0)  # 4 * 5 s, a quarter less or more, and 2 s around them
    assert "1 finished job " in seconds["explanation"]
