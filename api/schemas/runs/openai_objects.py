"""The bodies of `/v1/models` and `/v1/files`: OpenAI's objects for what can be trained and served, and for datasets."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, Field

from api.schemas.base import DESCRIBED
from trainyard.database.tables import Checkpoint, Dataset
from trainyard.states import DatasetState

YARD = "trainyard"  #: whose recipes and built-in datasets are
FINE_TUNE: Literal["fine-tune"] = "fine-tune"

Status = Literal["uploaded", "processed", "error"]
_STATUS: dict[DatasetState, Status] = {
    DatasetState.REGISTERED: "processed",
    DatasetState.UPLOADING: "uploaded",
    DatasetState.VALIDATING: "uploaded",
    DatasetState.READY: "processed",
    DatasetState.REJECTED: "error",
}


class OpenAIModelRead(BaseModel):
    """What can be trained or served, in OpenAI's words: a recipe, an alias or a checkpoint."""

    model_config = DESCRIBED

    id: str
    """For `model` of `POST /v1/fine_tuning/jobs` (a recipe) or of `POST /predict` (all others)."""
    object: Literal["model"] = "model"
    created: int
    """Seconds since 1970; 0 of a recipe."""
    owned_by: str
    """`trainyard` of a recipe, else the owner."""
    checkpoint: str | None
    """The checkpoint that answers now; null of a recipe."""
    job: str | None
    """The job that made it; null of a recipe."""

    @classmethod
    def of_recipe(cls, name: str) -> Self:
        """Build it from the name of a recipe."""
        return cls(id=name, created=0, owned_by=YARD, checkpoint=None, job=None)

    @classmethod
    def of_checkpoint(cls, row: Checkpoint, name: str | None = None) -> Self:
        """Build it from a checkpoint; `name` is what stands for it."""
        return cls(
            id=name or row.id, created=int(row.created_at), owned_by=row.owner, checkpoint=row.id, job=row.job_id
        )


class OpenAIModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[OpenAIModelRead]


class OpenAIFileRead(BaseModel):
    """A dataset, in OpenAI's words."""

    model_config = DESCRIBED

    id: str
    """Id of the dataset, for `training_file` of a job."""
    object: Literal["file"] = "file"
    bytes: int
    """Size of the file that was uploaded; of a dataset that came in another way, of its images as they are stored."""
    created_at: int
    filename: str
    """Name of the file that was uploaded; of a dataset that came in another way, the dataset's."""
    purpose: Literal["fine-tune"] = FINE_TUNE
    status: Status
    """`uploaded`: it is still checked; `processed`: jobs can train on it; `error`: it was rejected."""
    status_details: str | None
    """Why it was rejected."""
    expires_at: int | None = Field(None)
    """Null: it stays until it is deleted."""

    @classmethod
    def of(cls, row: Dataset) -> Self:
        """Build it from a dataset."""
        source = row.source or {}
        return cls(
            id=row.id,
            bytes=source.get("size_bytes") or row.size_bytes or 0,
            created_at=int(row.created_at),
            filename=source.get("file_name") or row.name,
            status=_STATUS[row.state],
            status_details=(row.error or {}).get("message"),
        )


class OpenAIDeleted(BaseModel):
    """What was deleted."""

    id: str
    object: Literal["file", "model"]
    deleted: Literal[True] = True
