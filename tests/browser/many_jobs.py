"""Many jobs, put straight into a yard's tables: to train a thousand would take hours."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from sqlalchemy import insert, update

from trainyard.database.connection import Database
from trainyard.database.ids import new_id
from trainyard.database.tables import Job, JobEvent, JobMetric
from trainyard.jobs.events import append_event
from trainyard.states import EventType

EPOCHS = 100


def open_tables(folder: Path) -> Database:
    """The database of a yard that runs in this folder."""
    return Database(f"sqlite:///{folder / 'trainyard.db'}")


def add_jobs(database: Database, number: int, config: dict[str, Any] | None = None) -> list[str]:
    """Jobs that have succeeded, oldest first, each with its events."""
    now = time.time()
    rows = [_make_row(new_id("job"), i, now, config or {}) for i in range(number)]
    with database.writing() as session:
        session.execute(insert(Job), rows)
        session.execute(insert(JobEvent), [_make_event(row["id"], now) for row in rows])
    return [str(row["id"]) for row in rows]


def _make_row(job_id: str, i: int, now: float, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": job_id, "owner": "local", "name": f"job {i}", "dataset_id": "ds_digits", "recipe": "quick",
        "config": config | {"epochs": EPOCHS, "lr": round(0.01 * (1 + i % 7), 2)}, "seed": i,
        "labels": {"team": ("vision", "audio")[i % 2]}, "priority": 0, "state": "succeeded", "state_reason": "finished",
        "desired": "run", "not_before": 0.0, "lease_owner": None, "lease_expires_at": None, "attempt": 1,
        "max_failures": 3, "created_at": now + i - 4000, "queued_at": now + i - 4000,
        "started_at": now + i - 3990, "finished_at": now + i - 3900,
        "progress": {"epoch": EPOCHS, "epochs": EPOCHS, "step": 5000, "steps": 5000},
        "metrics": {"val_top1": 0.9}, "best": {"epoch": 60, "val_top1": 0.9 + i / 100_000, "val_loss": 0.3},
        "event_seq": 1,
    }  # fmt: skip


def _make_event(job_id: str, now: float) -> dict[str, Any]:
    return {
        "job_id": job_id, "seq": 1, "at": now, "type": "state", "state": "succeeded", "reason": "finished",
        "lease_epoch": 1, "data": {},
    }  # fmt: skip


def add_points(database: Database, job_id: str, points: int, phase: float) -> None:
    """A series by step of so many points, and one by epoch."""
    loss = [2.3 * math.exp(-i / points * 4) + 0.05 * math.sin(i / 9 + phase) + 0.2 for i in range(points)]
    steps = [
        {"job_id": job_id, "kind": "interval", "step": i + 1, "epoch": i * EPOCHS // points, "lease_epoch": 1,
         "at": 0.0, "data": {"train_loss": loss[i], "lr": 0.1 * (1 - i / points), "images_per_s": 1800.0 + i % 50}}
        for i in range(points)
    ]  # fmt: skip
    epochs = [
        {"job_id": job_id, "kind": "epoch", "step": e * points // EPOCHS, "epoch": e, "lease_epoch": 1, "at": 0.0,
         "data": {"train_loss": 2 / e, "val_loss": 2 / e, "val_top1": 0.9 - 0.5 / e, "val_top5": 1.0, "seconds": 2.0}}
        for e in range(1, EPOCHS + 1)
    ]  # fmt: skip
    with database.writing() as session:
        session.execute(insert(JobMetric), steps + epochs)


def change_jobs(database: Database, job_ids: list[str], name: str) -> None:
    """Give these jobs a name as its owner would, each with the event that tells of it."""
    with database.writing() as session:
        for job_id in job_ids:
            session.execute(update(Job).where(Job.id == job_id).values(name=name))
            append_event(session, job_id, EventType.CHANGED, data={"fields": ["name"]})
