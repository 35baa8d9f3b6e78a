"""Finds the run of a job on a tracking server, or makes it: one run, also if several exports of the job begin at once.

MLflow gives no way to make a run only if there is none. So each export that makes one looks again afterwards. Of two
that begin at once, the one that looks later sees the run of the other, takes its own back, and waits for the other's;
both may do so, and then begin again after different times. A run counts from the moment at which it has the tags of
its job: its export saw no other one, and will not take it back.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from trainyard.tracking.mlflow_server import Json, MlflowError, MlflowServer

JOB_TAG = "trainyard.job"  #: by which the run of a job is found again
STATE_TAG = "trainyard.state"  #: is set when the run is known to be the only one
_ATTEMPTS = 10
_PAUSE_S = 0.3  #: at most, before the second attempt; longer before each further one


def find_or_make_run(
    server: MlflowServer,
    experiment_id: str,
    job_id: str,
    *,
    name: str,
    start_ms: int,
    tags: dict[str, str],
    sleep: Callable[[float], None] = time.sleep,
) -> Json:
    """Return the run of a job in an experiment.

    Args:
        server: the tracking server.
        experiment_id: the experiment.
        job_id: the job.
        name: what a new run is called.
        start_ms: when a new run began.
        tags: what a new run is tagged with, `STATE_TAG` among it.
        sleep: waits before another attempt.

    Raises:
        MlflowError: the server refuses, or other exports make runs of this job all the time.
    """
    assert STATE_TAG in tags
    runs: list[Json] = []
    for attempt in range(_ATTEMPTS):
        runs = server.list_runs(experiment_id, JOB_TAG, job_id)
        if settled := [run for run in runs if STATE_TAG in tags_of(run)]:
            return settled[0]
        if not runs:
            run = server.make_run(experiment_id, name, start_ms, {JOB_TAG: job_id})
            run_id = id_of(run)
            if all(id_of(other) == run_id for other in server.list_runs(experiment_id, JOB_TAG, job_id)):
                server.set_tags(run_id, tags)
                return run
            _take_back(server, run_id, job_id)
        sleep(random.uniform(0, _PAUSE_S * (attempt + 1)))
    if runs:  # whoever made it was ended before it could tag it
        return runs[0]
    raise MlflowError(
        "mlflow_run_contested",
        f"several exports of {job_id} to {server.address} are making its run at once: give the command again",
    )


def tags_of(run: Json) -> dict[str, str]:
    """Return the tags of a run."""
    return {entry["key"]: entry["value"] for entry in run["data"].get("tags", [])}


def id_of(run: Json) -> str:
    """Return the id of a run."""
    return str(run["info"]["run_id"])


def _take_back(server: MlflowServer, run_id: str, job_id: str) -> None:
    """Remove a run that nothing was written to; where that is not allowed, say of it that it is no job's."""
    try:
        server.delete_run(run_id)
    except MlflowError as exc:
        if exc.code != "mlflow_not_allowed":
            raise
        server.set_tags(run_id, {JOB_TAG: f"none (another export made the run of {job_id})"})
