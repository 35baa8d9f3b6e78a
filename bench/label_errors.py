"""Measures how many wrong labels are found: flips 5 % of the labels, trains on them, and looks for them.

    .venv/bin/python -m bench.label_errors --dataset digits [--seeds 0 1 2] [--retrain]
    .venv/bin/python -m bench.label_errors --dataset fashion-mnist --images 10000 [--epochs 20]

Each flipped label becomes one of the other classes, all alike; test images keep theirs. `--images` says how many images
train and validate (default: all). A row of the table is a way to get probabilities; the labels are then found by the
same rule. `shipped` is what a job does. The others are for comparison: the network's own probabilities (of images that
it was trained on); a linear classifier in folds on the last hidden layer; neighbours of the pooled features and of the
pixels; and, with `--retrain`, the recipe trained five times, each without the fold that it judges.

P and R are precision and recall of the labels that are found. `P of half` is the precision of the most certain ones, as
many as half of the flipped labels. Seconds are CPU time, without the training of the job itself. One thread trains.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from alexnet_core.config import TrainConfig
from alexnet_core.data.pack import TEST, TRAIN, Pack
from alexnet_core.data.pack_draft import write_pack
from alexnet_core.data.published.builtin import prepare
from alexnet_core.evaluation.confident_learning import find_suspects
from alexnet_core.evaluation.discriminant import assign_folds
from alexnet_core.evaluation.evaluate import batches_of, load_batch
from alexnet_core.evaluation.label_errors import find_label_errors
from alexnet_core.messages import CheckpointSaved
from alexnet_core.network.checkpoint import load_checkpoint
from alexnet_core.network.model import AlexNet, build_model
from alexnet_core.network.preprocess import Preprocessing
from alexnet_core.recipes import resolve
from alexnet_core.training.hooks import Hooks
from alexnet_core.training.loop import Run
from alexnet_core.training.run_spec import RunSpec

SHARE, NEIGHBOURS, FOLDS = 0.05, 20, 5

Labels = NDArray[np.int64]
Floats = NDArray[np.float32]


class BestEpoch(Hooks):
    """Remembers the best epoch's checkpoint."""

    path: Path

    def on_checkpoint(self, report: CheckpointSaved) -> None:
        """See `Hooks`."""
        if report.is_best:
            self.path = report.path


def main() -> None:
    """Print a table for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--images", type=int, default=0, help="that train and validate; 0: all")
    parser.add_argument("--epochs", type=int, default=0, help="0: the recipe's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--retrain", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="label-errors-") as name:
        folder = Path(name)
        whole = prepare(options.dataset, source_dir=None, target_dir=folder / "whole")
        for seed in options.seeds:
            measure(whole, folder / str(seed), seed, options)


def measure(whole: Pack, folder: Path, seed: int, options: argparse.Namespace) -> None:
    """Flip, train, and print how many flipped labels each way finds."""
    pack, flipped_N = flip(whole, folder / "pack", seed, options.images)
    _, config = resolve("quick", {"epochs": options.epochs} if options.epochs else {}, pack.facts)
    began = time.process_time()
    model = train(pack, config, seed, folder / "run")
    training = pack.list_indices("train")
    labels, wrong = np.asarray(pack.labels)[training], flipped_N[training]
    print(
        f"\n{pack.name}, seed {seed}, {config.epochs} epochs ({time.process_time() - began:.0f} s): "
        f"{wrong.sum()} of {len(labels)} training labels are flipped"
    )
    print(f"{'way':36s}     P      R      F1   P of half    found  seconds")
    preprocessing = Preprocessing.of(config, pack)
    began = time.process_time()
    found = find_label_errors(model, pack, preprocessing)
    positions = np.array([image.position for image in found.images], dtype=np.int64)
    if found.num_found > len(positions):
        print(f"(the first {len(positions)} of {found.num_found} are judged)")
    tell("shipped", np.searchsorted(training, positions), wrong, time.process_time() - began)
    pooled, hidden, scores = compute(model, pack, preprocessing)
    num_classes = len(pack.class_names)
    ways: dict[str, Callable[[], Floats]] = {
        "the network's own probabilities": lambda: scores,
        "linear classifier on the hidden layer": lambda: predict(
            LogisticRegression(C=0.1, max_iter=300), hidden / hidden.std(), labels
        ),
        f"{NEIGHBOURS} neighbours on the pooled features": lambda: predict(
            KNeighborsClassifier(NEIGHBOURS), pooled, labels
        ),
        f"{NEIGHBOURS} neighbours on the pixels": lambda: predict(
            KNeighborsClassifier(NEIGHBOURS),
            np.asarray(pack.images)[training].reshape(len(training), -1).astype(np.float32),
            labels,
        ),
    }
    if options.retrain:
        ways[f"the network trained {FOLDS} times"] = lambda: retrain(pack, config, seed, folder, num_classes)
    for name, way in ways.items():
        began = time.process_time()
        probabilities = way()
        tell(name, find_suspects(probabilities, labels).rows, wrong, time.process_time() - began)


def flip(whole: Pack, target: Path, seed: int, num_images: int) -> tuple[Pack, NDArray[np.bool_]]:
    """Write a pack with flipped labels, and return it with which ones they are."""
    generator = np.random.default_rng(seed)
    split = np.asarray(whole.split)
    own, test = np.flatnonzero(split != TEST), np.flatnonzero(split == TEST)
    if num_images:
        own = generator.choice(own, num_images, replace=False)
        test = generator.choice(test, min(len(test), 2000), replace=False)
    kept = np.sort(np.concatenate([own, test]))
    labels, split, count = np.array(whole.labels[kept]), split[kept], len(whole.class_names)
    candidates = np.flatnonzero(split != TEST)
    chosen = generator.choice(candidates, round(SHARE * len(candidates)), replace=False)
    labels[chosen] = (labels[chosen] + generator.integers(1, count, len(chosen))) % count
    pack = write_pack(
        target, name=whole.name, class_names=whole.class_names, images_NHWC=np.asarray(whole.images[kept]),
        labels_N=labels, split_N=split, flip_safe=whole.facts.flip_safe,
    )  # fmt: skip
    return pack, np.isin(np.arange(len(kept)), chosen)


def train(pack: Pack, config: TrainConfig, seed: int, folder: Path) -> AlexNet:
    """Train, and return the best epoch's network."""
    hooks = BestEpoch()
    folder.mkdir(parents=True)
    Run(RunSpec(config, pack, seed, folder), hooks).train()
    model = build_model(config, len(pack.class_names), pack.channels)
    model.load_state_dict(load_checkpoint(hooks.path).weights)
    return model.eval()


@torch.inference_mode()
def compute(
    model: AlexNet, pack: Pack, preprocessing: Preprocessing, split: str = "train"
) -> tuple[Floats, Floats, Floats]:
    """Return the last pool's features, the last hidden layer's, and the probabilities."""
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for chosen in batches_of(pack, split, 256):
        images, _ = load_batch(pack, chosen, torch.device("cpu"))
        pooled = model.features(preprocessing.to_input(images).contiguous(memory_format=torch.channels_last)).flatten(1)
        hidden = model.classifier[:-1](pooled.clone())
        parts.append((pooled, hidden, model.classifier[-1](hidden).softmax(dim=1)))
    first, second, third = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return first, second, third


def predict(classifier: Any, features: Floats, labels: Labels) -> Floats:
    """Return out-of-sample probabilities of a classifier of scikit-learn."""
    found: Floats = cross_val_predict(classifier, features, labels, cv=FOLDS, method="predict_proba")
    return found


def retrain(pack: Pack, config: TrainConfig, seed: int, folder: Path, num_classes: int) -> Floats:
    """Return probabilities of networks that were trained without the images that they judge."""
    training = pack.list_indices("train")
    folds = assign_folds(np.asarray(pack.labels)[training], seed)
    found = np.empty((len(training), num_classes), dtype=np.float32)
    for fold in range(FOLDS):
        split = np.asarray(pack.split).copy()
        kept = split != TEST
        split[training[folds == fold]] = TEST
        part = write_pack(
            folder / f"pack-{fold}", name=pack.name, class_names=pack.class_names,
            images_NHWC=np.asarray(pack.images)[kept], labels_N=np.asarray(pack.labels)[kept], split_N=split[kept],
            flip_safe=pack.facts.flip_safe,
        )  # fmt: skip
        assert (split == TRAIN).sum() == part.facts.num_train
        model = train(part, config, seed, folder / f"run-{fold}")
        found[folds == fold] = compute(model, part, Preprocessing.of(config, part), "test")[2]
    return found


def tell(name: str, rows: NDArray[np.int64], wrong: NDArray[np.bool_], seconds: float) -> None:
    """Print a row of the table."""
    hits = wrong[rows]
    precision, recall = hits.mean() if len(hits) else 0.0, hits.sum() / wrong.sum()
    f1 = 2 * hits.sum() / (len(hits) + wrong.sum())
    half = hits[: wrong.sum() // 2]
    print(
        f"{name:36s}  {precision:.3f}  {recall:.3f}  {f1:.3f}  {half.mean() if len(half) else 0:9.3f}  "
        f"{len(hits):7d}  {seconds:7.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
