"""Disks that run full under a whole yard. They are small file systems in memory, which only root may mount."""

from __future__ import annotations

import io
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.integration.running import RunningYard, running_yard
from trainyard.client import Client

pytestmark = [pytest.mark.chaos, pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small disk")]
JOB: dict[str, Any] = {"overrides": {"epochs": 2}, "seed": 7}


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[None]:
    path.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "trainyard-test", path], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def enlarge(path: Path, megabytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={megabytes}m", path], check=True)


def fill(path: Path) -> Path:
    """Write until not a byte more fits."""
    filler = path / "filler"
    with filler.open("ab", buffering=0) as file:
        for piece in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * piece)
            except OSError:
                continue
    return filler


def running(folder: Path) -> AbstractContextManager[RunningYard]:
    return running_yard(folder, TRAINYARD_GARBAGE_GRACE_S="1", TRAINYARD_REAPER_S="1")


def wait_for(look: Callable[[], object], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def predict(url: str) -> httpx.Response:
    image = io.BytesIO()
    Image.new("L", (8, 8)).save(image, "PNG")
    headers = {"Content-Type": "image/png"}
    return httpx.post(f"{url}/predict", content=image.getvalue(), headers=headers, trust_env=False, timeout=30)


def test_a_full_disk_of_checkpoints_stops_a_job_and_room_lets_it_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    disk = folder / "checkpoints"
    with small_disk(disk, 200), running(folder) as yard, Client(yard.url) as client:
        undisturbed = client.wait(client.create_job("digits", **JOB)["id"], timeout_s=180)
        assert undisturbed["state"] == "succeeded", undisturbed["error"]
        wait_for(lambda: predict(yard.url).status_code == 200)
        fill(disk)
        job = client.create_job("digits", **JOB)
        wait_for(lambda: client.get_job(job["id"])["state_reason"] == "disk_full")
        for _ in range(10):
            job = client.get_job(job["id"])
            assert (job["state"], job["failures"]) in {("queued", 0), ("running", 0)}
            answer = predict(yard.url)
            assert (answer.status_code, answer.json()["model"]["job"]) == (200, undisturbed["id"])
            time.sleep(0.3)
        assert not list((disk / job["id"]).glob(".*")), "half a checkpoint is in the way"
        enlarge(disk, 400)
        job = client.wait(job["id"], timeout_s=240)
        assert job["state"] == "succeeded", job["error"]
        assert job["weights_sha256"] == undisturbed["weights_sha256"]


def test_a_full_disk_of_the_database_is_a_507_and_needs_no_restart(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with small_disk(folder, 100), running(folder) as yard, Client(yard.url) as client:
        first = client.wait(client.create_job("digits", **JOB)["id"], timeout_s=180)
        filler = fill(folder)
        answers: list[httpx.Response] = []

        def is_refused() -> bool:
            fill(folder)
            body = {"dataset": "digits", "metadata": {"a": "x" * 500}}
            answers.append(httpx.post(f"{yard.url}/jobs", json=body, trust_env=False, timeout=30))
            return answers[-1].status_code == 507

        wait_for(is_refused, 60)
        assert answers[-1].json()["error"]["code"] == "database_full"
        assert {answer.status_code for answer in answers} <= {202, 503, 507}
        assert client.get_job(first["id"])["state"] == "succeeded"
        filler.unlink()
        job = client.wait(client.create_job("digits", **JOB)["id"], timeout_s=240)
        assert (job["state"], job["weights_sha256"]) == ("succeeded", first["weights_sha256"])
