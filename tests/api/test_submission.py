from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from alexnet_core.errors import UnknownRecipe
from alexnet_core.recipes import get_recipe
from api.schemas.jobs import JobCreate, JobRetry
from api.services import Services
from api.submission import TRIES, submit_job, submit_retry
from tests.api.served import Served
from trainyard.errors import Conflict, DatasetNotFound, IdempotencyConflict, IllegalTransition, InvalidRequest
from trainyard.jobs import idempotency, job_list, jobs

DIGITS = JobCreate(dataset="digits")


@pytest.fixture
def services(served: Served) -> Services:
    found: Services = served.app.state.services
    return found


def submit(services: Services, key: str | None, body: JobCreate = DIGITS) -> tuple[str, bool]:
    done = submit_job(services, "local", body, key)
    return done.job.id, done.is_new


def test_the_same_key_makes_one_job_and_no_key_makes_one_each_time(services: Services) -> None:
    first, is_new = submit(services, "key")
    assert is_new
    assert submit(services, "key") == (first, False)
    assert submit(services, None)[0] != submit(services, None)[0]
    with pytest.raises(IdempotencyConflict):
        submit(services, "key", JobCreate(dataset="digits", priority=1))


def test_a_refused_request_leaves_its_key_free(services: Services) -> None:
    with pytest.raises(DatasetNotFound):
        submit(services, "key", JobCreate(dataset="nope"))
    with pytest.raises(UnknownRecipe):
        submit(services, "key", JobCreate(dataset="digits", recipe="nope"))
    assert submit(services, "key")[1]


def lose_races(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """Let another request with the same key be committed first, so many times."""
    lost: list[int] = []
    real: Callable[..., Any] = idempotency.remember

    def remember(*args: Any) -> None:
        if len(lost) < number:
            lost.append(1)
            raise IntegrityError("the key is there", None, Exception())
        real(*args)

    monkeypatch.setattr(idempotency, "remember", remember)
    return lost


def test_a_lost_race_is_tried_again_and_leaves_one_job(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_races(monkeypatch, TRIES - 1)
    job_id, _ = submit(services, "key")
    with services.database.reading() as session:
        page = job_list.list_jobs(session, "local", limit=10)
    assert [job.id for job in page.items] == [job_id]


def test_races_lost_again_and_again_are_refused_for_now(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = lose_races(monkeypatch, 99)
    with pytest.raises(Conflict) as refused:
        submit(services, "key")
    assert (refused.value.retry_after_s, len(lost)) == (1, TRIES)


def test_a_job_that_has_not_ended_is_not_retried(services: Services) -> None:
    job_id, _ = submit(services, None)
    body = JobRetry.model_validate({"from": "start"})
    with pytest.raises(IllegalTransition):
        submit_retry(services, "local", job_id, body, None)
    with services.database.writing() as session:
        jobs.cancel(session, "local", job_id)
    again = submit_retry(services, "local", job_id, body, "key")
    assert (again.job.parent_id, again.is_new) == (job_id, True)
    assert not submit_retry(services, "local", job_id, body, "key").is_new


def test_first_weights_of_another_network_are_refused(served: Served, services: Services) -> None:
    checkpoint = served.add_checkpoint(served.add_job(), 1)
    with served.database.writing() as session:
        jobs.get_job(session, "local", checkpoint.job_id).config = get_recipe("quick").config.model_dump(mode="json")
    with pytest.raises(InvalidRequest) as refused:
        submit(services, None, JobCreate(dataset="digits", recipe="torchvision", init_from=checkpoint.id))
    assert refused.value.param == "init_from"
    assert "another network" in refused.value.message
