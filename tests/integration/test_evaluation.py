"""A real yard names images with wrong labels after a job, and a crash in that step costs only the step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from alexnet_core.layout import evaluation_key
from tests.integration.running import PATIENCE_S, start_yard
from trainyard.client import Client

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]


def write_mislabelled(folder: Path) -> dict[str, str]:
    """Write 900 digits into class folders, 5 % of them into a wrong one; return those by file, with what they are."""
    digits, generator, wrong = load_digits(), np.random.default_rng(0), {}
    chosen = set(generator.choice(900, 45, replace=False).tolist())
    for number in range(900):
        true = int(digits.target[number])
        label = (true + int(generator.integers(1, 10))) % 10 if number in chosen else true
        file = folder / str(label) / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[number] * 255 / 16).round().astype("uint8")).save(file)
        if number in chosen:
            wrong[f"{label}/{number}.png"] = str(true)
    return wrong


def train(yard: Any, client: Client, dataset: str, **more: Any) -> Any:
    job = client.create_job(dataset, seed=3, **more)
    return client.wait(job["id"], timeout_s=PATIENCE_S)


def test_images_in_wrong_folders_are_named_after_the_job(tmp_path: Path) -> None:
    wrong = write_mislabelled(tmp_path / "digits")
    yard = start_yard(tmp_path / "data", TRAINYARD_DATASET_FOLDERS=str(tmp_path))
    try:
        with Client(yard.url) as client, httpx.Client(base_url=yard.url, trust_env=False) as http:
            body = {"name": "my-digits", "path": str(tmp_path / "digits"), "flip_safe": False}
            assert http.post("/datasets", json=body).status_code == 202
            job = train(yard, client, "my-digits")
            assert job["state"] == "succeeded", job["error"]
            found = http.get(f"/jobs/{job['id']}/evaluation").json()
            assert found["top1"] == job["test"]["top1"]
            images = found["label_errors"]["images"]
            hits = [image for image in images if image["file"] in wrong]
            assert len(hits) >= 0.8 * len(images), "precision"
            assert len(hits) >= 15, f"of about 32 among the training images: {len(images)} named"
            assert all(image["suggested"] == wrong[image["file"]] for image in hits[:10])
            picture = http.get(images[0]["url"])
            assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
            assert http.delete(f"/jobs/{job['id']}").status_code == 204
            assert not (yard.folder / evaluation_key(job["id"])).exists()
    finally:
        yard.stop()


def test_a_trainer_that_dies_in_it_costs_only_the_evaluation(tmp_path: Path) -> None:
    yard = start_yard(
        tmp_path / "data", TRAINYARD_TESTING="1", TRAINYARD_FAILPOINTS="in_final_evaluation=kill9",
        TRAINYARD_BACKOFF_S="0.1",
    )  # fmt: skip
    try:
        with Client(yard.url) as client, httpx.Client(base_url=yard.url, trust_env=False) as http:
            job = train(yard, client, "digits", overrides={"epochs": 2})
            assert job["state"] == "succeeded", job["error"]
            assert job["test"] is not None
            assert job["attempt"] == 2
            events = http.get(f"/jobs/{job['id']}/events", params={"limit": 100}).json()["data"]
            assert "evaluation_cut_off" in [event["reason"] for event in events if event["type"] == "warning"]
            answer = http.get(f"/jobs/{job['id']}/evaluation")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "evaluation_not_found")
    finally:
        yard.stop()
