from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.trainyard import yardbook as yb
from trainyard.artifacts.storage import LocalStorage
from trainyard.database.connection import Database
from trainyard.jobs.metrics import read_series, read_version
from trainyard.scheduling.leases import Lease
from worker.report_writer import write_reports


def write(books: Database, lease: Lease, *steps: int, epoch: int | None = None) -> None:
    """What a supervisor writes when its trainer reports these steps, and the end of an epoch after the last."""
    reports = [
        {"type": "interval", "step": step, "epoch": 0, "train_loss": 1 / step, "lr": 0.1, "images_per_s": 5.0 * step}
        for step in steps
    ]
    if epoch is not None:
        reports.append({"type": "epoch", "step": steps[-1], "epoch": epoch, "metrics": {"val_top1": 0.5}})
    with books.writing() as session:
        write_reports(session, lease, LocalStorage(Path()), reports, keep_latest=2)


def test_points_come_in_the_order_of_their_steps(books: Database) -> None:
    job_id = yb.submit(books)
    lease = yb.claim(books)
    write(books, lease, 2, 4, epoch=1)
    write(books, lease, 6, 8, epoch=2)
    with books.reading() as session:
        series = read_series(session, job_id)
    assert [(point["step"], point["train_loss"]) for point in series.by_step] == [(i, 1 / i) for i in (2, 4, 6, 8)]
    assert series.by_epoch == [
        {"step": 4, "epoch": 1, "val_top1": 0.5},
        {"step": 8, "epoch": 2, "val_top1": 0.5},
    ]


def test_the_version_changes_with_every_point_and_with_nothing_else(books: Database) -> None:
    job_id = yb.submit(books)
    lease = yb.claim(books)
    seen = []

    def look() -> None:
        with books.reading() as session:
            seen.append(read_version(session, job_id))

    look()
    write(books, lease, 2)
    look()
    write(books, lease, 4, epoch=1)
    look()
    later = replace(lease, lease_epoch=lease.lease_epoch + 1)
    yb.write(books, job_id, lease_epoch=later.lease_epoch)  # it was taken again and trains again from the start
    for step in (2, 4):
        write(books, later, step)
        look()
    assert len(set(seen)) == len(seen) == 5
    yb.write(books, job_id, name="renamed")
    look()
    assert seen[-1] == seen[-2]


def test_a_job_without_points_and_another_jobs_points(books: Database) -> None:
    mine = yb.submit(books)
    write(books, yb.claim(books), 2, epoch=1)
    other = yb.submit(books)
    with books.reading() as session:
        assert (read_series(session, other).by_step, read_series(session, other).by_epoch) == ([], [])
        assert read_version(session, other) == ()
        assert len(read_series(session, mine).by_step) == 1
