"""The metrics that the database knows: jobs, workers, the outbox. They are read when they are asked for.

So workers neither listen on a port nor send anything, and every API of a yard tells the same: take the `max` over them,
not the sum.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from trainyard.build import build_id
from trainyard.database.connection import Database
from trainyard.errors import DatabaseUnavailable
from trainyard.settings import Settings
from trainyard.upkeep.figures import YardFigures, read_figures

FRESH_S = 1.0  # scrapes that come together share one reading


class YardCollector(Collector):
    """Reads the yard's figures from the database, at most once a second."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings, self._database = settings, database
        self._lock = threading.Lock()
        self._read: tuple[float, YardFigures | None] | None = None

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering it does not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics. Without a database it is only `trainyard_database_up` and what needs none."""
        figures = self._figures()
        yield _gauge("trainyard_database_up", "Whether the database answers.", 0 if figures is None else 1)
        yield InfoMetricFamily("trainyard_build", "The build that answers.", {"version": build_id()})
        free = shutil.disk_usage(self._settings.data_dir).free
        yield _gauge("trainyard_data_free_bytes", "Free space on the disk of the data folder.", free)
        if figures is not None:
            yield from _describe(figures)

    def _figures(self) -> YardFigures | None:
        with self._lock:
            if self._read is None or time.monotonic() - self._read[0] > FRESH_S:
                try:
                    with self._database.reading() as session:
                        figures = read_figures(session)
                except DatabaseUnavailable:
                    figures = None
                self._read = (time.monotonic(), figures)
            return self._read[1]


def _describe(figures: YardFigures) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("trainyard_jobs", "Jobs, validations and other leased work.", labels=("kind", "state"))
    for (kind, state), number in figures.jobs.items():
        jobs.add_metric((kind, state), number)
    yield jobs
    yield _labelled(
        "trainyard_oldest_queued_job_age_seconds",
        "How long the work that may be claimed and was queued first has waited.",
        "kind",
        figures.oldest_queued_s,
    )
    yield _gauge("trainyard_training_images_per_second", "Of all running jobs.", figures.images_per_s)
    yield _gauge("trainyard_outbox_messages", "Wake-up messages that are due and not sent.", figures.outbox)
    yield _gauge(
        "trainyard_oldest_outbox_message_age_seconds", "How long the first of them has waited.", figures.oldest_outbox_s
    )
    yield _labelled("trainyard_workers", "Workers.", "state", figures.workers)
    yield _gauge("trainyard_worker_slots", "Slots of live workers.", figures.slots)
    yield _gauge("trainyard_worker_slots_busy", "Slots that train a job.", figures.slots_busy)
    yield _labelled("trainyard_datasets", "Datasets.", "state", figures.datasets)
    yield _gauge(
        "trainyard_newest_publication_number", "Number of the newest published checkpoint.", figures.publication
    )


def _gauge(name: str, documentation: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, documentation, value=value)


def _labelled(name: str, documentation: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, documentation, labels=(label,))
    for given, value in values.items():
        family.add_metric((given,), value)
    return family
