"""`trainyard predict`: what it asks of a yard, and what it prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from trainyard.client.errors import InvalidRequest, NotFound
from trainyard.commands import connecting
from trainyard.launch import cli

SUMMARY = {"num_rows": 2, "num_errors": 1, "num_labelled": 1, "top1": 1.0, "top5": 1.0}
ENDED = {
    "id": "pred_1", "state": "succeeded", "error": None, "summary": SUMMARY, "progress": None, "waiting_for": None,
}  # fmt: skip
TOLD = [{"label": "cat", "index": 0, "probability": 0.875}, {"label": "dog", "index": 1, "probability": 0.125}]


class ActedClient:
    """Answers as a yard would, and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.ends: dict[str, Any] = {}
        self.interrupts = False

    def __enter__(self) -> ActedClient:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def get_alias(self, name: str) -> dict[str, Any]:
        if name != "champion":
            raise NotFound(404, {"error": {"code": "alias_not_found", "message": f"there is no alias {name!r}"}})
        return {"name": name}

    def iter_jobs(self) -> Iterator[dict[str, Any]]:
        yield {"id": "job_7", "name": "roses"}

    def predict(self, image: bytes, *, model: str, top_k: int, **more: Any) -> dict[str, Any]:
        self.calls.append(("predict", (image, model, top_k, *more.items())))
        return {"predictions": TOLD}

    def create_prediction(self, **fields: Any) -> dict[str, Any]:
        self.calls.append(("create_prediction", {key: it for key, it in fields.items() if it is not None}))
        return ENDED | {"state": "queued"}

    def predict_source(self, source: str, *, on_sent: Any, **fields: Any) -> dict[str, Any]:
        self.calls.append(("predict_source", (source, fields)))
        on_sent(1, 2)
        return ENDED | {"state": "queued"}

    def wait_for_prediction(self, prediction_id: str, *, on_change: Any) -> dict[str, Any]:
        if self.interrupts:
            raise KeyboardInterrupt
        on_change(ENDED | {"waiting_for": "no_live_worker"})
        on_change(ENDED | {"progress": {"phase": "reading", "done": 1, "total": 9}})
        return ENDED | self.ends

    def iter_results(self, prediction_id: str) -> Iterator[dict[str, Any]]:
        yield {"file": "a/1.png", "index": None, "predictions": TOLD, "error": None}
        yield {"file": None, "index": 7, "predictions": [], "error": {"code": "image_unreadable", "message": "Bad."}}

    def download_results(self, prediction_id: str, target: Path, *, kind: str) -> None:
        self.calls.append(("download_results", (prediction_id, kind)))
        target.write_text("table")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> ActedClient:
    acted = ActedClient()
    monkeypatch.setattr(connecting, "Client", lambda *_, **__: acted)
    return acted


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, ["predict", *arguments])


def test_image_files_are_answered_one_by_one(client: ActedClient, tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        path.write_bytes(path.name.encode())
    done = run(*map(str, paths), "--model", "champion", "--top-k", "2")
    assert done.exit_code == 0, done.output
    assert client.calls == [("predict", (b"a.png", "champion", 2)), ("predict", (b"b.png", "champion", 2))]
    assert done.stdout.splitlines() == [f"{path}  cat 87.5%  dog 12.5%" for path in paths]
    assert json.loads(run(str(paths[0]), "--json").stdout)[0]["predictions"] == TOLD


@pytest.mark.parametrize("name", ["pictures", "pictures.zip", "pictures.TAR.GZ"])
def test_a_folder_or_archive_is_sent_and_its_rows_are_printed(client: ActedClient, tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    source.mkdir() if name == "pictures" else source.write_bytes(b"x")
    done = run(str(source))
    assert done.exit_code == 0, done.output
    assert client.calls == [("predict_source", (str(source), {"model": "latest", "top_k": 5}))]
    assert done.stdout.splitlines() == ["a/1.png  cat 87.5%  dog 12.5%", "image 7  image_unreadable: Bad."]
    assert "2 images, 1 of them can't be read; 100.0% of 1 right" in done.stderr


def test_probabilities_are_calibrated_where_that_is_asked_for(client: ActedClient, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"a")
    assert run(str(image), "--calibrated").exit_code == 0
    assert run("digits", "--calibrated").exit_code == 0
    wanted = {"dataset": "digits", "model": "latest", "top_k": 5, "calibrated": True}
    assert client.calls == [("predict", (b"a", "latest", 5, ("calibrated", True))), ("create_prediction", wanted)]


@pytest.mark.parametrize("ending", ["csv", "parquet", "ndjson"])
def test_a_dataset_is_predicted_into_a_table(client: ActedClient, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"results.{ending}"
    done = run("flowers", "--split", "test", "--out", str(out))
    assert done.exit_code == 0, done.output
    wanted = {"dataset": "flowers", "split": "test", "model": "latest", "top_k": 5}
    assert client.calls == [("create_prediction", wanted), ("download_results", ("pred_1", ending))]
    assert (out.read_text(), done.stdout) == ("table", "")


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("flowers", "--out", "results.xlsx"), 2, "let it end with .csv, .parquet or .ndjson"),
        (("{image}", "--split", "test"), 2, "are for many images"),
        (("{image}", "flowers"), 2, "flowers is no image file"),
        (("{folder}", "--split", "test"), 2, "--split is for a dataset"),
        (("not/there",), 1, "there is no folder and no file not/there"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(
    client: ActedClient, tmp_path: Path, arguments: tuple[str, ...], status: int, told: str
) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"x")
    done = run(*(argument.format(image=image, folder=tmp_path) for argument in arguments))
    assert (done.exit_code, client.calls) == (status, []), done.output
    assert told in done.stderr


def test_a_failed_prediction_and_ctrl_c_end_with_a_status(client: ActedClient) -> None:
    client.ends = {"state": "failed", "error": {"message": "The upload is gone."}}
    done = run("flowers", "--json")
    assert (done.exit_code, "The upload is gone." in done.stderr) == (1, True)
    assert json.loads(done.stdout)["state"] == "failed"
    client.interrupts = True
    done = run("flowers")
    assert (done.exit_code, "/predictions/pred_1/results" in done.stderr) == (130, True)


def test_a_model_may_be_named_after_its_job(client: ActedClient, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    assert run(str(tmp_path / "a.png"), "--model", "roses").exit_code == 0
    assert client.calls == [("predict", (b"a", "job_7", 5))]
    done = run(str(tmp_path / "a.png"), "--model", "rose")
    assert (done.exit_code, client.calls[1:]) == (1, [])
    assert "there is no alias and no job named 'rose': `trainyard aliases list` and `trainyard jobs`" in done.stderr


def test_a_source_that_is_nowhere_is_said_to_be_no_file_either(
    client: ActedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise NotFound(404, {"error": {"code": "dataset_not_found", "message": "there is no dataset 'rose.png'"}})

    monkeypatch.setattr(client, "create_prediction", refuse)
    done = run("rose.png")
    assert done.exit_code == 1
    assert "there is no folder and no file rose.png here, and no dataset of this name" in done.stderr


def test_a_file_that_can_not_be_read_is_named(
    client: ActedClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        error = {"code": "image_format_unsupported", "message": "No image.", "param": "file"}
        raise InvalidRequest(415, {"error": error})

    (tmp_path / "a.png").write_bytes(b"a")
    monkeypatch.setattr(client, "predict", refuse)
    done = run(str(tmp_path / "a.png"))
    assert done.exit_code == 1
    assert f"{tmp_path / 'a.png'}: 415 image_format_unsupported: No image." in done.stderr
