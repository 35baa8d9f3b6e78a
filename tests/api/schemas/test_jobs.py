from __future__ import annotations

import json
import math

import pytest
from pydantic import ValidationError

from api.schemas.jobs import CheckpointRead, JobCreate, JobRead
from tests.api.served import Served
from trainyard.database.tables import Job
from trainyard.jobs import jobs
from trainyard.jobs.events import list_state_changes
from trainyard.scheduling.queue_view import Outlook
from trainyard.states import Desired

#: Columns that a client has no use for, or sees under another name.
NOT_SHOWN = {
    *("kind", "desired", "not_before", "slot", "claim_number", "lease_epoch", "lease_expires_at", "heartbeat_at"),
    *(
        "committed_step",
        "event_seq",
        "traceparent",
        "dataset_digest",
        "dataset_id",
        "labels",
        "lease_owner",
        "latest_checkpoint_id",
    ),
}


def test_a_field_of_a_job_is_a_column_or_says_where_it_comes_from() -> None:
    columns = {attribute.key for attribute in Job.__mapper__.column_attrs}
    sources = {field.validation_alias or name for name, field in JobRead.model_fields.items()}
    assert columns - sources == NOT_SHOWN - {"dataset_id", "labels", "lease_owner", "latest_checkpoint_id"}
    assert sources - columns == {"object", "state_history", "waiting_for", "queue_position"}


def test_a_job_is_told_from_its_row(served: Served) -> None:
    job_id = served.add_job()
    with served.database.writing() as session:
        job = jobs.get_job(session, "local", job_id)
        job.progress = {"step": 5, "steps": None, "eta_s": math.nan, "fraction": 0.25}
        job.metrics = {"val_loss": math.inf}
        job.desired = Desired.PAUSE
    with served.database.reading() as session:
        job = jobs.get_job(session, "local", job_id)
        changes = list_state_changes(session, [job_id])[job_id]
        shown = JobRead.of(job, changes, outlook=Outlook(0.0, 0, None, {}), position=None)
    told = json.loads(shown.model_dump_json())
    assert told["state"] == "pausing"
    assert told["worker"] == "wrk_test"
    assert told["dataset"] == "ds_digits"
    assert told["progress"] == {
        "epoch": 0,
        "epochs": 3,
        "step": 5,
        "steps": None,
        "fraction": 0.25,
        "images_per_s": None,
        "eta_s": None,
    }
    assert told["metrics"] == {"val_loss": None}
    assert [change["state"] for change in told["state_history"]] == ["queued", "running"]
    assert told["links"]["predict"] == f"/predict?model={job_id}"
    assert list(told) == [*JobRead.model_fields, "links"]


def test_a_checkpoint_lists_the_files_that_a_download_holds(served: Served) -> None:
    files = {"weights.safetensors": b"w", "state/rng": b"s"}
    row = served.add_checkpoint(served.add_job(), 1, files={"weights.safetensors": b"w"})
    row.files = {name: {"size": len(data)} for name, data in files.items()}
    shown = CheckpointRead.of(row, is_best=True)
    assert set(shown.files) == {"weights.safetensors"}
    assert shown.metrics == {"val_top1": 0.5, "val_loss": None}
    assert (shown.job, shown.is_best, shown.links["job"]) == (row.job_id, True, f"/jobs/{row.job_id}")


@pytest.mark.parametrize("body", [{}, {"dataset": "digits", "priority": "1"}, {"dataset": "a\x00"}])
def test_a_body_that_is_not_exactly_right_is_refused(body: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        JobCreate.model_validate(body)
