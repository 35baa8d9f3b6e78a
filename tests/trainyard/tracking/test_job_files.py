"""The files of a job, brought here for a tracker."""

from __future__ import annotations

import json
from pathlib import Path

from tests.api.served import Served
from tests.trainyard.tracking.conftest import end, train
from trainyard.client import Client
from trainyard.tracking.exported_job import read_job
from trainyard.tracking.job_files import bring_files


def bring(served: Served, job_id: str, folder: Path) -> list[str]:
    folder.mkdir()
    with Client(served.url) as client:
        exported = read_job(client, client.get_job(job_id))
        return [path.as_posix() for path in bring_files(client, exported, folder)]


def test_a_job_that_trains_has_no_evaluation_and_one_without_an_epoch_no_checkpoint(
    served: Served, tmp_path: Path
) -> None:
    job_id = served.add_job()
    assert bring(served, job_id, tmp_path / "1") == ["job.json"]
    train(served, job_id, 1, 2)
    assert bring(served, job_id, tmp_path / "2") == [
        "checkpoint/MODEL_CARD.md", "checkpoint/classes.json", "checkpoint/config.json", "checkpoint/manifest.json",
        "checkpoint/metadata.json", "checkpoint/preprocessing.json", "checkpoint/weights.safetensors", "job.json",
    ]  # fmt: skip
    assert (tmp_path / "2/checkpoint/config.json").read_bytes() == b"config.json of 2" * 100, "of the best epoch"
    assert job_id in (tmp_path / "2/checkpoint/MODEL_CARD.md").read_text()


def test_the_evaluation_of_a_job_that_has_succeeded_comes_along(served: Served, tmp_path: Path) -> None:
    job_id = served.add_job()
    end(served, job_id)
    assert bring(served, job_id, tmp_path / "1") == ["evaluation.json", "job.json"]
    assert json.loads((tmp_path / "1/evaluation.json").read_text())["job"] == job_id
    assert json.loads((tmp_path / "1/job.json").read_text())["state"] == "succeeded"
