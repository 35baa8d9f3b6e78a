"""`models` of OpenAI's own package: recipes, aliases and checkpoints."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import openai
import pytest
from openai import OpenAI

from tests.api.keyed import WITH_KEYS, as_administrator, client_for
from tests.api.routes.fine_tuning.test_fine_tuning_jobs import end
from tests.api.served import Served, error_of
from trainyard.scheduling.leases import Ending

Serve = Callable[..., Served]


def test_models_are_recipes_aliases_and_checkpoints(served: Served, client: OpenAI) -> None:
    recipes = [model.id for model in client.models.list()]
    assert recipes[0] == "alexnet"
    assert {"quick", "paper-2012", "torchvision"} <= set(recipes)
    job_id = served.add_job()
    first, second = (served.add_checkpoint(job_id, epoch).id for epoch in (1, 2))
    assert served.http.put("/aliases/production", json={"checkpoint": first}).status_code == 201
    listed = [(model.id, model.owned_by) for model in client.models.list()]
    assert listed == [
        *((recipe, "trainyard") for recipe in recipes),
        *((name, "local") for name in ("latest", "production", second, first)),
    ]
    for model in client.models.list():
        assert client.models.retrieve(model.id) == model, "each is found by its id"
    assert {model.object for model in client.models.list()} == {"model"}


def test_a_model_that_is_retrieved_names_the_checkpoint_that_answers(served: Served, client: OpenAI) -> None:
    job_id = served.add_job()
    checkpoint = served.add_checkpoint(job_id, 1)
    for name in (checkpoint.id, job_id, f"{job_id}@latest", f"{job_id}@epoch-1", "latest"):
        found = client.models.retrieve(name)
        assert (found.id, found.to_dict()["checkpoint"], found.to_dict()["job"]) == (name, checkpoint.id, job_id)
        assert found.created == int(checkpoint.created_at)
    quick = client.models.retrieve("quick").to_dict()
    assert (quick["created"], quick["checkpoint"], quick["job"]) == (0, None, None)


def test_what_a_job_answers_with_is_a_model(served: Served, client: OpenAI) -> None:
    job_id = served.add_job()
    served.add_checkpoint(job_id, 1)
    end(served, job_id, Ending(succeeded=True))
    job = client.fine_tuning.jobs.retrieve(job_id)
    assert job.fine_tuned_model is not None
    assert client.models.retrieve(job.model).id == job.model
    assert client.models.retrieve(job.fine_tuned_model).id == job.fine_tuned_model


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("gpt-4o", "model_not_found"),
        ("GPT 4", "model_not_found"),
        ("latest", "model_not_found"),
        ("ckpt_0000000000000000000000000a", "checkpoint_not_found"),
        ("job_0000000000000000000000000a", "job_not_found"),
        ("ckpt_%00", "model_not_found"),
    ],
)
def test_an_unknown_model_is_not_found(http: httpx.Client, name: str, code: str) -> None:
    error = error_of(http.get(f"/v1/models/{name}"), 404, code)
    assert error["param"] == "model"


def test_an_alias_and_a_job_are_deleted_as_models(served: Served, client: OpenAI) -> None:
    job_id = served.add_job()
    checkpoint_id = served.add_checkpoint(job_id, 1).id
    assert served.http.put("/aliases/production", json={"checkpoint": checkpoint_id}).status_code == 201
    with pytest.raises(openai.ConflictError, match="is running"):
        client.models.delete(job_id)
    end(served, job_id, Ending(succeeded=True))
    with pytest.raises(openai.ConflictError, match="production"):
        client.models.delete(job_id)
    with pytest.raises(openai.ConflictError, match=f"delete {job_id} to remove the job"):
        client.models.delete(checkpoint_id)
    gone = client.models.delete("production")
    assert (gone.id, gone.deleted, gone.object) == ("production", True, "model")
    assert client.models.delete(job_id).deleted
    assert served.http.get(f"/jobs/{job_id}").status_code == 404
    for name in ("production", job_id, checkpoint_id):
        with pytest.raises(openai.NotFoundError):
            client.models.delete(name)


@pytest.mark.parametrize("name", ["quick", "alexnet", "latest"])
def test_what_is_nobody_s_is_not_deleted(http: httpx.Client, name: str) -> None:
    error_of(http.delete(f"/v1/models/{name}"), 409, "conflict")


def test_another_owner_s_models_are_not_listed(serve: Serve) -> None:
    served = as_administrator(serve(**WITH_KEYS))
    checkpoint_id = served.add_checkpoint(served.add_job(), 1).id
    assert checkpoint_id in served.http.get("/v1/models").text
    with client_for(served, "eve") as eve:
        ids = {model["id"] for model in eve.get("/v1/models").json()["data"]}
        assert {"quick"} <= ids
        assert not {checkpoint_id, "latest"} & ids
