"""`python -m alexnet_core`, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alexnet_core.__main__ import main
from alexnet_core.commands.pictures import read_curves
from tests.alexnet_core.killing import ROOT

TINY = ["widths=[8,8,8,8,8]", "fc_widths=[16,16]", "norm=batch", "batch_size=64", "epochs=8"]
TRAIN = ["train", "--dataset", "digits", *[word for pair in TINY for word in ("--override", pair)], "--seed", "3"]


def start(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "alexnet_core", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=environment, stdout=pipe, stderr=pipe, text=True)


def run(*arguments: object, cwd: Path) -> str:
    process = start(*arguments, cwd=cwd)
    output, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors
    return output


class Here:
    """Runs commands in this process, which takes no seconds to load torch, with a folder as the current one."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def run(self, *arguments: object) -> str:
        """What a command printed, which must succeed."""
        self._capsys.readouterr()
        status = main([*map(str, arguments)])
        said = self._capsys.readouterr()
        assert status == 0, said.err
        return said.out


@pytest.fixture
def here(home: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    monkeypatch.chdir(home)
    return Here(capsys)


def weights(output: str) -> str:
    [found] = re.findall(r"^weights ([0-9a-f]{64})$", output, re.MULTILINE)
    return str(found)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which digits is prepared and a run is done."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "output.txt").write_text(run(*TRAIN, "--out", "whole", cwd=folder))
    return folder


@pytest.fixture(scope="module")
def checkpoint(home: Path) -> Path:
    return max((home / "whole").glob("epoch-*"))


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def stop_after_its_first_epoch(command: Sequence[object], number: signal.Signals, cwd: Path) -> list[str]:
    """Start a run and stop it by a signal.

    Returns:
        The arguments to go on with, which its last line names.
    """
    process = start(*command, cwd=cwd)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch "):
            break
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    assert "Traceback" not in errors
    [words] = re.findall(r"^stopped at step \d+; go on with (.+)$", output, re.MULTILINE)
    return ["train", *shlex.split(words)]


def test_a_run_stopped_by_ctrl_c_and_by_sigterm_goes_on_to_the_same_weights(home: Path) -> None:
    go_on = stop_after_its_first_epoch([*TRAIN, "--out", "parts"], signal.SIGINT, home)
    go_on = stop_after_its_first_epoch(go_on, signal.SIGTERM, home)
    output = run(*go_on, cwd=home)
    [step] = re.findall(r"^training on cpu in .+, steps (\d+) to 168$", output, re.MULTILINE)
    assert int(step) >= 42, "it goes on from the second stop, after two epochs or more"
    assert weights(output) == weights((home / "output.txt").read_text())
    assert {path.name.rpartition("-")[2] for path in (home / "parts").glob("*-e*")} == {"e0", "e1", "e2"}


def test_the_same_run_again_into_the_same_folder_keeps_the_checkpoints_that_are_there(
    home: Path, checkpoint: Path
) -> None:
    before = {path.name for path in checkpoint.parent.iterdir()}
    again = run(*TRAIN, "--out", "whole", cwd=home)
    assert weights(again) == weights((home / "output.txt").read_text())
    assert {path.name for path in checkpoint.parent.iterdir()} > before


def test_a_run_that_has_had_its_time_is_saved_and_goes_on_to_the_same_weights(home: Path) -> None:
    process = start(*TRAIN, "--out", "short", "--max-runtime-s", "0.001", cwd=home)
    output, errors = process.communicate(timeout=180)
    assert (process.returncode, "weights" in output) == (1, False)
    assert "max_runtime: 0.001 s of training are over at step 1;" in errors
    [saved] = (home / "short").glob("recovery-00000001-*")
    whole = weights((home / "output.txt").read_text())
    assert weights(run("train", "--dataset", "digits", "--resume", saved, cwd=home)) == whole


def test_a_run_that_goes_on_in_another_folder_still_knows_its_best_epoch(home: Path, checkpoint: Path) -> None:
    whole = (home / "output.txt").read_text()
    process = start("train", "--dataset", "digits", "--resume", checkpoint, "--out", "elsewhere", cwd=home)
    output, errors = process.communicate(timeout=180)
    assert (process.returncode, errors) == (0, "")
    assert output.splitlines()[-2:] == whole.splitlines()[-2:], "the test accuracy of the same epoch, and the weights"


def test_the_curves_of_a_run_that_went_on_without_its_best_epoch_can_be_drawn(home: Path, checkpoint: Path) -> None:
    first = min(checkpoint.parent.glob("epoch-*"))
    alone = home / "alone" / first.name.replace("-e0", "-e7")  # the best epoch is this very one, by its first name
    shutil.copytree(first, alone)
    go_on = ["train", "--dataset", "digits", "--resume", alone, "--out", "cut", "--max-runtime-s", "0.001"]
    process = start(*go_on, cwd=home)
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 1
    assert f"{first.name}, the best epoch so far, no longer exists: a later epoch will be tested" in errors
    run("curves", "cut", "--out", "cut.png", cwd=home)
    with Image.open(home / "cut.png") as picture:
        assert picture.size == (1000, 600)
    curves = read_curves(home / "cut")
    assert curves.epoch_step.tolist() == [21.0]
    assert curves.best_epoch is None


def test_a_run_begins_with_the_weights_of_another(home: Path, checkpoint: Path, here: Here) -> None:
    one_epoch = [*TRAIN, "--override", "epochs=1"]
    anew_output = here.run(*one_epoch, "--out", "anew")
    begun = here.run(*one_epoch, "--out", "begun", "--init-from", checkpoint)
    assert weights(begun) != weights(anew_output)
    accuracy = [
        float(re.findall(r"val top-1 ([0-9.]+)%", text)[0]) for text in (begun, (home / "output.txt").read_text())
    ]
    assert accuracy[0] > accuracy[1], "it knows digits already"


@pytest.mark.parametrize(
    "words", [["--max-runtime-s", "0"], ["--max-runtime-s", "nan"], ["--resume", "a", "--init-from", "b"]]
)
def test_a_time_or_a_beginning_that_can_not_be_is_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["train", "--dataset", "digits", *words])
    assert exit_.value.code == 2


def test_a_run_leaves_event_files_beside_its_checkpoints(home: Path) -> None:
    series = EventAccumulator(str(home / "whole/tensorboard/epochs")).Reload()
    assert [point.step for point in series.Scalars("val/top1")] == list(range(1, 9))


def test_evaluate_of_the_best_epoch_agrees_with_what_training_said(home: Path) -> None:
    said = (home / "output.txt").read_text()
    epochs = re.findall(r"^epoch +(\d+) .* val loss ([\d.]+)  val top-1 ([\d.]+)%", said, re.MULTILINE)
    best = max(epochs, key=lambda row: (float(row[2]), -float(row[1])))
    checkpoint = home / "whole" / f"epoch-{21 * int(best[0]):08d}-e0"
    output = run("evaluate", checkpoint, "--dataset", "digits", cwd=home)
    accuracy = re.search(r"^test accuracy ([\d.]+)% on 360 images$", said, re.MULTILINE)
    found = re.search(r'top-?1"?:? ([\d.]+)(%?)', output)
    assert accuracy
    assert found
    assert float(found[1]) * (1 if found[2] else 100) == pytest.approx(float(accuracy[1]), abs=0.006)


def test_evaluate_names_wrong_labels_and_writes_them(home: Path, here: Here) -> None:
    checkpoint = max((home / "whole").glob("epoch-*"))
    options = ["--label-errors", "--report", home / "errors.json"]
    output = here.run("evaluate", checkpoint, "--dataset", "digits", *options)
    errors = json.loads((home / "errors.json").read_text())["label_errors"]
    assert errors["num_checked"] == 1295
    assert f"{errors['num_found']} of 1295 labels are likely wrong, the most certain first" in output
    for image in errors["images"]:
        assert f"{image['position']}  {image['label']}, more likely {image['suggested']}" in output


@pytest.mark.parametrize(
    ("split", "says", "warns"),
    [
        (
            "test",
            "which chose the best epoch too: other images will do worse",
            "warning chosen_on_test: the test images",
        ),
        ("none", "of the last epoch: nothing was chosen by them", ""),
    ],
)
def test_train_says_whether_the_tests_images_chose_its_epoch(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], split: str, says: str, warns: str
) -> None:
    words = ["--override", f"validate_on={split}", "--override", "epochs=1", "--data-dir", str(home / "data")]
    assert main([*TRAIN, *words, "--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert re.search(rf"^test accuracy [\d.]+% on 360 images, {says}$", said.out, re.MULTILINE)
    assert warns in said.err
    assert ("val top-1" in said.out) == (split == "test")


def test_predict_names_the_classes_of_each_file(home: Path, checkpoint: Path, here: Here) -> None:
    for name in ("one.png", "two.png"):
        Image.new("L", (8, 8), 200).save(home / name)
    lines = here.run("predict", checkpoint, "one.png", "two.png", "--top-k", "3").splitlines()
    assert [line.split()[0] for line in lines] == ["one.png", "two.png"]
    assert [line.count("%") for line in lines] == [3, 3]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "--dataset", "nope"], "dataset_unavailable: there is no dataset 'nope': use one of"),
        (["train", "--dataset", "digits", "--recipe", "nope"], "recipe_not_found: there is no recipe 'nope': use"),
        (["train", "--dataset", "digits", "--override", "nope=1"], "config_invalid: overrides.nope is not a setting"),
        (["train", "--dataset", "digits", "--override", "lr=x"], "config_invalid: overrides.lr is 'x': Input should"),
        (["train", "--dataset", "digits", "--override", "lr"], "config_invalid: overrides.lr is ''"),
        (
            ["train", "--dataset", "digits", "--override", "colour_std=0.1"],
            "config_invalid: overrides.colour_std needs 3",
        ),
        (
            ["train", "--dataset", "digits", "--device", "gpu"],
            "config_invalid: device 'gpu' is unknown: use cpu, cuda,",
        ),
        (
            ["train", "--dataset", "digits", "--device", "cuda:x"],
            "config_invalid: device 'cuda:x' is unknown: use cpu,",
        ),
        (
            ["train", "--dataset", "digits", "--device", "cuda:99"],
            "config_invalid: device cuda:99 is not on this machine: PyTorch",
        ),
        (["train", "--dataset", "digits", "--out", "{file}/x", "--override", "epochs=1"], "{file}/x: Not a directory"),
        (["train", "--dataset", "digits", "--resume", "{nothing}"], "checkpoint_corrupt: {nothing} is not a"),
        (["train", "--dataset", "digits", "--resume", "{damaged}"], "checkpoint_corrupt: weights.safetensors of"),
        (
            ["evaluate", "{nothing}", "--dataset", "digits"],
            "checkpoint_corrupt: {nothing} is not a complete checkpoint",
        ),
        (["evaluate", "{damaged}", "--dataset", "digits"], "checkpoint_corrupt: weights.safetensors of checkpoint"),
        (["evaluate", "{checkpoint}", "--dataset", "nope"], "dataset_unavailable: there is no dataset 'nope'"),
        (["evaluate", "{checkpoint}", "--dataset", "digits", "--data-dir", "{file}"], "{file}: File exists"),
        (["predict", "{nothing}", "{file}"], "checkpoint_corrupt: {nothing} is not a complete checkpoint"),
        (["predict", "{checkpoint}", "{nothing}"], "{nothing}: No such file or directory"),
        (["predict", "{checkpoint}", "{folder}"], "{folder}: Is a directory"),
        (["predict", "{checkpoint}", "{file}"], "image_format_unsupported: {file}: The data is not a complete image"),
    ],
)
def test_a_bad_input_is_answered_with_one_line(
    home: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(home)
    places = {"nothing": tmp_path / "nothing", "file": tmp_path / "file.txt", "folder": tmp_path / "folder"}
    places |= {"checkpoint": checkpoint, "damaged": tmp_path / "damaged"}
    places["file"].write_text("no image")
    places["folder"].mkdir()
    damage_a_copy(checkpoint, places["damaged"])
    status = main([word.format(**places) for word in arguments])
    errors = capsys.readouterr().err
    assert status == 1
    assert errors.startswith(says.format(**places)), errors
    assert errors.count("\n") == 1, errors


def damage_a_copy(checkpoint: Path, copy: Path) -> None:
    for path in checkpoint.rglob("*"):
        if path.is_file():
            data = bytearray(path.read_bytes())
            if path.name == "weights.safetensors":
                data[-1] ^= 1
            target = copy / path.relative_to(checkpoint)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)


def test_a_checkpoint_of_other_classes_is_not_evaluated(
    home: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.alexnet_core.toy import write_toy_pack

    monkeypatch.chdir(home)
    write_toy_pack(tmp_path / "digits")
    assert main(["evaluate", str(checkpoint), "--dataset", "digits", "--data-dir", str(tmp_path)]) == 1
    assert "checkpoint_incompatible" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing command."),
        (["nope"], "No such command 'nope'."),
        (["train"], "Missing option '--dataset'."),
        (["train", "--dataset", "digits", "--seed=-1"], "'--seed': '-1' is not a whole number from 0"),
        (["train", "--dataset", "digits", "--seed", "x"], "'--seed': 'x' is not a whole number from 0"),
        (["train", "--dataset", "digits", "--max-runtime-s", "0"], "'--max-runtime-s': '0' is not a number of seconds"),
        (["train", "--dataset", "digits", "--resume", "x", "--seed", "1"], "--resume continues a run with its own"),
        (["train", "--dataset", "digits", "--resume", "x", "--override", "epochs=9"], "--resume continues a run with"),
        (["train", "--dataset", "digits", "--sede", "1"], "No such option: --sede"),
        (
            ["evaluate", "x", "--dataset", "digits", "--split", "nope"],
            "'nope' is not one of 'train', 'validation', 'test'.",
        ),
        (
            ["evaluate", "x", "--dataset", "digits", "--crops", "2"],
            "'--crops': Value error, '2' is not one of '1', '10'.",
        ),
        (["predict", "x"], "Missing argument 'IMAGE'."),
        (["predict", "x", "y", "--top-k=-1"], "'--top-k': '-1' is not a whole number from 0"),
    ],
)
def test_a_wrong_command_line_is_refused_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    with pytest.raises(SystemExit) as exc:
        main(arguments)
    assert exc.value.code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_memory_that_runs_out_is_told_in_one_line(
    error: Exception, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("alexnet_core.evaluation.predictor.Predictor.load", fail)
    assert main(["predict", str(checkpoint), "image.png"]) == 1
    assert capsys.readouterr().err.startswith("out_of_memory: memory ran out")


@pytest.mark.parametrize("error", ["MemoryError()", "RuntimeError('another')"])
def test_an_error_where_there_is_no_torch_is_told_without_loading_it(error: str) -> None:
    """A process whose memory has run out has none for it."""
    code = f"""
import sys, typer
from alexnet_core.__main__ import main
def fail(*_, **__):
    raise {error}
typer.main.get_command = lambda app: type("Command", (), {{"main": fail}})
try:
    assert main([]) == 1
except RuntimeError:
    pass
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_another_error_of_torch_is_no_want_of_memory(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("alexnet_core.evaluation.predictor.Predictor.load", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        main(["predict", str(checkpoint), "image.png"])


@pytest.mark.parametrize("command", ["prepare", "predict"])
def test_ctrl_c_ends_every_command_without_a_traceback(
    command: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("alexnet_core.data.published.builtin.prepare", interrupt)
    monkeypatch.setattr("alexnet_core.evaluation.predictor.Predictor.load", interrupt)
    words = ["--dataset", "digits", "--target", str(tmp_path / "d")] if command == "prepare" else [str(checkpoint), "x"]
    assert main([command, *words]) == 130


@pytest.mark.parametrize(("size", "says"), [("two", "is 'two'"), ("0", "is '0'"), ("2", "without RANK, MASTER_ADDR")])
def test_several_processes_without_torchrun_are_refused(
    size: str, says: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.chdir(home)
    assert main([*TRAIN, "--out", "none"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("config_invalid: WORLD_SIZE")
    assert says in error
    assert "torchrun" in error


def test_a_stopped_run_names_all_that_it_needs_to_go_on(home: Path) -> None:
    command = [*TRAIN, "--out", "long ways", "--data-dir", "other data", "--max-runtime-s", "3000"]
    go_on = stop_after_its_first_epoch(command, signal.SIGTERM, home)
    assert go_on[1:3] == ["--dataset", "digits"]
    assert go_on[3] == "--resume"
    assert go_on[4].startswith("long ways/")
    assert go_on[5:] == ["--data-dir", "other data", "--max-runtime-s", "3000"]
    assert weights(run(*go_on, cwd=home)) == weights((home / "output.txt").read_text())
