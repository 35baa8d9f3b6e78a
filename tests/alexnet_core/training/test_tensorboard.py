import math
import os
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alexnet_core.data.pack import Pack
from alexnet_core.messages import Interval
from alexnet_core.training.loop import Run
from alexnet_core.training.run_spec import RunResult, RunSpec
from alexnet_core.training.tensorboard import FLUSH_EVERY_S, WARNING, EventFiles, beside_event_files
from tests.alexnet_core.reports import checkpoint_saved, epoch_end, interval, started
from tests.alexnet_core.toy import CONFIG, QuietHooks, write_toy_pack
from tests.alexnet_core.training.test_loop import serve

pytestmark = pytest.mark.usefixtures("one_thread")

STEP_TAGS = ["train/images_per_s", "train/loss", "train/lr"]
EPOCH_TAGS = ["train/loss", "val/loss", "val/top1", "val/top5"]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_toy_pack(tmp_path_factory.mktemp("packs") / "toy")


def train(
    pack: Pack, root: Path, folder: Path | None, hooks: QuietHooks | None = None, attempt: int = 0, **spec: Any
) -> RunResult:
    hooks = hooks or QuietHooks()
    with beside_event_files(hooks, folder, attempt=attempt) as all_hooks:
        return Run(RunSpec(CONFIG, pack, 7, root, lease_epoch=attempt, **spec), all_hooks).train()


@dataclass
class Whole:
    """A run that nobody stopped."""

    board: Path
    epochs: list[dict[str, float]]
    weights: str


@pytest.fixture(scope="module")
def whole(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    root, hooks = tmp_path_factory.mktemp("whole"), QuietHooks()
    torch.set_num_threads(1)
    result = train(pack, root, root / "board", hooks)
    return Whole(root / "board", hooks.epochs, result.weights_sha256)


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in read(folder).Scalars(tag)]


def texts(folder: Path, tag: str) -> list[tuple[int, str]]:
    return [(it.step, it.tensor_proto.string_val[0].decode()) for it in read(folder).Tensors(f"{tag}/text_summary")]


class Warned(list[tuple[str, str]]):
    def __call__(self, code: str, message: str) -> None:
        self.append((code, message))


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_run_leaves_its_series_by_step_and_by_epoch(whole: Whole) -> None:
    assert sorted(read(whole.board / "steps").Tags()["scalars"]) == STEP_TAGS
    assert sorted(read(whole.board / "epochs").Tags()["scalars"]) == EPOCH_TAGS
    assert [step for step, _ in points(whole.board / "steps", "train/lr")] == list(range(1, 22))
    for tag in EPOCH_TAGS:
        told: list[tuple[int, Any]] = [
            (i, pytest.approx(metrics[tag.replace("/", "_")])) for i, metrics in enumerate(whole.epochs, start=1)
        ]
        assert points(whole.board / "epochs", tag) == told


def histograms(folder: Path, tag: str) -> list[tuple[int, float, float]]:
    found = EventAccumulator(str(folder), size_guidance={"histograms": 0}).Reload().Histograms(tag)
    assert all(it.histogram_value.num == sum(it.histogram_value.bucket) for it in found)
    return [(it.step, it.histogram_value.min, it.histogram_value.max) for it in found]


def test_once_an_epoch_there_are_histograms_of_activations_and_weights(whole: Whole) -> None:
    tags = read(whole.board / "steps").Tags()["histograms"]
    layers = [f"conv{n}" for n in range(1, 6)] + ["fc6", "fc7", "fc8"]
    assert {f"weights/{layer}.weight" for layer in layers} <= set(tags)
    assert {f"activations/relu{n}" for n in range(1, 8)} == {tag for tag in tags if tag.startswith("activations/")}
    for tag in ("activations/relu1", "weights/fc7.weight"):
        assert [step for step, _, _ in histograms(whole.board / "steps", tag)] == [1, 8, 15]
    assert all(low == 0 < high for _, low, high in histograms(whole.board / "steps", "activations/relu3"))
    weights = histograms(whole.board / "steps", "weights/fc8.weight")
    assert len({(low, high) for _, low, high in weights}) == 3, "they learn"


@pytest.mark.parametrize("stop_after", [1, 10])
def test_a_run_that_goes_on_has_the_same_histograms(pack: Pack, whole: Whole, tmp_path: Path, stop_after: int) -> None:
    stopped = train(pack, tmp_path, tmp_path / "board", QuietHooks(stop_after))
    train(pack, tmp_path, tmp_path / "board", attempt=1, resume_from=stopped.last_checkpoint)
    for tag in ("activations/relu1", "weights/conv1.weight"):
        assert histograms(tmp_path / "board/steps", tag) == histograms(whole.board / "steps", tag)


def test_values_that_are_no_numbers_do_not_end_the_series(tmp_path: Path) -> None:
    warned = Warned()
    files = EventFiles(tmp_path, attempt=0, warn=warned)
    files.on_started(started())
    nan = torch.tensor([math.nan])
    files.on_samples(3, {"weights/a": nan, "weights/b": torch.tensor([1.0, math.inf]), "weights/c": torch.zeros(5)})
    files.close()
    assert warned == []
    tags = read(tmp_path / "steps").Tags()["histograms"]
    assert sorted(tags) == ["weights/b", "weights/c"]


@pytest.mark.parametrize("stop_after", [1, 10, 16])
def test_a_resumed_run_continues_the_same_series(pack: Pack, whole: Whole, tmp_path: Path, stop_after: int) -> None:
    stopped = train(pack, tmp_path, tmp_path / "board", QuietHooks(stop_after))
    assert stopped.outcome == "stopped"
    train(pack, tmp_path, tmp_path / "board", attempt=1, resume_from=stopped.last_checkpoint)
    for series, tag in [("steps", "train/loss"), ("steps", "train/lr"), *(("epochs", tag) for tag in EPOCH_TAGS)]:
        assert points(tmp_path / "board" / series, tag) == points(whole.board / series, tag)


def test_the_trainer_child_writes_to_the_folder_that_its_spec_names(pack: Pack, tmp_path: Path) -> None:
    reports, status = serve(pack, tmp_path / "job", epochs=2, tensorboard_dir=str(tmp_path / "board"))
    assert status == 0
    told: list[tuple[int, Any]] = [
        (report.step, pytest.approx(report.train_loss)) for report in reports if isinstance(report, Interval)
    ]
    assert points(tmp_path / "board/steps", "train/loss") == told
    assert [epoch for epoch, _ in points(tmp_path / "board/epochs", "val/top5")] == [1, 2]


def test_steps_that_are_trained_again_are_there_once(pack: Pack, whole: Whole, tmp_path: Path) -> None:
    early = train(pack, tmp_path, None, QuietHooks(9))
    train(pack, tmp_path, tmp_path / "board", QuietHooks(16), attempt=1)
    train(pack, tmp_path, tmp_path / "board", attempt=2, resume_from=early.last_checkpoint)
    for series, tag in [("steps", "train/loss"), ("epochs", "val/top1")]:
        assert points(tmp_path / "board" / series, tag) == points(whole.board / series, tag)


def test_attempts_are_read_in_their_order_although_a_clock_went_back(tmp_path: Path) -> None:
    clock, warned = Clock(), Warned()
    for attempt, steps in [(9, (1, 2, 3)), (10, (3, 4))]:
        clock.now -= 3600
        files = EventFiles(tmp_path, attempt=attempt, warn=warned, clock=clock)
        files.on_started(started(steps[0] - 1))
        for step in steps:
            files.on_interval(interval(step))
        files.close()
    assert [step for step, _ in points(tmp_path / "steps", "train/loss")] == [1, 2, 3, 4]
    assert warned == []


def test_warnings_are_kept_as_text(tmp_path: Path) -> None:
    files = EventFiles(tmp_path, attempt=1, warn=Warned())
    files.on_started(started(0))
    files.on_interval(interval(5))
    files.on_warning("not_learning", "the loss is that of guessing: try äther")
    files.close()
    assert texts(tmp_path / "steps", "warnings/not_learning") == [(5, "the loss is that of guessing: try äther")]


KILLED = """
import os, signal, sys
from pathlib import Path
from alexnet_core.training.tensorboard import EventFiles
from tests.alexnet_core.reports import interval, progress, started
now = 0.0
files = EventFiles(Path(sys.argv[1]), attempt=1, warn=print, clock=lambda: now)
files.on_started(started(0))
for step in range(1, 26):  # less than the file's own buffer holds
    now += 0.25
    files.on_interval(interval(step))
    files.on_progress(progress(step))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_seconds_of_points_and_the_run_goes_on_after_them(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], capture_output=True)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")
    last, _ = points(tmp_path / "steps", "train/loss")[-1]
    assert 25 - last <= FLUSH_EVERY_S / 0.25
    [torn] = (tmp_path / "steps").iterdir()
    os.truncate(torn, torn.stat().st_size - 3)
    files = EventFiles(tmp_path, attempt=2, warn=Warned())
    files.on_started(started(15))
    files.on_interval(interval(16))
    files.close()
    assert [step for step, _ in points(tmp_path / "steps", "train/loss")] == list(range(1, 17))


def test_a_checkpoint_brings_all_points_before_it_onto_the_disk(tmp_path: Path) -> None:
    files = EventFiles(tmp_path, attempt=1, warn=Warned(), clock=Clock())
    files.on_started(started(0))
    files.on_interval(interval(1))
    assert "train/loss" not in read(tmp_path / "steps").Tags()["scalars"]
    files.on_checkpoint(checkpoint_saved(1))
    assert [step for step, _ in points(tmp_path / "steps", "train/loss")] == [1]
    files.close()


def test_a_run_whose_event_files_can_not_be_written_warns_once_and_trains_on(
    pack: Pack, whole: Whole, tmp_path: Path
) -> None:
    (tmp_path / "board").write_text("a file where the folder should be")
    hooks = QuietHooks()
    assert train(pack, tmp_path / "other", tmp_path / "board", hooks).weights_sha256 == whole.weights
    assert hooks.warnings.count(WARNING) == 1


def test_a_disk_that_fills_up_warns_once_and_keeps_what_was_written(tmp_path: Path) -> None:
    warned = Warned()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    files = EventFiles(tmp_path, attempt=1, warn=warned)
    files.on_started(started(0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        for step in range(1, 501):
            files.on_interval(interval(step))
            files.on_epoch(epoch_end(step, train_loss=1.0))
        files.on_warning("other", "told to the others all the same")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    files.close()
    [(code, message)] = warned
    assert code == WARNING
    assert str(tmp_path) in message
    assert len(points(tmp_path / "steps", "train/loss")) > 50


def test_nothing_is_written_before_the_run_starts(tmp_path: Path) -> None:
    files = EventFiles(tmp_path / "board", attempt=1, warn=Warned())
    files.on_warning("early", "before the start")
    files.close()
    assert not (tmp_path / "board").exists()
