"""A job that trains, put straight into a yard's tables with as many points as a run of hours has."""

from __future__ import annotations

import time

from playwright.sync_api import Page, expect
from sqlalchemy import insert, update

from tests.browser.many_jobs import add_jobs
from trainyard.database.connection import Database
from trainyard.database.tables import Job, JobMetric
from trainyard.jobs.events import append_event
from trainyard.states import EventType

STEPS, EPOCHS = 100_000, 100
STEPS_AN_EPOCH = STEPS // EPOCHS
#: What a person goes through; `{job}` and `{other}` are jobs.
VIEWS = (
    "#/jobs", "#/jobs/{job}", "#/jobs/{job}/checkpoints", "#/jobs/{job}/events", "#/jobs/{job}/log",
    "#/jobs/{job}/config", "#/compare?jobs={job},{other}", "#/datasets", "#/predict", "#/yard", "#/settings", "#/new",
)  # fmt: skip


class GrowingJob:
    """A running job whose series grows as it is told to."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.other, self.id = add_jobs(database, 2)
        self.step = 0
        with database.writing() as session:
            running = {
                "state": "running",
                "state_reason": "training",
                "finished_at": None,
                "lease_owner": "wrk_none",
                "lease_expires_at": time.time() + 86_400,
                "best": None,
            }
            session.execute(update(Job).where(Job.id == self.id).values(running))

    def grow(self, points: int) -> None:
        """Add so many points by step, the epochs among them, and an event."""
        steps = range(self.step + 1, self.step + points + 1)
        self.step += points
        fixed = {"job_id": self.id, "lease_epoch": 1, "at": time.time()}
        rows = [
            fixed
            | {"kind": "interval", "step": step, "epoch": step // STEPS_AN_EPOCH,
               "data": {"train_loss": 1 / step, "lr": 0.1, "images_per_s": float(step), "seconds": float(step)}}
            for step in steps
        ] + [
            fixed
            | {"kind": "epoch", "step": step, "epoch": step // STEPS_AN_EPOCH,
               "data": {"train_loss": 1 / step, "val_loss": 1 / step, "val_top1": 0.9, "val_top5": 1.0, "seconds": 2.0}}
            for step in steps
            if step % STEPS_AN_EPOCH == 0
        ]  # fmt: skip
        progress = {"epoch": self.step // STEPS_AN_EPOCH, "epochs": EPOCHS, "step": self.step, "steps": STEPS}
        with self._database.writing() as session:
            session.execute(insert(JobMetric), rows)
            session.execute(update(Job).where(Job.id == self.id).values(progress=progress))
            append_event(session, self.id, EventType.CHANGED, data={"fields": ["note"]})

    def wait_until_shown(self, page: Page) -> None:
        """Wait until the job's view, which is shown, has drawn the last point."""
        speed = page.locator("figure").filter(has=page.get_by_role("heading", name="Images/s"))
        expect(speed).to_contain_text(f"speed {self.step:,}", timeout=30_000)  # a point's speed is its step

    def walk(self, page: Page) -> None:
        """Go through the views once, as the address of each is typed, and end at the job."""
        for view in (*VIEWS, VIEWS[1]):
            page.evaluate("address => (location.hash = address)", view.format(job=self.id, other=self.other))
            page.locator("h1:not(:empty)").wait_for()
            page.wait_for_timeout(100)  # until what it asks for has come, on most days
        page.locator("figure canvas").first.wait_for()
