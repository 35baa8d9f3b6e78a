"""What one owner's datasets, uploads and results of predictions may take together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from trainyard.database.prediction_tables import PredictionSegment
from trainyard.database.tables import Dataset, Job, Upload
from trainyard.settings import Settings
from trainyard.states import DatasetState, JobState, WorkKind
from trainyard.upload_errors import QuotaExceeded

_SPLITS = ("num_train", "num_val", "num_test")


@dataclass(frozen=True)
class Quota:
    """The most that an owner may have; None: no limit."""

    num_bytes: int | None = None  #: of datasets, uploads and results together
    num_datasets: int | None = None  #: rejected ones do not count
    num_images: int | None = None  #: of ready datasets; an owner who has them can't begin anything new
    num_uploads: int = 100  #: that no dataset was made of yet
    num_predictions: int = 100  #: that have not ended

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the quota that the settings name."""
        return cls(
            num_bytes=settings.max_dataset_bytes_per_owner,
            num_datasets=settings.max_datasets_per_owner,
            num_images=settings.max_dataset_images_per_owner,
            num_uploads=settings.max_open_uploads_per_owner,
            num_predictions=settings.max_open_predictions_per_owner,
        )


def hold_owner(session: Session, owner: str) -> None:
    """Let transactions that look at one owner's quota wait for each other until they end. On SQLite all writers do."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:owner, 7265110216))"), {"owner": owner})


def check_upload(session: Session, owner: str, quota: Quota, new_bytes: int) -> None:
    """Check that an owner may begin one more upload, of so many bytes. Call `hold_owner` before.

    Raises:
        QuotaExceeded: the owner may not.
    """
    num_uploads = session.scalar(select(func.count()).select_from(Upload).where(Upload.owner == owner)) or 0
    if num_uploads >= quota.num_uploads:
        raise QuotaExceeded(
            f"you have {num_uploads} uploads already, and {quota.num_uploads} are allowed: make datasets of them, or "
            "cancel some with `DELETE /uploads/{upload_id}`"
        )
    check_bytes(session, owner, quota, new_bytes)
    check_dataset(session, owner, quota)


def check_bytes(session: Session, owner: str, quota: Quota, new_bytes: int) -> None:
    """Check that so many bytes more fit into an owner's quota.

    Raises:
        QuotaExceeded: they do not.
    """
    if quota.num_bytes is None:
        return
    used = count_bytes(session, owner)
    if used + new_bytes > quota.num_bytes:
        raise QuotaExceeded(
            f"your datasets, uploads and results take {used} of {quota.num_bytes} bytes, so {new_bytes} more do not "
            "fit: delete datasets, uploads or predictions that you no longer need"
        )


def check_dataset(session: Session, owner: str, quota: Quota) -> None:
    """Check that an owner may have one more dataset. Call `hold_owner` before.

    Raises:
        QuotaExceeded: the owner may not.
    """
    gone = (DatasetState.REJECTED, DatasetState.DELETED)
    own = (Dataset.owner == owner, Dataset.state.not_in(gone))
    if quota.num_datasets is not None:
        found = session.scalar(select(func.count()).select_from(Dataset).where(*own)) or 0
        if found >= quota.num_datasets:
            raise QuotaExceeded(f"you have {found} datasets, and {quota.num_datasets} are allowed: delete one first")
    if quota.num_images is not None:
        images = count_images(session, owner)
        if images >= quota.num_images:
            raise QuotaExceeded(
                f"your datasets have {images} images together, and {quota.num_images} are allowed: delete one first"
            )


def check_prediction(session: Session, owner: str, quota: Quota) -> None:
    """Check that an owner may begin one more prediction of many images. Call `hold_owner` before.

    Raises:
        QuotaExceeded: the owner may not.
    """
    lives = Job.state.in_([state for state in JobState if not state.is_final])
    open_ones = select(func.count()).select_from(Job).where(Job.owner == owner, Job.kind == WorkKind.PREDICT, lives)
    found = session.scalar(open_ones) or 0
    if found >= quota.num_predictions:
        raise QuotaExceeded(
            f"{found} of your predictions have not ended, and {quota.num_predictions} are allowed: wait for one, or "
            "cancel one with `POST /predictions/{prediction_id}/cancel`"
        )
    check_bytes(session, owner, quota, 0)


def count_bytes(session: Session, owner: str) -> int:
    """Return what an owner's datasets and results take, and what the uploads take or have announced."""
    packs = select(func.coalesce(func.sum(Dataset.size_bytes), 0)).where(
        Dataset.owner == owner, Dataset.state != DatasetState.DELETED
    )
    announced = func.coalesce(Upload.size_bytes, Upload.offset_bytes)
    uploads = select(func.coalesce(func.sum(announced), 0)).where(Upload.owner == owner)
    segments = select(func.coalesce(func.sum(PredictionSegment.size_bytes), 0))
    results = segments.join(Job, Job.id == PredictionSegment.job_id).where(Job.owner == owner)
    return sum(int(session.scalar(query) or 0) for query in (packs, uploads, results))


def count_images(session: Session, owner: str) -> int:
    """Return the number of images of an owner's datasets that are ready."""
    ready = (Dataset.owner == owner, Dataset.state == DatasetState.READY)
    counted = [func.coalesce(func.sum(Dataset.facts[split].as_integer()), 0) for split in _SPLITS]
    return sum(int(number or 0) for number in session.execute(select(*counted).where(*ready)).one())
