"""How a network answers each image of a split: to report on, and to look at by true and predicted class. Torch-free.

N images, G guesses, K classes
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from alexnet_core.evaluation.scores import Guess

ANSWERS = "answers.npz"
GUESSES = 5  #: most probable classes that are kept of each image

Order = Literal["loss", "-loss", "index"]


@dataclass(frozen=True)
class SplitAnswers:
    """The answers, in the order of the split."""

    positions: NDArray[np.int64]  #: (N,): in the dataset
    labels: NDArray[np.int64]  #: (N,)
    guesses: NDArray[np.int32]  #: (N, G): the most probable classes, best first
    probabilities: NDArray[np.float32]  #: (N, G)
    losses: NDArray[np.float32]  #: (N,): -ln of the true class's probability

    def save(self, path: Path) -> None:
        """Write a file."""
        np.savez(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file that `save` wrote.

        Raises:
            OSError: it can't be read.
            ValueError: it is damaged.
        """
        data = path.read_bytes()
        try:
            with np.load(io.BytesIO(data)) as file:
                return cls(**{name: file[name] for name in cls.__dataclass_fields__})
        except (zipfile.BadZipFile, KeyError, EOFError) as exc:
            raise ValueError(f"{path} is damaged: {exc}") from exc

    @property
    def loss(self) -> float:
        """Mean cross-entropy."""
        return float(self.losses.mean(dtype=np.float64)) if len(self.losses) else 0.0

    def top(self, k: int) -> float:
        """Return the share of images whose true class is among the `k` most probable; `k` up to 5."""
        if not len(self.labels):
            return 0.0
        return float((self.guesses[:, :k] == self.labels[:, None]).any(axis=1).mean())

    def count_pairs(self, num_classes: int) -> NDArray[np.int64]:
        """Count images by true class (row) and predicted class (column)."""
        cells_N = self.labels * num_classes + self.guesses[:, 0]
        return np.bincount(cells_N, minlength=num_classes**2).reshape(num_classes, num_classes)

    def select(self, *, label: int | None, predicted: int | None, order: Order) -> NDArray[np.int64]:
        """Return rows, by their true and predicted class.

        Args:
            label: only images of this class. None: of any.
            predicted: only images that were taken for this class. None: for any.
            order: `loss`: the highest loss first. `-loss`: the lowest. `index`: as in the split. Of equal ones the
                first in the split comes first.
        """
        chosen = np.ones(len(self.labels), np.bool_)
        if label is not None:
            chosen &= self.labels == label
        if predicted is not None:
            chosen &= self.guesses[:, 0] == predicted
        rows = np.flatnonzero(chosen).astype(np.int64)
        if order == "index":
            return rows
        losses = np.nan_to_num(self.losses[rows], nan=np.inf, posinf=np.inf)
        return rows[np.argsort(-losses if order == "loss" else losses, kind="stable")]

    def list_guesses(self, row: int, class_names: Sequence[str]) -> list[Guess]:
        """Return the most probable classes of an image, best first."""
        pairs = zip(self.guesses[row].tolist(), self.probabilities[row].tolist(), strict=True)
        return [Guess(label=class_names[index], index=index, probability=value) for index, value in pairs]
