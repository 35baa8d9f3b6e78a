"""Reports what a network gets right and wrong on a split: by class, by pair of classes, and by image.

B batch, C channels, H height, W width, K classes
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet_core.data.file_names import open_file_names
from alexnet_core.evaluation.evaluate import average, batches_of, count_hits, load_batch, score, total_loss
from alexnet_core.evaluation.scores import ClassScores, EvaluationReport, Guess, HardImage

if TYPE_CHECKING:
    from alexnet_core.data.pack import Pack
    from alexnet_core.network.preprocess import Preprocessing

_GUESSES = 5  # of a hard image
_TABLE_CLASSES = 20  # more do not fit a terminal as a matrix


def report_on(
    model: nn.Module,
    pack: Pack,
    split: Literal["train", "validation", "test"],
    preprocessing: Preprocessing,
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 256,
    precision: str = "fp32",
    crops: Literal[1, 10] = 1,
    num_hardest: int = 20,
    others: Sequence[tuple[nn.Module, Preprocessing]] = (),
) -> EvaluationReport:
    """Evaluate in detail. Memory grows with the classes and `num_hardest`, not with the images.

    Args:
        model: on `device`; in evaluation mode meanwhile.
        pack: the dataset, whose classes are the model's.
        split: which of its images.
        preprocessing: the model's own.
        device: where the model is.
        batch_size: images computed together; does not change the result.
        precision: `fp32`, `bf16` or `fp16`.
        crops: 1: the centre. 10: centre, corners and their mirror images, whose probabilities are averaged.
        num_hardest: how many images to name.
        others: networks on `device`, in evaluation mode, with the same classes: all probabilities are averaged.

    Returns:
        `loss`, `top1`, `top5` and `num_images` are what `evaluate` gives for the same arguments.
    """
    tally = Tally(pack.class_names, num_hardest)
    was_training = model.training
    model.eval()
    try:
        for chosen in batches_of(pack, split, batch_size):
            images, labels_B = load_batch(pack, chosen, torch.device(device))
            scores = [
                score(network, images, how, precision=precision, crops=crops)
                for network, how in ((model, preprocessing), *others)
            ]
            tally.add(chosen, labels_B, average(scores))
    finally:
        model.train(was_training)
    return _name_files(tally.report(split, crops), pack)


def to_table(report: EvaluationReport) -> str:
    """Return the report as text for a terminal, with a confusion matrix for at most twenty classes."""
    crops = "" if report.crops == 1 else f", {report.crops} crops"
    parts = [
        f"{report.num_images} images ({report.split}{crops}): top-1 {report.top1:.2%}, top-5 {report.top5:.2%}, "
        f"loss {report.loss:.4f}",
        _align(
            ["class", "precision", "recall", "f1", "images"],
            [[c.label, _share(c.precision), _share(c.recall), _share(c.f1), str(c.support)] for c in report.classes],
        ),
    ]
    if 1 < len(report.class_names) <= _TABLE_CLASSES:
        header = ["true \\ predicted", *report.class_names]
        rows = [
            [name, *(str(count or ".") for count in row)]
            for name, row in zip(report.class_names, report.confusion, strict=True)
        ]
        parts.append(_align(header, rows))
    if report.hardest:
        header = ["hardest image", "true", "predicted"]
        if any(image.file for image in report.hardest):
            header.append("file")
        parts.append(_align(header, [_tell(image)[: len(header)] for image in report.hardest]))
    return "\n\n".join(parts)


def _name_files(report: EvaluationReport, pack: Pack) -> EvaluationReport:
    names = open_file_names(pack.path, len(pack.labels))
    if names is None:
        return report
    files = names.read(image.position for image in report.hardest)
    named = [image.model_copy(update={"file": file}) for image, file in zip(report.hardest, files, strict=True)]
    return report.model_copy(update={"hardest": named})


class Tally:
    """Counts the results batch by batch, in memory that grows with the classes and not with the images.

    Args:
        class_names: in the order of the labels.
        num_hardest: how many images to name.
    """

    def __init__(self, class_names: Sequence[str], num_hardest: int) -> None:
        self._names = list(class_names)
        self._confusion = np.zeros((len(self._names), len(self._names)), dtype=np.int64)
        self._loss, self._hits1, self._hits5 = 0.0, 0, 0
        self._room = num_hardest
        self._hardest: list[tuple[float, int, HardImage]] = []  # a heap, the least hard first

    def add(self, positions_B: NDArray[np.int64], labels_B: Tensor, scores_BK: Tensor) -> None:
        """Count a batch: positions in the pack, labels, and logarithms of probabilities."""
        num_classes = len(self._names)
        self._loss += total_loss(scores_BK, labels_B)
        self._hits1 += count_hits(scores_BK, labels_B, 1)
        self._hits5 += count_hits(scores_BK, labels_B, min(5, num_classes))
        cells_B = labels_B * num_classes + scores_BK.topk(1, dim=1).indices[:, 0]
        counts = torch.bincount(cells_B, minlength=num_classes**2).cpu().numpy()
        self._confusion += counts.reshape(num_classes, num_classes)
        self._keep_hardest(positions_B, labels_B, scores_BK)

    def _keep_hardest(self, positions_B: NDArray[np.int64], labels_B: Tensor, scores_BK: Tensor) -> None:
        losses_B = -scores_BK.gather(1, labels_B[:, None])[:, 0]
        most = losses_B.sort(descending=True, stable=True)  # of equal ones the first in the pack
        for row, loss in zip(most.indices[: self._room].tolist(), most.values[: self._room].tolist(), strict=True):
            position = int(positions_B[row])
            order = (loss, -position)
            if len(self._hardest) == self._room and order <= self._hardest[0][:2]:
                continue
            image = self._describe(position, loss, int(labels_B[row]), scores_BK[row])
            keep = heapq.heappush if len(self._hardest) < self._room else heapq.heapreplace
            keep(self._hardest, (*order, image))

    def _describe(self, position: int, loss: float, label: int, scores_K: Tensor) -> HardImage:
        best = scores_K.exp().topk(min(_GUESSES, len(self._names)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        guesses = [Guess(label=self._names[i], index=i, probability=p) for i, p in pairs]
        true = Guess(label=self._names[label], index=label, probability=float(scores_K[label].exp()))
        return HardImage(position=position, loss=loss, true=true, predicted=guesses[0], guesses=guesses)

    def report(self, split: Literal["train", "validation", "test"], crops: Literal[1, 10]) -> EvaluationReport:
        """Return what was counted so far."""
        count = int(self._confusion.sum())
        return EvaluationReport(
            split=split,
            crops=crops,
            num_images=count,
            loss=self._loss / max(1, count),
            top1=self._hits1 / max(1, count),
            top5=self._hits5 / max(1, count),
            class_names=self._names,
            classes=[self._class_scores(index) for index in range(len(self._names))],
            confusion=self._confusion.tolist(),
            hardest=[image for _, _, image in sorted(self._hardest, reverse=True, key=lambda entry: entry[:2])],
        )

    def _class_scores(self, index: int) -> ClassScores:
        hits = int(self._confusion[index, index])
        support, predicted = int(self._confusion[index].sum()), int(self._confusion[:, index].sum())
        return ClassScores(
            label=self._names[index],
            index=index,
            support=support,
            predicted=predicted,
            precision=hits / predicted if predicted else None,
            recall=hits / support if support else None,
            f1=2 * hits / (support + predicted) if support + predicted else None,
        )


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _tell(image: HardImage) -> list[str]:
    return [
        str(image.position),
        f"{image.true.label} {image.true.probability:.1%}",
        f"{image.predicted.label} {image.predicted.probability:.1%}",
        image.file or "-",
    ]


def _align(header: list[str], rows: Iterable[list[str]]) -> str:
    table = [header, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    lines = (
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(n) for cell, n in zip(row[1:], widths[1:], strict=True))])
        for row in table
    )
    return "\n".join(line.rstrip() for line in lines)
