"""Measures predictions while a worker of the same machine takes in a dataset, and while it does not.

    .venv/bin/python -m bench.predict_beside_validation [--images 3000] [--rounds 3] [--per-s 50]

Starts a whole yard, trains `quick` on digits for an epoch, and offers predictions at a steady rate. Each round measures
once with an idle worker and once while a zip of JPEGs of 500x375 is validated, and deletes that dataset. Prints
milliseconds of `/predict` and the ratios of the two.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from bench.overload import ask, build_request
from bench.serving import predicting_api
from trainyard.client import Client

CLASSES = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3000, help="in the dataset (default 3000)")
    parser.add_argument("--rounds", type=int, default=3, help="(default 3)")
    parser.add_argument("--per-s", type=float, default=50, help="predictions that are offered a second (default 50)")
    given = parser.parse_args()
    idle: list[float] = []
    beside: list[float] = []
    took: list[float] = []
    with tempfile.TemporaryDirectory() as folder, predicting_api() as (_, port):
        client = Client(f"http://127.0.0.1:{port}")
        archive = Path(folder) / "photographs.zip"
        ask(port, build_request(), 3, clients=4, per_s=given.per_s)  # what is made at the first use is made
        for number in range(given.rounds):
            write_archive(archive, given.images, seed=number)
            idle += ask(port, build_request(), 5, clients=8, per_s=given.per_s).good_ms
            began = time.monotonic()
            dataset = client.create_dataset(archive, name=f"photographs-{number}")
            ended = threading.Event()

            def wait(dataset_id: str = dataset["id"], ended: threading.Event = ended) -> None:
                with Client(f"http://127.0.0.1:{port}") as own:
                    state = own.wait_for_dataset(dataset_id, timeout_s=600)["state"]
                assert state == "ready", state
                ended.set()

            waiter = threading.Thread(target=wait)
            waiter.start()
            while not ended.is_set():
                beside += ask(port, build_request(), 1, clients=8, per_s=given.per_s).good_ms
            took.append(time.monotonic() - began)
            waiter.join()
            client.delete_dataset(dataset["id"])
    speed = given.images / statistics.median(took)
    print(f"{given.images} images a dataset: {speed:.0f} images/s from the beginning of the upload to ready")
    print_beside(idle, beside, "worker validates")


def write_archive(path: Path, num_images: int, *, seed: int) -> None:
    """Write a zip of photographs-like JPEGs, in class folders."""
    noise = np.random.default_rng(seed)
    base = Image.fromarray(noise.integers(0, 256, (96, 128, 3), dtype=np.uint8)).resize(
        (640, 480), Image.Resampling.BICUBIC
    )
    base = base.filter(ImageFilter.GaussianBlur(2))
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(num_images):
            left, top = int(noise.integers(0, 140)), int(noise.integers(0, 105))
            image = io.BytesIO()
            base.crop((left, top, left + 500, top + 375)).rotate(int(noise.integers(0, 360))).save(image, "JPEG")
            archive.writestr(f"class-{number % CLASSES}/{number}.jpg", image.getvalue())


def print_beside(idle: list[float], beside: list[float], what: str) -> None:
    """Print milliseconds of predictions with an idle worker and beside its work, and the ratios of the two."""
    for name, waits in (("worker idle", idle), (what, beside)):
        print(f"{name:17} {len(waits):6} predictions  p50 {_at(waits, 50):6.1f}  p99 {_at(waits, 99):6.1f} ms")
    print(f"ratio: p50 {_at(beside, 50) / _at(idle, 50):.2f}, p99 {_at(beside, 99) / _at(idle, 99):.2f}")


def _at(waits: list[float], percent: int) -> float:
    return statistics.quantiles(waits, n=100)[percent - 1]


if __name__ == "__main__":
    main()
