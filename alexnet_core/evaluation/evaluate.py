"""Computes loss and accuracy of a network on a split of a pack.

B batch, C channels, H height, W width, K classes, V views
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from alexnet_core.data.pack import SPLITS, Pack
from alexnet_core.precision import autocast

if TYPE_CHECKING:
    from alexnet_core.network.preprocess import Preprocessing


def top_k_accuracy(logits_BK: Tensor, labels_B: Tensor, k: int = 1) -> float:
    """Fraction of images whose true class is among the k highest logits.

    Args:
        logits_BK: float, any scale (no softmax needed).
        labels_B: int64 in [0, K).
        k: how many guesses count.

    Returns:
        A value in [0, 1]. The paper prints errors in percent: 100 * (1 - this) (Krizhevsky 2012, Tables 1-2).

    Raises:
        ValueError: k is outside [1, K].
    """
    if not 1 <= k <= logits_BK.shape[1]:
        raise ValueError(f"k is {k}: it must be in 1..{logits_BK.shape[1]}, the number of classes")
    return count_hits(logits_BK, labels_B, k) / max(1, len(labels_B))


def evaluate(
    model: nn.Module,
    pack: Pack,
    split: str,
    preprocessing: Preprocessing,
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 256,
    precision: str = "fp32",
    crops: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
    watch: Callable[[NDArray[np.int64], Tensor, Tensor], None] | None = None,
) -> dict[str, float] | None:
    """Compute mean cross-entropy and top-1/top-5 accuracy over a split, with the model in evaluation mode.

    Args:
        model: on `device`.
        pack: the dataset.
        split: `train`, `validation` or `test`.
        preprocessing: the model's own.
        device: where the model is.
        batch_size: images computed together; does not change the result.
        precision: `fp32`, `bf16` or `fp16`.
        crops: 1: the centre. 10: centre, corners and their mirror images, whose probabilities are averaged.
        should_stop: asked before every batch.
        watch: called with the positions in the pack, the labels and the scores of every batch.

    Returns:
        `loss`, `top1`, `top5`, `num_images`; top5 counts K guesses where there are fewer than 5 classes.
        None: it was stopped.
    """
    loss, hits1, hits5, count = 0.0, 0, 0, 0
    was_training = model.training
    model.eval()
    try:
        for chosen in batches_of(pack, split, batch_size):
            if should_stop():
                return None
            images, labels_B = load_batch(pack, chosen, torch.device(device))
            scores_BK = score(model, images, preprocessing, precision=precision, crops=crops)
            loss += total_loss(scores_BK, labels_B)
            hits1 += count_hits(scores_BK, labels_B, 1)
            hits5 += count_hits(scores_BK, labels_B, min(5, scores_BK.shape[1]))
            count += len(chosen)
            if watch is not None:
                watch(chosen, labels_B, scores_BK)
    finally:
        model.train(was_training)
    images_or_1 = max(1, count)
    return {"loss": loss / images_or_1, "top1": hits1 / images_or_1, "top5": hits5 / images_or_1, "num_images": count}


@torch.inference_mode()
def score(
    model: nn.Module, images_BHWC: Tensor, preprocessing: Preprocessing, *, precision: str = "fp32", crops: int = 1
) -> Tensor:
    """Return the logarithms of the probabilities, scores_BK, float32.

    Args:
        model: in evaluation mode, where the images are.
        images_BHWC: uint8, as stored.
        preprocessing: the model's own.
        precision: `fp32`, `bf16` or `fp16`.
        crops: 1 or 10 views of an image, whose probabilities are averaged (Krizhevsky 2012, section 4.1).
    """
    with autocast(images_BHWC.device, precision):
        if crops == 1:
            logits_BK = model(preprocessing.to_input(images_BHWC).contiguous(memory_format=torch.channels_last))
            return torch.log_softmax(logits_BK.float(), dim=1)
        views_VBK = [
            torch.softmax(model(view.contiguous(memory_format=torch.channels_last)).float(), dim=1)
            for view in preprocessing.to_ten_crops(images_BHWC)
        ]
    return torch.stack(views_VBK).mean(dim=0).clamp_min(torch.finfo(torch.float32).tiny).log()


def average(scores: Sequence[Tensor]) -> Tensor:
    """Return the logarithms of the mean probabilities of several networks.

    The scores of a single network stay as they are.
    """
    if len(scores) == 1:
        return scores[0]
    return torch.logsumexp(torch.stack([one.double() for one in scores]), dim=0).sub(math.log(len(scores))).float()


def batches_of(pack: Pack, split: str, batch_size: int) -> Iterator[NDArray[np.int64]]:
    """Yield the positions of a split's images in its pack, ascending, in batches."""
    indices = np.flatnonzero(np.asarray(pack.split) == SPLITS[split])
    for start in range(0, len(indices), batch_size):
        yield indices[start : start + batch_size]


def load_batch(pack: Pack, chosen: NDArray[np.int64], device: torch.device) -> tuple[Tensor, Tensor]:
    """Load images_BHWC as stored, and labels_B, onto a device."""
    images = torch.from_numpy(np.ascontiguousarray(pack.images[chosen])).to(device)
    return images, torch.from_numpy(np.asarray(pack.labels[chosen], dtype=np.int64)).to(device)


def total_loss(scores_BK: Tensor, labels_B: Tensor) -> float:
    """Return the cross-entropy summed over the images."""
    return float(F.nll_loss(scores_BK, labels_B, reduction="sum"))


def count_hits(logits_BK: Tensor, labels_B: Tensor, k: int) -> int:
    """Count the images whose true class is among the k highest logits."""
    return int((logits_BK.topk(k, dim=1).indices == labels_B[:, None]).any(dim=1).sum())
