"""The bodies of `/recipes/preview`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field

from api.schemas.base import DESCRIBED, STRICT, Reference
from api.schemas.jobs import check_plain


class Basis(StrEnum):
    """What an estimate is based on, the best first."""

    MEASURED = "measured"  #: finished runs with the same recipe, network and batch
    SCALED = "scaled"  #: other finished runs, by the number of multiplications
    MACHINE = "machine"  #: the speed of this machine's matrix products


class PreviewCreate(BaseModel):
    """A training run that may be queued later; the fields are those of `POST /jobs`."""

    model_config = STRICT

    dataset: Reference
    """Id or name of the dataset."""
    recipe: Reference | None = None
    """Name of a recipe. Default: the one that fits the dataset's image size."""
    overrides: Annotated[dict[str, Any], AfterValidator(check_plain)] = Field(default_factory=dict)
    """Config fields that differ from the recipe."""


class LayerRead(BaseModel):
    """One layer of the network."""

    model_config = DESCRIBED

    name: str
    """`conv1` to `conv5`, `pool1`, `pool2`, `pool5`, and `fc6` to `fc8`."""
    shape: list[int]
    """Of its output for one image: maps, height and width, or the number of units."""
    parameters: int
    """Number of its trained values."""


class SecondsRead(BaseModel):
    """How long the run will take from the moment that a worker claims it: a range, and where it comes from."""

    model_config = DESCRIBED

    low: float
    high: float
    basis: Basis
    """`measured`: finished jobs of yours with this recipe, network, batch and precision. `scaled`: other finished jobs
    of yours, by the number of multiplications; rough. `machine`: the speed of this machine's matrix products; very
    rough."""
    explanation: str
    """The same in a sentence, with the number of jobs and the devices."""


class WarningRead(BaseModel):
    """Something to know before the run begins; it does not hinder it."""

    model_config = DESCRIBED

    param: str
    """The field of the request that it is about."""
    message: str


class PreviewRead(BaseModel):
    """What a training run will do and cost."""

    model_config = DESCRIBED

    object: Literal["preview"] = "preview"
    recipe: str
    """The recipe, also where none was named."""
    config: dict[str, Any]
    """The complete training options, as the job would have them."""
    steps: int | None
    """Number of steps of the whole run; null if the number of the dataset's images is not known yet."""
    steps_per_epoch: int | None
    num_parameters: int
    """Number of trained values."""
    layers: list[LayerRead]
    lr: list[tuple[int, float]]
    """Up to 200 pairs of a step, counted as in the job's metrics, and its learning rate; empty without `steps`."""
    memory_bytes: int
    """Memory of weights, gradients, the optimiser's buffers and one batch, computed layer by layer. Not in it are
    Python and PyTorch themselves and the dataset."""
    seconds: SecondsRead | None
    """Null: there is nothing to base an estimate on."""
    warnings: list[WarningRead]
