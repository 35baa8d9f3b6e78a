"""What a run does besides going through its epochs: ends early, keeps to a time, starts from other weights, resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alexnet_core.config import TrainConfig
from alexnet_core.data.pack import Pack
from alexnet_core.data.pack_draft import write_pack
from alexnet_core.errors import CheckpointIncompatible, ConfigError
from alexnet_core.messages import EpochEnd, Interval, Progress
from alexnet_core.network import linear
from alexnet_core.network.checkpoint import load_checkpoint
from alexnet_core.recipes import list_recipes
from alexnet_core.training.loop import Run
from alexnet_core.training.run_spec import RunResult, RunSpec
from tests.alexnet_core.toy import CONFIG, QuietHooks, write_toy_pack

pytestmark = pytest.mark.usefixtures("one_thread")

#: Mean training loss of the epoch so far after every step of the toy run, seed 7; torch 2.14.1, one CPU thread.
GOLDEN = [
    1.14079, 1.15991, 1.17348, 1.15639, 1.13493, 1.11875, 1.11426,
    1.06656, 1.07127, 1.08067, 1.09564, 1.10305, 1.10676, 1.10792,
    1.09898, 1.09948, 1.09942, 1.11098, 1.11189, 1.10577, 1.10576,
]  # fmt: skip
RUNS = {
    "colours of 2012": {
        "channels": 3, "standardise": "mean", "resize_px": 14, "random_crop": True, "colour_std": 0.1, "flip": True,
        "norm": "lrn_2012_code", "conv1_order": "pool_activate_normalise", "groups": 2, "dropout_form": "2012",
        "optimiser": "sgd_lr_in_velocity", "schedule": "multistep", "lr_steps": ((0, 0.01), (1, 0.001), (2, 0.02)),
        "conv1_lr_steps": ((1, 0.001), (2, 0.0)), "colour_until_epoch": 2, "bias_lr_factor": 2.0,
    },
    "plateau": {
        "schedule": "plateau", "plateau_patience": 1, "lr": 0.001, "optimiser": "sgd_lr_in_velocity", "nesterov": True,
        "weight_decay": 0.01, "norm": "none", "epochs": 4,
    },
    "bf16": {"precision": "bf16", "nesterov": True, "weight_decay": 0.01, "norm": "none", "label_smoothing": 0.1,
             "erase": 0.5},
    "resized crops": {"random_resized_crop": 0.2, "shift_px": 0.0, "rotate_deg": 0.0, "bias_lr": 0.01, "norm": "none"},
    "mean of each pixel": {
        "standardise": "pixel_mean", "map_norm_layers": ("conv2",), "norm": "lrn_2012_code", "lrn_within_tower": True,
        "groups": 2, "conv1_order": "normalise_pool_activate", "border": "cut", "validate_on": "none",
    },
    "adamw": {"optimiser": "adamw", "weight_decay": 0.05, "lr": 0.002, "schedule": "cosine", "activation": "tanh"},
}  # fmt: skip


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_toy_pack(tmp_path_factory.mktemp("packs") / "toy")


def train(pack: Pack, root: Path, config: TrainConfig, stop_after: int | None = None, **spec: Any) -> RunResult:
    return Run(RunSpec(config, pack, 7, root, **spec), QuietHooks(stop_after)).train()


@pytest.mark.parametrize("name", list(RUNS))
def test_a_run_stopped_at_any_steps_ends_with_the_same_bits(
    name: str, pack: Pack, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(linear, "MIN_VALUES", 1)
    config = CONFIG.with_overrides(RUNS[name])
    whole = train(pack, tmp_path_factory.mktemp("whole"), config)
    assert whole.outcome == "succeeded"

    @settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(stops=st.lists(st.integers(1, 12), min_size=1, max_size=3))
    def check(stops: list[int]) -> None:
        root = tmp_path_factory.mktemp("parts")
        result, attempt = None, 0
        for attempt, stop in enumerate([*stops, None], start=1):
            resume_from = result.last_checkpoint if result is not None else None
            result = train(pack, root, config, stop, resume_from=resume_from, lease_epoch=attempt)
            if result.outcome == "succeeded":
                break
        assert result is not None
        assert (result.weights_sha256, result.test) == (whole.weights_sha256, whole.test)

    check()


def test_a_run_without_progress_ends_early(pack: Pack, tmp_path: Path) -> None:
    config = CONFIG.with_overrides({"epochs": 50, "lr": 1e-9, "early_stop_patience": 3, "norm": "none"})
    result = train(pack, tmp_path, config)
    assert (result.outcome, result.epoch) == ("succeeded", 4)
    assert result.test is not None


def test_the_plateau_rule_lowers_the_rate_and_then_ends_the_run(pack: Pack, tmp_path: Path) -> None:
    config = CONFIG.with_overrides(
        {"epochs": 50, "lr": 1e-9, "schedule": "plateau", "plateau_patience": 2, "plateau_drops": 2, "norm": "none"}
    )
    run = Run(RunSpec(config, pack, 7, tmp_path), QuietHooks())
    result = run.train()
    assert (result.outcome, result.epoch) == ("succeeded", 7)
    assert run.state.optimiser.param_groups[0]["lr"] == pytest.approx(1e-11)


def test_a_run_that_is_out_of_time_saves_first_and_can_go_on(pack: Pack, tmp_path: Path) -> None:
    seconds = iter(range(10_000))
    clocked = Run(
        RunSpec(CONFIG, pack, 7, tmp_path, max_runtime_s=30.0), QuietHooks(), clock=lambda: float(next(seconds))
    )
    stopped = clocked.train()
    assert stopped.outcome == "max_runtime"
    assert 0 < stopped.step < 21
    assert stopped.last_checkpoint is not None
    state = load_checkpoint(stopped.last_checkpoint, state=True).state
    assert state is not None
    assert state["seconds"] >= 30
    again = train(pack, tmp_path, CONFIG, resume_from=stopped.last_checkpoint, lease_epoch=1, max_runtime_s=30.0)
    assert (again.outcome, again.step) == ("max_runtime", stopped.step + 1)  # the time of all attempts counts
    result = train(pack, tmp_path, CONFIG, resume_from=stopped.last_checkpoint, lease_epoch=2)
    assert result.weights_sha256 == train(pack, tmp_path / "whole", CONFIG).weights_sha256


def test_a_run_whose_time_is_over_in_its_last_validation_has_succeeded(pack: Pack, tmp_path: Path) -> None:
    class Slow(QuietHooks):
        seconds = 0.0

        def on_epoch(self, report: EpochEnd) -> None:
            Slow.seconds += 10

    result = Run(RunSpec(CONFIG, pack, 7, tmp_path, max_runtime_s=30.0), Slow(), clock=lambda: Slow.seconds).train()
    assert (result.outcome, result.epoch) == ("succeeded", 3)
    assert result.test is not None


def test_speed_counts_the_images_that_there_are(pack: Pack, tmp_path: Path) -> None:
    """An epoch is 100 images in 7 steps of 16, the last of which has 4."""
    seconds, reports = iter(range(10_000)), []

    class Reports(QuietHooks):
        def on_progress(self, report: Progress) -> None:
            reports.append(report)

    Run(RunSpec(CONFIG, pack, 7, tmp_path), Reports(), clock=lambda: float(next(seconds))).train()
    assert [report.step for report in reports] == list(range(1, 22))
    for report in reports[:-1]:
        assert report.eta_s is not None
        assert report.images_per_s is not None
        seconds_a_step = report.eta_s / (21 - report.step)
        images = 100 * (report.step // 7) + 16 * (report.step % 7)
        assert report.images_per_s * seconds_a_step == pytest.approx(images / report.step)


@pytest.mark.parametrize("layer", ["conv1", "conv5"])
def test_a_frozen_convolution_keeps_its_batch_norm_too(layer: str, pack: Pack, tmp_path: Path) -> None:
    source = train(pack, tmp_path / "source", CONFIG).last_checkpoint
    assert source is not None
    before = load_checkpoint(source).weights
    config = CONFIG.with_overrides({"layer_lr_factors": [[layer, 0.0]]})
    run = Run(RunSpec(config, pack, 8, tmp_path / "run", init_from=source), QuietHooks())
    run.train()
    after = run.state.model.state_dict()
    frozen = [name for name in before if name.split(".")[1] in {layer, layer.replace("conv", "norm")}]
    assert len(frozen) == 6  # kernel; weight, bias, mean, variance and count of the norm
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not torch.equal(before["features.conv2.weight"], after["features.conv2.weight"])


@pytest.mark.parametrize(
    ("overrides", "param"),
    [
        ({"lr_steps": [[0, 0.1]]}, "lr_steps"),
        ({"plateau_patience": 2}, "plateau_patience"),
        ({"schedule": "constant", "warmup_fraction": 0.5}, "warmup_fraction"),
        ({"optimiser": "adamw", "momentum": 0.5}, "momentum"),
        ({"optimiser": "adamw", "nesterov": True}, "nesterov"),
        ({"colour_form": "2012_code"}, "colour_form"),
        ({"colour_until_epoch": 3}, "colour_until_epoch"),
        ({"schedule": "multistep"}, "schedule"),
    ],
)
def test_what_would_have_no_effect_is_refused(overrides: dict[str, Any], param: str) -> None:
    with pytest.raises(ConfigError, match=r"no effect|are empty") as refusal:
        CONFIG.with_overrides(overrides)
    assert refusal.value.param == f"overrides.{param}"


def test_the_whole_config_of_another_run_can_be_given_as_overrides() -> None:
    for recipe in list_recipes():
        assert CONFIG.with_overrides(recipe.config.model_dump(mode="json")) == recipe.config


def write_two_classes(path: Path) -> Pack:
    generator = np.random.default_rng(1)
    return write_pack(
        path, name="two", class_names=("x", "y"), labels_N=np.arange(60) % 2, flip_safe=True,
        images_NHWC=generator.integers(0, 255, (60, 12, 12, 1)).astype(np.uint8),
        split_N=np.array([0] * 40 + [1] * 10 + [2] * 10, dtype=np.uint8),
    )  # fmt: skip


def test_a_run_starts_from_other_weights_and_only_the_last_layer_anew(pack: Pack, tmp_path: Path) -> None:
    source = train(pack, tmp_path / "source", CONFIG).last_checkpoint
    assert source is not None
    weights = load_checkpoint(source).weights
    same = Run(RunSpec(CONFIG, pack, 8, tmp_path / "same", init_from=source), QuietHooks())
    assert same.state.started_anew == []
    assert all(torch.equal(value, weights[name]) for name, value in same.state.model.state_dict().items())
    other = Run(RunSpec(CONFIG, write_two_classes(tmp_path / "two"), 8, tmp_path / "o", init_from=source), QuietHooks())
    assert other.state.started_anew == ["classifier.fc8"]
    assert torch.equal(other.state.model.state_dict()["classifier.fc7.weight"], weights["classifier.fc7.weight"])
    assert other.train().outcome == "succeeded"


def test_weights_of_another_network_are_refused_before_the_first_step(pack: Pack, tmp_path: Path) -> None:
    source = train(pack, tmp_path / "source", CONFIG, stop_after=1).last_checkpoint
    config = CONFIG.with_overrides({"fc_widths": (16, 24)})
    with pytest.raises(CheckpointIncompatible, match="another network"):
        Run(RunSpec(config, pack, 8, tmp_path / "other", init_from=source), QuietHooks())


def test_a_resumed_run_keeps_its_weights_not_those_that_it_once_started_from(pack: Pack, tmp_path: Path) -> None:
    source = train(pack, tmp_path / "source", CONFIG).last_checkpoint
    whole = train(pack, tmp_path / "whole", CONFIG, init_from=source)
    first = train(pack, tmp_path / "parts", CONFIG, 5, init_from=source)
    last = train(pack, tmp_path / "parts", CONFIG, resume_from=first.last_checkpoint, init_from=source, lease_epoch=1)
    assert last.weights_sha256 == whole.weights_sha256 != train(pack, tmp_path / "anew", CONFIG).weights_sha256


def test_half_precision_with_16_bits_needs_a_gpu(pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a GPU"):
        train(pack, tmp_path, CONFIG.with_overrides({"precision": "fp16"}))


def test_the_losses_of_a_seeded_run_are_these(pack: Pack, tmp_path: Path) -> None:
    class Losses(QuietHooks):
        def __init__(self) -> None:
            super().__init__()
            self.losses: list[float] = []

        def on_interval(self, report: Interval) -> None:
            self.losses.append(report.train_loss)

    hooks = Losses()
    Run(RunSpec(CONFIG, pack, 7, tmp_path), hooks).train()
    assert hooks.losses == pytest.approx(GOLDEN, rel=2e-3)
