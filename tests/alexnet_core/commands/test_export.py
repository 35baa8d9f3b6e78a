"""`python -m alexnet_core evaluate`, `export` and `import-keras`, as a user runs them."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet_core.__main__ import main
from alexnet_core.data.published.builtin import prepare
from alexnet_core.evaluation.scores import EvaluationReport
from alexnet_core.network.checkpoint import load_checkpoint, save_checkpoint
from tests.alexnet_core.killing import ROOT
from tests.alexnet_core.networks import NARROW, make_checkpoint

DIGITS = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the digits and a checkpoint that tells them apart, badly."""
    folder = tmp_path_factory.mktemp("home")
    prepare("digits", source_dir=None, target_dir=folder / "data" / "digits")
    made = make_checkpoint("quick", channels=1, resize_px=26, test_crops=10, **NARROW)
    metadata = made.metadata | {"validate_on": "validation"}
    save_checkpoint(dataclasses.replace(made, path=folder / "quick", class_names=tuple(DIGITS), metadata=metadata))
    metadata = made.metadata | {"validate_on": "test"}
    save_checkpoint(dataclasses.replace(made, path=folder / "on_test", class_names=tuple(DIGITS), metadata=metadata))
    metadata = made.metadata | {"validate_on": "none"}
    save_checkpoint(dataclasses.replace(made, path=folder / "on_none", class_names=tuple(DIGITS), metadata=metadata))
    save_checkpoint(dataclasses.replace(make_checkpoint("caffe", **NARROW), path=folder / "caffe"))
    return folder


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def test_evaluate_prints_a_table_and_writes_all_of_it_as_json(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.json"
    command = ["evaluate", "quick", "--dataset", "digits", "--report", str(target), "--crops", "1", "--hardest", "4"]
    assert main(command) == 0
    report = EvaluationReport.model_validate_json(target.read_text())
    assert (report.num_images, report.crops, len(report.hardest)) == (360, 1, 4)
    output = capsys.readouterr().out
    assert output.startswith(f"360 images (test): top-1 {report.top1:.2%}")
    assert "chosen" not in output


def test_evaluate_takes_the_checkpoints_own_crops_and_says_when_its_epoch_was_chosen_on_the_split(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["evaluate", "quick", "--dataset", "digits", "--split", "validation"]) == 0
    output = capsys.readouterr().out
    assert "(validation, 10 crops)" in output
    assert output.endswith("the best epoch was chosen on this split (validation): other images will do worse\n")


@pytest.mark.parametrize(
    ("split", "says"),
    [
        ("validation", "the network was also trained on this split (validate_on is test): other images will do worse"),
        ("test", "the best epoch was chosen on this split (test): other images will do worse"),
    ],
)
def test_evaluate_says_what_a_run_that_was_judged_on_test_images_knows_already(
    capsys: pytest.CaptureFixture[str], split: str, says: str
) -> None:
    assert main(["evaluate", "on_test", "--dataset", "digits", "--split", split]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == says


def test_evaluate_knows_that_a_run_without_validation_trained_on_those_images(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["evaluate", "on_none", "--dataset", "digits", "--split", "validation"]) == 0
    assert "was also trained on this split (validate_on is none)" in capsys.readouterr().out.splitlines()[-1]
    assert main(["evaluate", "on_none", "--dataset", "digits"]) == 0
    assert "will do worse" not in capsys.readouterr().out


@pytest.mark.parametrize(("form", "name"), [("onnx", "a.onnx"), ("keras", "a.weights.h5"), ("torch_export", "a.pt2")])
def test_export_writes_the_file_and_tells_its_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, name: str
) -> None:
    target = tmp_path / name
    assert main(["export", "quick", "--format", form, "--out", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}  {target.stat().st_size:,} bytes\n"


def test_what_keras_gets_comes_back_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, again = tmp_path / "a.weights.h5", tmp_path / "again"
    assert main(["export", "quick", "--format", "keras", "--out", str(target)]) == 0
    network = ["width_multiplier=0.1", "channels=1", "mean=[120.0]", "std=[60.0]"]
    command = ["import-keras", str(target), "--recipe", "quick", "--epsilon", "1e-5", "--out", str(again)]
    command += [word for pair in network for word in ("--override", pair)]
    assert main([*command, "--classes", *DIGITS]) == 0
    checkpoint = load_checkpoint(again)
    assert checkpoint.class_names == tuple(DIGITS)
    assert checkpoint.metadata["weights_sha256"] == load_checkpoint(Path("quick")).metadata["weights_sha256"]
    assert capsys.readouterr().out.endswith(f"{again}  weights {checkpoint.metadata['weights_sha256']}\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["export", "caffe", "--format", "keras", "--out", "a.weights.h5"], "export_unsupported: norm1 is a local"),
        (
            ["export", "quick", "--format", "onnx", "--out", "quick"],
            "quick: this file exists already; --force replaces it",
        ),
        (["export", "quick", "--format", "onnx", "--out", "no/a"], "no/"),
        (["export", "quick", "--format", "keras", "--out", "a.h5"], "config_invalid: a.h5 must end in .weights.h5"),
        (["export", "nope", "--format", "onnx", "--out", "a"], "checkpoint_corrupt: nope is not a complete checkpoint"),
        (["import-keras", "nope", "--recipe", "notes-cifar10", "--out", "x", "--classes", "a"], "nope: No such file"),
        (
            ["import-keras", "nope", "--recipe", "notes-cifar10", "--out", "quick", "--classes", "a"],
            "quick: this folder",
        ),
        (["import-keras", "nope", "--recipe", "nope", "--out", "x", "--classes", "a"], "recipe_not_found: there is no"),
        (["import-keras", "nope", "--recipe", "quick", "--out", "x", "--classes", "a"], "config_invalid: the epsilon"),
    ],
)
def test_a_bad_input_is_answered_with_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    before = set(Path().rglob("*"))
    assert main(arguments) == 1
    errors = capsys.readouterr().err
    assert errors.startswith(says), errors
    assert errors.count("\n") == 1
    assert set(Path().rglob("*")) == before


@pytest.mark.parametrize("epsilon", ["-2", "0", "1", "nan", "much"])
def test_an_epsilon_is_a_small_number_over_0(epsilon: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["import-keras", "nope", "--recipe", "quick", "--out", "x", "--classes", "a", f"--epsilon={epsilon}"]
    with pytest.raises(SystemExit):
        main(command)
    assert "is not a number between 0 and 1" in capsys.readouterr().err


def test_a_gpu_that_is_not_there_is_said_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert main(["evaluate", "quick", "--dataset", "digits", "--device", "cuda"]) == 1
    assert capsys.readouterr().err.startswith("config_invalid: device cuda is not on this machine")


def test_the_packages_of_the_formats_are_not_loaded_before_they_are_needed() -> None:
    code = (
        "import sys, alexnet_core.__main__ as program\n"
        "assert 'torch' not in sys.modules\n"
        "import alexnet_core.export.file, alexnet_core.export.keras_reader\n"
        "print(*{'onnx', 'h5py', 'keras', 'onnxruntime'} & set(sys.modules))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
