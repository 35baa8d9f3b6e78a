"""The learning rate as a function of progress alone: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from alexnet_core.config import TrainConfig

_WARMUP_START = 1 / 25  # of the peak
_FINAL = 1e-4  # of the peak: never exactly 0, so that the last steps still move


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """The learning rate of a step.

    Args:
        config: says which schedule.
        step: counted from 0 over the whole run.
        steps_per_epoch: as many as the run has.
    """
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "step":
        epoch = step // steps_per_epoch
        return next((lr for start, lr in sorted(config.lr_steps, reverse=True) if epoch >= start), config.lr)
    total = config.epochs * steps_per_epoch
    warmup = config.warmup_fraction * total
    if step < warmup:
        return config.lr * (_WARMUP_START + (1 - _WARMUP_START) * (step + 1) / max(1.0, warmup))
    fraction = min(1.0, (step - warmup) / max(1.0, total - warmup))
    falling = 1 - fraction if config.schedule == "one_cycle" else (1 + math.cos(math.pi * fraction)) / 2
    return config.lr * (_FINAL + (1 - _FINAL) * falling)
