"""`GET /jobs/{job_id}/evaluation` of other splits and checkpoints, and `/evaluation/images`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from alexnet_core.evaluation.evaluate import evaluate
from tests.api.served import error_of
from tests.api.trained_toy import TrainedToy


def get(toy: TrainedToy, path: str, **params: Any) -> Any:
    response = toy.served.http.get(f"/jobs/{toy.job_id}{path}", params=params)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("split", ["test", "validation", "train"])
def test_a_split_is_evaluated_when_it_is_asked_for(toy: TrainedToy, split: str) -> None:
    body = get(toy, "/evaluation", split=split)
    expected = evaluate(toy.predictor.model, toy.pack, split, toy.predictor.preprocessing)
    assert expected is not None
    assert (body["split"], body["checkpoint"], body["epoch"]) == (split, toy.checkpoint_id, 1)
    assert body["num_images"] == expected["num_images"]
    assert [body["loss"], body["top1"]] == pytest.approx([expected["loss"], expected["top1"]], rel=1e-3)
    confusion = np.array(body["confusion"])
    assert confusion.sum() == expected["num_images"]
    assert confusion.trace() / confusion.sum() == pytest.approx(expected["top1"])
    assert [one["count"] for one in body["classes"]] == confusion.sum(axis=1).tolist()
    assert len(body["hardest"]) == 20
    assert (body["label_errors"], body["chosen_on"]) == (None, "validation")
    assert "end of a job" in body["label_errors_missing"]


def test_the_images_of_a_cell_of_the_confusion_matrix_can_be_looked_at(toy: TrainedToy) -> None:
    confusion = np.array(get(toy, "/evaluation", split="test")["confusion"])
    for row, column in np.argwhere(confusion)[:4].tolist():
        true, predicted = toy.pack.class_names[row], toy.pack.class_names[column]
        page = get(toy, "/evaluation/images", true=true, predicted=predicted, limit=100)
        assert len(page["data"]) == confusion[row, column]
        losses = [image["loss"] for image in page["data"]]
        assert losses == sorted(losses, reverse=True)
        for image in page["data"]:
            assert (image["label"], image["predictions"][0]["label"]) == (true, predicted)
            assert toy.pack.list_indices("test")[image["index"]] == image["position"]
            assert image["url"] == f"/datasets/{toy.dataset_id}/images/test/{image['index']}"
            assert image["loss"] == pytest.approx(
                float(-toy.logits("test")[image["index"]].log_softmax(dim=0)[row]), abs=1e-3
            )


@pytest.mark.parametrize("order", ["loss", "-loss", "index"])
def test_pages_follow_each_other(toy: TrainedToy, order: str) -> None:
    whole = [image["id"] for image in get(toy, "/evaluation/images", order=order, limit=100)["data"]]
    assert len(whole) == 30
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = get(toy, "/evaluation/images", order=order, limit=7, **after)
        found += [image["id"] for image in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    assert found == whole


@pytest.mark.parametrize(
    ("path", "status", "code", "param"),
    [
        ("/evaluation/images?true=cow", 422, "invalid_request", "true"),
        ("/evaluation/images?predicted=cow", 422, "invalid_request", "predicted"),
        ("/evaluation/images?order=size", 422, "invalid_request", "order"),
        ("/evaluation/images?after=train-1", 422, "invalid_request", "after"),
        ("/evaluation/images?after=test-999", 422, "invalid_request", "after"),
        ("/evaluation?checkpoint=ckpt_01m867nfjbcxgh62576cf45x6p", 404, "checkpoint_not_found", None),
        ("/evaluation?split=all", 422, "invalid_request", "split"),
    ],
)
def test_what_can_not_be_is_refused(toy: TrainedToy, path: str, status: int, code: str, param: str | None) -> None:
    error = error_of(toy.served.http.get(f"/jobs/{toy.job_id}{path}"), status, code)
    assert param in {error["param"], None}


def test_the_answer_with_its_tag_is_sent_once(toy: TrainedToy) -> None:
    url = f"/jobs/{toy.job_id}/evaluation?split=validation"
    tag = toy.served.http.get(url).headers["etag"]
    assert toy.served.http.get(url, headers={"If-None-Match": tag}).status_code == 304
