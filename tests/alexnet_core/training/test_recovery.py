"""Recovery checkpoints by time, and what a full disk does to both kinds of checkpoint."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from alexnet_core.data.pack import Pack
from alexnet_core.errors import DiskFull
from alexnet_core.messages import CheckpointSaved
from alexnet_core.network.checkpoint import load_checkpoint
from alexnet_core.network.checkpoint_files import verify_checkpoint
from alexnet_core.trainer import child as trainer
from alexnet_core.training.loop import Run
from alexnet_core.training.run_spec import RunResult, RunSpec
from tests.alexnet_core.toy import CONFIG, QuietHooks, write_toy_pack
from trainyard.jobs.failures import FAILURES

STEPS = 7  # an epoch of the toy


class Clock(QuietHooks):
    """A run's hooks and its clock: time passes only in its steps, and is up when the run asks whether to stop."""

    def __init__(self, step_s: float = 10.0, stop_after: int | None = None) -> None:
        super().__init__(stop_after)
        self.now, self.step_s = 1000.0, step_s
        self.saved: list[tuple[str, int]] = []

    def __call__(self) -> float:
        return self.now

    def should_stop(self) -> bool:
        self.now += self.step_s
        return super().should_stop()

    def on_checkpoint(self, report: CheckpointSaved) -> None:
        self.saved.append((report.kind, report.step))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_toy_pack(tmp_path_factory.mktemp("packs") / "toy")


def train(pack: Pack, root: Path, clock: Clock, **spec: Any) -> RunResult:
    return Run(RunSpec(CONFIG, pack, 7, root, **spec), clock, clock=clock).train()


def test_recovery_checkpoints_come_by_time_and_every_checkpoint_starts_it_anew(pack: Pack, tmp_path: Path) -> None:
    clock = Clock(step_s=10)
    train(pack, tmp_path, clock, recovery_every_s=25)
    # 10 s a step, a batch of validation and an epoch's end: due 30 s after the last checkpoint of either kind
    assert clock.saved == [
        *[("recovery", 3), ("recovery", 6), ("epoch", 7), ("recovery", 9), ("recovery", 12)],
        *[("epoch", 14), ("recovery", 16), ("recovery", 19), ("epoch", 21)],
    ]


def test_without_the_time_there_is_no_recovery_checkpoint(pack: Pack, tmp_path: Path) -> None:
    clock = Clock(step_s=10)
    train(pack, tmp_path, clock, recovery_every_s=1000)
    assert clock.saved == [("epoch", 7), ("epoch", 14), ("epoch", 21)]


def test_no_recovery_checkpoint_is_written_where_the_epochs_own_follows_at_once(pack: Pack, tmp_path: Path) -> None:
    clock = Clock(step_s=10)
    train(pack, tmp_path, clock, recovery_every_s=1)
    assert [step for kind, step in clock.saved if kind == "epoch"] == [STEPS, 2 * STEPS, 3 * STEPS]
    assert [step for kind, step in clock.saved if kind == "recovery"] == [
        step for step in range(1, 21) if step % STEPS
    ]  # fmt: skip


def test_a_run_goes_on_from_any_recovery_checkpoint_to_the_same_weights(pack: Pack, tmp_path: Path) -> None:
    whole = train(pack, tmp_path, Clock(step_s=10), recovery_every_s=25)
    roots = sorted(tmp_path.glob("recovery-*"))
    assert len(roots) == 6
    for number, path in enumerate(roots, start=1):
        resumed = train(pack, tmp_path, Clock(step_s=1), resume_from=path, lease_epoch=number)
        assert resumed.weights_sha256 == whole.weights_sha256, path.name


def fill_disk(monkeypatch: pytest.MonkeyPatch, is_full: Callable[[str], bool]) -> None:
    """Have every sync of a file in a folder fail where `is_full` says so of the folder's name."""
    sync = os.fsync

    def fail(fileno: int) -> None:
        if is_full(os.readlink(f"/proc/self/fd/{fileno}")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(fileno)

    monkeypatch.setattr(os, "fsync", fail)


def test_a_full_disk_at_a_recovery_checkpoint_is_a_warning_and_training_goes_on(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = train(pack, tmp_path / "undisturbed", Clock(step_s=1))
    clock = Clock(step_s=10)
    fill_disk(monkeypatch, lambda path: ".tmp-recovery-" in path)
    result = train(pack, tmp_path / "full", clock, recovery_every_s=25)
    assert (result.outcome, result.weights_sha256) == ("succeeded", undisturbed.weights_sha256)
    assert clock.saved == [("epoch", 7), ("epoch", 14), ("epoch", 21)]
    assert clock.warnings.count("disk_full") == 6, "once each time that one is due, not at every step"
    assert sorted(path.name.split("-")[0] for path in (tmp_path / "full").iterdir()) == ["epoch"] * 3


def test_a_full_disk_at_an_epochs_checkpoint_ends_the_run_and_leaves_the_one_before_alone(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = train(pack, tmp_path / "undisturbed", Clock(step_s=1))
    root = tmp_path / "full"
    with monkeypatch.context() as patch:
        fill_disk(patch, lambda path: ".tmp-epoch-00000014" in path)
        with pytest.raises(DiskFull, match="free some"):
            train(pack, root, Clock(step_s=1))
    assert [path.name for path in root.iterdir()] == ["epoch-00000007-e0"]
    verify_checkpoint(root / "epoch-00000007-e0", state=True)
    resumed = train(pack, root, Clock(step_s=1), resume_from=root / "epoch-00000007-e0", lease_epoch=1)
    assert resumed.weights_sha256 == undisturbed.weights_sha256


def test_a_full_disk_after_a_recovery_checkpoint_loses_only_what_came_after_it(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch, lambda path: ".tmp-epoch-" in path)
    with pytest.raises(DiskFull):
        train(pack, tmp_path, Clock(step_s=10), recovery_every_s=25)
    assert {load_checkpoint(left, state=True).metadata["step"] for left in tmp_path.iterdir()} == {3, 6}


def test_a_full_disk_at_a_stop_ends_the_run_with_the_checkpoint_before(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch, lambda path: ".tmp-recovery-" in path)
    with pytest.raises(DiskFull):
        train(pack, tmp_path, Clock(step_s=1, stop_after=12))
    [left] = tmp_path.iterdir()
    assert load_checkpoint(left, state=True).metadata["step"] == STEPS


def test_too_little_room_is_noticed_before_a_byte_is_written(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=50_000))
    with pytest.raises(DiskFull, match="twice its size"):
        train(pack, tmp_path, Clock(step_s=1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "exc", [DiskFull(), OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EDQUOT, "Quota exceeded")]
)
def test_the_trainer_reports_a_full_disk_as_one_that_may_be_tried_again(exc: Exception) -> None:
    explained = trainer._explain(exc)
    assert (explained.code, FAILURES[explained.code].retryable) == ("disk_full", True)
