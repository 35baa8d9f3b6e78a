"""`GET /checkpoints/{checkpoint_id}/filters.png` and `/calibration`."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from alexnet_core.evaluation.filters import CONV1, draw_filters
from alexnet_core.insight.calibration import calibrate
from api.insight import insight
from tests.api.conftest import Serve
from tests.api.served import error_of
from tests.api.trained_toy import TrainedToy, add_trained_toy
from trainyard.artifacts.calibrations import read_calibration
from trainyard.database.ids import new_id


@pytest.mark.parametrize("scale", ["common", "own"])
def test_the_kernels_are_drawn_as_the_core_draws_them(toy: TrainedToy, scale: str) -> None:
    response = toy.served.http.get(f"/checkpoints/{toy.checkpoint_id}/filters.png?scale={scale}")
    assert response.status_code == 200, response.text
    kernels = toy.predictor.model.state_dict()[CONV1].numpy()
    assert response.content == draw_filters(kernels, "own" if scale == "own" else "common")
    again = toy.served.http.get(response.url, headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "immutable" in response.headers["cache-control"]


def test_the_calibration_is_that_of_the_validation_images(toy: TrainedToy) -> None:
    response = toy.served.http.get(f"/checkpoints/{toy.checkpoint_id}/calibration")
    assert response.status_code == 200, response.text
    body = response.json()
    labels = np.asarray(toy.pack.labels[toy.pack.list_indices("validation")])
    expected = calibrate(toy.logits("validation").numpy(), labels, "validation")
    assert (body["object"], body["checkpoint"]) == ("checkpoint.calibration", toy.checkpoint_id)
    assert (body["job"], body["split"], body["num_images"]) == (toy.job_id, "validation", 30)
    assert body["temperature"] == pytest.approx(expected.temperature, rel=1e-3)
    assert body["before"]["ece"] == pytest.approx(expected.before.ece, abs=1e-3)
    assert body["unfamiliarity_threshold"] == pytest.approx(expected.unfamiliarity_threshold, abs=1e-3)
    assert len(body["before"]["bins"]) == 15


def test_a_calibration_is_computed_once_and_then_read(toy: TrainedToy) -> None:
    url = f"/checkpoints/{toy.checkpoint_id}/calibration"
    first = toy.served.http.get(url)
    with toy.served.database.reading() as session:
        kept = read_calibration(session, toy.checkpoint_id)
    assert kept is not None
    assert kept["temperature"] == first.json()["temperature"]
    shutil.rmtree(toy.served.settings.data_dir / "insight" / toy.checkpoint_id)
    assert toy.served.http.get(url).json() == first.json()
    assert not (toy.served.settings.data_dir / "insight" / toy.checkpoint_id).exists()


@pytest.mark.parametrize("what", ["filters.png", "calibration"])
def test_an_unknown_checkpoint_is_not_found(toy: TrainedToy, what: str) -> None:
    error_of(toy.served.http.get(f"/checkpoints/{new_id('ckpt')}/{what}"), 404, "checkpoint_not_found")


def test_a_prediction_with_calibrated_probabilities_makes_the_calibration(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(insight, "WAIT_S", 60.0)  # a child may start slowly beside other tests
    toy = add_trained_toy(serve(), tmp_path / "made")
    toy.served.http.timeout = 60
    response = toy.served.http.post(
        "/predict?calibrated=true", content=toy.image(), headers={"Content-Type": "image/png"}
    )
    assert response.status_code == 200, response.text
    calibration = toy.served.http.get(f"/checkpoints/{toy.checkpoint_id}/calibration").json()
    assert response.json()["unfamiliarity"]["threshold"] == calibration["unfamiliarity_threshold"]
