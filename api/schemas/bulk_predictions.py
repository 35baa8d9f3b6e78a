"""The bodies of `/predictions`."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, Field, computed_field, model_validator

from api.schemas.base import DESCRIBED, STRICT, Name, Reference, RowView, Time, without_controls
from trainyard.artifacts.checkpoints import LATEST
from trainyard.artifacts.predictions import Totals
from trainyard.database.tables import Job, JobRow
from trainyard.scheduling.queue_view import WaitsFor
from trainyard.states import Desired, JobState, ShownState, shown_state

MAX_TOP_K = 1000


class PredictionCreate(BaseModel):
    """A prediction of all images of a dataset, or of an archive that was uploaded."""

    model_config = STRICT

    dataset: Reference | None = None
    """Id or name of a dataset that is ready: its images are predicted as they are stored."""
    upload: Reference | None = None
    """Id of an upload of yours (`/uploads`): an archive of images, which needs no class folders. It need not be
    complete yet, and is removed when the prediction has ended."""
    split: Literal["train", "validation", "test"] | None = None
    """Only images of this split of the dataset. Default: all."""
    model: str = Field(LATEST, min_length=1, max_length=200)
    """As in `POST /predict`. What it names at this moment is used to the end, and kept until then."""
    top_k: int = Field(5, ge=1, le=MAX_TOP_K)
    """How many classes to name for each image, if there are so many."""
    calibrated: bool = False
    """Whether the probabilities are corrected by the checkpoint's calibration, which it must have."""
    name: Name | None = None
    """A name of your choice."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        without_controls(self.model)
        if (self.dataset is None) == (self.upload is None):
            raise ValueError("name either a `dataset` or an `upload`")
        if self.split is not None and self.dataset is None:
            raise ValueError("`split` is for a dataset; the images of an upload are all predicted")
        return self


class PredictionModelRead(BaseModel):
    """The checkpoint that a prediction uses."""

    model_config = DESCRIBED

    checkpoint: str
    job: str
    """Id of the job that made it."""
    epoch: int
    """Number of complete epochs."""
    weights_sha256: str
    asked: str
    """What `model` named it."""


class PredictionProgress(BaseModel):
    """How far a prediction is, as its worker last reported."""

    model_config = DESCRIBED

    phase: str
    """`preparing_dataset`: a built-in dataset's pack is made; `reading`: an archive is unpacked; `checking`: a pack is
    compared with its digest; `predicting`: rows are computed."""
    done: int
    total: int
    """Bytes while an archive is read, else images."""


class PredictionSummary(BaseModel):
    """What is counted of a prediction's rows."""

    model_config = DESCRIBED

    num_rows: int
    """Images that have their row."""
    num_errors: int
    """Images that could not be read: their rows have an `error`."""
    num_labelled: int
    """Images that were read, and whose class is known and one of the network's."""
    top1: float | None
    """Share of these whose class is the most probable one; null: no class is known."""
    top5: float | None
    """Share of these whose class is among the five most probable ones."""


class PredictionRead(BaseModel):
    """A prediction over many images."""

    model_config = DESCRIBED

    id: str
    object: Literal["prediction"] = "prediction"
    name: str | None
    state: ShownState
    """`queued`, `running`, `cancelling`; then `succeeded`, `failed` or `cancelled` for good."""
    waiting_for: WaitsFor | None
    """What it waits for right now; null: it is not queued."""
    dataset: str | None
    """Id of the dataset whose images are predicted; null: it is an upload."""
    upload: str | None
    """Id of the upload that was named."""
    split: str | None
    top_k: int
    temperature: float | None
    """By which logits are divided, so that the probabilities are calibrated; null: they are the network's own."""
    model: PredictionModelRead
    progress: PredictionProgress | None
    """Null: it has not begun."""
    summary: PredictionSummary
    """Of the rows that are stored so far; they can be read while others are computed."""
    attempt: int
    """Number of times that a worker has claimed it; each goes on behind the last stored row."""
    error: dict[str, Any] | None
    """For a failed one: `type`, `code`, `message`, `retryable`."""
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    expires_at: Time | None
    """When it is removed, with its results; null: it has not ended."""

    @computed_field  # type: ignore[prop-decorator]  # mypy: no decorator above `property`
    @property
    def links(self) -> dict[str, str]:
        """Paths to related resources."""
        here = f"/predictions/{self.id}"
        links = {"self": here, "events": f"{here}/events", "results": f"{here}/results"}
        if self.state in {ShownState.SUCCEEDED, ShownState.FAILED, ShownState.CANCELLED}:
            links |= {kind: f"{here}/results?format={kind}" for kind in ("csv", "parquet")}
        if self.dataset is not None:
            links["dataset"] = f"/datasets/{self.dataset}"
        return links

    @classmethod
    def of(cls, row: Job | JobRow, totals: Totals, *, waiting_for: WaitsFor | None, keep_s: float) -> Self:
        """Build the prediction as clients see it.

        Args:
            row: of `jobs`.
            totals: of its rows.
            waiting_for: what it waits for.
            keep_s: seconds after its end at which it is removed.
        """
        config: dict[str, Any] = row.config
        state, desired = JobState(row.state), Desired(row.desired)
        view = RowView(
            row,
            state=shown_state(state, desired),
            waiting_for=waiting_for,
            dataset=row.dataset_id,
            upload=config.get("upload"),
            split=config.get("split"),
            top_k=config["top_k"],
            temperature=config["temperature"],
            model=config["model"],
            summary=totals.summarise(),
            expires_at=None if row.finished_at is None else row.finished_at + keep_s,
        )
        return cls.model_validate(view)
