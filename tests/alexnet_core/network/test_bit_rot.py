"""Damaged and foreign checkpoints: found before any of their bytes is used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from alexnet_core.data.pack import Pack
from alexnet_core.errors import CheckpointCorrupt, CheckpointIncompatible
from alexnet_core.network.checkpoint import load_checkpoint
from alexnet_core.network.checkpoint_files import verify_checkpoint
from alexnet_core.training.loop import Run
from alexnet_core.training.run_spec import RunSpec
from tests.alexnet_core.toy import CONFIG, QuietHooks, write_toy_pack

NUM_FLIPS = 200


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_toy_pack(tmp_path_factory.mktemp("packs") / "toy")


@pytest.fixture
def checkpoint(pack: Pack, tmp_path: Path) -> Path:
    path = Run(RunSpec(CONFIG, pack, 7, tmp_path), QuietHooks(9)).train().last_checkpoint
    assert path is not None
    return path


def flips(folder: Path) -> Iterator[str]:
    """One flipped bit after the other, each in the next file; put back before the next one."""
    draw = np.random.default_rng(20)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for number in range(NUM_FLIPS):
        path = files[number % len(files)]
        whole = path.read_bytes()
        place, bit = int(draw.integers(len(whole))), int(draw.integers(8))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        yield f"bit {bit} of byte {place} of {path.name}"
        path.write_bytes(whole)


def test_two_hundred_flipped_bits_are_found_before_they_are_used(checkpoint: Path, pack: Pack) -> None:
    refusals = (CheckpointCorrupt, CheckpointIncompatible)
    found = 0
    for flip in flips(checkpoint):
        try:
            verify_checkpoint(checkpoint, state=True)
        except refusals:
            found += 1
        else:
            pytest.fail(f"{flip}: verified")
        with pytest.raises(refusals):
            Run(RunSpec(CONFIG, pack, 7, checkpoint.parent, resume_from=checkpoint, lease_epoch=1), QuietHooks())
    assert found == NUM_FLIPS
    load_checkpoint(checkpoint, state=True)


@pytest.mark.parametrize("cut", ["shorter", "longer", "empty", "gone"])
def test_a_file_of_another_length_is_found(checkpoint: Path, cut: str) -> None:
    for path in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        path.unlink()
        if cut != "gone":
            path.write_bytes({"shorter": whole[:-1], "longer": whole + b"x", "empty": b""}[cut])
        with pytest.raises(CheckpointCorrupt):
            load_checkpoint(checkpoint, state=True)
        path.write_bytes(whole)


@pytest.mark.parametrize("version", [0, 2, 99, None, "1", 1.5])
def test_a_checkpoint_of_another_format_is_refused_by_name(checkpoint: Path, version: object) -> None:
    path = checkpoint / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": version}))
    with pytest.raises(CheckpointIncompatible, match=f"has format {version!r}; this version reads 1"):
        load_checkpoint(checkpoint)
