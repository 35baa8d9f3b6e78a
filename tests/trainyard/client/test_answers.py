"""Answers: typed where they fit, and nothing of them is lost where they do not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from trainyard.client.models import Canary, Progress, QueuedJob

QUEUED: dict[str, Any] = {
    "id": "job_1", "object": "queued_job", "position": 1, "waiting_for": "a_free_slot", "name": None,
    "dataset": "ds_1", "recipe": None, "priority": 0, "queued_at": "2026-01-02T03:04:05Z", "due_at": None, "links": {},
}  # fmt: skip


def test_fields_have_their_types_and_brackets_give_the_json() -> None:
    job = QueuedJob.read(QUEUED)
    assert job.queued_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert job["queued_at"] == "2026-01-02T03:04:05Z"
    assert job.to_json() is QUEUED
    assert dict(job) == QUEUED
    assert job == QUEUED
    assert job == QueuedJob.read(dict(QUEUED))
    assert job != QueuedJob.read(QUEUED | {"position": 2})
    assert ("position" in job, "nothing" in job, job.get("nothing", 3)) == (True, False, 3)


def test_a_newer_yard_may_answer_more_and_other_values() -> None:
    job = QueuedJob.read(QUEUED | {"colour": "red", "waiting_for": "the_moon"})
    assert (job["colour"], job["waiting_for"], job.waiting_for, job.position) == ("red", "the_moon", "the_moon", 1)
    assert job.queued_at.year == 2026, "what fits has its type"


def test_an_older_yard_may_answer_less() -> None:
    found = QueuedJob.read({"id": "job_1", "position": 3})
    assert (found.id, found.position) == ("job_1", 3)
    with pytest.raises(AttributeError, match="priority"):
        _ = found.priority
    with pytest.raises(KeyError):
        found["priority"]


def test_an_answer_that_was_made_here_has_its_json_too() -> None:
    canary = Canary(checkpoint="ckpt_1", job="job_1", epoch=1, weights_sha256="a", share=0.5)
    assert canary["share"] == 0.5
    assert Progress.model_validate({"epoch": 1, "epochs": 2, "step": 3, "steps": 4, "fraction": 0.5,
                                    "images_per_s": None, "eta_s": None})["steps"] == 4  # fmt: skip
