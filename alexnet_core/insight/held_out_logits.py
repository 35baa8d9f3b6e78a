"""Computes what a network answers for images that it was not trained on, at the end of a run.

B batch, N images, K classes
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import nn

from alexnet_core.evaluation.evaluate import load_batch
from alexnet_core.insight.calibration import calibrate, choose_held_out, count_looked_at
from alexnet_core.reliability import Calibration

if TYPE_CHECKING:
    from alexnet_core.data.pack import Pack
    from alexnet_core.network.preprocess import Preprocessing

MAX_S = 60.0  #: of computing; with fewer images the calibration is less exact
_BATCH = 256


@torch.inference_mode()
def calibrate_network(
    model: nn.Module,
    pack: Pack,
    preprocessing: Preprocessing,
    *,
    chosen_on: str,
    device: str | torch.device = "cpu",
    check: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> Calibration:
    """Calibrate a network on images that it was not trained on. Its weights stay as they are.

    Args:
        model: on `device`; in evaluation mode meanwhile.
        pack: the dataset that it was trained on.
        preprocessing: the model's own.
        chosen_on: the split that chose its epoch, or `none`.
        device: where the model is.
        check: called before each batch; what it raises ends the work.
        clock: seconds. Where time is short, the images are a fair sample.

    Raises:
        NotCalibrated: there are too few images, or an answer is not finite.
    """
    until = clock() + MAX_S
    split: Literal["validation", "test"] = choose_held_out(chosen_on, pack.facts.num_val or 0)
    order = np.random.default_rng(0).permutation(pack.list_indices(split))
    chosen = order[: count_looked_at(len(pack.class_names))]
    logits_NK = np.empty((len(chosen), len(pack.class_names)), np.float32)
    labels_N = np.asarray(pack.labels)[chosen].astype(np.int64)
    done, was_training = 0, model.training
    model.eval()
    try:
        while done < len(chosen) and (done == 0 or clock() < until):
            check()
            rows = np.sort(chosen[done : done + _BATCH])  # a pack is read in its order
            images_BHWC, batch_labels_B = load_batch(pack, rows, torch.device(device))
            x_BCHW = preprocessing.to_input(images_BHWC).contiguous(memory_format=torch.channels_last)
            logits_NK[done : done + len(rows)] = model(x_BCHW).float().cpu().numpy()
            labels_N[done : done + len(rows)] = batch_labels_B.cpu().numpy()
            done += len(rows)
    finally:
        model.train(was_training)
    return calibrate(logits_NK[:done], labels_N[:done], split)
