"""Archives that are uploaded become datasets in a real yard, and nothing of an upload stays once it was checked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.fleet import wait_for
from tests.integration.running import PATIENCE_S, RunningYard
from tests.integration.test_datasets import write_digits
from trainyard.client import Client

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

TUS = {"Tus-Resumable": "1.0.0"}


@dataclass
class Digits:
    folder: Path  #: 600 of them, as PNG in class folders
    archive: Path  #: the same, zipped
    unseen: list[tuple[Path, str]]  #: 40 others with their labels


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    folder = tmp_path_factory.mktemp("pictures")
    unseen = write_digits(folder)
    archive = folder / "digits.zip"
    if shutil.which("zip"):
        subprocess.run(["zip", "-qr", archive, "."], cwd=folder / "digits", check=True)
    else:
        shutil.make_archive(str(archive.with_suffix("")), "zip", folder / "digits")
    return Digits(folder / "digits", archive, unseen)


def wait_until_checked(yard: RunningYard, name: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = httpx.get(f"{yard.url}/datasets/{name}", trust_env=False, timeout=60).json()
        return found if found["state"] in {"ready", "rejected"} else None

    checked = wait_for(look)
    assert isinstance(checked, dict)
    return checked


def assert_no_upload_stays(yard: RunningYard) -> None:
    folder = yard.folder / "uploads"
    wait_for(lambda: [path.name for path in folder.iterdir()] == ["folder-id"])
    assert httpx.get(f"{yard.url}/uploads", trust_env=False, timeout=60).json()["data"] == []


def curl(*arguments: str) -> Any:
    command = ["curl", "-sS", "--noproxy", "*", *arguments]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def count_right(yard: RunningYard, digits: Digits, job_id: str) -> int:
    """How many of the 40 unseen digits a job's network names."""
    url, right = f"{yard.url}/predict?model={job_id}", 0
    for file, label in digits.unseen:
        right += curl("-F", f"file=@{file}", url)["predictions"][0]["label"] == label
    return right


def test_one_line_of_curl_makes_a_dataset_and_others_train_on_it_and_predict(yard: RunningYard, digits: Digits) -> None:
    url = f"{yard.url}/datasets?name=by-curl&flip_safe=false"
    assert curl("-F", f"file=@{digits.archive}", url)["state"] == "validating"
    dataset = wait_until_checked(yard, "by-curl")
    assert (dataset["state"], dataset["num_classes"], dataset["error"]) == ("ready", 10, None)
    assert sum(dataset[f"num_{split}"] for split in ("train", "val", "test")) == 600
    assert_no_upload_stays(yard)
    job = curl("--json", '{"dataset": "by-curl", "seed": 3}', f"{yard.url}/jobs")
    with Client(yard.url) as client:
        assert client.wait(job["id"], timeout_s=PATIENCE_S)["state"] == "succeeded"
    assert count_right(yard, digits, job["id"]) >= 36


def test_one_command_trains_on_a_folder_and_shows_the_training(yard: RunningYard, digits: Digits) -> None:
    command = [sys.executable, "-m", "trainyard", "train", str(digits.folder), "--no-flip", "--seed", "3", "--watch"]
    run = subprocess.run([*command, "--url", yard.url], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    with Client(yard.url) as client:
        job = next(iter(client.iter_jobs()))
    assert job["state"] == "succeeded"
    assert job["id"] in run.stdout
    assert count_right(yard, digits, job["id"]) >= 36


def test_a_dataset_that_waits_for_its_upload_is_made_when_it_is_whole(yard: RunningYard, digits: Digits) -> None:
    data = digits.archive.read_bytes()
    with httpx.Client(base_url=yard.url, trust_env=False, timeout=60) as http:
        begun = http.post("/uploads", headers=TUS | {"Upload-Length": str(len(data))})
        path = begun.headers["location"]
        body = {"name": "by-tus", "upload": path.rpartition("/")[2], "flip_safe": False}
        assert http.post("/datasets", json=body).json()["state"] == "uploading"
        half = len(data) // 2
        for start, piece in ((0, data[:half]), (half, data[half:])):
            headers = TUS | {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(start)}
            assert http.patch(path, content=piece, headers=headers).status_code == 204
        dataset = wait_until_checked(yard, "by-tus")
        assert (dataset["state"], dataset["num_classes"]) == ("ready", 10)
        assert dataset["digest"] == http.get("/datasets/by-curl").json()["digest"]
    assert_no_upload_stays(yard)


def test_what_is_no_archive_is_rejected_and_nothing_of_it_stays(yard: RunningYard) -> None:
    answer = httpx.post(
        f"{yard.url}/datasets?name=rubbish",
        content=b"x" * 1_000_000,
        headers={"Content-Type": "application/octet-stream"},
        trust_env=False,
        timeout=60,
    )
    assert answer.status_code == 202
    dataset = wait_until_checked(yard, "rubbish")
    assert dataset["state"] == "rejected"
    assert dataset["error"]["message"]
    assert_no_upload_stays(yard)
