"""Datasets as clients see them, with the progress of those that are still uploaded or validated."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.schemas.datasets import DatasetRead
from trainyard.artifacts.datasets import is_coming
from trainyard.database.tables import Dataset, Job
from trainyard.scheduling.queue_view import get_outlook
from trainyard.settings import Settings


def describe_datasets(
    session: Session, settings: Settings, rows: Sequence[Dataset], *, with_reports: bool = True
) -> list[DatasetRead]:
    """Build datasets as clients see them, with their shortened reports or without any."""
    coming = [row.work_id for row in rows if is_coming(row)]
    works: dict[str, Job] = {}
    waits: dict[str, str | None] = {}
    if coming:
        works = {work.id: work for work in session.scalars(select(Job).where(Job.id.in_(coming)))}
        outlook = get_outlook(session, {work.owner for work in works.values()}, settings.max_running_per_owner)
        waits = {work.id: outlook.waits_for(work) for work in works.values()}
    described = []
    for row in rows:
        report = row.report if with_reports else None
        described.append(DatasetRead.of(row, works.get(row.work_id), waiting_for=waits.get(row.work_id), report=report))
    return described
