"""The routes as OpenAI's own package uses them, and what only other clients would send."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.api.served import Served, error_of
from trainyard.database.tables import Job
from trainyard.jobs import jobs
from trainyard.scheduling import leases
from trainyard.scheduling.leases import Ending, Lease

PATH = "/v1/fine_tuning/jobs"


def test_a_job_is_made_and_is_an_ordinary_one(served: Served, client: OpenAI) -> None:
    made = client.fine_tuning.jobs.create(
        model="quick",
        training_file="digits",
        suffix="first",
        seed=7,
        metadata={"team": "vision"},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": 16, "learning_rate_multiplier": 0.5}},
        },
    )
    job = served.http.get(f"/jobs/{made.id}").json()
    usual = served.http.get("/recipes/quick").json()["config"]["lr"]
    assert (made.object, made.status, made.model, made.seed) == ("fine_tuning.job", "queued", "quick", 7)
    assert (made.training_file, made.metadata) == ("ds_digits", {"team": "vision"})
    assert made.method is not None
    assert made.method.supervised is not None
    assert made.method.supervised.hyperparameters is not None
    for told in (made.method.supervised.hyperparameters, made.hyperparameters):
        assert told.to_dict() == {"n_epochs": 3, "batch_size": 16, "learning_rate_multiplier": 0.5}
    assert (job["name"], job["config"]["epochs"], job["config"]["batch_size"]) == ("first", 3, 16)
    assert job["config"]["lr"] == usual / 2
    assert (made.fine_tuned_model, made.finished_at, made.error) == (None, None, None)


def test_the_older_form_and_the_fitting_recipe(client: OpenAI) -> None:
    given: Any = {"n_epochs": 2, "learning_rate_multiplier": 2, "batch_size": "auto"}
    made = client.fine_tuning.jobs.create(model="alexnet", training_file="ds_digits", hyperparameters=given)
    assert (made.model, made.hyperparameters.n_epochs) == ("quick", 2)
    assert made.hyperparameters.learning_rate_multiplier == 2.0
    assert isinstance(made.hyperparameters.batch_size, int)


def test_pages_and_filters(client: OpenAI) -> None:
    made = [
        client.fine_tuning.jobs.create(model="quick", training_file="digits", metadata={"n": str(n % 2)}).id
        for n in range(5)
    ]
    assert [job.id for job in client.fine_tuning.jobs.list(limit=2)] == made[::-1]
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"n": "1"})] == [made[3], made[1]]


def test_pause_resume_and_cancel(client: OpenAI) -> None:
    job_id = client.fine_tuning.jobs.create(model="quick", training_file="digits").id
    assert str(client.fine_tuning.jobs.pause(job_id).status) == "paused"
    assert client.fine_tuning.jobs.resume(job_id).status == "queued"
    assert client.fine_tuning.jobs.cancel(job_id).status == "cancelled"
    with pytest.raises(openai.ConflictError, match="cancelled"):
        client.fine_tuning.jobs.resume(job_id)
    assert client.fine_tuning.jobs.retrieve(job_id).finished_at is not None


def test_events_come_newest_first_in_pages(client: OpenAI) -> None:
    job_id = client.fine_tuning.jobs.create(model="quick", training_file="digits").id
    client.fine_tuning.jobs.pause(job_id)
    client.fine_tuning.jobs.resume(job_id)
    events = list(client.fine_tuning.jobs.list_events(job_id, limit=2))
    assert [event.message for event in events] == [
        "The job is queued (resumed)",
        "The job is paused (paused)",
        "The job is queued (submitted)",
    ]
    assert {event.level for event in events} == {"info"}
    assert {event.object for event in events} == {"fine_tuning.job.event"}


def test_checkpoints_and_the_best_of_a_job_that_succeeded(served: Served, client: OpenAI) -> None:
    job_id = served.add_job()
    made = [served.add_checkpoint(job_id, epoch).id for epoch in (1, 2)]
    assert client.fine_tuning.jobs.retrieve(job_id).status == "running"
    assert client.fine_tuning.jobs.retrieve(job_id).fine_tuned_model is None
    found = list(client.fine_tuning.jobs.checkpoints.list(job_id))
    assert [it.id for it in found] == made[::-1]
    newest = found[0]
    assert (newest.fine_tuned_model_checkpoint, newest.fine_tuning_job_id, newest.step_number) == (made[1], job_id, 20)
    assert (newest.metrics.full_valid_mean_token_accuracy, newest.metrics.valid_loss) == (0.5, None)
    end(served, job_id, Ending(succeeded=True))
    done = client.fine_tuning.jobs.retrieve(job_id)
    assert done.status == "succeeded"
    assert done.fine_tuned_model in made


def test_a_failure_is_told(served: Served, client: OpenAI) -> None:
    job_id = served.add_job()
    end(served, job_id, Ending(failure="diverged", message="the loss is not finite"))
    failed = client.fine_tuning.jobs.retrieve(job_id)
    assert failed.error is not None
    assert (failed.status, failed.error.code, failed.error.message) == ("failed", "diverged", "the loss is not finite")
    assert client.fine_tuning.jobs.list_events(job_id).data[0].level == "error"


def end(served: Served, job_id: str, ending: Ending) -> None:
    with served.database.writing() as session:
        job: Job = jobs.get_job(session, "local", job_id)
        leases.end_attempt(session, Lease(job.id, job.lease_epoch, "wrk_test"), ending, first_backoff_s=1)


@pytest.mark.parametrize(
    ("wrong", "status", "code", "param"),
    [
        ({"training_file": "nowhere"}, 404, "dataset_not_found", "training_file"),
        ({"model": "gpt-4o"}, 422, "recipe_unknown", "model"),
        ({"model": "gpt-4o", "hyperparameters": {"learning_rate_multiplier": 2}}, 422, "recipe_unknown", "model"),
        ({"hyperparameters": {"n_epochs": 2000}}, 422, "config_invalid", "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": 0}}, 422, "invalid_request", None),
        ({"validation_file": "digits"}, 422, "invalid_request", "validation_file"),
        ({"integrations": [{"type": "wandb"}]}, 422, "invalid_request", "integrations"),
        ({"method": {"type": "dpo"}}, 422, "invalid_request", "method.type"),
        ({"method": None, "n_epochs": 1}, 422, "invalid_request", "n_epochs"),
    ],
)
def test_what_cannot_be_done_is_refused(
    http: httpx.Client, wrong: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    error = error_of(http.post(PATH, json={"model": "quick", "training_file": "digits"} | wrong), status, code)
    assert param is None or error["param"] == param


def test_unknown_jobs_and_pages(client: OpenAI, http: httpx.Client) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.fine_tuning.jobs.retrieve("job_0")
    assert (caught.value.code, caught.value.param) == ("job_not_found", "fine_tuning_job_id")
    job_id = client.fine_tuning.jobs.create(model="quick", training_file="digits").id
    error_of(http.get(f"{PATH}/{job_id}/events", params={"after": "x"}), 422, "invalid_request")
    for below in ("events", "checkpoints"):
        error_of(http.get(f"{PATH}/job_0/{below}"), 404, "job_not_found")
