"""The bodies of `/predict`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from api.schemas.base import DESCRIBED
from trainyard.states import Side

_LEAVES_OUT = ConfigDict(
    use_attribute_docstrings=True
)  # of bodies that have a field only where there is something to tell


class ModelRead(BaseModel):
    """The checkpoint that answered."""

    model_config = DESCRIBED

    checkpoint: str
    """Its id."""
    job: str
    """Id of the job that made it."""
    epoch: int
    """Number of complete epochs."""
    weights_sha256: str
    """Hash of its weights."""
    alias: str | None
    """`latest` or the alias that was asked for, else null."""
    version: int | None
    """Number of the alias's last move, for `latest` the publication number. For one name it never goes back."""
    side: Side | None
    """For an alias with a canary: `stable` or `canary`, whichever answered."""


class LabelRead(BaseModel):
    """A class and its probability."""

    model_config = DESCRIBED

    label: str
    index: int
    """The class's place among the dataset's classes, from 0."""
    probability: float
    """0 to 1."""


class TimingRead(BaseModel):
    """The time that each part took, in milliseconds; for several images that of the slowest."""

    model_config = DESCRIBED

    preprocess_ms: float
    """Time for decoding, resizing and standardising."""
    queue_ms: float
    """Time waiting for the inference thread."""
    inference_ms: float
    """Time of the whole batch that the image was in."""
    total_ms: float
    """Time from the request's headers to the answer."""


class UnfamiliarityRead(BaseModel):
    """Whether an image is likely of a kind that the network was not trained on."""

    model_config = DESCRIBED

    score: float
    """The higher, the less the image is like those that the network was trained on."""
    threshold: float
    """95 of 100 images of the dataset that it was not trained on have at most this score."""
    is_unfamiliar: bool
    """Whether the score is above the threshold."""


class FileResult(BaseModel):
    """The result for one of several images: predictions, or an error."""

    model_config = _LEAVES_OUT

    filename: str
    predictions: list[LabelRead] | None = None
    error: dict[str, Any] | None = None
    unfamiliarity: UnfamiliarityRead | None = None
    """Only with `calibrated`."""


class PredictRead(BaseModel):
    """The answer for one image."""

    model_config = _LEAVES_OUT

    model: ModelRead
    predictions: list[LabelRead]
    timing: TimingRead
    unfamiliarity: UnfamiliarityRead | None = None
    """Only with `calibrated`."""


class PredictManyRead(BaseModel):
    """The answer for several images, in their order."""

    model: ModelRead
    results: list[FileResult]
    timing: TimingRead
