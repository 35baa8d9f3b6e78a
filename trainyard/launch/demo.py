"""The demo: a new yard, one job on real images through the HTTP API, and one prediction."""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from alexnet_core.layout import IMAGES, LABELS, SPLIT, pack_key
from trainyard.artifacts.datasets import builtin_id
from trainyard.client import Client
from trainyard.client.models import Job
from trainyard.launch.yard import Yard, YardError
from trainyard.settings import Settings


def run_demo(dataset: str, epochs: int | None) -> int:
    """Run the demo, print what happens, and return the exit status."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="trainyard-demo-") as folder:
        settings = Settings(
            data_dir=Path(folder), port=0, host="127.0.0.1", admin_key=None, redis_url=None, database_url=None
        )
        try:
            with Yard(settings) as yard, Client(yard.url, key="") as client:
                print(f"ready after {time.monotonic() - began:.1f} s: {yard.url}", flush=True)
                succeeded = _train_and_predict(client, Path(folder), dataset, epochs)
        except YardError as exc:
            print(f"the yard does not start: {exc}")
            return 1
    print(f"all in all {time.monotonic() - began:.0f} s. Your own yard: `make up`")
    return 0 if succeeded else 1


def _train_and_predict(client: Client, folder: Path, dataset: str, epochs: int | None) -> bool:
    body: dict[str, Any] = {"overrides": {"epochs": epochs}} if epochs else {}
    job = client.create_job(dataset, name="demo", **body)
    print(f'POST /jobs {{"dataset": "{dataset}"}} -> {job["id"]} ({job["recipe"]})', flush=True)
    shown_epoch = 0

    def show(job: Job) -> None:
        nonlocal shown_epoch
        metrics, epoch = job["metrics"], job["progress"]["epoch"]
        if metrics and epoch and epoch != shown_epoch:
            shown_epoch = epoch
            bar = "#" * round(40 * metrics["val_top1"])
            print(
                f"  epoch {epoch:3d}  loss {metrics['train_loss']:.3f}  validation {metrics['val_top1']:.3f} {bar}",
                flush=True,
            )

    job = client.wait(job["id"], on_change=show)
    if job["state"] != "succeeded":
        print(f"the job ended as {job['state']}: {job['error']}")
        return False
    print(f"test accuracy {job['test']['top1']:.4f} on {job['test']['num_images']} images that it never saw")
    image, label = _test_image(folder, dataset)
    answer = client.predict(image, model=job["id"], top_k=3)
    guesses = ", ".join(f"{guess['label']} ({guess['probability']:.3f})" for guess in answer["predictions"])
    print(f"POST /predict with a test image of class {label} -> {guesses}")
    return True


def _test_image(folder: Path, dataset: str) -> tuple[bytes, str]:
    """Return one image of the pack's test split as a PNG file, and its class."""
    pack = folder / pack_key(builtin_id(dataset))
    index = int(np.flatnonzero(np.load(pack / SPLIT) == 2)[7])
    pixels = np.load(pack / IMAGES, mmap_mode="r")[index]
    file = io.BytesIO()
    Image.fromarray(np.array(pixels).squeeze()).save(file, format="PNG")
    return file.getvalue(), str(int(np.load(pack / LABELS)[index]))
