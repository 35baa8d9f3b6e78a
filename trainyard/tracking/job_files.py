"""Brings here the files of a job that an experiment tracker keeps."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

from trainyard.client import ApiError, Client
from trainyard.client.kinds import OnProgress
from trainyard.tracking.exported_job import ExportedJob

CHECKPOINT_FOLDER = "checkpoint"
_NO_EVALUATION = frozenset({"evaluation_not_found", "insight_in_progress"})


def bring_files(
    client: Client, exported: ExportedJob, folder: Path, *, on_received: OnProgress | None = None
) -> list[Path]:
    """Write the files of a job below a folder, and return their paths below it, in order.

    `job.json` is the job as the API shows it, `evaluation.json` the evaluation of one that has succeeded. In
    `checkpoint/` are the files of the best checkpoint, and its model card.

    Raises:
        ApiError: the yard refuses a download.
    """
    _write_json(folder / "job.json", exported.job.to_json())
    if exported.job["state"] == "succeeded":
        _bring_evaluation(client, exported, folder / "evaluation.json")
    if exported.checkpoint is not None:
        _bring_checkpoint(client, exported.checkpoint, folder, on_received)
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def _bring_evaluation(client: Client, exported: ExportedJob, target: Path) -> None:
    try:
        _write_json(target, client.get_evaluation(exported.id).to_json())
    except ApiError as exc:
        if exc.code not in _NO_EVALUATION:
            raise


def _bring_checkpoint(client: Client, checkpoint: str, folder: Path, on_received: OnProgress | None) -> None:
    archive = folder / ".checkpoint.tar"
    target = folder / CHECKPOINT_FOLDER
    target.mkdir(exist_ok=True)
    try:
        client.download_to(checkpoint, archive, on_received=on_received)
        with tarfile.open(archive) as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is not None:
                    with (target / PurePosixPath(member.name).name).open("wb") as file:
                        shutil.copyfileobj(content, file)
    finally:
        archive.unlink(missing_ok=True)


def _write_json(target: Path, value: dict[str, Any]) -> None:
    target.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
