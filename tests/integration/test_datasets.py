"""A folder of pictures becomes a dataset and then a network, in a real yard."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.integration.running import PATIENCE_S, start_yard
from trainyard.client import Client

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

NUM_TRAINED = 600


def write_digits(folder: Path) -> list[tuple[Path, str]]:
    """Write digits as PNG, most of them into class folders; return the others with their labels."""
    digits = load_digits()
    unseen = []
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        if number >= NUM_TRAINED + 40:
            break
        image = Image.fromarray((pixels * 255 / 16).round().astype("uint8"))
        target = folder / "unseen" if number >= NUM_TRAINED else folder / "digits" / str(label)
        target.mkdir(parents=True, exist_ok=True)
        image.save(target / f"{number}.png")
        if number >= NUM_TRAINED:
            unseen.append((target / f"{number}.png", str(label)))
    return unseen


def test_pictures_in_a_folder_are_trained_on_and_unseen_ones_recognised(tmp_path: Path) -> None:
    unseen = write_digits(tmp_path)
    yard = start_yard(tmp_path / "data", TRAINYARD_DATASET_FOLDERS=str(tmp_path))
    try:
        with Client(yard.url) as client, httpx.Client(base_url=yard.url, trust_env=False) as http:
            body = {"name": "my-digits", "path": str(tmp_path / "digits"), "flip_safe": False}
            answer = http.post("/datasets", json=body)
            assert answer.status_code == 202, answer.text
            job = client.create_job("my-digits", seed=3)
            assert job["waiting_for"] == "dataset"
            job = client.wait(job["id"], timeout_s=PATIENCE_S)
            assert job["state"] == "succeeded", job["error"]
            dataset = http.get("/datasets/my-digits").json()
            assert (dataset["state"], dataset["num_classes"], dataset["channels"]) == ("ready", 10, 1)
            model = job["id"]
            guesses = [client.predict(file.read_bytes(), model=model)["predictions"][0]["label"] for file, _ in unseen]
            right = sum(guess == label for guess, (_, label) in zip(guesses, unseen, strict=True))
            assert right >= 36, f"{right} of 40"
            assert http.delete("/datasets/my-digits").status_code == 204
            deadline = time.monotonic() + PATIENCE_S
            while (yard.folder / dataset_folder(dataset["id"])).exists():
                assert time.monotonic() < deadline
                time.sleep(0.1)
    finally:
        yard.stop()


def dataset_folder(dataset_id: str) -> str:
    return f"packs/{dataset_id}"
