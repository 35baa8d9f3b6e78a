"""`trainyard tensorboard`: the event files come here. TensorBoard itself is not started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alexnet_core.layout import tensorboard_key
from tests.api.served import Served
from tests.trainyard.commands.conftest import Run
from trainyard.client import Client
from trainyard.commands.tensorboard_command import EventFiles, folder_name


def add_events(served: Served, job_id: str, name: str, content: bytes) -> None:
    folder = served.settings.data_dir / tensorboard_key(job_id)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def test_event_files_of_jobs_are_brought_into_folders(served: Served, run: Run, trained: str, tmp_path: Path) -> None:
    name = "events.out.tfevents.1.host"
    add_events(served, trained, name, b"points")
    without_any = served.add_job()
    done = run("tensorboard", "--once", "--to", str(tmp_path / "runs"), "--json")
    assert json.loads(done.stdout) == {"folder": str(tmp_path / "runs"), "jobs": [trained]}, done.output
    assert (tmp_path / "runs" / trained / name).read_bytes() == b"points"
    assert [path.name for path in (tmp_path / "runs" / trained).iterdir()] == [name]
    assert not (tmp_path / "runs" / without_any).exists()


def test_a_job_is_brought_again_when_it_has_a_newer_checkpoint(served: Served, trained: str, tmp_path: Path) -> None:
    add_events(served, trained, "events.out.tfevents.1.host", b"1")
    with Client(served.url) as client:
        files = EventFiles()
        files.bring(client, [client.get_job(trained)], tmp_path)
        add_events(served, trained, "events.out.tfevents.1.host", b"12")
        files.bring(client, [client.get_job(trained)], tmp_path)
        assert next((tmp_path / trained).iterdir()).read_bytes() == b"1", "nothing new was committed"
        served.add_checkpoint(trained, 3, keep_latest=9)
        files.bring(client, [client.get_job(trained)], tmp_path)
    assert next((tmp_path / trained).iterdir()).read_bytes() == b"12"


@pytest.mark.parametrize(
    ("name", "folder"),
    [(None, "job_1"), ("roses", "roses-job_1"), ("../../x y", "x-y-job_1"), ("..", "job_1"), ("a/b", "a-b-job_1")],
)
def test_a_folder_is_named_after_its_job_and_lies_below(name: str | None, folder: str) -> None:
    job: dict[str, Any] = {"id": "job_1", "name": name}
    assert folder_name(job) == folder
