"""`POST /similar`: an index that is made at first use, and what it finds."""

from __future__ import annotations

import pytest

from alexnet_core.insight.similar_images import FEATURES
from tests.api.served import error_of
from tests.api.trained_toy import TrainedToy

PNG = {"Content-Type": "image/png"}


def test_a_training_image_is_most_alike_to_itself(toy: TrainedToy) -> None:
    response = toy.served.http.post("/similar?k=5", content=toy.image("train", 17), headers=PNG)
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["object"], body["dataset"], body["num_indexed"]) == ("similar_images", toy.dataset_id, 100)
    assert body["model"]["checkpoint"] == response.headers["x-trainyard-checkpoint"] == toy.checkpoint_id
    assert len(body["images"]) == 5
    first = body["images"][0]
    position = int(toy.pack.list_indices("train")[17])
    assert (first["split"], first["index"], first["position"]) == ("train", 17, position)
    assert first["distance"] == pytest.approx(0, abs=1e-3)
    assert first["label"] == toy.pack.class_names[toy.pack.labels[position]]
    distances = [image["distance"] for image in body["images"]]
    assert distances == sorted(distances)
    assert toy.served.http.get(first["url"]).headers["content-type"] == "image/png"


def test_the_index_is_made_once(toy: TrainedToy) -> None:
    toy.served.http.post("/similar", content=toy.image(), headers=PNG)
    (file,) = (toy.served.settings.data_dir / "insight" / toy.checkpoint_id).glob(f"*/{FEATURES}")
    made_at = file.stat().st_mtime_ns
    assert toy.served.http.post("/similar", content=toy.image(), headers=PNG).status_code == 200
    assert file.stat().st_mtime_ns == made_at


def test_too_many_are_refused(toy: TrainedToy) -> None:
    response = toy.served.http.post("/similar?k=101", content=toy.image(), headers=PNG)
    assert error_of(response, 422, "invalid_request")["param"] == "k"
