import json
import time
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from tests.api.served import Served, error_of
from trainyard.database.tables import Dataset
from trainyard.states import DatasetState


def test_recipes_are_described(http: httpx.Client) -> None:
    names = [row["name"] for row in http.get("/recipes").json()["data"]]
    assert "quick" in names
    quick = http.get("/recipes/quick").json()
    assert quick["config_schema"]["properties"]["epochs"]
    assert quick["num_parameters"] > 0
    assert http.get("/recipes/quick?num_classes=100").json()["num_parameters"] > quick["num_parameters"]
    error_of(http.get("/recipes/quick?num_classes=1"), 422, "invalid_request")


@pytest.mark.parametrize("path", ["/recipes", "/recipes/quick"])
def test_images_have_one_channel_or_three(http: httpx.Client, path: str) -> None:
    for channels in (1, 3):
        assert http.get(f"{path}?channels={channels}").status_code == 200
    for refused in ("2", "0", "many"):
        assert error_of(http.get(f"{path}?channels={refused}"), 422, "invalid_request")["param"] == "channels"


@pytest.fixture
def prepared(served: Served) -> httpx.Client:
    """A yard whose digits are prepared, as far as the database knows."""
    served.http.get("/datasets")
    counts = {"num_train": 1293, "num_val": 144, "num_test": 360}
    with served.database.writing() as session:
        digits = session.get(Dataset, "ds_digits")
        assert digits is not None
        digits.facts, digits.state = digits.facts | counts, DatasetState.READY
    return served.http


class TestPreview:
    def test_the_preview_is_what_the_job_would_be(self, prepared: httpx.Client) -> None:
        body = {"dataset": "digits", "recipe": "small-images", "overrides": {"epochs": 2, "lr": 0.02}}
        response = prepared.post("/recipes/preview", json=body)
        found, job = response.json(), prepared.post("/jobs", json=body).json()
        assert response.status_code == 200
        assert (found["recipe"], found["config"]) == (job["recipe"], job["config"])
        assert found["steps"] == 2 * found["steps_per_epoch"] > 0
        assert found["num_parameters"] == sum(layer["parameters"] for layer in found["layers"])
        assert [layer["name"] for layer in found["layers"]] == [
            *("conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5", "fc6", "fc7", "fc8")
        ]
        assert found["memory_bytes"] > 12 * found["num_parameters"]
        assert max(rate for _, rate in found["lr"]) <= 0.02
        assert [found["lr"][0][0], found["lr"][-1][0]] == [1, found["steps"]]

    def test_a_dataset_is_enough_and_need_not_be_prepared(self, http: httpx.Client) -> None:
        found = http.post("/recipes/preview", json={"dataset": "digits"}).json()
        assert found["recipe"] == "quick"
        assert (found["steps"], found["lr"], found["seconds"]) == (None, [], None)
        assert [warning["param"] for warning in found["warnings"]] == ["dataset"]

    @pytest.mark.parametrize(
        ("body", "status", "code", "param"),
        [
            ({}, 422, "invalid_request", "dataset"),
            ({"dataset": "digits", "seed": 1}, 422, "invalid_request", "seed"),
            ({"dataset": "nowhere"}, 404, "dataset_not_found", "dataset"),
            ({"dataset": "digits", "recipe": "none"}, 422, "recipe_unknown", "recipe"),
            ({"dataset": "digits", "overrides": {"epochs": 0}}, 422, "config_invalid", "overrides.epochs"),
            ({"dataset": "digits", "overrides": {"lrr": 1}}, 422, "config_invalid", "overrides.lrr"),
            ({"dataset": "digits", "overrides": {"colour_std": 0.1}}, 422, "config_invalid", "overrides.colour_std"),
        ],
    )
    def test_what_a_job_is_refused_for_is_refused(
        self, prepared: httpx.Client, body: dict[str, Any], status: int, code: str, param: str
    ) -> None:
        assert error_of(prepared.post("/recipes/preview", json=body), status, code)["param"] == param

    @pytest.mark.parametrize(
        ("state", "code"), [(DatasetState.VALIDATING, "dataset_not_ready"), (DatasetState.REJECTED, "dataset_rejected")]
    )
    def test_a_dataset_without_images_is_refused(self, served: Served, state: DatasetState, code: str) -> None:
        served.http.get("/datasets")
        with served.database.writing() as session:
            session.execute(update(Dataset).where(Dataset.id == "ds_digits").values(state=state))
        error_of(served.http.post("/recipes/preview", json={"dataset": "digits"}), 409, code)

    def test_it_is_quick_enough_for_every_key(self, prepared: httpx.Client) -> None:
        body = {"dataset": "digits", "recipe": "paper-2012", "overrides": {"epochs": 1000}}
        times = []
        for _ in range(5):
            began = time.perf_counter()
            answer = prepared.post("/recipes/preview", json=body)
            times.append(time.perf_counter() - began)
            assert answer.status_code == 200
        assert min(times) < 0.1
        assert len(json.loads(answer.content)["lr"]) == 200
