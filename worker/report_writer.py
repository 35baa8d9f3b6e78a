"""Carries a trainer's reports into the database, inside the supervisor's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from trainyard.artifacts.checkpoints import NewCheckpoint, commit_checkpoint
from trainyard.artifacts.storage import Storage
from trainyard.database.connection import now
from trainyard.database.tables import JobMetric
from trainyard.json_values import finite
from trainyard.scheduling.leases import Lease, report_event
from trainyard.states import CheckpointKind, EventType, MetricKind
from worker.trainer import Report

_PROGRESS = ("epoch", "epochs", "step", "steps", "fraction", "images_per_s", "eta_s")
_STARTED = ("epoch", "step", "device", "environment", "resumed_from", "bit_exact", "started_anew")


def write_reports(
    session: Session, lease: Lease, storage: Storage, reports: Sequence[Report], *, keep_latest: int
) -> dict[str, Any]:
    """Write reports in their order.

    Returns:
        Columns of the job that the heartbeat of the same transaction must write.

    Raises:
        LeaseLost: the lease is over; the transaction must be given up.
    """
    columns: dict[str, Any] = {}
    for report in map(finite, reports):
        kind = report["type"]
        if kind == "progress":
            columns["progress"] = {key: report.get(key) for key in _PROGRESS}
        elif kind == "started":
            columns |= _write_started(session, lease, report)
        elif kind == "phase":
            report_event(session, lease, EventType.PHASE, reason=report["reason"])
            columns["state_reason"] = report["reason"]
        elif kind == "first_step":
            report_event(session, lease, EventType.PHASE, reason="first_step")
        elif kind in {"interval", "epoch"}:
            _write_metric(session, lease, MetricKind(kind), report)
        elif kind == "checkpoint":
            commit_checkpoint(session, lease, _read_checkpoint(storage, report), keep_latest=keep_latest)
        elif kind == "finished" and report["outcome"] == "succeeded":
            columns["progress"] = _complete(columns.get("progress"), report)
        elif kind == "warning":
            report_event(session, lease, EventType.WARNING, reason=report["code"], data={"message": report["message"]})
    return columns


def _write_started(session: Session, lease: Lease, report: Report) -> dict[str, Any]:
    report_event(session, lease, EventType.STARTED, data={key: report.get(key) for key in _STARTED})
    if report.get("resumed_from") and not report.get("bit_exact", True):
        message = "resumed on a GPU, or with another torch build, CPU or thread count: the weights may differ in bits"
        report_event(session, lease, EventType.WARNING, reason="resume_not_bit_exact", data={"message": message})
    if report.get("started_anew"):
        layers = list(report["started_anew"])
        message = f"the checkpoint has other classes: {', '.join(layers)} started anew"
        data = {"message": message, "layers": layers}
        report_event(session, lease, EventType.WARNING, reason="layers_started_anew", data=data)
    steps = report["steps"]
    progress = {
        "epoch": report["epoch"],
        "epochs": report["epochs"],
        "step": report["step"],
        "steps": steps,
        "fraction": report["step"] / steps if steps else 0.0,
        "images_per_s": None,
        "eta_s": None,
    }
    return {"state_reason": "training", "progress": progress}


def _complete(latest: dict[str, Any] | None, report: Report) -> dict[str, Any]:
    """The progress of a run that is done; its speed stays the last one measured, where this tick measured one."""
    done = {"epoch": report["epoch"], "epochs": report["epoch"], "step": report["step"], "steps": report["step"]}
    return done | {"fraction": 1.0, "images_per_s": (latest or {}).get("images_per_s"), "eta_s": 0.0}


def _write_metric(session: Session, lease: Lease, kind: MetricKind, report: Report) -> None:
    """One point of a series; a step that is trained again after a crash replaces its first point."""
    point = (JobMetric.job_id == lease.job_id, JobMetric.kind == kind, JobMetric.step == report["step"])
    session.execute(delete(JobMetric).where(*point))
    values = (
        report["metrics"]
        if kind is MetricKind.EPOCH
        else {key: report[key] for key in ("train_loss", "lr", "images_per_s")}
    )
    session.add(
        JobMetric(
            job_id=lease.job_id,
            kind=kind,
            step=report["step"],
            epoch=report["epoch"],
            lease_epoch=lease.lease_epoch,
            at=now(),
            data=values,
        )
    )
    session.flush()


def _read_checkpoint(storage: Storage, report: Report) -> NewCheckpoint:
    return NewCheckpoint(
        kind=CheckpointKind(report["kind"]),
        key=storage.key_of(Path(report["path"])),
        epoch=report["epoch"],
        step=report["step"],
        metrics=report["metrics"] or {},
        files=report["files"],
        size_bytes=report["size_bytes"],
        weights_sha256=report["weights_sha256"],
        manifest_sha256=report["manifest_sha256"],
        is_best=report["is_best"],
    )
