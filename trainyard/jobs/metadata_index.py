"""The index by which the list of jobs is filtered for pairs of metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from trainyard.database.tables import Job, JobLabel


def digest_of(key: str, value: str) -> str:
    """Return the digest that represents a pair in the index, so that its length is fixed."""
    return hashlib.sha256(json.dumps([key, value]).encode()).hexdigest()


def label_rows(job: Job, metadata: Mapping[str, str]) -> list[JobLabel]:
    """Return the rows by which a job is found; `job.created_at` must be known."""
    return [
        JobLabel(job_id=job.id, digest=digest_of(key, value), owner=job.owner, created_at=job.created_at)
        for key, value in metadata.items()
    ]
