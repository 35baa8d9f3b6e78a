"""How long training runs that have succeeded took, from which the time of another run can be estimated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from trainyard.database.tables import Dataset, Job, JobEvent, JobMetric
from trainyard.states import EventType, JobState, MetricKind, WorkKind


@dataclass(frozen=True)
class FinishedRun:
    """One run that succeeded, and its times."""

    recipe: str
    config: dict[str, Any]  #: a complete `TrainConfig`
    facts: dict[str, Any]  #: `alexnet_core.config.DatasetFacts` of its dataset
    device: str  #: that its last attempt ran on, such as `cuda:0`
    epochs: int  #: that were measured
    epochs_s: float  #: seconds of these, with validation
    around_s: float | None  #: seconds before the first and after the last epoch; None: it had several attempts


def list_finished_runs(session: Session, owner: str, *, limit: int = 50) -> list[FinishedRun]:
    """Return the newest training runs of an owner that succeeded."""
    finished = (Job.owner == owner, Job.kind == WorkKind.TRAIN, Job.state == JobState.SUCCEEDED)
    columns = (Job.id, Job.recipe, Job.config, Dataset.facts, Job.attempt, Job.started_at, Job.finished_at)
    query = select(*columns).join(Dataset, Dataset.id == Job.dataset_id).where(*finished)
    jobs = session.execute(query.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit)).all()
    job_ids = [job.id for job in jobs]
    seconds = func.sum(JobMetric.data["seconds"].as_float())
    points = select(JobMetric.job_id, func.count(), seconds).where(JobMetric.job_id.in_(job_ids))
    points = points.where(JobMetric.kind == MetricKind.EPOCH).group_by(JobMetric.job_id)
    epochs = {job_id: (count, total) for job_id, count, total in session.execute(points) if total}
    started = select(JobEvent.job_id, JobEvent.data).where(JobEvent.job_id.in_(job_ids))
    started = started.where(JobEvent.type == EventType.STARTED).order_by(JobEvent.seq)
    devices = {job_id: str(data.get("device", "")) for job_id, data in session.execute(started)}
    return [
        FinishedRun(
            recipe=job.recipe,
            config=job.config,
            facts=job.facts,
            device=devices.get(job.id, ""),
            epochs=epochs[job.id][0],
            epochs_s=epochs[job.id][1],
            around_s=max(0.0, job.finished_at - job.started_at - epochs[job.id][1]) if job.attempt == 1 else None,
        )
        for job in jobs
        if job.id in epochs
    ]
