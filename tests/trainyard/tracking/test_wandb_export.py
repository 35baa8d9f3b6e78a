"""Jobs become offline runs of the real library of Weights & Biases, in a machine without any network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.api.served import Served
from tests.own_environment import make_environment
from tests.trainyard.commands.conftest import Run
from tests.trainyard.tracking.conftest import end, train
from trainyard.client import Client
from trainyard.tracking import wandb_export
from trainyard.tracking.exported_job import read_job
from trainyard.tracking.wandb_export import WandbError, export_offline_run

#: Prints what is in a run's file: their records, in the format of LevelDB's logs behind seven bytes.
READ = """
import json, struct, sys
from wandb.proto import wandb_internal_pb2

BLOCK, HEAD = 32768, 7

def records(data):
    at, whole = 7, b""
    while at < len(data):
        if BLOCK - at % BLOCK < HEAD:
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + HEAD : at + HEAD + size]
        at += HEAD + size
        if kind in (1, 4):  # whole, or the last piece
            yield whole
            whole = b""

found = {"history": [], "files": [], "config": {}, "exit": None}
for data in records(open(sys.argv[1], "rb").read()):
    record = wandb_internal_pb2.Record()
    record.ParseFromString(data)
    kind = record.WhichOneof("record_type")
    if kind == "run":
        found["run"] = {"id": record.run.run_id, "project": record.run.project, "name": record.run.display_name}
        found["config"] = {entry.key: json.loads(entry.value_json) for entry in record.run.config.update}
    elif kind == "history":
        items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        found["history"].append(items)
    elif kind == "files":
        found["files"] += [file.path for file in record.files.files]
    elif kind == "exit":
        found["exit"] = record.exit.exit_code
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the library."""
    return make_environment(tmp_path_factory.mktemp("wandb") / "environment", "wandb>=0.31,<1")


def call(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config")}
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_job_is_an_offline_run_and_again_the_same(served: Served, programs: Path, tmp_path: Path) -> None:
    job_id = served.add_job()
    train(served, job_id, 1)
    python, out = str(programs / "python"), tmp_path / "runs"

    def export() -> dict[str, Any]:
        command = [python, "-m", "trainyard", "export", "wandb", job_id, "--to", str(out), "--url", served.url]
        done = call(*command, "--project", "flowers", "--json", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)[0]
        return found

    export()
    train(served, job_id, 2)
    end(served, job_id)
    told = export()
    [folder] = [path for path in (out / "wandb").iterdir() if path.name.startswith("offline-run-")]
    assert (told["job"], told["folder"], told["points"], len(told["files"])) == (job_id, str(folder), 4, 9)
    assert (folder / "files/checkpoint/weights.safetensors").read_bytes() == b"weights.safetensors of 2" * 100
    assert not any(path.is_symlink() for path in folder.rglob("*")), "the folder may be moved"
    assert not (tmp_path / ".cache/wandb").exists()
    assert not (tmp_path / ".local/share/wandb").exists()
    found = json.loads(call(python, "-c", READ, str(folder / f"run-{job_id}.wandb"), folder=tmp_path).stdout)
    assert found["run"] == {"id": job_id, "project": "flowers", "name": job_id}
    assert (found["config"]["epochs"], found["config"]["dataset"], found["exit"]) == (3, "digits", 0)
    losses = [(row["_step"], row["train/loss"]) for row in found["history"] if "train/loss" in row]
    assert losses == [(step, 10 / step) for step in (5, 10, 15, 20)]
    assert [row["val/top1"] for row in found["history"] if "val/top1" in row] == [0.1, 0.2]
    assert set(told["files"]) <= set(found["files"])


def test_without_the_library_it_says_how_to_install_it(
    served: Served, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.add_job()
    monkeypatch.setattr(wandb_export, "find_spec", lambda name: None)
    done = run("export", "wandb", "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.exit_code, error["code"]) == (1, "wandb_not_installed")
    assert "pip install 'trainyard[wandb]'" in error["message"]


def test_their_library_hears_of_no_network_and_of_no_key(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, str]] = []

    def refuse(command: list[str], *, env: dict[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
        seen.append(env)
        return subprocess.CompletedProcess(command, 1, stdout="", stderr="Traceback\nOSError: the disk is full\n")

    monkeypatch.setattr(wandb_export, "find_spec", lambda name: sys)
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    monkeypatch.setenv("WANDB_MODE", "online")
    job_id = served.add_job()
    kept = tmp_path / "wandb" / f"offline-run-1-{job_id}"
    kept.mkdir(parents=True)
    with Client(served.url) as client, pytest.raises(WandbError, match="OSError: the disk is full") as told:
        export_offline_run(client, read_job(client, client.get_job(job_id)), tmp_path, "flowers", run=refuse)
    assert told.value.code == "wandb_failed"
    assert kept.exists(), "an earlier run goes only when there is a newer one"
    [environment] = seen
    assert (environment["WANDB_MODE"], environment["WANDB_ERROR_REPORTING"]) == ("offline", "false")
    assert "WANDB_API_KEY" not in environment
