"""The types of the training options, which say what values each kind of option may have. No torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field


def list_to_tuple(value: object) -> object:
    """Turn lists into tuples at every level, because JSON has no tuples."""
    return tuple(list_to_tuple(item) for item in value) if isinstance(value, list | tuple) else value


def _require_odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"{value} is even, but the normalised value must be in the middle: use an odd number")
    return value


Width = Annotated[int, Field(ge=1, le=8192)]
Kernel = Annotated[int, Field(ge=1, le=15)]
ByteValue = Annotated[float, Field(ge=0, le=255)]
ByteDeviation = Annotated[float, Field(gt=0, le=255)]
LearningRate = Annotated[float, Field(gt=0, le=10)]
Epoch = Annotated[int, Field(ge=0, le=1000)]
Layer = Literal["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
NormalisedLayer = Literal["conv1", "conv2"]
LayerOrder = Literal[
    "activate_normalise_pool",
    "activate_pool_normalise",
    "normalise_activate_pool",
    "normalise_pool_activate",
    "pool_activate_normalise",
    "pool_normalise_activate",
]
OddSize = Annotated[int, Field(ge=1, le=15), AfterValidator(_require_odd)]
LrStep = Annotated[tuple[Epoch, LearningRate], BeforeValidator(list_to_tuple)]
FreezableLrStep = Annotated[tuple[Epoch, Annotated[float, Field(ge=0, le=10)]], BeforeValidator(list_to_tuple)]
LayerFactor = Annotated[tuple[Layer, Annotated[float, Field(ge=0, le=100)]], BeforeValidator(list_to_tuple)]
