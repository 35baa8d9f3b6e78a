"""An API and two workers on three machines: nothing in common but the database, the queue and an object store."""

from __future__ import annotations

import io
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests import object_store
from tests.integration.fleet import Fleet, wait_for
from tests.object_store import DurableObjectServer, ObjectServer
from trainyard.states import JobState

JOB = {"epochs": 2, "image_px": 16, "batch_size": 64}
FREEZE_S = 8.0


class Machines(Fleet):
    """Every process has a data folder of its own."""

    def __init__(self, folder: Path, server: ObjectServer) -> None:
        named = server.settings(folder)
        super().__init__(
            folder, database_url=f"sqlite:///{folder / 'trainyard.db'}", storage_url=named.storage_url,
            storage_endpoint=named.storage_endpoint, storage_access_key=named.storage_access_key,
            storage_secret_key=named.storage_secret_key, storage_region=named.storage_region, storage_timeout_s=2,
            lease_ttl_s=5, tick_s=0.2, reaper_s=0.5, idle_poll_s=1, recovery_every_s=1, backoff_s=0.1,
        )  # fmt: skip
        (folder / "logs").mkdir(exist_ok=True)

    def _start(self, command: list[str], log_path: Path, clock: str | None, **settings: str) -> subprocess.Popen[bytes]:
        own = self.folder / f"machine-{len(self.workers) + len(self.others)}"
        return super()._start(command, log_path, clock, TRAINYARD_DATA_DIR=str(own), **settings)


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    with object_store.serving() as running:
        yield running


@pytest.fixture
def machines(server: ObjectServer, tmp_path: Path) -> Iterator[Machines]:
    fleet = Machines(tmp_path / "fleet", server)
    yield fleet
    fleet.stop()


@pytest.mark.end_to_end
@pytest.mark.slow
def test_three_machines_train_resume_each_others_jobs_and_serve(machines: Machines) -> None:
    workers = [machines.start_worker(), machines.start_worker()]
    url = machines.start_api()
    disturbed, undisturbed = machines.submit(JOB), machines.submit(JOB)
    wait_for(lambda: machines.job(disturbed).latest_checkpoint_id)
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as api:
        log = wait_for(lambda: api.get(f"/jobs/{disturbed}/logs").text)
        assert "training on cpu" in log, "it is read while the job runs"
        holder = machines.job(disturbed).lease_owner
        (victim,) = [worker for worker in workers if machines.worker_id(worker) == holder]
        victim.kill()
        victim.wait()
        for job_id in (disturbed, undisturbed):
            wait_for(lambda: machines.job(job_id).state.is_final)  # noqa: B023
        jobs = [machines.job(job_id) for job_id in (disturbed, undisturbed)]
        assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 2, [job.error for job in jobs]
        assert jobs[0].attempt > 1
        resumed = [event for event in machines.events(disturbed) if event.type == "started"][-1]
        assert resumed.worker_id != holder
        assert resumed.data["resumed_from"], "it went on from what the other machine had published"
        assert jobs[0].weights_sha256 == jobs[1].weights_sha256
        assert {event.reason for event in machines.events(disturbed)} & {
            "checkpoint_corrupt",
            "checkpoint_missing",
        } == set()
        check_what_is_served(api, disturbed)


@pytest.mark.end_to_end
@pytest.mark.slow
def test_a_store_that_freezes_while_jobs_train_loses_nothing(machines: Machines, server: ObjectServer) -> None:
    machines.start_worker()
    url = machines.start_api()
    disturbed = machines.submit(JOB)
    wait_for(lambda: machines.job(disturbed).latest_checkpoint_id)
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as api:
        server.freeze()
        try:
            began = time.monotonic()
            assert api.get(f"/jobs/{disturbed}").status_code == 200
            answer = api.get(f"/jobs/{disturbed}/logs")
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
            readiness = api.get("/readyz")
            assert (readiness.status_code, readiness.json()["storage"]) == (200, "degraded")
            time.sleep(max(0.0, FREEZE_S - (time.monotonic() - began)))
            job = machines.job(disturbed)
            assert (job.state, job.attempt) == (JobState.RUNNING, 1), "heartbeats go on for longer than a lease"
        finally:
            server.wake()
        wait_for(lambda: machines.job(disturbed).state.is_final)
        job = machines.job(disturbed)
        assert (job.state, job.attempt, job.failures) == (JobState.SUCCEEDED, 1, 0)
        check_what_is_served(api, disturbed)
        undisturbed = machines.submit(JOB)
        wait_for(lambda: machines.job(undisturbed).state.is_final)
        assert machines.job(undisturbed).weights_sha256 == job.weights_sha256


@pytest.mark.chaos
@pytest.mark.end_to_end
def test_a_store_that_is_killed_while_a_job_trains_comes_back_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SeaweedFS: moto would come back empty."""
    for name, value in object_store.AWS.items():
        monkeypatch.setenv(name, value)
    store = DurableObjectServer(tmp_path / "store")
    store.start()
    machines = Machines(tmp_path / "fleet", store)
    try:
        machines.start_worker()
        url = machines.start_api()
        disturbed = machines.submit(JOB)
        wait_for(lambda: machines.job(disturbed).latest_checkpoint_id)
        store.kill()
        time.sleep(FREEZE_S)
        job = machines.job(disturbed)
        assert (job.state, job.attempt) == (JobState.RUNNING, 1), "it trains and keeps its lease without the store"
        store.start()
        undisturbed = machines.submit(JOB)
        for job_id in (disturbed, undisturbed):
            wait_for(lambda: machines.job(job_id).state.is_final)  # noqa: B023
        jobs = [machines.job(job_id) for job_id in (disturbed, undisturbed)]
        assert [(job.state, job.failures) for job in jobs] == [(JobState.SUCCEEDED, 0)] * 2, [job.error for job in jobs]
        assert jobs[0].attempt == 1
        assert jobs[0].weights_sha256 == jobs[1].weights_sha256
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as api:
            check_what_is_served(api, disturbed)
    finally:
        machines.stop()
        store.stop()


@pytest.mark.end_to_end
@pytest.mark.slow
def test_a_worker_whose_store_is_another_one_takes_no_job_and_says_why(
    machines: Machines, server: ObjectServer
) -> None:
    own = machines.start_worker()
    first = machines.submit({"epochs": 1})
    wait_for(lambda: machines.job(first).state.is_final)
    own.kill()
    own.wait()
    machines.settings.storage_url = f"s3://{object_store.BUCKET}/another"
    stranger = machines.start_worker()
    second = machines.submit({"epochs": 1})
    wait_for(lambda: "this worker takes no job" in machines.log(stranger))
    assert "store-id" in machines.log(stranger)
    time.sleep(2)
    assert machines.job(second).state is JobState.QUEUED
    assert "test-secret" not in machines.log(stranger)


def check_what_is_served(api: httpx.Client, job_id: str) -> None:
    """Predictions, the log to its end, curves, event files and the checkpoint."""
    image = io.BytesIO()
    Image.new("L", (16, 16), 128).save(image, "PNG")
    headers = {"Content-Type": "image/png"}

    def predict() -> Any:
        answer = api.post(f"/predict?model={job_id}", content=image.getvalue(), headers=headers)
        return answer.json() if answer.status_code == 200 else None

    assert wait_for(predict)["model"]["job"] == job_id
    wait_for(lambda: "succeeded at step" in api.get(f"/jobs/{job_id}/logs").text)
    assert api.get(f"/jobs/{job_id}/curves.png").status_code == 200
    assert api.get(f"/jobs/{job_id}/metrics").json()["by_epoch"][-1]["epoch"] == JOB["epochs"]
    checkpoint = api.get(f"/jobs/{job_id}/checkpoints").json()["data"][0]["id"]
    for what, expected in (("checkpoint", "weights.safetensors"), ("tensorboard", "tfevents")):
        answer = api.get(f"/checkpoints/{checkpoint}/download", params={"what": what})
        assert answer.status_code == 200, answer.text
        with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
            assert any(expected in name for name in tar.getnames())
