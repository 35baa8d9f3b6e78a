"""Jobs for the page to show: what they are made of, and waiting for what they become."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

Json = dict[str, Any]
ENDED = ("succeeded", "failed", "cancelled")
DIVERGES = {"lr": 9, "norm": "none", "schedule": "constant", "epochs": 8}  #: its loss is no number within a few steps


def start_job(http: httpx.Client, name: str, **overrides: Any) -> Json:
    """Queue a job on the digits, and return it."""
    answer = http.post("/jobs", json={"dataset": "digits", "name": name, "overrides": overrides})
    return dict(answer.raise_for_status().json())


def read_job(http: httpx.Client, job_id: str) -> Json:
    return dict(http.get(f"/jobs/{job_id}").raise_for_status().json())


def wait_for_job(http: httpx.Client, job_id: str, is_it: Callable[[Json], bool], timeout_s: float = 400) -> Json:
    """Return the job once it is what is waited for."""
    deadline = time.monotonic() + timeout_s
    while True:
        job = read_job(http, job_id)
        if is_it(job):
            return job
        assert time.monotonic() < deadline, f"the job is {job['state']} with {job['progress']}"
        time.sleep(0.2)


def wait_for_end(http: httpx.Client, job_id: str) -> Json:
    return wait_for_job(http, job_id, lambda job: job["state"] in ENDED)
