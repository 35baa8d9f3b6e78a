"""Writes a job as a run of an MLflow tracking server, once however often it is exported."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from trainyard.client import Client
from trainyard.client.kinds import OnProgress
from trainyard.tracking.exported_job import ExportedJob
from trainyard.tracking.job_files import bring_files
from trainyard.tracking.mlflow_server import Json, MlflowServer
from trainyard.tracking.run_of_job import STATE_TAG, find_or_make_run, id_of, tags_of

_FORBIDDEN = re.compile(r"[^\w\-. /:]", re.ASCII)  # in the names of MLflow
_FILES_TAG = "trainyard.files"  #: the state and the checkpoint of the job whose files are all on the server
_STATUS = {
    "queued": "SCHEDULED",
    "running": "RUNNING",
    "pausing": "RUNNING",
    "cancelling": "RUNNING",
    "paused": "SCHEDULED",
    "succeeded": "FINISHED",
    "failed": "FAILED",
    "cancelled": "KILLED",
}


@dataclass(frozen=True)
class ExportedRun:
    """The run that a job has become."""

    job: str
    run: str
    experiment: str
    page: str
    points: int  #: that were new
    files: list[str]  #: that were sent

    def to_json(self) -> Json:
        """Return it for programs."""
        return dict(vars(self))


def export_run(
    client: Client,
    exported: ExportedJob,
    server: MlflowServer,
    experiment: str,
    *,
    with_files: bool = True,
    on_received: OnProgress | None = None,
    on_file: Callable[[str], None] | None = None,
) -> ExportedRun:
    """Write a job as a run. A run that the job has already is brought up to date: new points are added, no point twice.

    Args:
        client: of the job's yard.
        exported: the job.
        server: which takes the run.
        experiment: the name of the run's experiment, which is made if there is none.
        with_files: whether the checkpoint, the model card and the evaluation are sent.
        on_received: called with the bytes of the checkpoint that came from the yard, and all of them.
        on_file: called with the path of each file that is sent.

    Raises:
        MlflowError: the server can't be reached, or refuses.
        ApiError: the yard refuses.
    """
    experiment_id = server.find_or_make_experiment(experiment)
    tags = _list_tags(exported)
    run = find_or_make_run(
        server, experiment_id, exported.id, name=exported.title, start_ms=_ms(exported.started_at), tags=tags
    )
    run_id = id_of(run)
    known = {entry["key"] for entry in run["data"].get("params", [])}
    parameters = {name: _say(value) for name, value in exported.list_parameters().items() if name not in known}
    server.log_parameters(run_id, parameters)
    server.set_tags(run_id, tags)
    if exported.dataset is not None and exported.dataset["digest"]:
        server.log_dataset(run_id, exported.dataset["name"], exported.dataset["digest"])
    points = server.log_metrics(run_id, _list_metrics(exported, _read_last_steps(run)))
    files = _send_files(client, exported, server, run, on_received, on_file) if with_files else []
    end = exported.finished_at
    status = _STATUS.get(exported.job["state"], "RUNNING")
    server.update_run(run_id, status=status, name=exported.title, end_ms=None if end is None else _ms(end))
    return ExportedRun(exported.id, run_id, experiment, server.page_of(experiment_id, run_id), points, files)


def _send_files(
    client: Client,
    exported: ExportedJob,
    server: MlflowServer,
    run: Json,
    on_received: OnProgress | None,
    on_file: Callable[[str], None] | None,
) -> list[str]:
    """Send the files unless they are there already, and return their paths."""
    version = f"{exported.job['state']} {exported.checkpoint or 'without checkpoint'}"
    if tags_of(run).get(_FILES_TAG) == version:
        return []
    with tempfile.TemporaryDirectory(prefix="trainyard-export-") as name:
        folder = Path(name)
        paths = [path.as_posix() for path in bring_files(client, exported, folder, on_received=on_received)]
        for path in paths:
            if on_file is not None:
                on_file(path)
            server.put_artifact(run, path, folder / path)
    server.set_tags(id_of(run), {_FILES_TAG: version})
    return paths


def _list_tags(exported: ExportedJob) -> dict[str, str]:
    job = exported.job
    tags = {
        "mlflow.runName": exported.title,
        "mlflow.source.name": "trainyard",
        "mlflow.source.type": "JOB",
        "mlflow.user": job["owner"],
        "mlflow.note.content": job["note"],
        STATE_TAG: job["state"],
        "trainyard.parent": job["parent_id"],
        "trainyard.checkpoint": exported.checkpoint,
        "trainyard.weights_sha256": job["weights_sha256"],
        "trainyard.error": job["error"]["message"] if job["error"] else None,
    }
    tags |= {f"trainyard.metadata.{_FORBIDDEN.sub('_', name)}": value for name, value in job["metadata"].items()}
    return {name: str(value) for name, value in tags.items() if value}


def _read_last_steps(run: Json) -> dict[str, int]:
    """Return for each metric of a run the last step that it has a point of. MLflow leaves a step of 0 out."""
    return {entry["key"]: int(entry.get("step", 0)) for entry in run["data"].get("metrics", [])}


def _list_metrics(exported: ExportedJob, last_steps: dict[str, int]) -> Iterator[Json]:
    """Yield the points that are newer than those of the run; in the order of the steps, so that an export that was cut
    off goes on where it was.
    """
    for point in exported.list_points():
        for name, value in point.values.items():
            if point.step > last_steps.get(name, -1):
                yield {"key": name, "value": value, "timestamp": _ms(point.at), "step": point.step}


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _say(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
