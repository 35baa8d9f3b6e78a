"""The tables. Times are seconds since 1970 by the database's clock (`database.now`); `owner` stands on everything that
belongs to somebody and is `local` where there are no keys.
"""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Row,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship, synonym

from alexnet_core.layout import CheckpointKind
from trainyard.database.alias_tables import Alias as Alias
from trainyard.database.alias_tables import AliasCount as AliasCount
from trainyard.database.alias_tables import AliasMove as AliasMove
from trainyard.database.base import LOCAL_OWNER as LOCAL_OWNER
from trainyard.database.base import ROW_NUMBER
from trainyard.database.base import Base as Base
from trainyard.states import (
    CheckpointStatus,
    DatasetState,
    Desired,
    EventType,
    JobState,
    MetricKind,
    ShownState,
    UploadState,
    WorkKind,
    shown_state,
)
from trainyard.tracing import current

NOT_YET = math.inf  #: a `not_before`: until something else has happened, not until a moment


class Dataset(Base):
    """Labelled images: validated, packed and immutable. A built-in one has no owner, and everybody may use it."""

    __tablename__ = "datasets"

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str | None] = mapped_column(index=True)  #: None: built in
    name: Mapped[str]
    state: Mapped[DatasetState]
    source: Mapped[dict[str, Any] | None]  #: of an uploaded one: `{"upload": …}` or `{"path": …}`
    options: Mapped[dict[str, Any] | None]  #: of an uploaded one: how its images are taken in
    parent_id: Mapped[str | None]  #: the dataset that this one is a new version of
    same_as: Mapped[str | None]  #: an older dataset of its owner with the same content
    digest: Mapped[str | None]  #: sha256 of the pack's content; None until it is prepared
    facts: Mapped[dict[str, Any]]  #: `alexnet_core.config.DatasetFacts`
    report: Mapped[dict[str, Any] | None] = mapped_column(
        deferred=True
    )  #: may have megabytes, so loaded when asked for
    error: Mapped[dict[str, Any] | None]  #: of a rejected one: `{type, code, message, retryable}`
    key: Mapped[str]  #: the pack's folder in the storage
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[float]
    ready_at: Mapped[float | None]

    __table_args__ = (Index(None, "created_at", "id"),)

    @property
    def work_id(self) -> str:
        """Id of its validation, a row of `jobs`. A built-in dataset has none."""
        return f"val_{self.id.removeprefix('ds_')}"


class Job(Base):
    """One piece of leased work, from the request to its final state: a training run, a validation or a prediction."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[WorkKind] = mapped_column(default=WorkKind.TRAIN)
    owner: Mapped[str]
    name: Mapped[str | None]
    note: Mapped[str | None] = mapped_column(Text)  #: what its owner writes about it
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id"))  #: None: a prediction of an upload
    dataset_digest: Mapped[str | None]  #: of the pack that its first attempt trained on
    recipe: Mapped[str]  #: empty until its dataset is ready, and for what is no training run
    config: Mapped[dict[str, Any]]  #: the complete `TrainConfig`; until its dataset is ready, `{recipe, overrides}`
    seed: Mapped[int] = mapped_column(BigInteger)
    labels: Mapped[dict[str, Any]] = mapped_column("metadata")  #: the client's `metadata`; SQLAlchemy needs that name
    priority: Mapped[int] = mapped_column(default=0)
    max_runtime_s: Mapped[float | None]
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    init_from: Mapped[str | None]  #: a checkpoint whose weights it begins with, or predicts with
    resume_from: Mapped[str | None]  #: a checkpoint whose full training state it begins with

    state: Mapped[JobState] = mapped_column(default=JobState.QUEUED)
    desired: Mapped[Desired] = mapped_column(default=Desired.RUN)
    state_reason: Mapped[str | None]
    not_before: Mapped[float]  #: no claim before this moment; `NOT_YET`: its dataset or its upload is not complete

    lease_epoch: Mapped[int] = mapped_column(BigInteger, default=0)  #: the fencing token: +1 a claim, never less
    lease_owner: Mapped[str | None]  #: the worker's id
    slot: Mapped[int | None]  #: which of that worker's slots, from 0; means nothing while the job does not run
    claim_number: Mapped[int] = mapped_column(BigInteger, default=0)  #: of its newest claim, over all jobs; 0: none yet
    lease_expires_at: Mapped[float | None]
    heartbeat_at: Mapped[float | None]
    attempt: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)
    max_failures: Mapped[int]
    committed_step: Mapped[int] = mapped_column(BigInteger, default=-1)  #: of its furthest committed checkpoint

    progress: Mapped[dict[str, Any] | None]
    metrics: Mapped[dict[str, Any] | None]  #: of the last epoch
    best: Mapped[dict[str, Any] | None]  #: `{epoch, checkpoint, val_top1, …}`
    latest_checkpoint_id: Mapped[str | None]
    test: Mapped[
        dict[str, Any] | None
    ]  #: the test split, evaluated once on the best checkpoint; a prediction's summary
    weights_sha256: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]
    event_seq: Mapped[int] = mapped_column(default=0)  #: number of its newest event
    traceparent: Mapped[str | None] = mapped_column(default=current)  #: the trace of the request that made it

    created_at: Mapped[float]
    queued_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]

    dataset: Mapped[Dataset | None] = relationship(lazy="raise")

    __table_args__ = (
        CheckConstraint("state IN ('queued','running','paused','succeeded','failed','cancelled')", name="state"),
        CheckConstraint("desired IN ('run','pause','cancel')", name="desired"),
        CheckConstraint(
            "state <> 'running' OR (lease_owner IS NOT NULL AND lease_expires_at IS NOT NULL)", name="running_has_lease"
        ),
        CheckConstraint(
            "state NOT IN ('succeeded','failed','cancelled') OR finished_at IS NOT NULL", name="final_has_end"
        ),
        Index(None, "owner", "kind", "created_at", "id"),  # a list, newest first; the next two with a filter
        Index(None, "owner", "kind", "state", "created_at", "id"),
        Index(None, "owner", "kind", "dataset_id", "created_at", "id"),
        Index(None, "owner", "kind", "claim_number"),
        *(  # who begins with a checkpoint, who repeats a job, and what a worker has: few jobs have any of them
            Index(f"ix_jobs_{name}", name, sqlite_where=text(is_set), postgresql_where=text(is_set))
            for name in ("init_from", "resume_from", "parent_id", "lease_owner")
            for is_set in [f"{name} IS NOT NULL"]
        ),
    )

    @property
    def its_dataset(self) -> Dataset:
        """The dataset of a row that has one: of every row but a prediction of an upload."""
        assert self.dataset is not None
        return self.dataset

    @property
    def shown_state(self) -> ShownState:
        """The state that clients see."""
        return shown_state(self.state, self.desired)


JobRow = Row[Any]  #: a job's columns alone, by the names of `Job`'s attributes: `jobs.read_job`, `job_list.list_jobs`

Index(  # for `claim_order.in_turn`, which reads nothing else of most jobs
    "ix_jobs_turn", Job.state, Job.kind, Job.owner, Job.priority.desc(), Job.queued_at, Job.id, Job.not_before
)


class JobLabel(Base):
    """One pair of a job's metadata, so that the jobs with that pair are found by an index."""

    __tablename__ = "job_labels"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)  #: `metadata_index.digest_of` key and value
    owner: Mapped[str]  #: this and the next are the job's and never change
    created_at: Mapped[float]

    __table_args__ = (Index(None, "owner", "digest", "created_at", "job_id"),)


class JobEvent(Base):
    """One event in a job's log. It is written in the transaction of the change that it reports, and never changed."""

    __tablename__ = "job_events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[float]
    type: Mapped[EventType]
    state: Mapped[ShownState]  #: after it
    reason: Mapped[str | None]
    lease_epoch: Mapped[int] = mapped_column(BigInteger)
    worker_id: Mapped[str | None]
    request_id: Mapped[str | None]
    data: Mapped[dict[str, Any]]


def _loss_of(context: Any) -> float | None:
    loss = context.get_current_parameters()["data"].get("train_loss")
    return float(loss) if isinstance(loss, int | float) and math.isfinite(loss) else None


class JobMetric(Base):
    """One point of a job's series: `interval` every few steps, `epoch` at the end of each epoch."""

    __tablename__ = "job_metrics"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    kind: Mapped[MetricKind] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    epoch: Mapped[int]
    lease_epoch: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[float]
    data: Mapped[dict[str, Any]]
    train_loss: Mapped[float | None] = mapped_column(default=_loss_of)  #: of `data`: the lowest is found by an index

    __table_args__ = (Index(None, "job_id", "kind", "train_loss", "step"),)


class Checkpoint(Base):
    """A checkpoint of a job: a folder in the storage that does not change from its commit to its removal."""

    __tablename__ = "checkpoints"

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    kind: Mapped[CheckpointKind]
    epoch: Mapped[int]
    step: Mapped[int] = mapped_column(BigInteger)
    lease_epoch: Mapped[int] = mapped_column(BigInteger)
    key: Mapped[str]  #: its folder in the storage
    files: Mapped[dict[str, Any]]  #: relative name -> sha256, size
    metrics: Mapped[dict[str, Any]]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    weights_sha256: Mapped[str]
    manifest_sha256: Mapped[str]
    publication: Mapped[int | None] = mapped_column(BigInteger, unique=True)  #: never reused, never goes back
    status: Mapped[CheckpointStatus]
    has_state: Mapped[bool]  #: whether its training state is still there, so that a job can go on from it
    created_at: Mapped[float]
    pruned_at: Mapped[float | None]  #: when it was given up; its files go some time later
    state_pruned_at: Mapped[float | None]  #: the same for its training state alone
    calibration: Mapped[dict[str, Any] | None]  #: `alexnet_core.reliability.Calibration`; None: not made yet

    __table_args__ = (
        UniqueConstraint("job_id", "lease_epoch", "kind", "step"),
        Index(None, "owner", "publication"),
        Index(None, "status", "pruned_at"),
    )


class Outbox(Base):
    """A wake-up message that is still to be sent. It is written with the change, and removed by the relay."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(ROW_NUMBER, primary_key=True)
    job_id: Mapped[str]
    created_at: Mapped[float]


class Removal(Base):
    """A file or folder in the storage without a row: to be removed, however often the removal is interrupted."""

    __tablename__ = "removals"

    key: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[float]


class IdempotencyKey(Base):
    """A client's key for a request, which lets a repetition of the request find the first one's job."""

    __tablename__ = "idempotency_keys"

    owner: Mapped[str] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]  #: sha256 of the request's content
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    created_at: Mapped[float] = mapped_column(index=True)


class Upload(Base):
    """A file that a client sends, in one request or in several, to make a dataset of it."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    name: Mapped[str | None]  #: what the client calls the file; only text, never a path
    details: Mapped[dict[str, Any]] = mapped_column("metadata")  #: the client's: key -> value in base64, as it came
    state: Mapped[UploadState] = mapped_column(default=UploadState.OPEN)
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)  #: of the whole file; None: not announced yet
    offset_bytes: Mapped[int] = mapped_column(BigInteger, default=0)  #: so many are on disk, and known to the client
    sha256: Mapped[str | None]  #: of the whole file
    folder_id: Mapped[str]  #: the folder on a disk where the bytes arrive: `upload_files.UploadFolder`
    created_at: Mapped[float]
    expires_at: Mapped[float | None]  #: then it is removed; None: a dataset is being made of it

    __table_args__ = (Index(None, "owner", "created_at", "id"), Index(None, "state", "expires_at"))


class Worker(Base):
    """A Celery worker process and its last heartbeat."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    slots: Mapped[int]
    devices: Mapped[list[Any]]
    device_readings: Mapped[list[Any] | None]  #: `workers.DeviceReading` or None for each slot; None: of no slot
    version: Mapped[str]  #: the build: `build.build_id`
    revision: Mapped[str | None]  #: of the tables, as its code needs them; None: it is older than this column
    started_at: Mapped[float]
    last_seen_at: Mapped[float]
    draining: Mapped[bool] = mapped_column(default=False)
    stopped_at: Mapped[float | None]

    created_at = synonym("started_at")  #: the name by which `pages` orders every table


class StoreIdentity(Base):
    """The store that this database belongs to; one row at most."""

    __tablename__ = "store_identity"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  #: always 1
    store_id: Mapped[str]  #: what the store's mark says


class Counter(Base):
    """On SQLite, a number that only grows. On PostgreSQL a sequence of the same name gives it: see `numbers`."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)
