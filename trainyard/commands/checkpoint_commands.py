"""`trainyard checkpoints` and `trainyard download`: lists the checkpoints of jobs and takes them away."""

from __future__ import annotations

from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from trainyard.client import Client
from trainyard.commands.connecting import FAILED, AsJson, Url, connected, print_json, refusal
from trainyard.commands.job_references import JOB_HELP, find_job
from trainyard.terminal.tables import Column, print_table
from trainyard.terminal.terminal import Terminal
from trainyard.terminal.words import say_ago, say_bytes, say_loss, say_percent


class FileFormat(StrEnum):
    """The format of a checkpoint's weights."""

    SAFETENSORS = "safetensors"
    ONNX = "onnx"
    KERAS = "keras"
    TORCH_EXPORT = "torch_export"


COLUMNS = (
    Column("id", lambda row: row["id"]),
    Column("job", lambda row: row["job"], from_width=120),
    Column("kind", lambda row: row["kind"] + (" *" if row["is_best"] else "")),
    Column("epoch", lambda row: row["epoch"], is_number=True),
    Column("loss", lambda row: say_loss(row["metrics"].get("train_loss")), is_number=True, from_width=80),
    Column("validation", lambda row: say_percent(row["metrics"].get("val_top1")), is_number=True),
    Column("size", lambda row: say_bytes(row["size_bytes"]), is_number=True, from_width=95),
    Column("made", lambda row: say_ago(row["created_at"]), is_number=True, from_width=80),
)


def checkpoints(
    job: Annotated[str | None, typer.Argument(metavar="JOB", help=JOB_HELP + " Default: all your jobs.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most checkpoints to list.")] = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List checkpoints, newest first. A star marks the best one of its job."""
    with connected(url) as client:
        job_id = None if job is None else find_job(client, job)["id"]
        rows = list(islice(client.iter_checkpoints(job_id), limit))
    if as_json:
        print_json(rows)
        return
    print_table(Terminal(), COLUMNS, rows, empty="no checkpoints yet: the first comes after the first epoch")


def download(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="ckpt_…; or a job, by its id, its name or `last`: its best checkpoint."
        ),
    ],
    target: Annotated[
        Path | None, typer.Option("--to", help="File or folder to write to. Default: this folder.")
    ] = None,
    file_format: Annotated[FileFormat, typer.Option("--format", help="Of the weights.")] = FileFormat.SAFETENSORS,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Download a checkpoint as a tar: weights, config, class names, preprocessing and model card."""
    terminal = Terminal()
    with connected(url) as client:
        checkpoint_id = checkpoint if checkpoint.startswith("ckpt_") else best_checkpoint(client, checkpoint)
        file = target or Path()
        if file.is_dir():
            file = file / f"{checkpoint_id}.tar"
        with terminal.downloading(checkpoint_id) as tell:
            client.download_to(checkpoint_id, file, file_format=file_format.value, on_received=tell)
    if as_json:
        print_json({"checkpoint": checkpoint_id, "file": str(file), "size_bytes": file.stat().st_size})
    else:
        terminal.tell(str(file))


def best_checkpoint(client: Client, reference: str) -> str:
    """Return the id of a job's best checkpoint; where no epoch is complete, of its newest one."""
    job = find_job(client, reference)
    found = (job["best"] or {}).get("checkpoint") or job["latest_checkpoint"]
    if found is None:
        raise refusal(f"job {job['id']} has no checkpoint yet", FAILED)
    return str(found)
