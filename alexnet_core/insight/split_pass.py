"""Computes something for every image of a split, in steps: between two steps other work can be done.

A pass writes rows into files of a draft folder and turns them into its result at the end. It can be gone on with by
another process: what is done so far is in the files.

`answers`       answers.npz: for each image the five most probable classes and the loss
`calibration`   calibration.json: a `Calibration`
`index`         what `SimilarityIndex` opens

N images, B batch, K classes, D units
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet_core.data.pack import Pack
from alexnet_core.evaluation.evaluate import load_batch
from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.insight import similar_images
from alexnet_core.insight.calibration import CALIBRATION, NotCalibrated, calibrate, count_looked_at
from alexnet_core.insight.methods import PassKind, Split
from alexnet_core.insight.named_layers import count_hidden_units, last_hidden_layer
from alexnet_core.insight.split_answers import ANSWERS, GUESSES, SplitAnswers

_ROWS = "rows.npy"
_BATCH = 64


class SplitPass:
    """A pass of one network over a split of a pack."""

    def __init__(
        self,
        kind: PassKind,
        predictor: Predictor,
        pack: Pack,
        split: Split,
        draft: Path,
    ) -> None:
        """Begin it, or go on with it.

        Args:
            kind: what is computed.
            predictor: the network.
            pack: has the network's classes.
            split: of the pack.
            draft: an existing folder, empty at first.
        """
        self._kind, self._predictor, self._pack, self._split, self._draft = kind, predictor, pack, split, draft
        self._positions = self._choose(pack.list_indices(split))
        rows_path = draft / (similar_images.FEATURES if kind is PassKind.INDEX else _ROWS)
        shape = (len(self._positions), self._count_columns())
        if len(self._positions) and not rows_path.exists():
            np.lib.format.open_memmap(rows_path, mode="w+", dtype=np.float32, shape=shape)
        self._rows: NDArray[np.float32] = (
            np.lib.format.open_memmap(rows_path, mode="r+") if len(self._positions) else np.empty(shape, np.float32)
        )

    @property
    def total(self) -> int:
        """Images that it is about."""
        return len(self._positions)

    def go_on(self, done: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> int:
        """Compute for some time, at least one batch, and finish the result with the last image.

        Args:
            done: images that earlier steps have done.
            seconds: of this step.
            clock: seconds.

        Returns:
            How many are done now; `total`: the result is written.

        Raises:
            NotCalibrated: the images are too few, or the answers are not finite.
        """
        until = clock() + seconds
        while done < self.total:
            rows = self._positions[done : done + _BATCH]
            self._rows[done : done + len(rows)] = self._compute(rows)
            done += len(rows)
            if clock() > until:
                break
        if done >= self.total:
            self._finish()
        return done

    def _choose(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._kind is PassKind.INDEX:
            return similar_images.choose_indexed(positions)
        if self._kind is PassKind.CALIBRATION:
            return similar_images.choose_indexed(positions, count_looked_at(len(self._predictor.class_names)))
        return positions

    def _count_columns(self) -> int:
        if self._kind is PassKind.INDEX:
            return count_hidden_units(self._predictor.model)
        if self._kind is PassKind.CALIBRATION:
            return len(self._predictor.class_names)
        return 2 * min(GUESSES, len(self._predictor.class_names)) + 1

    def _compute(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        images_BHWC, labels_B = load_batch(self._pack, positions, self._predictor.device)
        x_BCHW = self._predictor.preprocessing.to_input(images_BHWC)
        with last_hidden_layer(self._predictor.model) as units:
            logits_BK = self._predictor.logits(x_BCHW)
        if self._kind is PassKind.INDEX:
            return cast("NDArray[np.float32]", units[0].numpy())
        if self._kind is PassKind.CALIBRATION:
            return cast("NDArray[np.float32]", logits_BK.numpy())
        return _answer(logits_BK, labels_B.cpu())

    def _finish(self) -> None:
        if isinstance(self._rows, np.memmap):
            self._rows.flush()
        if self._kind is PassKind.ANSWERS:
            self._finish_answers()
        elif self._kind is PassKind.CALIBRATION:
            self._finish_calibration()
        else:
            self._finish_index()

    def _finish_answers(self) -> None:
        num = (self._rows.shape[1] - 1) // 2
        SplitAnswers(
            positions=self._positions,
            labels=np.asarray(self._pack.labels[self._positions], np.int64),
            guesses=self._rows[:, :num].astype(np.int32),
            probabilities=np.asarray(self._rows[:, num : 2 * num]),
            losses=np.asarray(self._rows[:, -1]),
        ).save(self._draft / ANSWERS)
        (self._draft / _ROWS).unlink(missing_ok=True)

    def _finish_calibration(self) -> None:
        if self._split == "train":
            raise NotCalibrated("the network was trained on the images of the split train: it knows their labels")
        labels_N = np.asarray(self._pack.labels[self._positions], np.int64)
        found = calibrate(self._rows, labels_N, self._split)
        (self._draft / CALIBRATION).write_text(found.model_dump_json(), encoding="utf-8")
        (self._draft / _ROWS).unlink(missing_ok=True)

    def _finish_index(self) -> None:
        similar_images.write_index(self._draft, self._rows, self._positions)


def _answer(logits_BK: Tensor, labels_B: Tensor) -> NDArray[np.float32]:
    """Return a row for each image: the most probable classes, their probabilities, the loss. Classes are below 2^24."""
    scores_BK = torch.log_softmax(logits_BK, dim=1)
    best = scores_BK.topk(min(GUESSES, scores_BK.shape[1]), dim=1)
    losses_B1 = -scores_BK.gather(1, labels_B[:, None])
    rows: NDArray[np.float32] = torch.cat([best.indices.float(), best.values.exp(), losses_B1], dim=1).numpy()
    return rows
