"""The bodies of `/datasets`."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, Field, computed_field, model_validator

from alexnet_core.config import DatasetFacts
from alexnet_core.data.intake.options import MAX_FRACTION, MIN_FRACTION
from alexnet_core.data.squares import MAX_SIDE_PX, MIN_SIDE_PX
from api.schemas.base import DESCRIBED, STRICT, Name, Reference, RowView, Time
from api.schemas.dataset_reports import shorten_report
from trainyard.artifacts.datasets import facts_of
from trainyard.database.tables import Dataset, Job
from trainyard.scheduling.queue_view import WaitsFor
from trainyard.states import DatasetState


class DatasetOptions(BaseModel):
    """What is asked of a dataset, wherever its files come from."""

    model_config = STRICT

    name: Name
    """A name of your choice; the newest dataset of a name is found by it."""
    image_px: int | None = Field(None, ge=MIN_SIDE_PX, le=MAX_SIDE_PX)
    """Side of the stored squares. Default: by the images' sizes."""
    flip_safe: bool | None = None
    """Whether a mirrored image still shows its class. Default: true."""
    validation_fraction: float | None = Field(None, ge=MIN_FRACTION, le=MAX_FRACTION)
    """Share of each class to validate on, if the images come without such a split. Default: .1."""
    test_fraction: float | None = Field(None, ge=MIN_FRACTION, le=MAX_FRACTION)
    """Share of the rest of each class to test on, if the images come without such a split. Default: .1."""
    split_seed: int | None = Field(None, ge=0, le=2**31 - 1)
    """Another seed holds other images back. Default: 0."""
    parent_id: Reference | None = None
    """The dataset that this one is a new version of: the report then says what differs."""

    @property
    def options(self) -> dict[str, Any]:
        """The options of intake that were given."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"name", "upload", "path", "parent_id"})


class DatasetCreate(DatasetOptions):
    """A dataset from an upload, or from files that are already on the yard's machine."""

    upload: Reference | None = None
    """Id of an upload of yours (`/uploads`). It need not be complete yet."""
    path: str | None = Field(None, min_length=1, max_length=4096)
    """A folder or archive on the yard's machine, below a folder that `TRAINYARD_DATASET_FOLDERS` names."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.upload is None) == (self.path is None):
            raise ValueError("name either an `upload` or a `path`")
        return self


class IntakeProgress(BaseModel):
    """How far a validation is, as its worker last reported."""

    model_config = DESCRIBED

    phase: str
    """`reading`: an archive is unpacked; `checking`: headers are read; `packing`: images are decoded and stored;
    `publishing`: the pack goes to the store."""
    done: int
    total: int
    """Bytes while an archive is read, else files."""


class DatasetRead(BaseModel):
    """Labelled images that jobs can train on."""

    model_config = DESCRIBED

    id: str
    object: Literal["dataset"] = "dataset"
    name: str
    state: DatasetState
    """`registered`: built in, its pack is made before the first job; `uploading` and `validating`: it is coming;
    `ready`: its pack exists; `rejected`: it can't be used, and `error` and `report` say why."""
    progress: IntakeProgress | None
    """How far its validation is; null: it has not begun, or is over."""
    waiting_for: WaitsFor | None
    """What its validation waits for right now."""
    builtin: bool
    """Whether it comes with Trainyard."""
    digest: str | None
    """sha256 of its content; null until its pack is made."""
    num_classes: int | None
    """This and what follows is null until the dataset is ready."""
    class_names: list[str] | None
    image_px: int | None
    """Side of the stored images."""
    channels: int | None
    """1: grey, 3: colour."""
    flip_safe: bool | None
    """Whether a mirrored image still shows its class."""
    num_train: int | None
    num_val: int | None
    num_test: int | None
    size_bytes: int | None
    report: dict[str, Any] | None
    """What was found when it was validated; of each list the first ten entries, `links.report` has all. Only in the
    answer for a single dataset."""
    error: dict[str, Any] | None
    """For a rejected dataset: `type`, `code`, `message`, `retryable`."""
    upload: str | None
    """The upload that it is made of; some time after the dataset is ready or rejected, the upload is removed. Null: the
    dataset is built in, or made of files on the yard's machine."""
    options: dict[str, Any] | None
    """How its images were to be taken in: the options that were given. Null: it is built in."""
    parent_id: str | None
    """The dataset that this one is a new version of."""
    same_as: str | None
    """An older dataset of yours with the same content: the same `digest`."""
    created_at: Time
    ready_at: Time | None

    @computed_field  # type: ignore[prop-decorator]  # mypy: no decorator above `property`
    @property
    def links(self) -> dict[str, str]:
        """Paths to related resources; those of images once the dataset is ready."""
        here = f"/datasets/{self.id}"
        links = {"self": here, "events": f"{here}/events"}
        if self.upload is not None and self.state in {DatasetState.UPLOADING, DatasetState.VALIDATING}:
            links["upload"] = f"/uploads/{self.upload}"
        if not self.builtin and self.state in {DatasetState.READY, DatasetState.REJECTED}:
            links |= {name: f"{here}/{name}" for name in ("report", "rejected")}
        if self.state is DatasetState.READY:
            views = ("images", "sprite", "preview", "histogram", "download")
            links |= {name: f"{here}/{name}" for name in views} | {"mean": f"{here}/mean.png"}
        return links

    @classmethod
    def of(
        cls, row: Dataset, work: Job | None, *, waiting_for: str | None, report: dict[str, Any] | None = None
    ) -> Self:
        """Build the dataset as clients see it.

        Args:
            row: the dataset.
            work: its validation, if that is not over.
            waiting_for: what the validation waits for.
            report: its whole report, to be shortened.
        """
        facts = dict.fromkeys(DatasetFacts.model_fields) | (facts_of(row).model_dump(mode="json") if row.facts else {})
        progress = None if work is None else work.progress
        view = RowView(
            row,
            **(facts | {"name": row.name}),
            builtin=row.owner is None,
            progress=progress,
            waiting_for=waiting_for,
            upload=(row.source or {}).get("upload"),
            report=None if report is None else shorten_report(report),
        )
        return cls.model_validate(view)
