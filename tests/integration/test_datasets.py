"""Folders of pictures become datasets and then networks in a real yard, which names those in wrong folders."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from alexnet_core.layout import evaluation_key
from tests.integration.running import PATIENCE_S, RunningYard, running_yard
from trainyard.client import Client

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

NUM_TRAINED = 600


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder below which the yard takes datasets."""
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def yard(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningYard]:
    folder = tmp_path_factory.mktemp("yard") / "data"
    with running_yard(folder, TRAINYARD_DATASET_FOLDERS=str(pictures)) as running:
        yield running


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


def test_pictures_in_a_folder_are_trained_on_and_unseen_ones_recognised(yard: RunningYard, pictures: Path) -> None:
    unseen = write_digits(pictures)
    with Client(yard.url) as client, httpx.Client(base_url=yard.url, trust_env=False, timeout=60) as http:
        body = {"name": "my-digits", "path": str(pictures / "digits"), "flip_safe": False}
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


def dataset_folder(dataset_id: str) -> str:
    return f"packs/{dataset_id}"


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


def test_images_in_wrong_folders_are_named_after_the_job(yard: RunningYard, pictures: Path) -> None:
    wrong = write_mislabelled(pictures / "mislabelled")
    with Client(yard.url) as client, httpx.Client(base_url=yard.url, trust_env=False, timeout=60) as http:
        body = {"name": "mislabelled", "path": str(pictures / "mislabelled"), "flip_safe": False}
        assert http.post("/datasets", json=body).status_code == 202
        job = client.wait(client.create_job("mislabelled", seed=3)["id"], timeout_s=PATIENCE_S)
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
