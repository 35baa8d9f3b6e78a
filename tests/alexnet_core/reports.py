"""Reports of a run, made in one line: whatever a test does not name has a value that is of no interest to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alexnet_core.layout import CheckpointKind
from alexnet_core.messages import CheckpointSaved, EpochEnd, Interval, Progress, Started

STEPS, EPOCHS = 40, 2


def started(step: int = 0, **values: Any) -> Started:
    made: dict[str, Any] = {
        "steps_per_epoch": STEPS // EPOCHS, "device": "cpu", "environment": {},
        "precision_reason": "as the config says", "bit_exact": True, "started_anew": [],
    }  # fmt: skip
    return Started(**_place(step) | made | values)


def progress(step: int, **values: Any) -> Progress:
    return Progress(**_place(step) | values)


def interval(step: int, **values: Any) -> Interval:
    made: dict[str, Any] = {
        "epoch": 0, "train_loss": 1 / step, "lr": 0.1, "images_per_s": 10.0, "seconds": 0.5 * step,
        "gradient_norm": 1.0, "dead_relu": 0.0,
    }  # fmt: skip
    return Interval(**{"step": step} | made | values)


def epoch_end(epoch: int, **metrics: float) -> EpochEnd:
    return EpochEnd(epoch=epoch, step=epoch * STEPS // EPOCHS, metrics=metrics)


def checkpoint_saved(step: int, **values: Any) -> CheckpointSaved:
    made: dict[str, Any] = {
        "kind": CheckpointKind.EPOCH, "path": Path(f"/checkpoints/epoch-{step:08d}-e1"), "epoch": 1, "files": {},
        "size_bytes": 1, "weights_sha256": "a" * 64, "manifest_sha256": "b" * 64, "is_best": True,
    }  # fmt: skip
    return CheckpointSaved(**{"step": step} | made | values)


def _place(step: int) -> dict[str, Any]:
    return {"epoch": 0, "epochs": EPOCHS, "step": step, "steps": STEPS, "fraction": step / STEPS}
