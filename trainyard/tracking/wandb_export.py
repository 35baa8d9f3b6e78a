"""Writes a job as an offline run of Weights & Biases, which `wandb sync` sends to a server later.

Their library is asked in a process of its own: it reads its environment when it is imported, keeps threads and a
service running, and looks up its maker's servers for error reports, also offline, unless its environment forbids it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alexnet_core.child_processes import scrubbed_environment
from trainyard.client import Client
from trainyard.client.kinds import OnProgress
from trainyard.tracking.exported_job import ExportedJob
from trainyard.tracking.job_files import bring_files

Json = dict[str, Any]
FOLDER = "wandb"  #: below the one that is named: their library makes it
_MAX_S = 600.0
#: No network: neither for the run, nor for its maker.
_OFFLINE = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}


class WandbError(Exception):
    """A run can't be written. The message says why and what to do; `code` is for programs."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


@dataclass(frozen=True)
class OfflineRun:
    """The folder that a job has become."""

    job: str
    folder: str
    points: int
    files: list[str]

    def to_json(self) -> Json:
        """Return it for programs."""
        return dict(vars(self))


def export_offline_run(
    client: Client,
    exported: ExportedJob,
    target: Path,
    project: str,
    *,
    with_files: bool = True,
    on_received: OnProgress | None = None,
    run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run,
) -> OfflineRun:
    """Write a job as an offline run below `target`, in the place of an earlier one of the same job.

    Args:
        client: of the job's yard.
        exported: the job.
        target: the folder; made if it is missing.
        project: of Weights & Biases.
        with_files: whether the checkpoint, the model card and the evaluation are in it.
        on_received: called with the bytes of the checkpoint that came from the yard, and all of them.
        run: starts the process that asks their library.

    Raises:
        WandbError: their library is missing, or can't write.
        ApiError: the yard refuses.
    """
    if find_spec("wandb") is None:
        raise WandbError(
            "wandb_not_installed", "the library of Weights & Biases is not installed: `pip install 'trainyard[wandb]'`"
        )
    target.mkdir(parents=True, exist_ok=True)
    earlier = list((target / FOLDER).glob(f"offline-run-*-{exported.id}"))
    with tempfile.TemporaryDirectory(prefix="trainyard-export-") as name:
        folder = Path(name) / "files"
        folder.mkdir()
        files = bring_files(client, exported, folder, on_received=on_received) if with_files else []
        plan = Path(name) / "plan.json"
        points = exported.list_points()
        content = {
            "project": project,
            "id": exported.id,
            "name": exported.title,
            "notes": exported.job["note"],
            "config": exported.list_parameters(),
            "started_at": exported.started_at.timestamp(),
            "points": [{"step": point.step, "values": point.values | _at(exported, point.at)} for point in points],
            "summary": {"state": exported.job["state"], "weights_sha256": exported.job["weights_sha256"]},
            "exit_code": 1 if exported.job["state"] in {"failed", "cancelled"} else 0,
            "target": str(target.absolute()),
            "folder": str(folder),
        }
        plan.write_text(json.dumps(content), encoding="utf-8")
        written = _write(plan, Path(name), run)
    for folder in earlier:
        if folder.absolute() != written:
            shutil.rmtree(folder)
    return OfflineRun(exported.id, str(written), len(points), [path.as_posix() for path in files])


def _at(exported: ExportedJob, at: Any) -> dict[str, float]:
    return {"train/seconds": (at - exported.started_at).total_seconds()}


def _write(plan: Path, scratch: Path, run: Callable[..., subprocess.CompletedProcess[str]]) -> Path:
    """Let the child write the run, and return its folder."""
    places = {f"WANDB_{name}_DIR": str(scratch / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
    command = [sys.executable, "-m", "trainyard.tracking.wandb_writer", str(plan)]
    environment = scrubbed_environment() | _OFFLINE | places
    try:
        done = run(command, env=environment, capture_output=True, text=True, check=False, timeout=_MAX_S)
    except subprocess.TimeoutExpired as exc:
        raise WandbError("wandb_failed", f"the library of Weights & Biases did not end within {_MAX_S:.0f} s") from exc
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise WandbError("wandb_failed", f"the library of Weights & Biases could not write the run: {lines[-1]}")
    return Path(done.stdout.strip().splitlines()[-1])
