"""What an experiment tracker is told of a job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from trainyard.client.models import Job
from trainyard.client.series import Metrics
from trainyard.tracking.exported_job import ExportedJob

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def exported(**changes: Any) -> ExportedJob:
    job = {
        "id": "job_1", "name": None, "dataset": "ds_1", "recipe": "quick", "seed": 7, "init_from": None,
        "config": {"epochs": 2, "optimiser": {"name": "sgd", "momentum": 0.9}, "mean": [0.5, 0.25], "crop": {}},
        "created_at": "2026-01-02T03:00:00Z", "started_at": "2026-01-02T03:04:05Z", "finished_at": None,
        "state": "running", "best": None, "latest_checkpoint": None, "test": None,
    }  # fmt: skip
    by_step = [
        {"step": 5, "train_loss": 2.0, "lr": 0.1, "seconds": 1.5},
        {"step": 9, "train_loss": None, "lr": 0.1, "seconds": 3.0},
    ]
    by_epoch = [{"step": 10, "epoch": 1, "train_loss": 1.5, "val_top1": 0.5, "seconds": 4.0}]
    metrics = {"by_step": by_step, "by_epoch": by_epoch}
    return ExportedJob(Job.read(job | changes), None, Metrics.read(metrics))


def test_options_within_options_have_a_dot_in_their_names() -> None:
    assert exported().list_parameters() == {
        "dataset": "ds_1", "dataset_id": "ds_1", "recipe": "quick", "seed": 7, "epochs": 2,
        "optimiser.name": "sgd", "optimiser.momentum": 0.9, "mean": [0.5, 0.25], "crop": {},
    }  # fmt: skip


def test_points_are_in_the_order_of_steps_at_the_time_of_training_and_without_what_is_no_number() -> None:
    points = [(point.step, point.at, point.values) for point in exported().list_points()]
    assert points == [
        (5, START + timedelta(seconds=1.5), {"train/loss": 2.0, "train/lr": 0.1}),
        (9, START + timedelta(seconds=3), {"train/lr": 0.1}),
        (10, START + timedelta(seconds=3), {"epoch": 1.0, "train/epoch_loss": 1.5, "val/top1": 0.5}),
    ]


def test_the_results_on_the_test_images_stand_at_the_last_step_of_a_job_that_has_ended() -> None:
    test = {"loss": 0.5, "top1": 0.75, "top5": None, "num_images": 8}
    last = exported(state="succeeded", test=test).list_points()[-1]
    assert last.values | {"test/loss": 0.5, "test/top1": 0.75} == last.values
    assert "test/loss" not in exported(test=test).list_points()[-1].values


def test_a_job_that_never_ran_began_when_it_was_made_and_has_no_checkpoint() -> None:
    job = exported(started_at=None)
    assert (job.started_at.hour, job.started_at.minute, job.checkpoint) == (3, 0, None)
    assert exported(best={"checkpoint": "ckpt_1"}, latest_checkpoint="ckpt_2").checkpoint == "ckpt_1"
