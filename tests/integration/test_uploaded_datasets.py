"""Archives that are uploaded become datasets in a real yard, and nothing of an upload stays once it was checked."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.fleet import wait_for
from tests.integration.running import RunningYard
from tests.integration.test_datasets import write_digits

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

TUS = {"Tus-Resumable": "1.0.0"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as PNG in class folders, zipped."""
    folder = tmp_path_factory.mktemp("pictures")
    write_digits(folder)
    return Path(shutil.make_archive(str(folder / "digits"), "zip", folder / "digits"))


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


def test_one_line_of_curl_makes_a_dataset(yard: RunningYard, archive: Path) -> None:
    command = ["curl", "-sS", "--noproxy", "*", "-F", f"file=@{archive}", f"{yard.url}/datasets?name=by-curl"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert '"state":"validating"' in done.stdout.replace(" ", "")
    dataset = wait_until_checked(yard, "by-curl")
    assert (dataset["state"], dataset["num_classes"], dataset["error"]) == ("ready", 10, None)
    assert sum(dataset[f"num_{split}"] for split in ("train", "val", "test")) == 600
    assert_no_upload_stays(yard)


def test_a_dataset_that_waits_for_its_upload_is_made_when_it_is_whole(yard: RunningYard, archive: Path) -> None:
    data = archive.read_bytes()
    with httpx.Client(base_url=yard.url, trust_env=False, timeout=60) as http:
        begun = http.post("/uploads", headers=TUS | {"Upload-Length": str(len(data))})
        path = begun.headers["location"]
        body = {"name": "by-tus", "upload": path.rpartition("/")[2]}
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
