"""Computes the learning rate from the step and the validation results, so it has no state to save."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from alexnet_core.config import TrainConfig

_WARMUP_START = 1 / 25  # of the peak
_FINAL = 1e-4  # of the peak: never exactly 0, so that the last steps still move

History = Sequence[Mapping[str, float]]


def learning_rate(config: TrainConfig, step: int, steps_per_epoch: int, history: History = ()) -> float:
    """Return the learning rate of a step.

    Args:
        config: says which schedule.
        step: counted from 0 over the whole run.
        steps_per_epoch: as many as the run has.
        history: the metrics of every finished epoch; only `plateau` looks at it, at `val_top1`.
    """
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "multistep":
        return _rate_at(config.lr_steps, step // steps_per_epoch, config.lr)
    if config.schedule == "plateau":
        drops = min(config.plateau_drops, count_plateaus(history, config.plateau_patience))
        return config.lr * config.plateau_factor**drops
    total = config.epochs * steps_per_epoch
    warmup = config.warmup_fraction * total
    if step < warmup:
        return config.lr * (_WARMUP_START + (1 - _WARMUP_START) * min(1.0, (step + 1) / warmup))
    fraction = min(1.0, (step - warmup) / max(1.0, total - warmup))
    falling = 1 - fraction if config.schedule == "one_cycle" else (1 + math.cos(math.pi * fraction)) / 2
    return config.lr * (_FINAL + (1 - _FINAL) * falling)


def describe_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> str:
    """Return the option that determines the learning rate at a step, and its value, for advice."""
    if config.schedule == "multistep":
        return f"the rates of lr_steps (now {learning_rate(config, step, steps_per_epoch):g})"
    return f"lr (it is {config.lr:g})"


def conv1_learning_rate(config: TrainConfig, step: int, steps_per_epoch: int) -> float | None:
    """Return conv1's own learning rate at a step. None: it has the network's."""
    epoch = step // steps_per_epoch
    if not config.conv1_lr_steps or epoch < min(start for start, _ in config.conv1_lr_steps):
        return None
    return _rate_at(config.conv1_lr_steps, epoch, 0.0)


def _rate_at(steps: Sequence[tuple[int, float]], epoch: int, before: float) -> float:
    return next((lr for start, lr in sorted(steps, reverse=True) if epoch >= start), before)


def count_plateaus(history: History, patience: int) -> int:
    """Count how often the validation accuracy did not rise for `patience` epochs in a row."""
    best, waited, plateaus = -1.0, 0, 0
    for metrics in history:
        if metrics["val_top1"] > best:
            best, waited = metrics["val_top1"], 0
            continue
        waited += 1
        if waited == patience:
            plateaus, waited = plateaus + 1, 0
    return plateaus


def reason_to_end(config: TrainConfig, history: History) -> str | None:
    """Return why a run ends before its last epoch. None: it does not.

    Returns:
        `early_stop`: no progress for `early_stop_patience` epochs. `plateau`: none after the last drop of the learning
        rate, as the paper's run ended (Krizhevsky 2012, section 5).
    """
    if config.schedule == "plateau" and count_plateaus(history, config.plateau_patience) > config.plateau_drops:
        return "plateau"
    if config.early_stop_patience is not None and count_plateaus(history, config.early_stop_patience) > 0:
        return "early_stop"
    return None
