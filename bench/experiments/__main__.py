"""The experiments of the AlexNet paper on small images: one command for each of its ideas.

    .venv/bin/python -m bench.experiments relu|lrn|pooling|towers|dropout [--seeds 3]
    .venv/bin/python -m bench.experiments rates

An experiment trains networks that differ only in the named options, each with several seeds, and prints tables. Every
run adds a line to runs.jsonl in the folder --out. A run whose line is there already is not trained again, so an
interrupted experiment can be continued, and experiments share the network that they compare with. Results:
docs/experiments.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from alexnet_core.commands.datasets import open_dataset
from alexnet_core.config import TrainConfig
from alexnet_core.data.pack import Pack
from bench.experiments import tables
from bench.experiments.arms import EXPERIMENTS, Arm, Experiment
from bench.experiments.measuring import reduce_pack, train

CHOOSING_SEED = 100  #: of the runs that choose something; not among those that are reported


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", choices=list(EXPERIMENTS))
    parser.add_argument("--seeds", type=int, help="how many, in place of the experiment's own number")
    parser.add_argument("--images", type=int, help="training images, in place of the experiment's own number")
    parser.add_argument("--override", action="append", default=[], metavar="NAME=JSON", help="an option of all arms")
    parser.add_argument("--dataset", default="fashion-mnist")
    parser.add_argument("--out", type=Path, default=Path("data/experiments"), help="the folder of runs.jsonl")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="where packs are kept")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    experiment = EXPERIMENTS[options.experiment]
    experiment = replace(
        experiment,
        num_train=options.images or experiment.num_train,
        num_seeds=options.seeds or experiment.num_seeds,
    )
    overrides = {name: json.loads(value) for name, _, value in (item.partition("=") for item in options.override)}
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    print(experiment.question)
    with tempfile.TemporaryDirectory() as folder:
        pack = open_dataset(options.dataset, data_dir=options.data_dir)
        pack = reduce_pack(pack, Path(folder) / "pack", num_train=experiment.num_train, with_test=experiment.tests)
        records = Trial(experiment, overrides, pack, options.out / "runs.jsonl").run()
    for line in list_results(options.experiment, experiment, records):
        print(line)


class Trial:
    """Trains the arms of an experiment, or reads their earlier results."""

    def __init__(self, experiment: Experiment, overrides: Mapping[str, Any], pack: Pack, record: Path) -> None:
        self._experiment, self._overrides, self._pack, self._record = experiment, overrides, pack, record
        lines = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
        self._known: dict[str, dict[str, Any]] = {line["key"]: line for line in lines}

    def run(self) -> dict[str, list[dict[str, Any]]]:
        """Return the results of every run by arm. Seeds take turns, so that an interrupted trial has complete pairs."""
        configs = {arm.name: self._choose(arm) for arm in self._experiment.arms}
        first = 0 if self._experiment.tests or self._experiment.until_error else CHOOSING_SEED
        seeds = range(first, first + self._experiment.num_seeds)
        runs = [(name, self._train(name, config, seed)) for seed in seeds for name, config in configs.items()]
        return {arm: [record for name, record in runs if name == arm] for arm in configs}

    def _choose(self, arm: Arm) -> TrainConfig:
        """Return the arm's options, with those of the candidates that reached the goal in the fewest steps."""
        config = self._experiment.base(self._overrides).with_overrides(arm.overrides)
        tried = [config.with_overrides(candidate) for candidate in self._experiment.candidates]
        if len(tried) < 2:
            return (tried or [config])[0]
        best, soonest = tried[0], None
        for candidate in tried:  # each has as many steps as the best before it took
            steps = self._train(f"choosing for {arm.name}", candidate, CHOOSING_SEED, max_steps=soonest)["steps_to"]
            if steps is not None and (soonest is None or steps < soonest):
                best, soonest = candidate, steps
        return best

    def _train(self, name: str, config: TrainConfig, seed: int, *, max_steps: int | None = None) -> dict[str, Any]:
        until_error = self._experiment.until_error
        ends = (until_error, max_steps)
        identity = [config.model_dump(mode="json"), seed, self._pack.digest, ends, torch.get_num_threads()]
        key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
        if key not in self._known:
            self._known[key] = {"key": key} | train(
                config, self._pack, seed, until_error=until_error, max_steps=max_steps
            )
            with self._record.open("a") as file:
                file.write(json.dumps(self._known[key]) + "\n")
        record = self._known[key]
        print(f"{name}, lr {config.lr}, {config.init}, seed {seed}: {summarise(record)}", flush=True)
        return record


def summarise(record: Mapping[str, Any]) -> str:
    """Describe a run in one line."""
    said = [f"{record['steps_to']} steps"] if record["steps_to"] else []
    if record["epochs"]:
        last = record["epochs"][-1]
        said += [
            f"{name} error {last[key]:.2%}" for name, key in (("training", "train_error"), ("validation", "val_error"))
        ]
    said += ["diverged"] if record["diverged"] else []
    said += [f"test error {record['test_error']:.2%}"] if record["test_error"] is not None else []
    return ", ".join([*said, f"{record['seconds']:.0f} s"])


def list_results(name: str, experiment: Experiment, records: tables.Records) -> Iterable[str]:
    """Return the tables of an experiment."""
    yield ""
    yield from tables.list_steps(records) if experiment.until_error else tables.list_errors(records)
    yield from tables.list_factors(records)
    if name == "dropout":
        yield from ("", *tables.list_epochs(records))


if __name__ == "__main__":
    main()
