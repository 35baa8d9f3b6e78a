"""The commands that talk to a yard: what they print, and how they end. A real yard is in `tests/integration`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from trainyard.client import ApiError, Client
from trainyard.launch import cli
from trainyard.terminal.terminal import Terminal

DATASET = {
    "id": "ds_1", "name": "flowers", "state": "ready", "progress": None, "waiting_for": None, "error": None,
    "num_classes": 2, "image_px": 64, "num_train": 8, "num_val": 1, "num_test": None,
    "report": {"findings": [{"message": "Two images are the same.", "advice": "Remove one."}]},
}  # fmt: skip
JOB = {
    "id": "job_1", "state": "running", "state_reason": "training", "waiting_for": None, "error": None, "test": None,
    "metrics": None, "started_at": None, "finished_at": None, "dataset": "flowers", "config": {"epochs": 2},
    "progress": {"epoch": 0, "epochs": 2, "step": 0, "steps": 20, "images_per_s": None, "eta_s": None},
}  # fmt: skip


class ActedClient:
    """Answers as a yard would, and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, dict[str, Any]]] = []
        self.ends: dict[str, Any] = {"state": "succeeded", "test": {"top1": 0.9, "num_images": 40}}
        self.dataset_ends: dict[str, Any] = {}
        self.interrupts = False

    def list_recipes(self) -> list[dict[str, Any]]:
        return [{"name": name, "config": {"epochs": 20, "schedule": "cosine"}} for name in ("quick", "caffe")]

    def create_dataset(self, source: Path, *, on_sent: Any, **options: Any) -> dict[str, Any]:
        self.calls.append(("create_dataset", source, {k: v for k, v in options.items() if v is not None}))
        on_sent(5, 10)
        return DATASET | {"state": "validating"}

    def wait_for_dataset(self, dataset: str, *, on_change: Any) -> dict[str, Any]:
        on_change(DATASET | {"state": "validating", "waiting_for": "no_live_worker"})
        on_change(DATASET | {"state": "validating", "progress": {"phase": "packing", "done": 1, "total": 9}})
        return DATASET | self.dataset_ends

    def get_dataset(self, dataset: str) -> dict[str, Any]:
        if dataset != "flowers":
            raise ApiError(404, {"error": {"code": "dataset_not_found", "message": f"no {dataset}"}})
        return DATASET

    def list_datasets(self) -> list[dict[str, Any]]:
        return [DATASET]

    def delete_dataset(self, dataset: str) -> None:
        self.calls.append(("delete_dataset", dataset, {}))

    def create_job(self, dataset: str, **fields: Any) -> dict[str, Any]:
        self.calls.append(("create_job", dataset, fields))
        return JOB

    def get_job(self, job_id: str) -> dict[str, Any]:
        return JOB

    def get_metrics(self, job_id: str) -> dict[str, Any]:
        return {"by_step": [], "by_epoch": [{"epoch": 1, "train_loss": 0.5, "val_top1": 0.75}]}

    def wait(self, job_id: str, *, on_change: Any) -> dict[str, Any]:
        if self.interrupts:
            raise KeyboardInterrupt
        done = {"epoch": 1, "epochs": 2, "step": 10, "steps": 20, "images_per_s": 1000.0, "eta_s": 3.0}
        on_change(JOB)
        on_change(JOB | {"progress": done, "metrics": {"train_loss": 0.5, "val_top1": 0.75}})
        return JOB | self.ends


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> ActedClient:
    acted = ActedClient()
    monkeypatch.setattr(Client, "__enter__", lambda self: acted)
    return acted


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / "flowers").mkdir()
    return str(tmp_path / "flowers")


def run(*args: str) -> Any:
    return CliRunner().invoke(cli.app, list(args))


def test_a_folder_is_uploaded_trained_on_and_watched(client: ActedClient, folder: str) -> None:
    done = run(
        "train",
        folder,
        "--watch",
        "--set",
        "epochs=2",
        "--set",
        "schedule=constant",
        "--seed",
        "3",
        "--no-flip",
        "--job-name",
        "evening",
    )
    assert done.exit_code == 0, done.output
    assert client.calls == [
        ("create_dataset", Path(folder), {"flip_safe": False}),
        ("create_job", "ds_1", {"overrides": {"epochs": 2, "schedule": "constant"}, "seed": 3, "name": "evening"}),
    ]
    assert "succeeded job_1" in done.stdout
    assert "test: 90.0% right of 40 images" in done.stdout
    assert "epoch 1 of 2: loss 0.500, validation 75.0%" in done.stderr


@pytest.mark.parametrize("wrong", [("--recipe", "nope"), ("--set", "epoch=3")])
def test_what_does_not_exist_is_refused_before_anything_is_uploaded(
    client: ActedClient, folder: str, wrong: tuple[str, str]
) -> None:
    assert run("train", folder, *wrong).exit_code == 1
    assert client.calls == []


@pytest.mark.parametrize(("top1", "says"), [(0.55, True), (0.9, False)])
def test_a_network_that_guesses_is_told_of_with_what_to_do(client: ActedClient, top1: float, says: bool) -> None:
    client.ends = {"state": "succeeded", "test": {"top1": top1, "num_images": 40}}
    for command in (("train", "flowers", "--watch"), ("watch", "job_1")):
        done = run(*command)
        hint = "it has learnt little: a guess is right in 50.0%. Train longer (--set epochs=6), or on more pictures"
        assert (done.exit_code, hint in done.stderr) == (0, says), done.stderr


def test_without_watch_only_the_id_is_printed(client: ActedClient) -> None:
    done = run("train", "flowers")
    assert (done.exit_code, done.stdout) == (0, "job_1\n")
    assert client.calls == [("create_job", "ds_1", {"overrides": {}})]


def test_a_job_that_fails_ends_the_command_with_1(client: ActedClient) -> None:
    client.ends = {"state": "failed", "error": {"message": "The loss is no longer a finite number."}}
    for command in (("train", "flowers", "--watch"), ("watch", "job_1")):
        done = run(*command)
        assert done.exit_code == 1
        assert "no longer a finite number" in done.stdout


def test_ctrl_c_stops_the_showing_and_says_how_to_come_back(client: ActedClient) -> None:
    client.interrupts = True
    for command in (("train", "flowers", "--watch"), ("watch", "job_1")):
        done = run(*command)
        assert done.exit_code == 130
        assert "trainyard watch job_1" in done.stderr


@pytest.mark.parametrize(
    ("args", "said", "status"),
    [
        (["train", "no/such/folder"], "there is no folder and no file no/such/folder", 1),
        (["train", "daisies"], "there is no folder and no file daisies here, and no dataset of this name", 1),
        (["train", "flowers", "--recipe", "nope"], "no recipe 'nope': use one of quick, caffe", 1),
        (
            ["train", "flowers", "--set", "epoch=3"],
            "no such training option; did you mean epochs?",
            1,
        ),
        (["train", "flowers", "--set", "zzz=3"], "there are epochs, schedule", 1),
        (["train", "flowers", "--name", "x"], "flowers is none", 2),
        (["train", "flowers", "--set", "epochs"], "FIELD=VALUE", 2),
        (["datasets", "push", "no-such-folder"], "no folder and no file no-such-folder", 1),
        (["datasets", "show", "daisies"], "dataset_not_found", 1),
    ],
)
def test_a_mistake_is_one_line_on_standard_error(client: ActedClient, args: list[str], said: str, status: int) -> None:
    done = run(*args)
    assert (done.exit_code, len(done.stderr.splitlines())) == (status, 1), done.output
    assert said in done.stderr
    assert done.stdout == ""


def test_a_yard_that_is_not_there_is_named() -> None:
    done = run("datasets", "list", "--url", "http://127.0.0.1:1")
    assert done.exit_code == 1
    assert "the yard at http://127.0.0.1:1 does not answer" in done.stderr
    done = run("datasets", "list", "--url", "nonsense")
    assert done.exit_code == 2
    assert "no address of a yard" in done.stderr


def test_datasets_are_pushed_listed_shown_and_removed(client: ActedClient, folder: str) -> None:
    done = run("datasets", "push", folder, "--name", "roses", "--image-px", "32", "--parent", "ds_0")
    assert done.exit_code == 0, done.output
    assert client.calls[0] == ("create_dataset", Path(folder), {"name": "roses", "image_px": 32, "parent_id": "ds_0"})
    assert "flowers (ds_1) is ready" in done.stdout
    assert "2 classes, 9 images of 64 px" in done.stdout
    assert "- Two images are the same. Remove one." in done.stdout
    assert "ds_1" in run("datasets", "list").stdout
    assert json.loads(run("datasets", "list", "--json").stdout) == [DATASET]
    assert json.loads(run("datasets", "show", "flowers", "--json").stdout) == DATASET
    assert "removed flowers" in run("datasets", "rm", "flowers").stdout
    assert client.calls[-1] == ("delete_dataset", "flowers", {})


def test_a_rejected_dataset_ends_the_push_with_1(client: ActedClient, folder: str) -> None:
    error = {"message": "There is only one class."}
    client.dataset_ends = {"state": "rejected", "error": error, "num_classes": None, "report": None}
    done = run("datasets", "push", folder)
    assert done.exit_code == 1
    assert "There is only one class." in done.stdout


def test_a_terminal_gets_bars(folder: str) -> None:
    side = io.StringIO()
    terminal = Terminal(progress=Console(file=side, force_terminal=True, width=120))
    acted = ActedClient()
    with terminal.uploading("flowers") as tell:
        tell(5, 10)
    with terminal.validating("flowers") as show:
        acted.wait_for_dataset("ds_1", on_change=show)
    with terminal.training("job_1") as show:
        acted.wait("job_1", on_change=show)
    shown = side.getvalue()
    for text in ("uploading flowers", "checking flowers (packing)", "1/9", "epoch 1/2", "1,000 images/s", "10/20"):
        assert text in shown, text
