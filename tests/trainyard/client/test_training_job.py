"""`client.train(…)`, what it returns, and the same awaited, against a real API without a worker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from tests.api.conftest import database, runtime, serve, served, settings
from tests.api.served import Served, png
from trainyard.client import AsyncClient, Client, JobFailed, NotFound
from trainyard.scheduling.leases import Ending, Lease, end_attempt

__all__ = ["database", "runtime", "serve", "served", "settings"]


def end(served: Served, job_id: str) -> None:
    with served.database.writing() as session:
        end_attempt(session, Lease(job_id, 1, "wrk_test"), Ending(succeeded=True), first_backoff_s=1)


def test_a_job_is_begun_waited_for_asked_and_removed(served: Served, tmp_path: Path) -> None:
    with Client(served.url) as client:
        queued = client.train("digits", recipe="quick", overrides={"epochs": 3}, name="mine", seed=5)
        assert (queued.state, queued.data.config["epochs"], queued.data.seed) == ("queued", 3, 5)
        assert repr(queued) == f"<job {queued.id}: queued, epoch 0 of 3>"
        assert queued.pause().state == "paused"
        assert queued.resume().state == "queued"
        assert queued.cancel().state == "cancelled"
        with pytest.raises(JobFailed, match="was cancelled"):
            queued.wait()
        again = queued.retry(origin="start")
        assert again.data.parent_id == queued.id
        again.cancel()
        again.delete()
        with pytest.raises(NotFound):
            again.refresh()

        job = client.job(served.add_job())
        with pytest.raises(ValueError, match="no checkpoint yet"):
            job.download(tmp_path / "x.tar")
        served.add_checkpoint(job.id, 1)
        end(served, job.id)
        assert job.wait(timeout_s=10).state == "succeeded"
        assert job.metrics().job == job.id
        assert [checkpoint.epoch for checkpoint in job.checkpoints()] == [1]
        image = np.full((8, 8, 3), 255, np.uint8)
        answer = job.predict(image, top_k=2)
        assert (answer.predictions[0].label, answer.model.job) == ("bright", job.id)
        (tmp_path / "dark.png").write_bytes(png(0))
        answers = job.predict_all([image, tmp_path / "dark.png"])
        assert [each.predictions[0].label for each in answers] == ["bright", "dark"]
        told: list[tuple[int, int]] = []
        job.download(tmp_path / "x.tar", on_received=lambda *counts: told.append(counts))
        assert told[-1][0] == (tmp_path / "x.tar").stat().st_size > 0


def test_a_source_that_is_not_there_is_said(served: Served) -> None:
    with Client(served.url) as client:
        for source in (Path("nothing"), "./nothing"):
            with pytest.raises(FileNotFoundError):
                client.train(source)
        with pytest.raises(NotFound, match="dataset_not_found"):
            client.train("nothing")


def test_a_folder_is_uploaded_with_its_options(served: Served, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        (tmp_path / "pictures" / name / "1.png").write_bytes(png())
    with Client(served.url) as client:
        job = client.train(tmp_path / "pictures", dataset_options={"name": "mine", "image_px": 32})
        dataset = client.get_dataset(job.data.dataset)
        assert (dataset.name, dataset.state, job.data.waiting_for) == ("mine", "validating", "dataset")


def test_the_same_awaited(served: Served, tmp_path: Path) -> None:
    job_id = served.add_job()
    served.add_checkpoint(job_id, 1)
    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        (tmp_path / "pictures" / name / "1.png").write_bytes(png())

    async def work() -> None:
        async with AsyncClient(served.url) as client:
            job = await client.job(job_id)
            waiting = asyncio.create_task(job.wait(timeout_s=10, poll_s=0.01))
            await asyncio.sleep(0.05)
            end(served, job_id)
            assert (await waiting).state == "succeeded"
            assert [event.type async for event in client.iter_events(job_id)][-1] == "state"
            assert (await job.predict(png())).predictions[0].label == "bright"
            await job.download(tmp_path / "x.tar")
            trained = await client.train(tmp_path / "pictures")
            assert trained.data.waiting_for == "dataset"
            assert [each.id async for each in client.iter_jobs()] == [trained.id, job_id]

    asyncio.run(work())
    assert (tmp_path / "x.tar").stat().st_size > 0


def test_the_client_can_be_imported_from_the_top() -> None:
    import trainyard

    assert trainyard.Client is Client
    assert trainyard.AsyncClient is AsyncClient
    with pytest.raises(AttributeError):
        _ = trainyard.Nothing
