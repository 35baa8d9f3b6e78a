"""What is told of a network that does not learn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from alexnet_core.config import TrainConfig
from alexnet_core.data.pack_draft import write_pack
from alexnet_core.messages import Interval
from alexnet_core.training.diagnosis import (
    Answers,
    Examination,
    can_judge,
    examining,
    find_trouble,
    list_remedies,
    sample_values,
)
from alexnet_core.training.loop import Run
from alexnet_core.training.run_spec import RunSpec
from tests.alexnet_core.toy import CONFIG, QuietHooks, write_toy_pack


class Points(QuietHooks):
    """Keeps the points of the training curve."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[Interval] = []

    def on_interval(self, report: Interval) -> None:
        self.points.append(report)


def train(folder: Path, config: TrainConfig) -> Points:
    hooks = Points()
    Run(RunSpec(config, write_toy_pack(folder / "toy"), 7, folder / "run"), hooks).train()
    return hooks


def test_a_units_death_and_the_gradients_size_are_measured() -> None:
    first, last = nn.Linear(4, 4, bias=False), nn.Linear(4, 1, bias=False)
    model = nn.Sequential(first, nn.ReLU(), last)
    with torch.no_grad():
        first.weight.copy_(torch.diag(torch.tensor([1.0, 1.0, 1.0, -1.0])))  # the last one is never above 0
        last.weight.fill_(1)
    with examining(model, wanted=True) as examination:
        model(torch.ones(3, 4)).sum().backward()
    assert examination is not None
    examination.measure_gradients(model, scale=2)
    by_hand = math.sqrt(12 * 3**2 + 3 * 3**2)  # a row of 4 threes for each live unit, and 3, 3, 3, 0
    assert examination.gradient_norm == pytest.approx(by_hand / 2)
    assert examination.dead_shares == {"1": pytest.approx(0.25)}
    assert not model[1]._forward_hooks


def test_nothing_is_looked_at_unless_wanted() -> None:
    model = nn.Sequential(nn.ReLU())
    with examining(model, wanted=False) as examination:
        model(torch.ones(1, 1))
    assert examination is None


def test_a_map_is_dead_only_if_it_is_nowhere_above_zero() -> None:
    model = nn.Sequential(nn.ReLU())
    x = torch.full((2, 2, 3, 3), -1.0)
    x[1, 1, 2, 2] = 0.5
    with examining(model, wanted=True) as examination:
        model(x)
    assert examination is not None
    assert examination.dead_shares == {"0": 0.5}


def test_activations_and_weights_are_sampled() -> None:
    first = nn.Linear(2, 3)
    model = nn.Sequential(first, nn.Tanh(), nn.Linear(3, 2), nn.ReLU())
    x = torch.randn(5, 2)
    with examining(model, wanted=True) as examination:
        y = model(x)
    assert examination is not None
    assert set(examination.samples) == {
        "weights/0.weight", "weights/0.bias", "weights/2.weight", "weights/2.bias", "activations/1", "activations/3",
    }  # fmt: skip
    assert torch.equal(examination.samples["activations/3"], y.detach().flatten())
    assert torch.equal(examination.samples["weights/0.weight"], first.weight.detach().flatten())
    with torch.no_grad():
        first.weight.zero_()
    assert bool(examination.samples["weights/0.weight"].any()), "a copy"
    assert set(examination.dead_shares) == {"3"}


@pytest.mark.parametrize("shape", [(96,), (64, 96, 27, 27), (4096, 9216), (7, 1, 5, 5)])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_a_sample_has_values_of_every_map(shape: tuple[int, ...], order: torch.memory_format) -> None:
    values = torch.arange(shape[1] if len(shape) == 4 else 96.0).float()
    tensor = torch.zeros(shape)
    tensor += values[: shape[1], None, None] if len(shape) == 4 else 0
    tensor = tensor.contiguous(memory_format=order) if len(shape) == 4 else tensor
    sample = sample_values(tensor)
    assert min(tensor.numel(), 10_000) <= len(sample) <= 1 << 14
    assert set(sample.tolist()) == set(tensor.unique().tolist())
    assert sample_values(tensor.bfloat16()).dtype == torch.float32


def test_a_loss_of_guessing_and_a_dead_layer_are_trouble() -> None:
    sick = Examination(dead={"relu3": torch.tensor(0.9)}, gradient=torch.tensor(0.0))
    codes = [trouble.code for trouble in find_trouble(sick, loss=2.30, step=500, num_classes=10, rate="lr (it is 0.1)")]
    assert codes == ["not_learning", "dead_units"]
    well = Examination(dead={"relu3": torch.tensor(0.3)}, gradient=torch.tensor(1.0))
    assert find_trouble(well, loss=2.0, step=500, num_classes=10, rate="") == []


def test_a_run_that_can_not_learn_says_so_once(tmp_path: Path) -> None:
    hooks = train(tmp_path, CONFIG.with_overrides({"lr": 1e-6, "epochs": 8}))
    assert hooks.warnings == ["not_learning"]


def test_a_run_that_learns_is_not_warned_and_shows_its_gradients(tmp_path: Path) -> None:
    labels = np.arange(400) % 2
    images = np.zeros((400, 12, 12, 1), dtype=np.uint8)
    images[labels == 1, :, 6:] = 255
    pack = write_pack(
        tmp_path / "halves", name="halves", class_names=("black", "half"), images_NHWC=images, labels_N=labels,
        split_N=np.array([0] * 380 + [1] * 10 + [2] * 10, dtype=np.uint8), flip_safe=False,
    )  # fmt: skip
    hooks = Points()
    Run(RunSpec(CONFIG.with_overrides({"epochs": 1}), pack, 7, tmp_path / "run"), hooks).train()
    assert hooks.warnings == []
    assert len(hooks.points) == 24
    assert all(point.gradient_norm > 0 and 0 <= point.dead_relu < 1 for point in hooks.points)


def test_looking_changes_no_bit(tmp_path: Path) -> None:
    ends = []
    for interval in (1, 1000):
        folder = tmp_path / str(interval)
        config = CONFIG.with_overrides({"interval_steps": interval})
        run = Run(RunSpec(config, write_toy_pack(folder / "toy"), 7, folder / "run"), QuietHooks())
        ends.append(run.train().weights_sha256)
    assert ends[0] == ends[1]


def test_the_two_towers_layers_are_told_apart() -> None:
    relus = [nn.ReLU(), nn.ReLU()]
    towers = nn.ModuleDict({str(n): nn.ModuleDict({"relu6": relu}) for n, relu in enumerate(relus)})
    model = nn.ModuleDict({"towers": towers})
    with examining(model, wanted=True) as examination:
        relus[0](torch.full((2, 4), -1.0))
        relus[1](torch.ones(2, 4))
    assert examination is not None
    assert examination.dead_shares == {"tower 0 relu6": 1.0, "tower 1 relu6": 0.0}


@pytest.mark.parametrize(("steps_per_epoch", "first"), [(1, 50), (21, 50), (60, 60), (844, 500)])
def test_a_network_is_judged_once_it_had_time(steps_per_epoch: int, first: int) -> None:
    assert [can_judge(step, steps_per_epoch) for step in (first - 1, first)] == [False, True]


def answers(*looks: tuple[int, int], num_images: int = 64) -> Answers:
    """Looks at images of two classes: how many answers were right, and how many images were of the first class."""
    counted = Answers()
    for right, first in looks:
        labels = torch.tensor([first, num_images - first])
        counted.add(Examination(right=torch.tensor(right), labels=labels))
    return counted


def test_answers_are_counted_as_they_are() -> None:
    seen = Examination()
    seen.measure_answers(torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]]), torch.tensor([0, 1, 1]))
    assert seen.right is not None
    assert seen.labels is not None
    assert (int(seen.right), seen.labels.tolist()) == (2, [1, 2])


@pytest.mark.parametrize(
    ("looks", "top1", "better"),
    [
        ([(37, 32)] * 20, None, True),  # 58 % of 1,280 images of two classes
        ([(33, 32)] * 20, None, False),  # 52 %: chance
        ([(37, 37)] * 20, None, False),  # 58 %, as many as there are of the one class that is always named
        ([(37, 32)], None, False),  # of 64 images that says nothing
        ([(37, 32)], 0.58, True),  # and the last validation does
        ([(32, 32)] * 20, 0.5, False),
        ([(0, 32)] * 5 + [(37, 32)] * 20, None, True),  # what was long ago does not count
        ([], 0.9, False),  # nothing was looked at yet
    ],
)
def test_who_answers_better_than_guessing(looks: list[tuple[int, int]], top1: float | None, better: bool) -> None:
    assert answers(*looks).are_better_than_guesses(top1, 1000) is better


def test_a_loss_like_that_of_guessing_is_no_trouble_where_the_answers_are_better() -> None:
    """Two classes at 58 % have a loss of about .68, and guessing costs .693."""
    well = Examination(dead={"relu3": torch.tensor(0.3)}, gradient=torch.tensor(1.0))
    common: dict[str, Any] = {"loss": 0.682, "step": 500, "num_classes": 2, "rate": "lr (it is 0.1)"}
    assert [trouble.code for trouble in find_trouble(well, **common)] == ["not_learning"]
    assert find_trouble(well, **common, is_better_than_guessing=True) == []


@pytest.mark.parametrize(
    ("overrides", "advised", "not_advised"),
    [
        ({"init": "paper", "norm": "lrn"}, ["init caffe or he_normal in place of paper", "norm batch"], []),
        ({"init": "caffe", "norm": "none"}, ["init he_normal in place of caffe", "norm batch"], []),
        ({"init": "he_normal", "norm": "lrn"}, ["norm batch"], ["init"]),
        ({"init": "paper", "norm": "batch"}, ["init caffe or he_normal in place of paper"], ["norm batch"]),
        ({"init": "he_normal", "norm": "batch"}, ["change lr (it is 0.02)"], ["init", "norm batch", ", or"]),
    ],
)
def test_what_is_set_already_is_not_advised(
    overrides: dict[str, Any], advised: list[str], not_advised: list[str]
) -> None:
    config = CONFIG.with_overrides(overrides)
    sick = Examination(dead={"relu3": torch.tensor(0.9)}, gradient=torch.tensor(0.0))
    for trouble in find_trouble(
        sick, loss=2.3, step=500, num_classes=10, rate="lr (it is 0.02)", remedies=list_remedies(config)
    ):
        words = trouble.message.replace("lower lr", "change lr")
        assert all(word in words for word in advised), words
        assert not any(word in words for word in not_advised), words
