import errno
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from alexnet_core.config import TrainConfig
from alexnet_core.data.pack import Pack
from alexnet_core.errors import CheckpointCorrupt, CheckpointIncompatible, DiskFull, Diverged
from alexnet_core.evaluation.evaluate import evaluate
from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.layout import CheckpointKind
from alexnet_core.messages import PARENT_IS_GONE, WORKER_WAS_SILENT, EpochEnd, Ready, Stop, StopReason
from alexnet_core.network.checkpoint import load_checkpoint, save_checkpoint
from alexnet_core.network.checkpoint_files import verify_checkpoint
from alexnet_core.training.loop import Run
from alexnet_core.training.run_spec import RunResult, RunSpec
from tests.alexnet_core.child import Child, describe_attempt
from tests.alexnet_core.toy import CONFIG, QuietHooks, write_toy_pack

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_toy_pack(tmp_path_factory.mktemp("packs") / "toy")


def train(
    pack: Pack, root: Path, config: TrainConfig = CONFIG, stop_after: int | None = None, **spec: Any
) -> RunResult:
    return Run(RunSpec(config, pack, 7, root, **spec), QuietHooks(stop_after)).train()


def last_checkpoint_of(result: RunResult) -> Path:
    """The last checkpoint of a run that has one."""
    assert result.last_checkpoint is not None
    return result.last_checkpoint


@pytest.mark.parametrize("optimiser", ["sgd", "sgd_lr_in_velocity", "adamw"])
def test_a_run_stopped_anywhere_and_resumed_ends_with_the_same_bits(pack: Pack, tmp_path: Path, optimiser: str) -> None:
    config = CONFIG.with_overrides({"optimiser": optimiser})
    whole = train(pack, tmp_path / "whole", config)
    for stop_after in (1, 7, 10, 15, 22):
        root = tmp_path / str(stop_after)
        stopped = train(pack, root, config, stop_after)
        assert stopped.outcome == "stopped"
        resumed = train(pack, root, config, resume_from=stopped.last_checkpoint, lease_epoch=1)
        assert (resumed.weights_sha256, resumed.test) == (whole.weights_sha256, whole.test)


def test_a_checkpoint_of_another_seed_is_refused(pack: Pack, tmp_path: Path) -> None:
    stopped = train(pack, tmp_path, stop_after=2)
    with pytest.raises(CheckpointIncompatible):
        Run(RunSpec(CONFIG, pack, 8, tmp_path, resume_from=stopped.last_checkpoint), QuietHooks())


def test_a_diverging_run_fails_and_commits_nothing(pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(Diverged):
        train(pack, tmp_path, CONFIG.with_overrides({"lr": 10.0, "norm": "none", "schedule": "constant", "mean": (0.0,),
                                                     "std": (1e-6,), "momentum": 0.99}))  # fmt: skip
    assert not list(tmp_path.glob("epoch-*"))


def test_predictor_and_evaluation_agree(pack: Pack, tmp_path: Path) -> None:
    result = train(pack, tmp_path)
    predictor = Predictor.load(last_checkpoint_of(result))
    predictor.warm([1])
    measured = evaluate(predictor.model, pack, "test", predictor.preprocessing)
    guesses = predictor.predict([pack.images[index] for index in range(130, 160)], top_k=9)
    hits = sum(guess[0].index == label for guess, label in zip(guesses, pack.labels[130:], strict=True))
    assert measured is not None
    assert hits / 30 == pytest.approx(measured["top1"])
    assert len(guesses[0]) == 3
    assert sum(prediction.probability for prediction in guesses[0]) == pytest.approx(1, abs=1e-5)


def test_tensors_are_written_as_safetensors_writes_them(pack: Pack, tmp_path: Path) -> None:
    whole = load_checkpoint(last_checkpoint_of(train(pack, tmp_path / "a", stop_after=1)), state=True)
    tensors = {
        "scalar": torch.tensor(0.5, dtype=torch.float64),
        "count": torch.tensor(3),
        "empty": torch.zeros(0, 2),
        "b/kernel": torch.randn(3, 4, 5, 6).to(memory_format=torch.channels_last),
        "a/kernel": torch.randn(5, 3).t(),
        "half": torch.randn(7).half(),
        "brain": torch.randn(3).bfloat16(),
    }
    for number, case in enumerate([tensors, {"count": tensors["count"]}, {}]):
        saved = save_checkpoint(replace(whole, path=tmp_path / str(number), weights=case))
        written = (saved.path / "weights.safetensors").read_bytes()
        assert written == safetensors.torch.save({name: value.contiguous() for name, value in case.items()})


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_weights_that_are_no_numbers_are_not_saved(pack: Pack, tmp_path: Path, value: float) -> None:
    run = Run(RunSpec(CONFIG, pack, 7, tmp_path), QuietHooks())
    with torch.no_grad():
        list(run.state.model.parameters())[-1][1] = value
    with pytest.raises(Diverged, match="not a number"):
        run.save(CheckpointKind.RECOVERY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["weights.safetensors", "classes.json", "state/training_state.safetensors"])
def test_a_flipped_bit_is_found_in_every_file(pack: Pack, tmp_path: Path, name: str) -> None:
    path = last_checkpoint_of(train(pack, tmp_path, stop_after=1))
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 1
    (path / name).write_bytes(data)
    with pytest.raises(CheckpointCorrupt, match=name):
        verify_checkpoint(path, state=True)


def test_a_checkpoint_without_its_state_can_still_be_served(pack: Pack, tmp_path: Path) -> None:
    path = last_checkpoint_of(train(pack, tmp_path, stop_after=1))
    for file in (path / "state").iterdir():
        file.unlink()
    (path / "state").rmdir()
    assert load_checkpoint(path).class_names == ("a", "b", "c")
    with pytest.raises(CheckpointCorrupt):
        load_checkpoint(path, state=True)


def test_a_full_disk_leaves_nothing_behind(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_checkpoint(last_checkpoint_of(train(pack, tmp_path / "a", stop_after=1)), state=True)

    def fail(fileno: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DiskFull):
        save_checkpoint(replace(whole, path=tmp_path / "b" / "again"))
    assert list((tmp_path / "b").iterdir()) == []


def serve(pack: Pack, root: Path, *, stop_at: int | None = None, **spec: Any) -> tuple[list[Any], int]:
    child = Child()
    assert child.read() == Ready()
    child.send(describe_attempt(pack, root, **spec))
    reports: list[Any] = []
    for report in child.read_attempt():
        reports.append(report)
        if stop_at is not None and isinstance(report, EpochEnd) and report.epoch == stop_at:
            child.send(Stop(reason=StopReason.PAUSE))
    return reports, child.close() if reports and getattr(reports[-1], "stays", False) else child.end()


def test_the_child_trains_stops_and_goes_on_to_the_same_weights(pack: Pack, tmp_path: Path) -> None:
    whole, status = serve(pack, tmp_path / "whole", epochs=40)
    assert (status, whole[-1].outcome, whole[-1].step) == (0, "succeeded", 280)
    assert {"started", "first_step", "progress", "interval", "epoch", "checkpoint", "finished"} <= {
        report.type for report in whole
    }
    stopped, status = serve(pack, tmp_path / "parts", epochs=40, stop_at=2)
    assert (status, stopped[-1].outcome, stopped[-1].reason) == (PARENT_IS_GONE, "stopped", "pause")
    last = [report for report in stopped if report.type == "checkpoint"][-1]
    assert last.step == stopped[-1].step
    resumed, _ = serve(pack, tmp_path / "parts", epochs=40, resume_from=last.path, lease_epoch=2)
    assert resumed[0].bit_exact is True
    assert resumed[-1].weights_sha256 == whole[-1].weights_sha256


def test_a_changed_dataset_fails_before_the_first_step(pack: Pack, tmp_path: Path) -> None:
    reports, status = serve(pack, tmp_path, pack_digest="0" * 64)
    assert status == 1
    assert [report.code for report in reports] == ["dataset_changed"]


def test_a_child_that_is_killed_while_saving_leaves_no_checkpoint(pack: Pack, tmp_path: Path) -> None:
    reports, status = serve(pack, tmp_path, failpoints={"checkpoint_byte_20000": "kill9"}, epochs=1)
    assert status == -9
    assert "checkpoint" not in {report.type for report in reports}
    assert not list(tmp_path.glob("epoch-*"))


def test_the_child_ends_when_its_worker_does() -> None:
    child = Child()
    child.read()
    assert child.close() == PARENT_IS_GONE


def test_the_child_ends_when_its_worker_is_silent(pack: Pack, tmp_path: Path) -> None:
    reports, status = serve(pack, tmp_path, failpoints={"step_3": "sleep:9999"}, max_silence_s=2)
    assert status == WORKER_WAS_SILENT
    assert "finished" not in {report.type for report in reports}


def test_a_read_error_is_not_taken_for_a_damaged_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "manifest.json").write_text("{}")

    def fail(*_: object) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("alexnet_core.network.checkpoint_files.read_regular", fail)
    with pytest.raises(OSError, match="Too many open files"):
        load_checkpoint(tmp_path)
