"""`trainyard tensorboard`: the event files of jobs, brought here and shown by TensorBoard."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from trainyard.client import ApiError, Client
from trainyard.commands.connecting import FAILED, AsJson, Url, connected, print_json, refusal
from trainyard.commands.job_references import JOB_HELP, find_job
from trainyard.terminal.terminal import Terminal


def tensorboard(
    jobs: Annotated[
        list[str] | None, typer.Argument(metavar="JOB...", help=JOB_HELP + " Default: your newest jobs.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Most jobs, where none is named.")] = 50,
    folder: Annotated[
        Path | None, typer.Option("--to", help="Folder for the event files. Default: a temporary one.")
    ] = None,
    port: Annotated[int, typer.Option(help="TensorBoard's port.")] = 6006,
    every_s: Annotated[float, typer.Option("--every", min=1, help="Seconds between two looks for new files.")] = 30,
    once: Annotated[bool, typer.Option("--once", help="Bring the files here once, and start no TensorBoard.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show jobs in TensorBoard, and bring what they write while they train. Ctrl-C stops it."""
    if not once and importlib.util.find_spec("tensorboard") is None:
        raise refusal(
            "TensorBoard is not installed: `pip install tensorboard`, or only bring the files with --once", FAILED
        )
    terminal, files = Terminal(), EventFiles()
    with ExitStack() as stack:
        target = folder or Path(tempfile.mkdtemp(prefix="trainyard-tensorboard-"))
        client = stack.enter_context(connected(url))
        brought = files.bring(client, _find(client, jobs, limit), target)
        if as_json:
            print_json({"folder": str(target), "jobs": brought})
        else:
            terminal.say(f"the event files of {len(brought)} jobs are in {target}")
        if once:
            return
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(target), "--port", str(port)]
        process = stack.enter_context(subprocess.Popen(command))
        stack.callback(process.terminate)
        while process.poll() is None:
            time.sleep(every_s)
            files.bring(client, _find(client, jobs, limit), target)
        raise refusal(f"TensorBoard ended with status {process.returncode}", FAILED)


class EventFiles:
    """Brings the event files of jobs into a folder, again only where a job has a newer checkpoint."""

    def __init__(self) -> None:
        self._brought: dict[str, str] = {}

    def bring(self, client: Client, jobs: list[Any], target: Path) -> list[str]:
        """Write a folder of event files for each job that has some, and return the ids of these jobs."""
        for job in jobs:
            checkpoint = job["latest_checkpoint"]
            if checkpoint is None or self._brought.get(job["id"]) == checkpoint:
                continue
            try:
                self._bring_one(client, checkpoint, target / folder_name(job))
            except ApiError as exc:
                if exc.status != 404:  # a job without event files, or one that was removed just now
                    raise
                continue
            self._brought[job["id"]] = checkpoint
        return list(self._brought)

    @staticmethod
    def _bring_one(client: Client, checkpoint: str, target: Path) -> None:
        target.mkdir(parents=True, exist_ok=True)
        archive = target / ".event-files.tar"
        try:
            client.download_to(checkpoint, archive, what="tensorboard")
            with tarfile.open(archive) as tar:
                for member in tar:
                    if member.isfile():
                        member.name = Path(member.name).name
                        tar.extract(member, target, filter="data")
        finally:
            archive.unlink(missing_ok=True)


def folder_name(job: Any) -> str:
    """Return the folder of a job's event files, whose name TensorBoard shows: its name, if it has one, and its id."""
    name = "".join(mark if mark.isalnum() or mark in "-_." else "-" for mark in job["name"] or "").strip(".-")
    return f"{name}-{job['id']}" if name else str(job["id"])


def _find(client: Client, references: list[str] | None, limit: int) -> list[Any]:
    if references:
        return [find_job(client, reference) for reference in references]
    return list(islice(client.iter_jobs(), limit))
