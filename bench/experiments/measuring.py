"""One run and its results."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from typing_extensions import override

from alexnet_core.config import TrainConfig
from alexnet_core.data.pack import TEST, TRAIN, Pack
from alexnet_core.data.pack_draft import write_pack
from alexnet_core.errors import Diverged
from alexnet_core.evaluation.evaluate import evaluate
from alexnet_core.messages import EpochEnd, Interval
from alexnet_core.network.geometry import count_parameters
from alexnet_core.network.normalisation import LocalResponseNorm
from alexnet_core.training.hooks import Hooks
from alexnet_core.training.loop import Run
from alexnet_core.training.run_spec import RunSpec

SAMPLE = 2_000  #: training images on which the training error is measured


def reduce_pack(pack: Pack, target: Path, *, num_train: int, with_test: bool) -> Pack:
    """Keep the first training images, equally many of each class, and all images of the other splits."""
    labels, split = np.asarray(pack.labels), np.asarray(pack.split)
    share = max(1, num_train // pack.facts.num_classes)
    chosen = ~np.isin(split, [TRAIN] if with_test else [TRAIN, TEST])
    for label in range(pack.facts.num_classes):
        chosen[np.flatnonzero((split == TRAIN) & (labels == label))[:share]] = True
    return write_pack(
        target,
        name=pack.name,
        class_names=pack.class_names,
        images_NHWC=pack.images[chosen],
        labels_N=labels[chosen],
        split_N=split[chosen],
        flip_safe=pack.facts.flip_safe,
    )


def train(
    config: TrainConfig, pack: Pack, seed: int, *, until_error: float | None, max_steps: int | None = None
) -> dict[str, Any]:
    """Train once and return errors as fractions, by epoch or interval and, if there is a test split, at the end.

    Args:
        config: what to train.
        pack: on what.
        seed: of everything that is drawn.
        until_error: the training error at which the run is stopped, measured at every interval. None: it goes to its
            end, and the training error is measured after every epoch only.
        max_steps: where a run with `until_error` ends at the latest. None: at the end of its epochs.
    """
    began, cpu_began = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        watch = Watch(pack, until_error, max_steps)
        watch.run = Run(RunSpec(config, pack, seed, Path(folder), recovery_every_s=1e9), watch)
        try:
            test, diverged = watch.run.train().test, False
        except Diverged:
            test, diverged = None, True
    run, setting = watch.run, watch.run.setting
    return {
        "dataset": pack.name, "num_train": pack.facts.num_train, "seed": seed, "config": config.model_dump(mode="json"),
        "parameters": count_parameters(config, pack.facts.num_classes, setting.channels),
        "environment": setting.environment,
        "steps_to": None if until_error is None else steps_to(watch.intervals, until_error), "diverged": diverged,
        "test_error": None if test is None else 1 - test["top1"], "norm_factors": measure_factors(run, watch.sample),
        "seconds": round(time.monotonic() - began, 1), "cpu_s": round(time.process_time() - cpu_began, 1),
        "epochs": watch.epochs, "intervals": watch.intervals,
    }  # fmt: skip


def steps_to(points: Sequence[dict[str, float]], error: float) -> int | None:
    """Return the first step after which the training error was at most this. None: it never was."""
    return next((int(point["step"]) for point in points if point["train_error"] <= error), None)


class Watch(Hooks):
    """Hooks that measure the training error, always on the same images and without dropout; see `train`."""

    run: Run

    def __init__(self, pack: Pack, until_error: float | None, max_steps: int | None) -> None:
        places = np.random.default_rng(0).permutation(pack.list_indices("train"))[:SAMPLE]
        self.sample = replace(pack, images=pack.images[places], labels=pack.labels[places], split=pack.split[places])
        self._until_error, self._max_steps = until_error, max_steps or math.inf
        self.intervals: list[dict[str, float]] = []
        self.epochs: list[dict[str, float]] = []

    @override
    def on_interval(self, report: Interval) -> None:
        if self._until_error is not None:
            self.intervals.append({"step": report.step, "train_error": self._measure()})

    @override
    def on_epoch(self, report: EpochEnd) -> None:
        found = report.metrics
        point = {"epoch": report.epoch, "step": report.step, "train_error": self._measure()}
        point |= {"val_error": 1 - found["val_top1"]} | {k: found[k] for k in ("train_loss", "val_loss", "val_top1")}
        self.epochs.append(point)

    @override
    def should_stop(self) -> bool:
        if self._until_error is None or not self.intervals:
            return False
        last = self.intervals[-1]
        return last["train_error"] <= self._until_error or last["step"] >= self._max_steps

    @override
    def on_warning(self, code: str, message: str) -> None:
        print(f"warning {code}: {message}", flush=True)

    def _measure(self) -> float:
        run = self.run
        measured = evaluate(
            run.state.model, self.sample, "train", run.setting.preprocessing, precision=run.setting.precision
        )
        assert measured is not None, "nothing stops it"
        return 1 - measured["top1"]


def measure_factors(run: Run, sample: Pack) -> dict[str, list[float]]:
    """Return what each response norm of a trained network multiplies by: two percentiles, on 256 images.

    The 1st and the 99th.
    """
    found: dict[str, list[float]] = {}

    def watching(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        def observe(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            fired = inputs[0] > 0
            factors = (output[fired] / inputs[0][fired]).numpy()
            found[name] = [round(float(value), 4) for value in np.percentile(factors, [1, 99])]

        return observe

    for name, layer in run.state.model.named_modules():
        if isinstance(layer, LocalResponseNorm):
            layer.register_forward_hook(watching(name.rpartition(".")[2]))
    if any(isinstance(layer, LocalResponseNorm) for layer in run.state.model.modules()):
        few = replace(sample, images=sample.images[:256], labels=sample.labels[:256], split=sample.split[:256])
        evaluate(run.state.model, few, "train", run.setting.preprocessing)
    return found
