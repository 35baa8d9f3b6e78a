"""What is known of how far a checkpoint's probabilities can be trusted, as it is written and read. Torch-free.

`alexnet_core.insight.calibration` measures it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

_FROZEN = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class ReliabilityBin(BaseModel):
    """The answers whose probability lies in one fifteenth of 0 to 1."""

    model_config = _FROZEN

    low: float
    """Answers with a higher probability than this, and"""
    high: float
    """with at most this one."""
    count: int
    """Images with such an answer."""
    confidence: float | None
    """Mean probability of the answers. Null: there are none."""
    accuracy: float | None
    """Share of them that are right. Null: there are none."""


class Reliability(BaseModel):
    """How well the probabilities of the most probable classes agree with how often these are right."""

    model_config = _FROZEN

    ece: float
    """Expected calibration error: the mean distance between a bin's confidence and its accuracy, by images. 0 is
    best."""
    nll: float
    """Mean cross-entropy."""
    accuracy: float
    """Share of the images whose most probable class is the true one."""
    confidence: float
    """Mean probability of the most probable class."""
    bins: list[ReliabilityBin]
    """The reliability curve, by rising probability."""


class Calibration(BaseModel):
    """How far a checkpoint's probabilities can be trusted, and what corrects them."""

    model_config = _FROZEN

    split: Literal["validation", "test"]
    """The images that it was fitted and measured on."""
    num_images: int
    """How many there are of them."""
    temperature: float
    """Logits are divided by it: above 1 the network was too sure of itself, below 1 not sure enough."""
    before: Reliability
    """Of the network's own probabilities."""
    after: Reliability
    """Of the corrected ones, on the images that the temperature was fitted on."""
    unfamiliarity_threshold: float
    """Images with a higher score than this are likely of a kind that the network was not trained on. 95 % of the
    images of the split are below it."""
