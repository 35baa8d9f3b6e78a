"""The commands that import published weights, where they are called in the wrong way."""

from __future__ import annotations

from pathlib import Path

import pytest

from alexnet_core.__main__ import main


@pytest.mark.parametrize("command", ["import-torchvision", "import-caffe"])
@pytest.mark.parametrize("words", [[], ["--classes", "a", "b", "--classes-file", "c.txt"]])
def test_classes_are_named_in_one_of_two_ways(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, words: list[str]
) -> None:
    with pytest.raises(SystemExit) as refusal:
        main([command, "a.file", "--out", str(tmp_path / "made"), *words])
    assert refusal.value.code == 2
    assert "either --classes or --classes-file" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("command", ["import-torchvision", "import-caffe"])
def test_a_file_that_is_not_there_or_is_none_of_its_kind_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    out = ["--classes", "a", "b", "--out", str(tmp_path / "made")]
    assert main([command, str(tmp_path / "gone"), *out]) == 1
    assert capsys.readouterr().err == f"{tmp_path}/gone: No such file or directory\n"
    (tmp_path / "other").write_text("no weights")
    assert main([command, str(tmp_path / "other"), *out]) == 1
    assert capsys.readouterr().err.startswith(f"checkpoint_corrupt: {tmp_path}/other ")
    assert not (tmp_path / "made").exists()
