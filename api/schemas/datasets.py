"""The bodies of `/datasets`."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, computed_field

from api.schemas.base import DESCRIBED, RowView, Time
from trainyard.artifacts.datasets import facts_of
from trainyard.database.tables import Dataset
from trainyard.states import DatasetState


class DatasetRead(BaseModel):
    """Labelled images that jobs can train on."""

    model_config = DESCRIBED

    id: str
    object: Literal["dataset"] = "dataset"
    name: str
    state: DatasetState
    """`registered`: its pack is made before the first job; `ready`: its pack exists."""
    builtin: bool
    """Whether it comes with Trainyard."""
    digest: str | None
    """sha256 of its content; null until its pack is made."""
    num_classes: int
    class_names: list[str]
    image_px: int
    """Side of the stored images."""
    channels: int
    """1: grey, 3: colour."""
    flip_safe: bool
    """Whether a mirrored image still shows its class."""
    num_train: int | None
    num_val: int | None
    num_test: int | None
    size_bytes: int | None
    report: dict[str, Any] | None
    """What was found when it was checked."""
    created_at: Time
    ready_at: Time | None

    @computed_field  # type: ignore[prop-decorator]  # mypy: no decorator above `property`
    @property
    def links(self) -> dict[str, str]:
        """Paths to related resources; those of images once the dataset is ready."""
        here = f"/datasets/{self.id}"
        links = {"self": here}
        if self.report is not None:
            links |= {name: f"{here}/{name}" for name in ("report", "rejected")}
        if self.state is DatasetState.READY:
            views = ("images", "sprite", "preview", "histogram", "download")
            links |= {name: f"{here}/{name}" for name in views} | {"mean": f"{here}/mean.png"}
        return links

    @classmethod
    def of(cls, row: Dataset) -> Self:
        """Build the dataset as clients see it."""
        facts = facts_of(row).model_dump(mode="json")
        return cls.model_validate(RowView(row, builtin=row.owner is None, **facts))
