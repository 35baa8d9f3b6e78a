"""Writes a trainer's reports to the database, within the supervisor's transaction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from alexnet_core.layout import checkpoint_key
from alexnet_core.messages import (
    AnyReport,
    Calibrated,
    CheckpointSaved,
    EpochEnd,
    Finished,
    FirstStep,
    Interval,
    Outcome,
    Phase,
    Place,
    Progress,
    Started,
    Warned,
)
from trainyard.artifacts.calibrations import keep_of_weights
from trainyard.artifacts.checkpoint_commits import NewCheckpoint, commit_checkpoint
from trainyard.database.connection import now
from trainyard.database.tables import JobMetric
from trainyard.json_values import finite
from trainyard.scheduling.leases import Lease, heartbeat, report_event
from trainyard.states import Desired, EventType, MetricKind

_PLACE = set(Place.model_fields)
_STARTED = {"epoch", "step", "device", "environment", "precision_reason", "resumed_from", "bit_exact", "started_anew"}
_INTERVAL = {"train_loss", "lr", "images_per_s", "seconds"}


def write_reports(
    session: Session, lease: Lease, reports: Iterable[AnyReport], *, keep_latest: int, ttl_s: float
) -> Desired:
    """Write reports in their order, and extend the lease: with a checkpoint's commit, or by a heartbeat after them all.

    Returns:
        What the owner wants.

    Raises:
        LeaseLost: the lease is over; the transaction must be given up.
    """
    columns: dict[str, Any] = {}
    desired: Desired | None = None
    for report in reports:
        match report:
            case Progress():
                columns["progress"] = finite(report.model_dump(include=_PLACE))
            case Started():
                columns |= _write_started(session, lease, report)
            case Phase():
                report_event(session, lease, EventType.PHASE, reason=report.reason)
                columns["state_reason"] = report.reason
            case FirstStep():
                report_event(session, lease, EventType.PHASE, reason=report.type)
            case Interval():
                _write_metric(session, lease, MetricKind.INTERVAL, report, report.model_dump(include=_INTERVAL))
            case EpochEnd():
                _write_metric(session, lease, MetricKind.EPOCH, report, report.metrics)
            case CheckpointSaved():
                new = _read_checkpoint(lease, report)
                committed = commit_checkpoint(session, lease, new, keep_latest=keep_latest, ttl_s=ttl_s, **columns)
                desired, columns = committed.desired, {}
            case Finished(outcome=Outcome.SUCCEEDED):
                columns["progress"] = _complete(columns.get("progress"), report)
            case Calibrated():
                keep_of_weights(session, lease.job_id, report.weights_sha256, report.calibration.model_dump())
            case Warned():
                report_event(session, lease, EventType.WARNING, reason=report.code, data={"message": report.message})
    if desired is None or columns:
        desired = heartbeat(session, lease, ttl_s, **columns)
    return desired


def _write_started(session: Session, lease: Lease, report: Started) -> dict[str, Any]:
    report_event(session, lease, EventType.STARTED, data=finite(report.model_dump(mode="json", include=_STARTED)))
    if layers := report.started_anew:
        message = f"the checkpoint has other classes: {', '.join(layers)} started anew"
        data = {"message": message, "layers": layers}
        report_event(session, lease, EventType.WARNING, reason="layers_started_anew", data=data)
    return {"state_reason": "training", "progress": report.model_dump(include=_PLACE)}


def _complete(latest: dict[str, Any] | None, report: Finished) -> dict[str, Any]:
    """Return the progress of a run that is done. Its speed is the last one measured in this tick, if any."""
    done = {"epoch": report.epoch, "epochs": report.epoch, "step": report.step, "steps": report.step}
    return done | {"fraction": 1.0, "images_per_s": (latest or {}).get("images_per_s"), "eta_s": 0.0}


def _write_metric(
    session: Session, lease: Lease, kind: MetricKind, report: Interval | EpochEnd, values: dict[str, Any]
) -> None:
    """Write a point of a series. If a step is trained again after a crash, its new point replaces the old one."""
    point = (JobMetric.job_id == lease.job_id, JobMetric.kind == kind, JobMetric.step == report.step)
    session.execute(delete(JobMetric).where(*point))
    session.add(
        JobMetric(
            job_id=lease.job_id,
            kind=kind,
            step=report.step,
            epoch=report.epoch,
            lease_epoch=lease.lease_epoch,
            at=now(),
            data=finite(values),
        )
    )
    session.flush()


def _read_checkpoint(lease: Lease, report: CheckpointSaved) -> NewCheckpoint:
    return NewCheckpoint(
        kind=report.kind,
        key=checkpoint_key(lease.job_id, report.path.name),
        epoch=report.epoch,
        step=report.step,
        metrics=finite(report.metrics or {}),
        files={name: entry.model_dump() for name, entry in report.files.items()},
        size_bytes=report.size_bytes,
        weights_sha256=report.weights_sha256,
        manifest_sha256=report.manifest_sha256,
        is_best=report.is_best,
    )
