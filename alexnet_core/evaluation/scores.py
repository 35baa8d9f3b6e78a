"""The results of an evaluation, as they are written and read: by class, by pair of classes, by image. Torch-free."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

_FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ClassScores(BaseModel):
    """How well the network recognises one class."""

    model_config = _FROZEN

    label: str
    """The class's name."""
    index: int
    """Its place among the classes."""
    support: int
    """Images that are of this class."""
    predicted: int
    """Images that were taken for it."""
    precision: float | None
    """Share of `predicted` that are of this class. None: nothing was taken for it."""
    recall: float | None
    """Share of `support` that were taken for it. None: the split has no image of it."""
    f1: float | None
    """Harmonic mean of precision and recall. None: neither of them is known."""


class Guess(BaseModel):
    """A class and the probability that the network gives it."""

    model_config = _FROZEN

    label: str
    """The class's name."""
    index: int
    """Its place among the classes."""
    probability: float
    """0 to 1."""


class HardImage(BaseModel):
    """An image whose true class got a low probability."""

    model_config = _FROZEN

    position: int
    """Where it is in the pack, from 0."""
    file: str | None = None
    """The file that it was read from. None: the pack does not know."""
    loss: float
    """-ln of the true class's probability."""
    true: Guess
    """What it is."""
    predicted: Guess
    """The most probable class; the true one where the network is right but unsure."""
    guesses: list[Guess]
    """The five most probable classes, best first."""


class EvaluationReport(BaseModel):
    """An evaluation in detail; `model_dump_json` gives its JSON."""

    model_config = _FROZEN

    split: Literal["train", "validation", "test"]
    """Which images it is about."""
    crops: Literal[1, 10]
    """Views of an image whose probabilities are averaged."""
    num_images: int
    """Images of the split."""
    loss: float
    """Mean cross-entropy."""
    top1: float
    """Share of images whose most probable class is the true one."""
    top5: float
    """Share of images whose true class is among the five most probable."""
    class_names: list[str]
    """In the order of all indices."""
    classes: list[ClassScores]
    """One a class."""
    confusion: list[list[int]]
    """Images by true class (row) and predicted class (column)."""
    hardest: list[HardImage]
    """Those with the highest loss, highest first."""
