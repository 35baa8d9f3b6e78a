"""What `/datasets` and `/recipes` answer."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel

from api.schemas.jobs import DESCRIBED, to_time, to_time_or_none
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
    """`registered`: its pack is made before the first job; `ready`: it is there."""
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
    created_at: datetime
    ready_at: datetime | None
    links: dict[str, str]

    @classmethod
    def of(cls, row: Dataset) -> Self:
        """The dataset as clients see it."""
        facts = facts_of(row)
        return cls.model_validate(
            facts.model_dump()
            | {
                "class_names": list(facts.class_names),
                "id": row.id,
                "name": row.name,
                "state": row.state,
                "builtin": row.owner is None,
                "digest": row.digest,
                "size_bytes": row.size_bytes,
                "report": row.report,
                "created_at": to_time(row.created_at),
                "ready_at": to_time_or_none(row.ready_at),
                "links": {"self": f"/datasets/{row.id}"},
            }
        )


class RecipeRead(BaseModel):
    """A named, complete set of hyper-parameters."""

    model_config = DESCRIBED

    name: str
    object: Literal["recipe"] = "recipe"
    title: str
    description: str
    source: str
    """Where its numbers come from."""
    config: dict[str, Any]
    """The complete training options."""
    num_parameters: int | None
    """Trained values; null if the network can't be built so."""
    num_classes: int
    """What `num_parameters` was counted for."""
    channels: int
    """What `num_parameters` was counted for."""
    config_schema: dict[str, Any] | None = None
    """JSON schema of `config`; only where one recipe is asked for."""
    links: dict[str, str]
