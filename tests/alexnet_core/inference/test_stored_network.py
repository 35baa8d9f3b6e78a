"""A checkpoint is read without torch exactly as with it, and refused for the same reasons."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from alexnet_core.errors import CheckpointCorrupt, CheckpointIncompatible
from alexnet_core.inference.mapped_file import Scratch
from alexnet_core.inference.stored_network import read_network, view_tensors
from alexnet_core.network.checkpoint import load_checkpoint, save_checkpoint
from tests.alexnet_core.networks import NARROW, make_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    checkpoint = make_checkpoint("quick", **NARROW)
    return save_checkpoint(replace(checkpoint, path=tmp_path / "epoch-00000001-e0")).path


def test_it_holds_what_the_checkpoint_holds(folder: Path) -> None:
    stored, loaded = read_network(folder), load_checkpoint(folder)
    assert (stored.config, stored.class_names, stored.metadata) == (loaded.config, loaded.class_names, loaded.metadata)
    assert stored.transform.model_dump() == loaded.preprocessing.model_dump()
    assert stored.weights_sha256 == loaded.metadata["weights_sha256"]
    assert stored.weights.keys() == loaded.weights.keys()
    for name, values in stored.weights.items():
        assert np.array_equal(values, loaded.weights[name].numpy()), name


def test_a_copy_of_its_own_holds_the_same(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alexnet_core.network.checkpoint_files.PIECE_BYTES", 4096)
    in_memory, pauses = read_network(folder), list[None]()
    copied = read_network(folder, Scratch(tmp_path), lambda: pauses.append(None))
    assert in_memory.mapping is None
    assert copied.mapping is not None
    assert len(pauses) == -(-(folder / "weights.safetensors").stat().st_size // 4096) > 1
    for name, values in in_memory.weights.items():
        assert np.array_equal(values, copied.weights[name]), name


@pytest.mark.parametrize("change", ["a bit", "cut", "longer", "missing"])
@pytest.mark.parametrize("is_copied", [False, True])
def test_weights_that_differ_from_the_manifest_are_noticed(folder: Path, change: str, is_copied: bool) -> None:
    weights = folder / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    if change == "a bit":
        data[-5] ^= 1
    weights.write_bytes(data[:-1] if change == "cut" else data + b"0" if change == "longer" else data)
    if change == "missing":
        weights.unlink()
    with pytest.raises(CheckpointCorrupt, match=r"weights\.safetensors"):
        read_network(folder, Scratch(folder.parent) if is_copied else None)
    assert [one.name for one in folder.parent.iterdir()] == [folder.name], "no copy is left behind"


def test_without_room_for_a_copy_they_are_read_into_memory(folder: Path, tmp_path: Path) -> None:
    assert read_network(folder, Scratch(tmp_path / "is not there")).mapping is None


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    checkpoint = make_checkpoint("quick", **NARROW)
    other = make_checkpoint("quick", width_multiplier=0.2)
    folder = save_checkpoint(replace(checkpoint, path=tmp_path / "epoch-00000001-e0", weights=other.weights)).path
    with pytest.raises(CheckpointIncompatible, match="don't fit its config"):
        read_network(folder)


def test_views_hold_what_the_librarys_reader_reads() -> None:
    tensors = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a.count": np.array(7),
        "empty": np.zeros((0, 4), "f4"),
    }
    data = safetensors.numpy.save(tensors, metadata={"made": "here"})
    found, expected = view_tensors(data), safetensors.numpy.load(data)
    assert found.keys() == expected.keys()
    for name, values in found.items():
        assert np.array_equal(values, expected[name])
        assert values.dtype == expected[name].dtype


@pytest.mark.parametrize("data", [b"", b"\xff" * 20, (2).to_bytes(8, "little") + b"{}"[:1]])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of json or numpy
        view_tensors(data)
    cut = safetensors.numpy.save({"a": np.ones(100, np.float32)})[:-4]
    with pytest.raises(ValueError, match="buffer"):
        view_tensors(cut)
