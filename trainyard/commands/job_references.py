"""Finds the job that a command means: by its id, by its name, or the last one."""

from __future__ import annotations

from itertools import islice
from typing import Any

from trainyard.client import Client

LAST = "last"
SEARCHED = 1000  #: newest jobs whose names are looked at

JOB_HELP = "The job's id or name, or `last`: your newest job."


def find_job(client: Client, reference: str) -> Any:
    """Return the job that is meant.

    Raises:
        ApiError: there is no job with this id.
        ValueError: no job, or more than one, has this name.
    """
    if reference.startswith("job_"):
        return client.get_job(reference)
    if reference == LAST:
        for job in client.iter_jobs():
            return job
        raise ValueError("there is no job yet: `trainyard train FOLDER` begins one")
    found = [job for job in islice(client.iter_jobs(), SEARCHED) if job["name"] == reference]
    if not found:
        raise ValueError(f"no job is named {reference!r}: `trainyard jobs` lists them")
    if len(found) > 1:
        ids = ", ".join(job["id"] for job in found[:3])
        raise ValueError(f"{len(found)} jobs are named {reference!r}: say which by its id, such as {ids}")
    return found[0]
