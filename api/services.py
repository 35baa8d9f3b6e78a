"""The objects that the routes work with, made once at start-up and passed in by FastAPI."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import anyio
from fastapi import Depends, Request

from api.access.gate import Gate
from api.access.identity import identity_of
from api.downloads.exports import Exports
from api.downloads.pictures import MAX_DRAWING, Pictures
from api.downloads.slots import DownloadSlots
from api.insight.insight import Insight
from api.observability.exposition import Exposition
from api.observability.metrics import Metrics
from api.reading.job_reader import JobReader
from api.reading.job_rows import JobRows
from api.serving.interface import ServingEngine
from api.streams.event_stream import EventHub
from api.streams.yard_feed import YardFeed
from api.streams.yard_views import YardViews
from api.uploads.reception import Reception
from trainyard.database.connection import Database
from trainyard.settings import Settings
from trainyard.storage.interface import Storage
from trainyard.storage.opening import StoreGuard
from trainyard.upkeep.reconciler import Reconciler

#: Clients for whom the series of several jobs are read at a time; the others wait. For one these may be 200,000 points:
#: a hundred megabytes, and a connection to the database that is in use for seconds.
MAX_SERIES = 2


@dataclass
class Services:
    """The database, the files, the queue's relay and the predict engine of this process."""

    settings: Settings
    database: Database
    storage: Storage
    reconciler: Reconciler
    engine: ServingEngine
    gate: Gate
    metrics: Metrics
    exposition: Exposition
    draining: bool = False
    builtins_known: bool = False  #: whether the built-in datasets are in the database

    events: EventHub = field(init=False)
    jobs: JobReader = field(init=False)
    job_rows: JobRows = field(init=False)
    uploads: Reception = field(init=False)
    insight: Insight = field(init=False)
    pictures: Pictures = field(default_factory=Pictures)
    pack_views: Pictures = field(default_factory=lambda: Pictures(1024, threads=2, max_drawing=MAX_DRAWING))
    downloads: DownloadSlots = field(default_factory=DownloadSlots)
    series_turns: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(MAX_SERIES))
    exports: Exports = field(init=False)

    store: StoreGuard = field(init=False)

    def __post_init__(self) -> None:
        self.store = StoreGuard(self.database, self.storage)
        self.exports = Exports(self.settings)
        self.uploads = Reception(self.settings, self.database, self.storage, lambda: self.draining)
        self.insight = Insight(self.settings, self.database, self.storage)
        self.jobs = JobReader(self.database, self.settings)
        self.job_rows = JobRows(self.settings)
        feed = YardFeed(self.database, YardViews(self.settings, self.job_rows), lambda: self.draining)
        self.events = EventHub(self.database, lambda: self.draining, max_streams=self.settings.max_streams, feed=feed)


async def get_services(request: Request) -> Services:
    """Return the process's services, for a request."""
    services: Services = request.state.services
    return services


async def get_caller(request: Request) -> str:
    """Return the owner that a request acts for."""
    return identity_of(request.scope).owner


ServicesDep = Annotated[Services, Depends(get_services)]
CallerDep = Annotated[str, Depends(get_caller)]
