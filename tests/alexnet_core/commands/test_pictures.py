"""`python -m alexnet_core curves`, `filters` and `preview`."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from alexnet_core.__main__ import main
from alexnet_core.commands.pictures import read_curves
from alexnet_core.data.inspection.preview import draw_preview
from alexnet_core.data.pack import Pack
from alexnet_core.evaluation.filters import CONV1, draw_filters
from alexnet_core.messages import Interval
from alexnet_core.network.checkpoint import load_checkpoint
from alexnet_core.training.loop import Run
from alexnet_core.training.run_spec import RunSpec
from tests.alexnet_core.toy import CONFIG, QuietHooks, write_toy_pack


class Recorder(QuietHooks):
    """Keeps the points by step."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__(stop_after)
        self.points: list[Interval] = []

    def on_interval(self, report: Interval) -> None:
        self.points.append(report)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_toy_pack(tmp_path_factory.mktemp("packs") / "toy")


@pytest.fixture(scope="module")
def run(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recorder]:
    """A run of three epochs of seven steps."""
    root, hooks = tmp_path_factory.mktemp("run"), Recorder()
    Run(RunSpec(CONFIG, pack, 7, root), hooks).train()
    return root, hooks


def test_the_curves_of_a_run_are_what_it_reported(run: tuple[Path, Recorder]) -> None:
    root, hooks = run
    curves = read_curves(root)
    assert curves.step.tolist() == [point.step for point in hooks.points]
    assert curves.step_lr.tolist() == [point.lr for point in hooks.points]
    assert (curves.epoch.tolist(), curves.epoch_step.tolist()) == ([1, 2, 3], [7, 14, 21])
    assert curves.val_top1.tolist() == [metrics["val_top1"] for metrics in hooks.epochs]
    state = load_checkpoint(max(root.glob("epoch-*")), state=True).state
    assert state is not None
    assert curves.best_epoch == state["best"]["epoch"]


def test_the_learning_rate_is_that_of_a_schedule_which_looks_at_the_history(pack: Pack, tmp_path: Path) -> None:
    config, hooks = CONFIG.with_overrides({"schedule": "plateau", "plateau_patience": 1, "lr": 1e-9}), Recorder()
    Run(RunSpec(config, pack, 7, tmp_path), hooks).train()
    curves = read_curves(tmp_path)
    assert curves.step_lr.tolist() == [point.lr for point in hooks.points]
    assert len(set(curves.step_lr)) > 1


def test_the_newest_attempt_is_drawn_although_an_older_one_came_further(
    pack: Pack, run: tuple[Path, Recorder], tmp_path: Path
) -> None:
    root, _ = run
    for path in root.iterdir():
        (tmp_path / path.name).symlink_to(path)
    Run(RunSpec(CONFIG, pack, 8, tmp_path, lease_epoch=1), QuietHooks(9)).train()
    assert read_curves(tmp_path).epoch.tolist() == [1]
    assert read_curves(root / "epoch-00000014-e0").epoch.tolist() == [1, 2]


def test_a_run_that_was_stopped_in_its_first_epoch_has_no_points_yet(pack: Pack, tmp_path: Path) -> None:
    Run(RunSpec(CONFIG, pack, 7, tmp_path), QuietHooks(3)).train()
    assert read_curves(tmp_path).is_empty
    assert main(["curves", str(tmp_path), "--out", str(tmp_path / "curves.png")]) == 0


def test_a_folder_without_checkpoints_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["curves", str(tmp_path), "--out", str(tmp_path / "curves.png")]) == 1
    assert capsys.readouterr().err == f"{tmp_path}: there is no checkpoint with its training state\n"


def test_both_commands_write_pictures(run: tuple[Path, Recorder], tmp_path: Path) -> None:
    root, _ = run
    newest = max(root.glob("epoch-*"))
    assert main(["curves", str(root), "--out", str(tmp_path / "curves.png")]) == 0
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1000, 600)
    kernels = load_checkpoint(newest).weights[CONV1].numpy()
    for scale in ("common", "own"):
        assert main(["filters", str(newest), "--scale", scale, "--out", str(tmp_path / "filters.png")]) == 0
        assert (tmp_path / "filters.png").read_bytes() == draw_filters(kernels, scale)
    with Image.open(tmp_path / "filters.png") as picture:
        assert picture.mode == "L"  # the toy's images are grey


def test_help_loads_nothing_that_draws() -> None:
    code = (
        "import sys\nfrom alexnet_core.__main__ import main\n"
        "try:\n    main(['curves', '--help'])\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *sorted({'torch', 'matplotlib', 'PIL', 'tensorboardX'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == ["LOADED"]


def test_a_preview_of_a_dataset_is_drawn(pack: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "preview.png"
    command = ["preview", "--dataset", str(pack.path), "--out", str(out)]
    assert main(command) == 0
    assert out.read_bytes() == draw_preview(pack)
    with pytest.raises(SystemExit):
        main([*command, "--page", "1"])
    assert "has the pages 0 to 0" in " ".join(capsys.readouterr().err.split())
    assert main(["preview", "--dataset", str(tmp_path / "nothing"), "--out", str(out)]) == 1
    assert "there is no dataset" in capsys.readouterr().err
