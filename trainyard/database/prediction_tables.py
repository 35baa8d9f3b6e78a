"""The table of what predictions over many images have computed; see `tables` for the others."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from trainyard.database.tables import Base


class PredictionSegment(Base):
    """Some rows of a prediction's results: a folder in the storage, which never changes."""

    __tablename__ = "prediction_segments"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    first_row: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    num_rows: Mapped[int]
    lease_epoch: Mapped[int] = mapped_column(BigInteger)
    key: Mapped[str]  #: its folder in the storage
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    counts: Mapped[dict[str, Any]]  #: `alexnet_core.predictions.prediction_messages.Counts`
    created_at: Mapped[float]
