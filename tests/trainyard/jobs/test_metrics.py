from __future__ import annotations

from dataclasses import replace

from alexnet_core.messages import AnyReport, EpochEnd
from tests.alexnet_core.reports import interval
from tests.trainyard import rows as db_rows
from trainyard.database.connection import Database
from trainyard.jobs.metrics import read_series, read_version
from trainyard.scheduling.leases import Lease
from worker.report_writer import write_reports


def write(database: Database, lease: Lease, *steps: int, epoch: int | None = None) -> None:
    """What a supervisor writes when its trainer reports these steps, and the end of an epoch after the last."""
    reports: list[AnyReport] = [interval(step, images_per_s=5.0 * step) for step in steps]
    if epoch is not None:
        reports.append(EpochEnd(step=steps[-1], epoch=epoch, metrics={"val_top1": 0.5}))
    with database.writing() as session:
        write_reports(session, lease, reports, keep_latest=2, ttl_s=60)


def test_points_come_in_the_order_of_their_steps(database: Database) -> None:
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database)
    write(database, lease, 2, 4, epoch=1)
    write(database, lease, 6, 8, epoch=2)
    with database.reading() as session:
        series = read_series(session, job_id)
    assert [(point["step"], point["train_loss"]) for point in series.by_step] == [(i, 1 / i) for i in (2, 4, 6, 8)]
    assert series.by_epoch == [
        {"step": 4, "epoch": 1, "val_top1": 0.5},
        {"step": 8, "epoch": 2, "val_top1": 0.5},
    ]


def test_the_version_changes_with_every_point_and_with_nothing_else(database: Database) -> None:
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database)
    seen = []

    def look() -> None:
        with database.reading() as session:
            seen.append(read_version(session, job_id))

    look()
    write(database, lease, 2)
    look()
    write(database, lease, 4, epoch=1)
    look()
    later = replace(lease, lease_epoch=lease.lease_epoch + 1)
    db_rows.write(database, job_id, lease_epoch=later.lease_epoch)  # it was taken again and trains again from the start
    for step in (2, 4):
        write(database, later, step)
        look()
    assert len(set(seen)) == len(seen) == 5
    db_rows.write(database, job_id, name="renamed")
    look()
    assert seen[-1] == seen[-2]


def test_a_job_without_points_and_another_jobs_points(database: Database) -> None:
    mine = db_rows.submit(database)
    write(database, db_rows.claim(database), 2, epoch=1)
    other = db_rows.submit(database)
    with database.reading() as session:
        assert (read_series(session, other).by_step, read_series(session, other).by_epoch) == ([], [])
        assert read_version(session, other) == ()
        assert len(read_series(session, mine).by_step) == 1
