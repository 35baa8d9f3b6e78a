"""Conversions of checkpoints: made once, kept within limits, made again if damaged. Some by the real child."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from alexnet_core.errors import CheckpointCorrupt
from alexnet_core.network.checkpoint import save_checkpoint
from api.downloads import exports as module
from api.downloads.exports import Exports
from tests.alexnet_core.networks import NARROW, make_checkpoint
from tests.api.served import wait_until
from trainyard.errors import CheckpointIncompatible, TooManyDownloads
from trainyard.export_errors import ExportFailed, ExportUnsupported
from trainyard.settings import Settings

Convert = Callable[[Path, str, Path], None]


class Converter:
    """Stands in for the child."""

    def __init__(self, size: int = 100) -> None:
        self.calls = 0
        self.size, self.gate = size, threading.Event()
        self.gate.set()

    def __call__(self, folder: Path, form: str, file: Path) -> None:
        self.calls += 1
        assert self.gate.wait(60)
        file.write_bytes(f"{form} {self.calls} ".encode() + bytes(self.size))


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> Converter:
    converter = Converter()
    monkeypatch.setattr(module, "_convert", converter)
    return converter


def exports_in(folder: Path, *, max_bytes: int = 2**20, patience_s: float = 10) -> Exports:
    return Exports(Settings(data_dir=folder, export_cache_bytes=max_bytes), patience_s=patience_s)


def take(exports: Exports, name: str = "ckpt_a", form: str = "onnx") -> bytes:
    with exports.holding(name, Path("anywhere"), form) as made:
        return made.path.read_bytes()


def test_many_who_ask_at_once_get_one_conversion(converter: Converter, tmp_path: Path) -> None:
    """Threads of one process, and other processes, which have an `Exports` of their own."""
    several = [exports_in(tmp_path) for _ in range(3)]
    converter.gate.clear()
    with ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(take, several[number % 3]) for number in range(12)]
        threading.Timer(0.3, converter.gate.set).start()
        assert {one.result() for one in waiting} == {b"onnx 1 " + bytes(100)}
    assert converter.calls == 1
    take(several[0])
    take(several[0], form="keras")
    take(several[0], "ckpt_b")
    assert converter.calls == 3


def test_who_waits_too_long_is_told_to_come_back(converter: Converter, tmp_path: Path) -> None:
    converter.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(take, exports_in(tmp_path))
        wait_until(lambda: converter.calls)
        with pytest.raises(TooManyDownloads) as refusal:
            take(exports_in(tmp_path, patience_s=0.2), "ckpt_b")
        assert refusal.value.retry_after_s
        converter.gate.set()
        first.result()


def test_the_longest_unused_go_first_and_one_that_is_read_stays(converter: Converter, tmp_path: Path) -> None:
    exports = exports_in(tmp_path, max_bytes=2**20)
    converter.size = 400_000
    with exports.holding("ckpt_a", Path("anywhere"), "onnx") as read:
        for name in ("ckpt_b", "ckpt_c", "ckpt_d"):
            take(exports, name)
        assert read.path.read_bytes().startswith(b"onnx 1 ")
    kept = {path.name.partition(".")[0] for path in (tmp_path / "exports").iterdir() if path.is_dir()}
    assert {"ckpt_a", "ckpt_d"} <= kept
    assert "ckpt_b" not in kept


@pytest.mark.parametrize("harm", ["cut", "changed", "without its facts", "gone"])
def test_a_damaged_one_is_made_again(converter: Converter, tmp_path: Path, harm: str) -> None:
    exports = exports_in(tmp_path)
    take(exports)
    [file] = (tmp_path / "exports").glob("*/model.onnx")
    if harm == "cut":
        file.write_bytes(b"")
    elif harm == "changed":
        file.write_bytes(b"!" + file.read_bytes()[1:])
    elif harm == "gone":
        file.unlink()
    else:
        (file.parent / "facts.json").write_text("{")
    assert take(exports).startswith(b"onnx 2 ")


def test_another_release_converts_anew(converter: Converter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take(exports_in(tmp_path))
    monkeypatch.setattr(module, "build_id", lambda: "9.9.9")
    take(exports_in(tmp_path))
    assert converter.calls == 2


def test_a_failed_conversion_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path, form: str, file: Path) -> None:
        file.write_bytes(b"half of it")
        raise ExportFailed

    monkeypatch.setattr(module, "_convert", fail)
    with pytest.raises(ExportFailed):
        take(exports_in(tmp_path))
    assert [path.name for path in (tmp_path / "exports").iterdir()] == ["converting.lock"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "epoch-00000001-e1"
    saved = save_checkpoint(replace(make_checkpoint("paper-2012", **NARROW), path=path, state={}, state_tensors={}))
    return saved.path


class TestChild:
    """The real child, which takes seconds as it loads torch."""

    def test_what_a_format_can_not_say_is_refused_in_words(self, folder: Path, tmp_path: Path) -> None:
        with (
            pytest.raises(ExportUnsupported, match=r"local response norm.*use onnx or torch_export"),
            exports_in(tmp_path).holding("ckpt_a", folder, "keras"),
        ):
            pass

    def test_a_damaged_checkpoint_is_found(self, folder: Path, tmp_path: Path) -> None:
        weights = folder / "weights.safetensors"
        whole = weights.read_bytes()
        weights.write_bytes(whole[:-1] + b"!")
        try:
            with pytest.raises(CheckpointCorrupt), exports_in(tmp_path).holding("ckpt_a", folder, "onnx"):
                pass
        finally:
            weights.write_bytes(whole)

    def test_a_checkpoint_of_another_version_is_refused(self, folder: Path, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        manifest = json.loads((folder / "manifest.json").read_text())
        (other / "manifest.json").write_text(json.dumps(manifest | {"format_version": 99}))
        with pytest.raises(CheckpointIncompatible), exports_in(tmp_path).holding("ckpt_a", other, "onnx"):
            pass

    def test_a_child_that_is_killed_is_no_verdict_on_the_checkpoint(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MOST_S", 0.05)
        with pytest.raises(ExportFailed), exports_in(tmp_path).holding("ckpt_a", folder, "onnx"):
            pass
