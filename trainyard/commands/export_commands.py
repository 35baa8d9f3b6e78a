"""`trainyard export`: writes jobs into the experiment trackers that others use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from trainyard.commands.connecting import FAILED, USAGE, AsJson, Url, connected, print_json, refusal
from trainyard.commands.job_references import JOB_HELP, find_job
from trainyard.settings.refused_settings import explain
from trainyard.terminal.terminal import Terminal
from trainyard.tracking.exported_job import read_job
from trainyard.tracking.mlflow_export import export_run
from trainyard.tracking.mlflow_server import MlflowError, MlflowServer, MlflowSettings
from trainyard.tracking.wandb_export import WandbError, export_offline_run

app = typer.Typer(no_args_is_help=True, help="Export jobs to MLflow or Weights & Biases.")
Jobs = Annotated[list[str] | None, typer.Argument(metavar="JOB...", help=JOB_HELP + " Default: last.")]
Files = Annotated[
    bool, typer.Option("--artifacts/--no-artifacts", help="Whether checkpoint, model card and evaluation go along.")
]


@app.command("mlflow")
def export_mlflow(
    jobs: Jobs = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="URI", help="The tracking server, http://host:port. Default: MLFLOW_TRACKING_URI."),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The experiment. Default: MLFLOW_EXPERIMENT_NAME, else trainyard."),
    ] = None,
    artifacts: Files = True,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Write jobs as runs of an MLflow tracking server. Again: the same runs, with what is new."""
    with _refusals():
        settings = MlflowSettings()
        address = to or settings.tracking_uri
        if address is None:
            raise refusal("name the tracking server: --to http://host:port, or MLFLOW_TRACKING_URI", USAGE)
        terminal, runs = Terminal(), []
        with connected(url) as client, MlflowServer(address, settings) as server:
            for job in [find_job(client, reference) for reference in jobs or ["last"]]:
                with terminal.exporting(job["name"] or job["id"]) as (tell, tell_file):
                    run = export_run(
                        client,
                        read_job(client, job),
                        server,
                        experiment or settings.experiment_name,
                        with_files=artifacts,
                        on_received=tell,
                        on_file=tell_file,
                    )
                runs.append(run.to_json())
                if not as_json:
                    terminal.tell(f"{job['id']}: {run.points} new points and {len(run.files)} files, {run.page}")
    if as_json:
        print_json(runs)


@app.command("wandb")
def export_wandb(
    jobs: Jobs = None,
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the runs. Default: this folder.")] = Path(),
    project: Annotated[str, typer.Option(metavar="NAME", help="The project of the runs.")] = "trainyard",
    artifacts: Files = True,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Write jobs as offline runs of Weights & Biases, without any network. `wandb sync` sends them later."""
    terminal, runs = Terminal(), []
    with _refusals(), connected(url) as client:
        for job in [find_job(client, reference) for reference in jobs or ["last"]]:
            with terminal.exporting(job["name"] or job["id"]) as (tell, _):
                run = export_offline_run(
                    client, read_job(client, job), to, project, with_files=artifacts, on_received=tell
                )
            runs.append(run.to_json())
            if not as_json:
                terminal.tell(f"{job['id']}: {run.points} points and {len(run.files)} files, {run.folder}")
    if as_json:
        print_json(runs)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (MlflowError, WandbError) as exc:
        status = USAGE if exc.code == "mlflow_address_invalid" else FAILED
        raise refusal(str(exc), status, code=exc.code) from exc
    except ValidationError as exc:
        raise refusal(f"settings: {explain(exc)}", USAGE) from exc
