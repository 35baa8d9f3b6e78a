"""What a stream of the yard sends to one owner: the things that have changed, as server-sent events.

A numbered event is an entry of the yard's log with the thing itself as it is now. Unnumbered ones come from comparing
what is seen now with what was sent last: progress, places in the queue, workers, the newest checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fastapi.sse import format_sse_event
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.reading.checkpoint_reader import describe_checkpoints
from api.reading.dataset_reader import describe_datasets
from api.reading.job_rows import JobRows
from api.schemas.workers import WorkerRead
from api.schemas.yard_events import GoneRead, ProgressRead, ServingRead
from trainyard.artifacts.checkpoints import get_latest
from trainyard.database.connection import read_clock
from trainyard.database.event_tables import YardEvent
from trainyard.database.tables import Checkpoint, Dataset
from trainyard.errors import NoCheckpoint
from trainyard.jobs import job_list, jobs
from trainyard.jobs.job_list import JobFilter
from trainyard.scheduling import queue_view, workers
from trainyard.settings import Settings
from trainyard.states import CheckpointStatus, DatasetState, ShownState, YardEventKind

MAX_RUNNING, MAX_WORKERS = 1000, 100
MAX_QUEUED = 100  # jobs at the front of the queue whose places are told as they change

Memory = dict[tuple[str, str], bytes]  #: what was sent last, by kind and id


@dataclass(frozen=True)
class Frame:
    """One event as it is sent."""

    content: bytes
    number: int | None = None  #: of the entry that it belongs to; None: of none


@dataclass
class _Things:
    """The things that some entries name, as JSON, by id."""

    jobs: dict[str, bytes] = field(default_factory=dict)
    checkpoints: dict[str, tuple[str, bytes]] = field(default_factory=dict)  #: with the id of its job
    datasets: dict[str, bytes] = field(default_factory=dict)


class YardViews:
    """Builds the events. Safe to use from several threads."""

    def __init__(self, settings: Settings, job_rows: JobRows) -> None:
        self._settings, self._job_rows = settings, job_rows

    def numbered(self, session: Session, owner: str, entries: Sequence[YardEvent]) -> list[Frame]:
        """Return the events for some entries of the log. Entries for what exists no more are left out.

        A new checkpoint comes after its job, which has changed with it.
        """
        things = self._read(session, owner, entries)
        return [frame for entry in entries for frame in _frames_of(entry, things)]

    def _read(self, session: Session, owner: str, entries: Sequence[YardEvent]) -> _Things:
        named: dict[YardEventKind, dict[str, None]] = {kind: {} for kind in YardEventKind}
        for entry in entries:
            named[entry.kind][entry.subject_id] = None
        things = _Things()
        if ids := list(named[YardEventKind.CHECKPOINT]):
            usable = (Checkpoint.status == CheckpointStatus.COMMITTED, Checkpoint.owner == owner)
            rows = list(session.scalars(select(Checkpoint).where(Checkpoint.id.in_(ids), *usable)))
            for read in describe_checkpoints(session, rows):
                things.checkpoints[read.id] = (read.job, _json(read))
        job_ids = named[YardEventKind.JOB] | dict.fromkeys(job_id for job_id, _ in things.checkpoints.values())
        if job_ids:
            rows_of_jobs = jobs.read_jobs(session, owner, job_ids)
            things.jobs = {row.id: _json(row) for row in self._job_rows.describe(session, rows_of_jobs)}
        if ids := list(named[YardEventKind.DATASET]):
            found = session.scalars(select(Dataset).where(Dataset.id.in_(ids), Dataset.state != DatasetState.DELETED))
            datasets = describe_datasets(session, self._settings, found.all(), with_reports=False)
            things.datasets = {read.id: _json(read) for read in datasets}
        return things

    def unnumbered(self, session: Session, owner: str, known: Memory) -> tuple[list[Frame], Memory]:
        """Return the events for what is not as it was sent last, and what is known with them."""
        seen: Memory = {}
        for kind, key, read in self._look(session, owner):
            seen[kind, key] = _json(read) if kind != "worker" else _json_of_worker(read)
        changed = [Frame(format_event(key[0], told)) for key, told in seen.items() if known.get(key) != told]
        return changed, seen

    def _look(self, session: Session, owner: str) -> Iterator[tuple[str, str, BaseModel]]:
        active = JobFilter([ShownState.RUNNING, ShownState.PAUSING, ShownState.CANCELLING])
        running = job_list.list_jobs(session, owner, limit=MAX_RUNNING, wanted=active).items
        most = self._settings.max_running_per_owner
        queue = queue_view.list_queue(session, owner, limit=MAX_QUEUED, after=None, max_running_per_owner=most)
        for job in running:
            yield "progress", job.id, ProgressRead.of(job)
        for place in queue.items:
            told = ProgressRead.of(place.job, position=place.position, waits_for=place.waits_for)
            yield "progress", place.job.id, told
        coming = (Dataset.owner == owner, Dataset.state.in_((DatasetState.UPLOADING, DatasetState.VALIDATING)))
        datasets = session.scalars(select(Dataset).where(*coming).order_by(Dataset.id)).all()
        for dataset in describe_datasets(session, self._settings, datasets, with_reports=False):
            yield "dataset", dataset.id, dataset
        moment, rows = read_clock(session), workers.list_workers(session, limit=MAX_WORKERS, after=None).items
        held = workers.list_held_jobs(session, [row.id for row in rows])
        for row in rows:
            yield "worker", row.id, WorkerRead.of(row, held[row.id], moment=moment, caller=owner)
        try:
            yield "serving", "latest", ServingRead.of(get_latest(session, owner))
        except NoCheckpoint:
            return


def _frames_of(entry: YardEvent, things: _Things) -> Iterator[Frame]:
    told: bytes | None
    match entry.kind:
        case YardEventKind.JOB:
            told = things.jobs.get(entry.subject_id)
        case YardEventKind.DATASET:
            told = things.datasets.get(entry.subject_id)
        case YardEventKind.GONE:
            told = _json(GoneRead.of(entry.subject_id))
        case YardEventKind.CHECKPOINT:
            job_id, told = things.checkpoints.get(entry.subject_id, ("", None))
            if job_id in things.jobs:
                yield Frame(format_event("job", things.jobs[job_id]), entry.number)  # the next one has its id
    if told is not None:
        yield Frame(format_event(entry.kind, told, number=entry.number), entry.number)


def format_event(kind: str, data: bytes, *, number: int | None = None) -> bytes:
    """Return an event as it is sent. A number becomes the `Last-Event-ID` of a client that connects again."""
    return format_sse_event(data_str=data.decode(), event=kind, id=None if number is None else str(number))


def _json(read: BaseModel) -> bytes:
    return read.model_dump_json(exclude_none=isinstance(read, GoneRead)).encode()


def _json_of_worker(read: BaseModel) -> bytes:
    """Leave out what changes with every heartbeat."""
    figures = {"memory_used_bytes", "utilisation"}
    return read.model_dump_json(exclude={"last_seen_at": True, "slots": {"__all__": figures}}).encode()
