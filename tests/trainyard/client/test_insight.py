"""The client's methods for insight, against a real API with a real child."""

from __future__ import annotations

import io
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image

from tests.api.conftest import toy as toy
from tests.api.trained_toy import TrainedToy
from trainyard.client import Client
from trainyard.client.errors import ApiError
from trainyard.client.synchronous import insight as module


@pytest.fixture
def client(toy: TrainedToy) -> Iterator[Client]:
    with Client(toy.served.url) as one:
        yield one


def size_of(picture: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(picture)).size


def test_every_picture_can_be_had(toy: TrainedToy, client: Client) -> None:
    assert size_of(client.explain(toy.image(), px=48, view="overlay", target="b", method="occlusion")) == (48, 48)
    assert size_of(client.draw_activations(toy.image(), "conv1", model=toy.job_id))[0] > 100
    assert size_of(client.draw_filters(toy.checkpoint_id, scale="own"))[0] > 100


def test_similar_images_evaluations_and_calibrations_come_when_they_are_done(toy: TrainedToy, client: Client) -> None:
    assert client.find_similar(toy.image("train", 3), k=2)[0]["index"] == 3
    evaluation = client.get_evaluation(toy.job_id, split="validation", checkpoint=toy.checkpoint_id)
    assert (evaluation["split"], evaluation["num_images"]) == ("validation", 30)
    images = client.list_evaluated_images(toy.job_id, true="a", split="validation", limit=3)
    assert [image["label"] for image in images] == ["a"] * 3
    threshold = client.get_calibration(toy.checkpoint_id)["unfamiliarity_threshold"]
    assert client.predict(toy.image(), calibrated=True)["unfamiliarity"]["threshold"] == threshold


def test_a_refusal_is_raised(toy: TrainedToy, client: Client) -> None:
    with pytest.raises(ApiError, match="its layers are conv1"):
        client.draw_activations(toy.image(), "conv9")


def answer_with(*answers: httpx.Response) -> Client:
    client = Client("http://yard.invalid")
    waiting = list(answers)
    client._http = httpx.Client(
        base_url="http://yard.invalid",
        transport=httpx.MockTransport(lambda _: waiting.pop(0) if len(waiting) > 1 else waiting[0]),
    )
    return client


IN_PROGRESS = httpx.Response(
    503, headers={"Retry-After": "2"}, json={"error": {"code": "insight_in_progress", "message": "10 of 30"}}
)


def test_it_asks_again_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(module, "sleep", slept.append)
    client = answer_with(IN_PROGRESS, IN_PROGRESS, httpx.Response(200, json={"temperature": 1.5}))
    assert client.get_calibration("ckpt_1") == {"temperature": 1.5}
    assert slept == [2.0, 2.0]


def test_it_does_not_wait_longer_than_it_may_nor_for_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(module, "sleep", slept.append)
    with pytest.raises(ApiError, match="insight_in_progress"):
        answer_with(IN_PROGRESS).get_calibration("ckpt_1", timeout_s=1)
    full = httpx.Response(503, json={"error": {"code": "insight_queue_full", "message": "wait"}})
    with pytest.raises(ApiError, match="insight_queue_full"):
        answer_with(full).find_similar(b"x")
    assert slept == []
