"""Jobs as rows of a list, which are built for a thousand jobs at once.

A row's curve takes the most time, and that of a job that has ended never changes again. So those are kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from sqlalchemy.orm import Session

from api.reading.job_reader import find_places
from api.schemas.jobs import JobRowRead
from trainyard.database.tables import JobRow
from trainyard.jobs.sparklines import read_sparklines
from trainyard.settings import Settings

MAX_CURVES = 10_000  # of ended jobs: 8 MB


class JobRows:
    """Builds rows. Safe to use from several threads."""

    def __init__(self, settings: Settings, *, max_curves: int = MAX_CURVES) -> None:
        self._settings, self._max_curves = settings, max_curves
        self._curves: OrderedDict[str, list[float]] = OrderedDict()
        self._lock = threading.Lock()

    def describe(self, session: Session, jobs: Sequence[JobRow]) -> list[JobRowRead]:
        """Return jobs as clients see them in a list, with a few queries for any number of them."""
        outlook, positions = find_places(session, self._settings, jobs)
        curves = self._read_curves(session, jobs)
        return [
            JobRowRead.of(job, curves.get(job.id, ()), outlook=outlook, position=positions.get(job.id)) for job in jobs
        ]

    def _read_curves(self, session: Session, jobs: Sequence[JobRow]) -> dict[str, list[float]]:
        begun = [job for job in jobs if job.attempt > 0]
        with self._lock:
            curves = {job.id: self._curves[job.id] for job in begun if job.id in self._curves}
        missing = [job.id for job in begun if job.id not in curves]
        for job_id, losses in read_sparklines(session, missing).items():
            curves[job_id] = [float(f"{loss:.4g}") for loss in losses]
        with self._lock:
            for job in begun:
                if job.state.is_final:
                    self._curves[job.id] = curves[job.id]
                    self._curves.move_to_end(job.id)
            while len(self._curves) > self._max_curves:
                self._curves.popitem(last=False)
        return curves
