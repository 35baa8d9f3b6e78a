"""Which epoch is the best one, what is tested at the end, and that a run that goes on agrees."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from alexnet_core.data.pack import Pack
from alexnet_core.network.checkpoint import SavedCheckpoint, weights_sha256
from alexnet_core.training import loop as training
from alexnet_core.training.loop import Run
from alexnet_core.training.run_spec import RunResult, RunSpec
from tests.alexnet_core.toy import CONFIG, QuietHooks, write_toy_pack

pytestmark = pytest.mark.usefixtures("one_thread")
NAN = math.nan


class Noting(QuietHooks):
    """Notes each epoch's weights and whether it was the best so far; may stop the run after an epoch."""

    def __init__(self, stop_after_epoch: int | None = None) -> None:
        super().__init__()
        self.weights: dict[int, str] = {}
        self.best: int | None = None
        self._stop_after = stop_after_epoch

    def on_checkpoint(self, kind: str, saved: SavedCheckpoint, metadata: dict[str, Any], is_best: bool) -> None:
        if kind == "epoch":
            self.weights[metadata["epoch"]] = saved.weights_sha256
            self.best = metadata["epoch"] if is_best else self.best

    def should_stop(self) -> bool:
        return self._stop_after in self.weights


class Validations:
    """Says what an epoch's validation found, and which weights were tested."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, found: Sequence[tuple[float, float]]) -> None:
        self._found = iter(found)
        self.tested: list[str] = []
        monkeypatch.setattr(training, "evaluate", self._evaluate)

    def _evaluate(self, model: Any, pack: Pack, split: str, *_: Any, **__: Any) -> dict[str, float]:
        if split == "test":
            self.tested.append(weights_sha256(model.state_dict()))
            return {"loss": 0.0, "top1": 0.0, "top5": 0.0}
        top1, loss = next(self._found)
        return {"loss": loss, "top1": top1, "top5": 1.0}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_toy_pack(tmp_path_factory.mktemp("packs") / "toy")


def train(pack: Pack, root: Path, epochs: int, hooks: Noting, **spec: Any) -> RunResult:
    return Run(RunSpec(CONFIG.with_overrides({"epochs": epochs}), pack, 7, root, **spec), hooks).train()


@pytest.mark.parametrize(
    ("found", "best"),
    [
        ([(0.9, 0.1), (0.95, 0.9), (0.94, 0.2)], 2),
        ([(1.0, 0.3), (1.0, 0.2), (1.0, 0.25)], 2),
        ([(1.0, 0.2), (1.0, 0.2), (0.5, 0.1)], 1),
        ([(0.9, NAN), (0.9, 0.5), (0.9, NAN)], 2),
        ([(0.9, 0.5), (0.9, math.inf)], 1),
        ([(0.9, NAN), (0.9, NAN)], 1),
    ],
)
def test_the_best_epoch_and_the_one_that_is_tested(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: list[tuple[float, float]], best: int
) -> None:
    validations, hooks = Validations(monkeypatch, found), Noting()
    train(pack, tmp_path / "whole", len(found), hooks)
    assert hooks.best == best
    assert validations.tested == [hooks.weights[best]]
    Validations(monkeypatch, found[:1])
    first = train(pack, tmp_path / "parts", len(found), stopped := Noting(stop_after_epoch=1))
    validations, hooks = Validations(monkeypatch, found[1:]), Noting()
    train(pack, tmp_path / "parts", len(found), hooks, resume_from=first.last_checkpoint, lease_epoch=1)
    assert (hooks.best or stopped.best) == best, "one that goes on agrees"
    assert validations.tested == [(stopped.weights | hooks.weights)[best]]


@pytest.mark.parametrize("is_told", [False, True])
def test_a_best_checkpoint_that_is_gone_is_the_best_no_longer(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_told: bool
) -> None:
    """As where a job is retried from a checkpoint, in a folder of its own: the best one may be told, or be pruned."""
    Validations(monkeypatch, [(0.9, 0.1), (0.5, 0.2)])
    first = train(pack, tmp_path / "first", 3, before := Noting(stop_after_epoch=2))
    [best_path] = (tmp_path / "first").glob("epoch-00000007-*")
    if not is_told:
        shutil.rmtree(best_path)
    validations, hooks = Validations(monkeypatch, [(0.6, 0.2)]), Noting()
    told = {"best_checkpoint": best_path if is_told else None}
    train(pack, tmp_path / "second", 3, hooks, resume_from=first.last_checkpoint, lease_epoch=1, **told)
    assert hooks.best == (None if is_told else 3)
    assert validations.tested == [before.weights[1] if is_told else hooks.weights[3]]
    assert hooks.warnings == []
