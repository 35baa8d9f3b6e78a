"""One exported file: whole, or not there, and never over another one."""

from __future__ import annotations

import errno
import os
import resource
import signal
from pathlib import Path

import pytest

from alexnet_core.commands.export import FORMAT_NAMES
from alexnet_core.errors import ConfigError, DiskFull, ExportUnsupported
from alexnet_core.export import file as exports
from alexnet_core.export.file import FORMATS, export_checkpoint
from alexnet_core.network.checkpoint import Checkpoint
from tests.alexnet_core.networks import NARROW, make_checkpoint

NAMES = {"onnx": "a.onnx", "keras": "a.weights.h5", "torch_export": "a.pt2"}


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return make_checkpoint("quick", **NARROW)


def test_the_command_line_offers_every_format() -> None:
    assert set(FORMAT_NAMES) == set(FORMATS) == set(NAMES)


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_is_there_stays_unless_it_may_be_replaced(
    checkpoint: Checkpoint, tmp_path: Path, form: str
) -> None:
    target = tmp_path / NAMES[form]
    target.write_text("precious")
    with pytest.raises(FileExistsError):
        export_checkpoint(checkpoint, form, target)
    assert target.read_text() == "precious"
    export_checkpoint(checkpoint, form, target, replace=True)
    assert target.stat().st_size > 10_000
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_comes_while_ours_is_written_stays(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.onnx"

    def write(_: Checkpoint, temporary: Path) -> None:
        temporary.write_text("ours")
        target.write_text("theirs")

    monkeypatch.setitem(exports.FORMATS, "onnx", write)
    with pytest.raises(FileExistsError):
        export_checkpoint(checkpoint, "onnx", target)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.onnx": "theirs"}


def test_a_write_that_fails_leaves_nothing_behind_and_the_old_file_as_it_was(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_the_disk(_: Checkpoint, temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.onnx").write_text("old")
    monkeypatch.setitem(exports.FORMATS, "onnx", fill_the_disk)
    with pytest.raises(DiskFull, match=r"a\.onnx"):
        export_checkpoint(checkpoint, "onnx", tmp_path / "a.onnx", replace=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.onnx": "old"}


@pytest.mark.parametrize("form", ["onnx", "keras", "torch_export"])
def test_a_writer_that_meets_the_end_of_the_disk_raises(form: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    """torch's own writer would end the whole process."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            export_checkpoint(checkpoint, form, tmp_path / "a.weights.h5")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_links_will_do(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    export_checkpoint(checkpoint, "onnx", tmp_path / "a.onnx")
    with pytest.raises(FileExistsError):
        export_checkpoint(checkpoint, "onnx", tmp_path / "a.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


def test_what_a_format_cannot_say_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ExportUnsupported, match="use onnx or torch_export"):
        export_checkpoint(make_checkpoint("caffe", **NARROW), "keras", tmp_path / "a.weights.h5")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_and_a_name_that_keras_would_not_load_are_refused(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="use one of onnx, keras, torch_export"):
        export_checkpoint(checkpoint, "gguf", tmp_path / "a")
    with pytest.raises(ConfigError, match=r"a\.h5 must end in \.weights\.h5"):
        export_checkpoint(checkpoint, "keras", tmp_path / "a.h5")
