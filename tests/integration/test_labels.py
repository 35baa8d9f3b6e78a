"""Two APIs serve one yard while models with other classes replace each other: labels belong to their weights."""

from __future__ import annotations

import io
import json
import threading
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from alexnet_core.data.pack import TEST, TRAIN, VALIDATION
from alexnet_core.data.pack_draft import write_pack
from tests.integration.fleet import Fleet, Gather, wait_for
from trainyard.database.connection import now
from trainyard.database.tables import Dataset

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

BRIGHTNESS = {"black": 0, "grey": 128, "white": 255}
FIRST, SECOND = ("black", "white"), ("white", "grey")  # the same class under another number
CONFIG = {"epochs": 4, "batch_size": 16, "image_px": 16}
WILD = {"lr": 10.0, "momentum": 0.99, "mean": [0.0], "std": [1e-6], "norm": "none", "schedule": "constant"}  # NaN soon


def add_dataset(fleet: Fleet, name: str, classes: tuple[str, ...]) -> None:
    """A dataset of one brightness a class, with a little noise."""
    rng = np.random.default_rng(1)
    labels = np.arange(120) % len(classes)
    level = np.array([BRIGHTNESS[name] for name in classes])[labels]
    pixels = np.clip(level[:, None, None, None] + rng.integers(-20, 21, (120, 16, 16, 1)), 0, 255).astype(np.uint8)
    split = np.full(120, TRAIN, np.uint8)
    split[80:100], split[100:] = VALIDATION, TEST
    key = f"packs/ds_{name}"
    pack = write_pack(
        fleet.folder / key, name=name, class_names=classes, images_NHWC=pixels, labels_N=labels, split_N=split,
        flip_safe=True,
    )  # fmt: skip
    with fleet.database.writing() as session:
        session.add(
            Dataset(id=f"ds_{name}", owner="local", name=name, state="ready", digest=pack.digest, key=key,
                    facts=pack.facts.model_dump(mode="json"), created_at=now(), ready_at=now())
        )  # fmt: skip


def png(brightness: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((16, 16), brightness, np.uint8)).save(file, "PNG")
    return file.getvalue()


def predict(url: str, brightness: int, model: str = "latest") -> httpx.Response:
    headers = {"Content-Type": "image/png"}
    return httpx.post(
        f"{url}/predict?top_k=2&model={model}", content=png(brightness), headers=headers, trust_env=False, timeout=60
    )


class Asker(threading.Thread):
    """Asks one API for the newest model over and over, and keeps what it answered."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.answers: list[tuple[int, Any]] = []
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(0.05):
            answer = predict(self.url, BRIGHTNESS["white"])
            self.answers.append((answer.status_code, answer.json()))

    def stop(self) -> None:
        self._stopped.set()
        self.join(90)

    @property
    def newest(self) -> dict[str, Any]:
        """The model of the last answer."""
        status, body = self.answers[-1] if self.answers else (0, {})
        return dict(body["model"]) if status == 200 else {}


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_labels_follow_the_weights_and_all_apis_agree_while_classes_change(gather: Gather) -> None:
    # Each API measures by itself which precision is faster here, and a busy machine may tell them different things.
    fleet = gather(idle_poll_s=0.5, serving_threads=1, serving_precision="fp32")
    for name, classes in (("first", FIRST), ("second", SECOND)):
        add_dataset(fleet, name, classes)
    fleet.start_worker()
    urls = [fleet.start_api() for _ in range(2)]
    askers = [Asker(url) for url in urls]
    for asker in askers:
        asker.start()
    try:
        made: dict[str, tuple[str, ...]] = {}
        for name, classes in (("first", FIRST), ("second", SECOND)):
            job_id = fleet.submit(CONFIG, dataset_name=name)
            made[job_id] = classes
            wait_for(lambda: fleet.job(job_id).state in {"succeeded", "failed"})  # noqa: B023
            assert fleet.job(job_id).state == "succeeded", fleet.job(job_id).error
            last = fleet.job(job_id).latest_checkpoint_id
            wait_for(lambda: all(asker.newest.get("checkpoint") == last for asker in askers))  # noqa: B023
        diverges = fleet.submit(CONFIG | WILD, dataset_name="first", seed=3)
        wait_for(lambda: fleet.job(diverges).state in {"succeeded", "failed"})
    finally:
        for asker in askers:
            asker.stop()

    error = fleet.job(diverges).error
    assert error is not None
    assert error["code"] == "diverged"
    for path in (f"/jobs/{diverges}", f"/jobs/{diverges}/metrics", f"/jobs/{diverges}/checkpoints"):
        answer = httpx.get(urls[0] + path, trust_env=False, timeout=60)
        assert answer.status_code == 200
        json.loads(answer.text, parse_constant=refuse_constant)

    order = list(made)
    for asker in askers:
        served = [body for status, body in asker.answers if status == 200]
        refused = {(status, body["error"]["code"]) for status, body in asker.answers if status != 200}
        assert refused <= {(503, "no_checkpoint"), (503, "model_loading")}
        assert [status for status, _ in asker.answers[-10:]] == [200] * 10, "a diverged job takes nothing away"
        for body in served:
            labels = made[body["model"]["job"]]
            assert [guess["label"] for guess in body["predictions"]] == [
                labels[guess["index"]] for guess in body["predictions"]
            ]
        versions = [(order.index(body["model"]["job"]), body["model"]["epoch"]) for body in served]
        assert versions == sorted(versions), "what is served never goes back"
        assert versions[-1] == (1, CONFIG["epochs"])
    for job_id, labels in made.items():
        answers = [predict(url, BRIGHTNESS["white"], job_id) for url in urls]
        bodies = [answer.json() for answer in answers]
        assert bodies[0]["model"] == bodies[1]["model"]
        assert bodies[0]["predictions"] == bodies[1]["predictions"], "one checkpoint, one answer"
        assert {guess["label"] for guess in bodies[0]["predictions"]} == set(labels)
        assert bodies[0]["predictions"][0]["label"] == "white"
