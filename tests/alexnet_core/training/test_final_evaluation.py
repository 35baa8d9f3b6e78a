"""The detailed evaluation at the end of a run: it changes nothing, fails without harm, and can be stopped."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alexnet_core.data.pack import Pack
from alexnet_core.data.pack_draft import write_pack
from alexnet_core.evaluation.evaluate import evaluate
from alexnet_core.evaluation.job_evaluation import JobEvaluation, parse_last_record, was_cut_off
from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.insight.calibration import calibrate
from alexnet_core.messages import Calibrated
from alexnet_core.network.checkpoint import load_checkpoint
from alexnet_core.network.model import build_model
from alexnet_core.network.preprocess import Preprocessing
from alexnet_core.training import final_evaluation
from alexnet_core.training.final_evaluation import CUT_OFF, FAILED
from alexnet_core.training.loop import Run
from alexnet_core.training.run_spec import RunResult, RunSpec
from tests.alexnet_core.toy import CONFIG, QuietHooks, write_toy_pack

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_toy_pack(tmp_path_factory.mktemp("packs") / "toy")


class Waiting(QuietHooks):
    """Stops the run once its detailed evaluation has begun."""

    def __init__(self, path: Path, *, after: int = 1) -> None:
        super().__init__()
        self._path, self._after = path, after

    def should_stop(self) -> bool:
        if self._path.exists():
            self._after -= 1
        return self._after <= 0


def train(pack: Pack, folder: Path, hooks: QuietHooks | None = None, **more: Any) -> RunResult:
    folder.mkdir(exist_ok=True)
    return Run(RunSpec(CONFIG, pack, 5, folder, **more), hooks or QuietHooks()).train()


def read(path: Path) -> JobEvaluation:
    record = parse_last_record(path.read_bytes())
    assert record is not None
    assert record.evaluation is not None
    return record.evaluation


def test_the_weights_and_the_test_are_the_same_with_and_without_it(pack: Pack, tmp_path: Path) -> None:
    path = tmp_path / "evaluations" / "job_1.jsonl"
    hooks = QuietHooks()
    without, with_it = train(pack, tmp_path / "a"), train(pack, tmp_path / "b", hooks, evaluation_path=path)
    assert with_it.weights_sha256 == without.weights_sha256
    assert (with_it.test, with_it.outcome) == (without.test, "succeeded")
    assert hooks.warnings == []
    assert not list((tmp_path / "a").glob("*.jsonl"))
    assert read(path).label_errors is not None


def test_it_tells_what_the_test_found(pack: Pack, tmp_path: Path) -> None:
    path = tmp_path / "job_1.jsonl"
    result = train(pack, tmp_path / "run", evaluation_path=path)
    found = read(path)
    assert result.test is not None
    assert {name: getattr(found, name) for name in ("loss", "top1", "top5", "num_images")} == {
        name: result.test[name] for name in ("loss", "top1", "top5", "num_images")
    }
    assert (found.chosen_on, found.validated_on_test) == ("validation", False)
    best = next(it for it in (tmp_path / "run").glob("epoch-*") if load_checkpoint(it).metadata["epoch"] == found.epoch)
    model = build_model(CONFIG, 3, 1)
    model.load_state_dict(load_checkpoint(best).weights)
    again = evaluate(model, pack, "test", Preprocessing.of(CONFIG, pack))
    assert again is not None
    assert again["loss"] == pytest.approx(found.loss)
    confusion = np.array(found.confusion)
    assert confusion.trace() / confusion.sum() == pytest.approx(found.top1)
    assert [one.count for one in found.classes] == confusion.sum(axis=1).tolist()
    wrong = confusion.sum() - confusion.trace()
    assert sum(pair.count for pair in found.confused) == wrong
    assert len(found.hardest) == 20
    for image in found.hardest:
        assert (image.split, pack.list_indices("test")[image.index]) == ("test", image.position)
        assert pack.class_names[pack.labels[image.position]] == image.label


def test_a_failure_is_a_warning_and_the_run_succeeds(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr(final_evaluation, "find_label_errors", fail)
    hooks, path = QuietHooks(), tmp_path / "job_1.jsonl"
    result = train(pack, tmp_path / "run", hooks, evaluation_path=path)
    assert (result.outcome, hooks.warnings) == ("succeeded", [FAILED])
    assert result.test is not None
    assert not was_cut_off(path.read_bytes())


def test_trouble_with_the_details_of_the_test_does_not_touch_the_test(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(pack, tmp_path / "a").test

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("alexnet_core.evaluation.report.Tally.add", fail)
    result = train(pack, tmp_path / "b", evaluation_path=tmp_path / "job_1.jsonl")
    assert result.test == expected
    found = read(tmp_path / "job_1.jsonl")
    assert (found.top1, found.confusion, found.hardest) == (expected and expected["top1"], None, ())


def test_a_full_disk_is_a_warning(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(final_evaluation, "append_record", fail)
    hooks = QuietHooks()
    assert train(pack, tmp_path / "run", hooks, evaluation_path=tmp_path / "job_1.jsonl").outcome == "succeeded"
    assert hooks.warnings == [FAILED]


@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_run_that_is_stopped_in_it_goes_on_and_ends_with_the_same_weights(
    pack: Pack, tmp_path: Path, after: int
) -> None:
    path = tmp_path / "job_1.jsonl"
    stopped = train(pack, tmp_path / "run", Waiting(path, after=after), evaluation_path=path)
    assert (stopped.outcome, stopped.test) == ("stopped", None)
    assert [json.loads(line)["state"] for line in path.read_bytes().splitlines()] == ["begun", "stopped"]
    best = max((tmp_path / "run").glob("epoch-*"))
    ended = train(pack, tmp_path / "run", resume_from=best, evaluation_path=path, lease_epoch=2)
    assert ended.weights_sha256 == stopped.weights_sha256 == train(pack, tmp_path / "whole").weights_sha256
    assert read(path).label_errors is not None


def test_one_that_takes_long_is_told_once(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Told(QuietHooks):
        count = 0

        def on_evaluating(self) -> None:
            self.count += 1

    quick, slow = Told(), Told()
    train(pack, tmp_path / "quick", quick, evaluation_path=tmp_path / "quick.jsonl")
    monkeypatch.setattr(final_evaluation, "_TOLD_AFTER_S", -1.0)
    train(pack, tmp_path / "slow", slow, evaluation_path=tmp_path / "slow.jsonl")
    assert (quick.count, slow.count) == (0, 1)


def test_an_attempt_that_was_lost_in_it_is_not_repeated(pack: Pack, tmp_path: Path) -> None:
    hooks, path = QuietHooks(), tmp_path / "job_1.jsonl"
    result = train(pack, tmp_path / "run", hooks, evaluation_path=path, evaluation_was_cut_off=True)
    assert (result.outcome, hooks.warnings, path.exists()) == ("succeeded", [CUT_OFF], False)


def test_a_dataset_without_test_images_is_checked_all_the_same(pack: Pack, tmp_path: Path) -> None:
    split = np.where(np.asarray(pack.split) == 2, 0, np.asarray(pack.split)).astype(np.uint8)
    other = write_pack(
        tmp_path / "pack", name="toy", class_names=pack.class_names, images_NHWC=np.asarray(pack.images),
        labels_N=np.asarray(pack.labels), split_N=split, flip_safe=False,
    )  # fmt: skip
    result = train(other, tmp_path / "run", evaluation_path=tmp_path / "job_1.jsonl")
    found = read(tmp_path / "job_1.jsonl")
    assert result.test is None
    assert (found.num_images, found.top1, found.confusion, found.classes) == (0, None, None, [])
    assert found.label_errors is not None
    assert found.label_errors.num_checked == 130


class Listening(QuietHooks):
    """Remembers the calibration that it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.calibrated: list[Calibrated] = []

    def on_calibrated(self, report: Calibrated) -> None:
        self.calibrated.append(report)


def test_the_best_checkpoint_is_calibrated_on_images_that_it_was_not_trained_on(pack: Pack, tmp_path: Path) -> None:
    hooks = Listening()
    train(pack, tmp_path / "run", hooks, evaluation_path=tmp_path / "job_1.jsonl")
    (report,) = hooks.calibrated
    best = next(
        loaded
        for it in (tmp_path / "run").glob("epoch-*")
        if (loaded := load_checkpoint(it)).metadata["weights_sha256"] == report.weights_sha256
    )
    predictor = Predictor.of(best)
    images = torch.from_numpy(np.ascontiguousarray(pack.images[pack.list_indices("validation")]))
    logits = predictor.logits(predictor.preprocessing.to_input(images)).numpy()
    expected = calibrate(logits, np.asarray(pack.labels[pack.list_indices("validation")]), "validation")
    assert report.calibration.temperature == pytest.approx(expected.temperature, rel=1e-4)
    assert report.calibration.before.ece == pytest.approx(expected.before.ece, abs=1e-4)
    assert (report.calibration.split, report.calibration.num_images) == ("validation", 30)


def test_without_images_to_tell_by_nothing_is_calibrated_and_the_evaluation_is_there(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    split = np.array([0] * 120 + [1] * 10 + [2] * 10, dtype=np.uint8)
    images = generator.integers(0, 255, (140, 12, 12, 1)).astype(np.uint8)
    few = write_pack(
        tmp_path / "few", name="few", class_names=("a", "b", "c"), images_NHWC=images,
        labels_N=generator.integers(0, 3, 140), split_N=split, flip_safe=False,
    )  # fmt: skip
    hooks, path = Listening(), tmp_path / "job_1.jsonl"
    train(few, tmp_path / "run", hooks, evaluation_path=path)
    assert hooks.calibrated == []
    assert hooks.warnings == []
    assert read(path).num_images == 10
