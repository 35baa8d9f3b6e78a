"""What is written by `make client` is what it would write now."""

from __future__ import annotations

import json

from generation import client_models, synchronous_client
from trainyard.client import models
from trainyard.client.answers import Answer


def test_the_models_are_those_of_the_committed_description() -> None:
    document = json.loads(client_models.DESCRIPTION.read_text("utf-8"))
    current = client_models.write_models(document) == client_models.MODELS.read_text("utf-8")
    assert current, "trainyard/client/models.py is not what web/openapi.json says: run `make client` and commit it"


def test_the_synchronous_client_is_the_asynchronous_one() -> None:
    written = synchronous_client.write_client()
    for name, text in written.items():
        current = (synchronous_client.TARGET / name).read_text("utf-8") == text
        assert current, f"trainyard/client/synchronous/{name} is another: run `make client` and commit it"
    there = {path.name for path in synchronous_client.TARGET.glob("*.py")}
    assert there == set(written) | synchronous_client.BY_HAND


def test_every_object_that_the_api_answers_with_has_a_model() -> None:
    assert {"Job", "Dataset", "Checkpoint", "Classification", "Prediction", "Evaluation", "Alias"} <= set(vars(models))
    assert issubclass(models.Job, Answer)
    assert models.Job.model_fields["progress"].annotation is models.Progress
