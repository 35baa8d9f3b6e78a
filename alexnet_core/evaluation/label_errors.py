"""Finds training images whose label is likely wrong, with a network that was trained on these labels.

The features are what the last pool answers: it was formed less by single labels than the layers after it. Where there
are more than 768, they are projected onto as many random directions. On these features a linear classifier is fitted in
folds, without the images that it judges, and confident learning compares its probabilities with the labels. How well
this works, beside other ways, is in docs/benchmarks.md.

N images, D features, K classes, B batch
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet_core.data.inspection.selection import describe
from alexnet_core.evaluation.confident_learning import NothingToCheck, Suspects, find_suspects
from alexnet_core.evaluation.discriminant import FOLDS, judge_out_of_sample
from alexnet_core.evaluation.evaluate import load_batch
from alexnet_core.evaluation.job_evaluation import ClassLabels, LabelErrors, WrongLabel

if TYPE_CHECKING:
    from alexnet_core.data.pack import Pack
    from alexnet_core.network.model import AlexNet
    from alexnet_core.network.preprocess import Preprocessing

METHOD = "confident learning; linear discriminant analysis in 5 folds on the features after the last pool"
MAX_LISTED = 1000
_WIDTH = 768  # features
_BATCH = 128
_MIN_SUPPORT = 2 * FOLDS  # images of a class, so that it can be judged in every fold


@dataclass(frozen=True)
class Bounds:
    """What the search may cost."""

    images: int = 100_000
    values: int = 32_000_000  #: float32 of all images: features, or probabilities; up to twice as many in memory
    seconds: float = 180.0  #: of computing features


def find_label_errors(
    model: AlexNet,
    pack: Pack,
    preprocessing: Preprocessing,
    *,
    device: str | torch.device = "cpu",
    bounds: Bounds = Bounds(),
    check: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> LabelErrors:
    """Find training images whose label is likely wrong. The same network and bounds give the same answer.

    Args:
        model: on `device`; in evaluation mode meanwhile. Its weights stay as they are.
        pack: the dataset that it was trained on.
        preprocessing: the model's own.
        device: where the model is.
        bounds: what it may cost. Where they don't suffice, images chosen at random are checked.
        check: called many times; what it raises ends the search.
        clock: seconds.

    Raises:
        NothingToCheck: there are too few images of too few classes, or the network's features tell nothing.
    """
    began_at = clock()
    training = pack.list_indices("train")
    chosen = _choose(
        training, width=min(_WIDTH, _count_features(model)), num_classes=len(pack.class_names), bounds=bounds
    )
    was_training = model.training
    model.eval()
    try:
        features_ND = _compute_features(
            model, pack, chosen, preprocessing, torch.device(device), check=check,
            is_over=lambda: clock() - began_at > bounds.seconds,
        )  # fmt: skip
    finally:
        model.train(was_training)
    too_slow = len(features_ND) < len(chosen)
    chosen = chosen[: len(features_ND)]
    kept_N, classes = _keep_large_classes(np.asarray(pack.labels)[chosen])
    if len(classes) < 2:
        raise NothingToCheck(f"fewer than two classes have {_MIN_SUPPORT} training images that could be compared")
    rows = np.flatnonzero(kept_N)
    rows = rows[np.argsort(chosen[rows], kind="stable")]
    positions = chosen[rows]
    labels_N = np.searchsorted(classes, np.asarray(pack.labels)[positions]).astype(np.int64)
    features_ND = features_ND[torch.from_numpy(rows)]
    probabilities_NK = judge_out_of_sample(features_ND, labels_N, len(classes), check=check)
    suspects = find_suspects(probabilities_NK, labels_N)
    return LabelErrors(
        method=METHOD,
        num_images=len(training),
        num_checked=len(positions),
        left_out=_explain(len(training), len(chosen), len(positions), too_slow=too_slow),
        num_found=len(suspects.rows),
        seconds=round(clock() - began_at, 3),
        classes=_count_by_class(pack, classes, labels_N, suspects),
        images=_name_images(pack, positions, classes, suspects),
    )


def to_text(found: LabelErrors) -> str:
    """Return what was found as text for a terminal."""
    left_out = f" ({found.left_out})" if found.left_out else ""
    head = f"{found.num_found} of {found.num_checked} labels are likely wrong{left_out}, the most certain first"
    lines = [
        f"{image.file or image.position}  {image.label}, more likely {image.suggested}  {image.confidence:.3f}"
        for image in found.images
    ]
    return "\n".join([head, *lines])


def _count_features(model: AlexNet) -> int:
    """Count what goes into the first fully connected layer."""
    return next(module.in_features for module in model.classifier if isinstance(module, torch.nn.Linear))


def _draw_directions(width: int) -> Tensor | None:
    """Draw the directions that features are projected onto, always the same. None: there are few enough features."""
    if width <= _WIDTH:
        return None
    directions = torch.randn(width, _WIDTH, generator=torch.Generator().manual_seed(0))
    return directions / math.sqrt(width)


def _choose(training: NDArray[np.int64], *, width: int, num_classes: int, bounds: Bounds) -> NDArray[np.int64]:
    """Choose the images to check, in a random order, so that any beginning of them is a fair sample."""
    room = min(bounds.images, bounds.values // max(width, num_classes))
    return np.random.default_rng(0).permutation(training)[:room]


@torch.inference_mode()
def _compute_features(
    model: AlexNet,
    pack: Pack,
    chosen: NDArray[np.int64],
    preprocessing: Preprocessing,
    device: torch.device,
    *,
    check: Callable[[], None],
    is_over: Callable[[], bool],
) -> Tensor:
    """Return features_ND of the chosen images, or of those at the beginning for which there was time."""
    width, done = _count_features(model), 0
    directions = _draw_directions(width)
    features_ND = torch.empty(len(chosen), min(_WIDTH, width))
    for start in range(0, len(chosen), _BATCH):
        check()
        if done and is_over():
            break
        batch = chosen[start : start + _BATCH]
        order = np.argsort(batch)  # a pack is read in its order
        images_BHWC, _ = load_batch(pack, batch[order], device)
        x_BCHW = preprocessing.to_input(images_BHWC).contiguous(memory_format=torch.channels_last)
        features_BD = model.features(x_BCHW).flatten(1).float().cpu()
        if directions is not None:
            features_BD = features_BD @ directions
        done = start + len(batch)
        features_ND[start + torch.from_numpy(order)] = features_BD
    return features_ND[:done]


def _keep_large_classes(labels_N: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which images are of a class that can be judged, and these classes."""
    counts = np.bincount(labels_N, minlength=1)
    classes = np.flatnonzero(counts >= _MIN_SUPPORT).astype(np.int64)
    return np.isin(labels_N, classes), classes


def _explain(num_images: int, num_chosen: int, num_checked: int, *, too_slow: bool) -> str | None:
    """Return why images were not checked. None: all were."""
    reasons = []
    if num_chosen < num_images:
        why = "there was no time for more" if too_slow else "there are too many to check all"
        reasons.append(f"{num_chosen:,} of {num_images:,} images were chosen at random: {why}")
    if num_checked < num_chosen:
        reasons.append(
            f"{num_chosen - num_checked:,} images are of classes with fewer than {_MIN_SUPPORT} images to compare"
        )
    return "; ".join(reasons) or None


def _count_by_class(
    pack: Pack, classes: NDArray[np.int64], labels_N: NDArray[np.int64], suspects: Suspects
) -> list[ClassLabels]:
    def count(of: NDArray[np.int64]) -> list[int]:
        counts = np.zeros(len(pack.class_names), dtype=np.int64)
        counts[classes] = np.bincount(of, minlength=len(classes))
        found: list[int] = counts.tolist()
        return found

    counts = zip(count(labels_N), count(labels_N[suspects.rows]), count(suspects.suggested), strict=True)
    return [
        ClassLabels(label=name, num_checked=checked, num_found=found, num_suggested=suggested)
        for name, (checked, found, suggested) in zip(pack.class_names, counts, strict=True)
    ]


def _name_images(
    pack: Pack, positions: NDArray[np.int64], classes: NDArray[np.int64], suspects: Suspects
) -> tuple[WrongLabel, ...]:
    places = describe(pack, positions[suspects.rows[:MAX_LISTED]])
    return tuple(
        WrongLabel(
            split="train", index=place.index, position=place.position, file=place.file, label=place.label,
            suggested=pack.class_names[classes[suggested]], confidence=round(float(confidence), 6),
        )
        for place, suggested, confidence in zip(places, suspects.suggested, suspects.confidence, strict=False)
    )  # fmt: skip
