"""`GET /jobs/{job_id}/evaluation`: what a trainer wrote, and why there may be nothing."""

from __future__ import annotations

import pytest

from alexnet_core.evaluation.job_evaluation import Record, append_record
from alexnet_core.layout import evaluation_key
from tests.alexnet_core.evaluation.test_job_evaluation import evaluation
from tests.api.served import Served, error_of
from trainyard.client import Client
from trainyard.database.ids import new_id
from trainyard.scheduling import leases
from trainyard.scheduling.leases import Ending, Lease


def end(served: Served, job_id: str, state: str = "succeeded") -> None:
    ending = Ending(succeeded=True) if state == "succeeded" else Ending(failure="diverged")
    if state != "running":
        with served.database.writing() as session:
            leases.end_attempt(session, Lease(job_id, 1, "wrk_test"), ending, first_backoff_s=1)


def write(served: Served, job_id: str, *states: str) -> None:
    for state in states:
        found = evaluation() if state == "done" else None
        record = Record.model_validate({"state": state, "lease_epoch": 1, "evaluation": found})
        append_record(served.settings.data_dir / evaluation_key(job_id), record)


def test_it_tells_which_labels_are_likely_wrong_and_where_to_look_at_them(served: Served) -> None:
    job_id = served.add_job()
    write(served, job_id, "begun", "done")
    end(served, job_id)
    response = served.http.get(f"/jobs/{job_id}/evaluation")
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["object"], body["job"], body["dataset"]) == ("job.evaluation", job_id, "ds_digits")
    assert (body["num_images"], body["top1"], body["hardest"]) == (0, None, [])
    assert body["label_errors"]["num_found"] == 1
    (image,) = body["label_errors"]["images"]
    assert image == {
        "split": "train", "index": 4, "position": 7, "file": "cats/ä.png", "label": "cats", "suggested": "dogs",
        "confidence": 0.75, "url": "/datasets/ds_digits/images/train/4",
    }  # fmt: skip


def test_the_client_returns_it_too(served: Served) -> None:
    job_id = served.add_job()
    write(served, job_id, "begun", "done")
    end(served, job_id)
    with Client(served.url) as client:
        assert client.get_evaluation(job_id)["label_errors"]["num_found"] == 1


def test_it_is_sent_once(served: Served) -> None:
    job_id = served.add_job()
    write(served, job_id, "begun", "done")
    end(served, job_id)
    tag = served.http.get(f"/jobs/{job_id}/evaluation").headers["etag"]
    again = served.http.get(f"/jobs/{job_id}/evaluation", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("states", [(), ("begun",), ("begun", "stopped")])
def test_a_job_without_one_says_what_to_do(served: Served, states: tuple[str, ...]) -> None:
    job_id = served.add_job()
    write(served, job_id, *states)
    end(served, job_id)
    error = error_of(served.http.get(f"/jobs/{job_id}/evaluation"), 404, "evaluation_not_found")
    assert "python -m alexnet_core evaluate" in error["message"]
    assert error["param"] == "job_id"


@pytest.mark.parametrize(("state", "why"), [("running", "at the end"), ("failed", "only a job that succeeds")])
def test_only_a_job_that_has_succeeded_has_one(served: Served, state: str, why: str) -> None:
    job_id = served.add_job()
    write(served, job_id, "begun", "done")
    end(served, job_id, state)
    assert why in error_of(served.http.get(f"/jobs/{job_id}/evaluation"), 404, "evaluation_not_found")["message"]


def test_one_that_is_damaged_is_no_error_of_the_api(served: Served) -> None:
    job_id = served.add_job()
    write(served, job_id, "begun", "done")
    path = served.settings.data_dir / evaluation_key(job_id)
    path.write_bytes(path.read_bytes()[:-50])
    end(served, job_id)
    error_of(served.http.get(f"/jobs/{job_id}/evaluation"), 404, "evaluation_not_found")


def test_an_unknown_job_is_not_found(served: Served) -> None:
    error_of(served.http.get(f"/jobs/{new_id('job')}/evaluation"), 404, "job_not_found")


def test_it_goes_with_the_job(served: Served) -> None:
    job_id = served.add_job()
    write(served, job_id, "begun", "done")
    end(served, job_id)
    assert served.http.delete(f"/jobs/{job_id}").status_code == 204
    assert not (served.settings.data_dir / evaluation_key(job_id)).exists()
