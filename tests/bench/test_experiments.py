"""The experiments in their smallest form, on digits of 8 px."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alexnet_core.commands.datasets import open_dataset
from alexnet_core.config import TrainConfig
from alexnet_core.data.pack import Pack
from alexnet_core.training.loop import Run
from bench.experiments import tables
from bench.experiments.__main__ import main
from bench.experiments.arms import EXPERIMENTS
from bench.experiments.measuring import reduce_pack, steps_to

VARIES = {
    "relu": {"activation"},
    "lrn": {"norm"},
    "pooling": {"pooling"},
    "towers": {"groups", "widths"},
    "dropout": {"dropout"},
    "rates": {"lr"},
}
SMALL = ["--dataset", "digits", "--images", "100", "--seeds", "2", "--override", "image_px=8"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packs")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(name: str, data_dir: Path, out: Path, *options: str) -> list[dict[str, Any]]:
    main([name, *SMALL, "--override", "epochs=1", *options, "--data-dir", str(data_dir), "--out", str(out)])
    return [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]


def options_that_differ(configs: list[dict[str, Any]]) -> set[str]:
    return {name for name in configs[0] if len({str(config[name]) for config in configs}) > 1}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_arms_differ_in_the_named_options_only(name: str) -> None:
    experiment = EXPERIMENTS[name]
    configs = [experiment.base({}).with_overrides(arm.overrides).model_dump() for arm in experiment.arms]
    assert options_that_differ(configs) == VARIES[name]


@pytest.mark.parametrize("name", ["lrn", "pooling", "towers", "dropout"])
def test_every_arm_is_trained_with_every_seed_and_tested(
    name: str, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = run(name, data_dir, tmp_path)
    arms = len(EXPERIMENTS[name].arms)
    assert [record["seed"] for record in records] == [0] * arms + [1] * arms
    assert options_that_differ([record["config"] for record in records]) == VARIES[name]
    assert all(0 < record["test_error"] < 1 and len(record["epochs"]) == 1 for record in records)
    assert capsys.readouterr().out.count(f"| {EXPERIMENTS[name].arms[-1].name} | ") == 1


def test_networks_in_towers_have_about_as_many_parameters_as_the_halved_one(data_dir: Path, tmp_path: Path) -> None:
    towers, halved, full = (record["parameters"] for record in run("towers", data_dir, tmp_path, "--seeds", "1"))
    assert abs(towers - halved) < abs(full - halved)


def test_what_stands_in_the_record_is_not_trained_again(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run("lrn", data_dir, tmp_path)
    monkeypatch.setattr(Run, "train", None)
    assert run("lrn", data_dir, tmp_path) == first


def test_each_activation_takes_the_candidate_that_was_soonest_there(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[int | None] = []

    def train(
        config: TrainConfig, pack: Pack, seed: int, *, until_error: float | None, max_steps: int | None
    ) -> dict[str, Any]:
        limits.append(max_steps)
        steps = {("relu", 0.03): 5, ("tanh", 0.003): 20, ("tanh", 0.01): 30}.get((config.activation, config.lr))
        return {
            "config": config.model_dump(mode="json"), "seed": seed, "steps_to": steps, "epochs": [], "diverged": False,
            "test_error": None, "seconds": 1.0, "norm_factors": {},
        }  # fmt: skip

    monkeypatch.setattr("bench.experiments.__main__.train", train)
    reported = [record for record in run("relu", data_dir, tmp_path) if record["seed"] < 100]
    assert {(it["config"]["activation"], it["config"]["lr"]) for it in reported} == {("relu", 0.03), ("tanh", 0.003)}
    assert len(reported) == 4
    assert limits[:16] == [*[None] * 5, *[5] * 3, None, 30, 30, *[20] * 5], "the losers are cut off"


def test_a_run_until_an_error_ends_there_and_reads_no_test_images(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    easy = replace(EXPERIMENTS["relu"], until_error=0.6, candidates=({"lr": 0.03},))
    monkeypatch.setitem(EXPERIMENTS, "relu", easy)
    records = run("relu", data_dir, tmp_path, "--override", "interval_steps=1", "--override", "epochs=10")
    reached = [record for record in records if record["steps_to"]]
    assert reached
    for record in reached:
        *before, last = record["intervals"][: record["steps_to"]]
        assert last["train_error"] <= 0.6 < min(point["train_error"] for point in before)
        assert len(record["intervals"]) <= record["steps_to"] + 1
    assert {record["test_error"] for record in records} == {None}


def test_steps_to_an_error_are_those_of_the_first_measurement_at_or_below_it() -> None:
    points = [{"step": step, "train_error": error} for step, error in ((25, 0.3), (50, 0.1), (75, 0.2), (100, 0.05))]
    assert steps_to(points, 0.1) == 50
    assert steps_to(points, 0.05) == 100
    assert steps_to(points, 0.01) is None
    assert steps_to([], 0.1) is None


def test_a_reduced_pack_has_as_many_training_images_of_each_class_and_the_other_splits_whole(
    data_dir: Path, tmp_path: Path
) -> None:
    whole = open_dataset("digits", data_dir=data_dir)
    pack = reduce_pack(whole, tmp_path / "pack", num_train=105, with_test=True)
    assert np.bincount(pack.labels[pack.split == 0]).tolist() == [10] * 10
    assert (pack.facts.num_val, pack.facts.num_test) == (whole.facts.num_val, whole.facts.num_test)
    assert reduce_pack(whole, tmp_path / "untested", num_train=105, with_test=False).facts.num_test == 0


def test_a_difference_is_given_with_its_standard_error() -> None:
    assert tables.format_difference([12.0, 14.0], [10.0, 10.0]) == "+3.00 ± 1.00"
    assert tables.format_difference([12.0], [10.0]) == "+2.00"
