"""Jobs become runs of a real MLflow tracking server, once however often they are exported."""

from __future__ import annotations

import json
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.served import Served
from tests.trainyard.commands.conftest import Run
from tests.trainyard.tracking.conftest import TEST, end, train
from trainyard.client import Client
from trainyard.tracking.exported_job import read_job
from trainyard.tracking.mlflow_export import ExportedRun, export_run
from trainyard.tracking.mlflow_server import MlflowServer, MlflowSettings

pytestmark = pytest.mark.slow


def ask(address: str, path: str, **wanted: Any) -> Any:
    answer = httpx.get(f"{address}/api/2.0/mlflow/{path}", params=wanted, trust_env=False, timeout=60)
    assert answer.is_success, answer.text
    return answer.json()


def read_run(address: str, run_id: str) -> dict[str, Any]:
    run = ask(address, "runs/get", run_id=run_id)["run"]
    data = run["data"]
    return {
        "info": run["info"],
        "inputs": run["inputs"],
        "metrics": {entry["key"]: entry["value"] for entry in data["metrics"]},
        "params": {entry["key"]: entry["value"] for entry in data["params"]},
        "tags": {entry["key"]: entry["value"] for entry in data["tags"]},
    }


def read_points(address: str, run_id: str, name: str) -> list[tuple[int, float]]:
    history = ask(address, "metrics/get-history", run_id=run_id, metric_key=name)["metrics"]
    return sorted((int(point.get("step", 0)), point["value"]) for point in history)


def test_a_job_is_a_run_with_parameters_points_and_files(
    served: Served, run: Run, mlflow: str, mlflow_programs: Path, tmp_path: Path
) -> None:
    job_id = served.add_job()
    train(served, job_id, 1, 2)
    end(served, job_id)
    assert served.http.patch(f"/jobs/{job_id}", json={"name": "roses", "note": "**long** stems"}).is_success
    done = run("export", "mlflow", job_id, "--to", mlflow, "--experiment", "flowers", "--json")
    assert done.exit_code == 0, done.output
    [told] = json.loads(done.stdout)
    assert (told["job"], told["experiment"], told["points"]) == (job_id, "flowers", 21)
    found = read_run(mlflow, told["run"])
    assert (found["info"]["run_name"], found["info"]["status"]) == ("roses", "FINISHED")
    assert found["info"]["end_time"] > found["info"]["start_time"]
    assert (found["params"]["epochs"], found["params"]["recipe"], found["params"]["dataset"]) == (
        "3",
        "quick",
        "digits",
    )
    assert found["tags"]["mlflow.note.content"] == "**long** stems"
    assert {name: found["metrics"][f"test/{name}"] for name in ("loss", "top1", "top5")} == {
        name: TEST[name] for name in ("loss", "top1", "top5")
    }
    assert read_points(mlflow, told["run"], "train/loss") == [(step, 10 / step) for step in (5, 10, 15, 20)]
    assert read_points(mlflow, told["run"], "val/top1") == [(10, 0.1), (20, 0.2)]
    files = [
        "checkpoint/MODEL_CARD.md", "checkpoint/classes.json", "checkpoint/config.json", "checkpoint/manifest.json",
        "checkpoint/metadata.json", "checkpoint/preprocessing.json", "checkpoint/weights.safetensors",
        "evaluation.json", "job.json",
    ]  # fmt: skip
    assert told["files"] == files
    # MLflow's own client brings them back.
    command = [str(mlflow_programs / "mlflow"), "artifacts", "download", "--run-id", told["run"], "--dst-path"]
    brought = subprocess.run(
        [*command, str(tmp_path / "brought")],
        env={"MLFLOW_TRACKING_URI": mlflow, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert brought.returncode == 0, brought.stderr
    here = tmp_path / "brought"
    assert sorted(path.relative_to(here).as_posix() for path in here.rglob("*") if path.is_file()) == files
    assert (here / "checkpoint/weights.safetensors").read_bytes() == b"weights.safetensors of 2" * 100
    assert json.loads((here / "job.json").read_text())["id"] == job_id


def test_a_job_that_goes_on_is_the_same_run_with_what_is_new(served: Served, run: Run, mlflow: str) -> None:
    job_id = served.add_job()
    train(served, job_id, 1)

    def export() -> Any:
        done = run("export", "mlflow", "last", "--to", mlflow, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)[0]

    first = export()
    assert read_run(mlflow, first["run"])["info"]["status"] == "RUNNING"
    assert (first["points"], len(first["files"])) == (9, 8), "there is no evaluation yet"
    again = export()
    assert (again["run"], again["points"], again["files"]) == (first["run"], 0, [])
    train(served, job_id, 2)
    end(served, job_id)
    third = export()
    assert (third["run"], third["points"], len(third["files"])) == (first["run"], 12, 9)
    assert [step for step, _ in read_points(mlflow, first["run"], "train/loss")] == [5, 10, 15, 20]
    assert read_run(mlflow, first["run"])["info"]["status"] == "FINISHED"
    experiment = ask(mlflow, "experiments/get-by-name", experiment_name="trainyard")["experiment"]["experiment_id"]
    wanted = {"experiment_ids": [experiment], "filter": f"tags.`trainyard.job` = '{job_id}'"}
    runs = httpx.post(f"{mlflow}/api/2.0/mlflow/runs/search", json=wanted, trust_env=False, timeout=60).json()["runs"]
    assert [each["info"]["run_id"] for each in runs] == [first["run"]]


def test_more_points_and_parameters_than_a_request_may_carry_all_arrive(served: Served, run: Run, mlflow: str) -> None:
    job_id = served.add_job()
    train(served, job_id, *range(1, 201))
    done = run("export", "mlflow", job_id, "--to", mlflow, "--no-artifacts", "--json")
    [told] = json.loads(done.stdout)
    assert (told["points"], told["files"]) == (400 * 3 + 200 * 3, [])
    assert len(read_points(mlflow, told["run"], "train/loss")) == 400


def test_a_deleted_experiment_is_refused_with_what_to_do(served: Served, run: Run, mlflow: str) -> None:
    served.add_job()
    made = httpx.post(
        f"{mlflow}/api/2.0/mlflow/experiments/create", json={"name": "gone"}, trust_env=False, timeout=60
    ).json()
    httpx.post(f"{mlflow}/api/2.0/mlflow/experiments/delete", json=made, trust_env=False, timeout=60)
    done = run("export", "mlflow", "--to", mlflow, "--experiment", "gone", "--json")
    error = json.loads(done.stderr)["error"]
    assert (done.exit_code, error["code"]) == (1, "mlflow_experiment_deleted")
    assert f"mlflow experiments restore --experiment-id {made['experiment_id']}" in error["message"]
    assert "--experiment" in error["message"]


def test_artifacts_that_the_server_does_not_take_are_refused_with_what_to_do(
    served: Served, run: Run, mlflow: str
) -> None:
    served.add_job()
    body = {"name": "elsewhere", "artifact_location": "s3://bucket/runs"}
    httpx.post(f"{mlflow}/api/2.0/mlflow/experiments/create", json=body, trust_env=False, timeout=60)
    done = run("export", "mlflow", "--to", mlflow, "--experiment", "elsewhere")
    assert done.exit_code == 1
    assert "--no-artifacts" in done.stderr
    assert run("export", "mlflow", "--to", mlflow, "--experiment", "elsewhere", "--no-artifacts").exit_code == 0


def test_exports_of_a_job_at_once_write_each_point_once_into_one_run(served: Served, mlflow: str) -> None:
    job_id = served.add_job()
    train(served, job_id, *range(1, 31))
    end(served, job_id)
    together = threading.Barrier(3)

    def export(_: int) -> ExportedRun:
        with Client(served.url) as client, MlflowServer(mlflow, MlflowSettings()) as server:
            exported = read_job(client, client.get_job(job_id))
            together.wait(60)
            return export_run(client, exported, server, "at once with points")

    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(export, range(3)))
    assert len({run.run for run in runs}) == 1
    assert [step for step, _ in read_points(mlflow, runs[0].run, "train/loss")] == list(range(5, 301, 5))
    assert [step for step, _ in read_points(mlflow, runs[0].run, "val/top1")] == list(range(10, 301, 10))
    found = read_run(mlflow, runs[0].run)
    wanted = {"experiment_ids": [found["info"]["experiment_id"]], "filter": f"tags.`trainyard.job` = '{job_id}'"}
    answer = httpx.post(f"{mlflow}/api/2.0/mlflow/runs/search", json=wanted, trust_env=False, timeout=60).json()
    assert [run["info"]["run_id"] for run in answer["runs"]] == [runs[0].run]
    assert (found["info"]["status"], found["tags"]["trainyard.state"]) == ("FINISHED", "succeeded")
