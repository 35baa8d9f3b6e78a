"""What of a run is saved and restored: all of it, and nothing else decides how it goes on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from alexnet_core.config import TrainConfig
from alexnet_core.data.pack import Pack
from alexnet_core.errors import CheckpointIncompatible, Diverged
from alexnet_core.failpoints import NOWHERE
from alexnet_core.layout import CheckpointKind
from alexnet_core.network.checkpoint import load_checkpoint
from alexnet_core.training.hooks import Hooks
from alexnet_core.training.loop import Run
from alexnet_core.training.run_spec import RunSpec, Setting
from alexnet_core.training.run_state import RunState, is_better
from alexnet_core.training.world import World
from tests.alexnet_core.toy import CONFIG, write_toy_pack

pytestmark = pytest.mark.usefixtures("one_thread")
NAN = float("nan")
METRICS = {"train_loss": 1.0, "val_loss": 1.0, "val_top1": 0.5, "val_top5": 1.0, "seconds": 1.0}


class Clock:
    """Seconds that pass one by one with each look."""

    def __init__(self) -> None:
        self.count = itertools.count()

    def __call__(self) -> float:
        return float(next(self.count))


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_toy_pack(tmp_path_factory.mktemp("packs") / "toy")


@pytest.fixture
def begin(pack: Pack, tmp_path: Path) -> Callable[..., RunState]:
    def begin(config: TrainConfig = CONFIG, clock: Callable[[], float] = lambda: 0.0, **spec: Any) -> RunState:
        run_spec = RunSpec(config, pack, spec.pop("seed", 7), tmp_path, **spec)
        return RunState(run_spec, Setting.of(run_spec, World("cpu"), 7), World("cpu"), clock)

    return begin


def walk(value: Any) -> Any:
    """Tensors as lists, so that states can be compared."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    return {key: walk(item) for key, item in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("optimiser", ["sgd", "sgd_lr_in_velocity", "adamw"])
def test_a_restored_state_is_the_saved_one(
    pack: Pack, tmp_path: Path, begin: Callable[..., RunState], optimiser: str
) -> None:
    config = CONFIG.with_overrides({"optimiser": optimiser})
    run = Run(RunSpec(config, pack, 7, tmp_path), Hooks())
    for _ in range(10):
        run.take_step()
    before = run.state
    before.counts.warned.append("not_learning")
    saved, metadata = before.save(CheckpointKind.RECOVERY, None, NOWHERE)
    assert (metadata["step"], metadata["kind"], saved.path.name) == (10, "recovery", "recovery-00000010-e0")
    after = begin(config, resume_from=saved.path)
    assert walk(after.model.state_dict()) == walk(before.model.state_dict())
    assert walk(after.optimiser.state_dict()["state"]) == walk(before.optimiser.state_dict()["state"])
    assert after.loss_sum == before.loss_sum
    told = {"seconds": 0.0, "epoch_seconds": 0.0}
    assert vars(after.counts) | told == vars(before.counts) | told
    assert (after.difference, after.last_checkpoint) == (None, (10, saved.path))
    assert after.hash_weights() == before.hash_weights() == metadata["weights_sha256"]


def test_the_time_of_all_attempts_is_added_up(begin: Callable[..., RunState]) -> None:
    first = begin(clock=Clock())
    assert (first.seconds, first.epoch_seconds, first.seconds) == (1.0, 2.0, 3.0)
    saved, _ = first.save(CheckpointKind.RECOVERY, None, NOWHERE)
    state = load_checkpoint(saved.path, state=True).state
    assert state is not None
    assert (state["epoch_seconds"], state["seconds"]) == (4.0, 5.0)
    second = begin(clock=Clock(), resume_from=saved.path)
    assert (second.seconds, second.epoch_seconds) == (5.0 + 1, 4.0 + 2)
    second.end_epoch(METRICS)
    second.start_epoch()
    assert second.epoch_seconds == 1.0
    assert second.seconds == 5.0 + 5


def test_an_epoch_begins_with_nothing_counted(begin: Callable[..., RunState]) -> None:
    state = begin()
    state.add_step(torch.tensor(32.0, dtype=torch.float64), 16)
    assert (state.counts.step, state.counts.epoch_images, state.mean_loss()) == (1, 16, 2.0)
    assert state.end_epoch(METRICS)
    assert state.mean_loss() == 2.0, "until the next epoch begins"
    state.start_epoch()
    assert (state.counts.step, state.counts.epoch, state.counts.epoch_images, state.mean_loss()) == (1, 1, 0, 0.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_has_diverged_is_not_saved(begin: Callable[..., RunState], tmp_path: Path, value: float) -> None:
    state = begin()
    state.add_step(torch.tensor(value, dtype=torch.float64), 16)
    with pytest.raises(Diverged, match=r"by step 1: lower lr \(it is 0.02\)"):
        state.save(CheckpointKind.RECOVERY, None, NOWHERE)
    assert not list(tmp_path.glob("recovery-*"))


def test_a_state_of_another_seed_is_refused(begin: Callable[..., RunState]) -> None:
    saved, _ = begin().save(CheckpointKind.RECOVERY, None, NOWHERE)
    with pytest.raises(CheckpointIncompatible, match="another dataset or seed"):
        begin(seed=8, resume_from=saved.path)


def test_first_weights_follow_from_the_seed_alone(begin: Callable[..., RunState]) -> None:
    first, again, other = begin(), begin(), begin(seed=8)
    assert first.hash_weights() == again.hash_weights() != other.hash_weights()


def test_the_best_epochs_checkpoint_is_this_runs_or_the_one_that_it_was_told_of(
    begin: Callable[..., RunState], tmp_path: Path
) -> None:
    told = tmp_path / "elsewhere" / "epoch-00000007-e0"
    state = begin(best_checkpoint=told)
    assert begin().find_best() is None
    assert state.find_best() == told
    state.end_epoch(METRICS)
    saved, _ = state.save(CheckpointKind.EPOCH, METRICS, NOWHERE)
    assert state.find_best() == saved.path.absolute()


@pytest.mark.parametrize(
    ("found", "best", "better"),
    [((0.5, 1.0), None, True), ((0.6, 9.0), (0.5, 1.0), True), ((0.5, 0.9), (0.5, 1.0), True),
     ((0.5, 1.0), (0.5, 1.0), False), ((0.5, NAN), (0.5, 1.0), False), ((0.5, 1.0), (0.5, NAN), True)],
)  # fmt: skip
def test_a_better_epoch(found: tuple[float, float], best: tuple[float, float] | None, better: bool) -> None:
    def metrics(top1: float, loss: float) -> dict[str, float]:
        return {"val_top1": top1, "val_loss": loss}

    assert is_better(metrics(*found), best and metrics(*best)) is better
