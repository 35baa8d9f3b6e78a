"""Files of torch.save: every tensor comes out as torch itself reads it, and nothing in a file is ever run."""

from __future__ import annotations

import os
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from alexnet_core.errors import CheckpointCorrupt
from alexnet_core.export.torch_reader import read_tensors

BOTH = pytest.mark.parametrize("is_archive", [True, False])


def save(value: Any, path: Path, is_archive: bool = True) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=is_archive)
    return path


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert torch.equal(found[name], value), name


@BOTH
def test_a_models_state_dict_is_read_as_torch_reads_it(tmp_path: Path, is_archive: bool) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    expected = model.state_dict()
    assert_same(read_tensors(save(expected, tmp_path / "a.pth", is_archive)), expected)


@BOTH
def test_every_kind_of_number_and_view_is_read(tmp_path: Path, is_archive: bool) -> None:
    whole = torch.arange(24.0)
    expected = {
        "a": whole.reshape(4, 6).t(), "b": whole[3:9], "c": torch.randn(3).half(), "d": torch.randn(2).bfloat16(),
        "e": torch.randn(2, 2).double(), "f": torch.tensor(7), "g": torch.zeros(0, 3), "h": torch.tensor([True, False]),
        "i": nn.Parameter(torch.randn(2, 3)).detach(),
    }  # fmt: skip
    assert_same(read_tensors(save(expected, tmp_path / "a.pth", is_archive)), expected)


@BOTH
@pytest.mark.parametrize("name", ["state_dict", "model"])
def test_a_state_dict_inside_a_training_state_is_found(tmp_path: Path, is_archive: bool, name: str) -> None:
    expected = OrderedDict(weight=nn.Parameter(torch.randn(2, 3)))
    path = save({"epoch": 3, "arch": "alexnet", name: expected}, tmp_path / "a.pth", is_archive)
    assert_same(read_tensors(path), {"weight": expected["weight"].detach()})


class Harmful:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@BOTH
def test_nothing_in_a_file_is_run(tmp_path: Path, is_archive: bool) -> None:
    path = save({"weight": torch.zeros(2), "more": Harmful(tmp_path / "harm")}, tmp_path / "a.pth", is_archive)
    with pytest.raises(CheckpointCorrupt, match=r"asks for '\w+\.mkdir'"):
        read_tensors(path)
    assert not (tmp_path / "harm").exists()
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Harmful(tmp_path / "harm"), protocol=2))
    with pytest.raises(CheckpointCorrupt):
        read_tensors(tmp_path / "plain.pth")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (torch.zeros(3), "holds a Tensor"),
        ({}, "no state dict"),
        ({"a": torch.zeros(2), "b": 3}, "'b' is no tensor"),
        ([torch.zeros(2)], "holds a list"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, value: Any, says: str) -> None:
    with pytest.raises(CheckpointCorrupt, match=says):
        read_tensors(save(value, tmp_path / "a.pth"))


def rewrite(path: Path, *, compress: int = zipfile.ZIP_STORED, **changed: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, data in entries.items():
            archive.writestr(name, changed.get(name.rpartition("/")[2].replace(".", "_"), data))


def test_an_archive_that_torch_does_not_write_is_refused(tmp_path: Path) -> None:
    path = save({"weight": torch.zeros(4, 4)}, tmp_path / "a.pth")
    content = path.read_bytes()
    rewrite(path)
    assert_same(read_tensors(path), {"weight": torch.zeros(4, 4)})
    changes: dict[str, dict[str, Any]] = {
        "compressed": {"compress": zipfile.ZIP_DEFLATED},
        "another kind of machine": {"byteorder": b"big"},
        "has 8 bytes": {"0": b"12345678"},
    }
    for says, change in changes.items():
        path.write_bytes(content)
        rewrite(path, **change)
        with pytest.raises(CheckpointCorrupt, match=says):
            read_tensors(path)


@pytest.mark.parametrize("size", [b"K\x04K\xff", b"K\x04J\xff\xff\xff\x7f"])
def test_a_shape_that_the_values_do_not_fill_is_refused(tmp_path: Path, size: bytes) -> None:
    path = save({"weight": torch.zeros(4, 4)}, tmp_path / "a.pth")
    with zipfile.ZipFile(path) as archive:
        [data] = [archive.read(name) for name in archive.namelist() if name.endswith("data.pkl")]
    assert data.count(b"K\x04K\x04") == 1
    rewrite(path, data_pkl=data.replace(b"K\x04K\x04", size))
    with pytest.raises(CheckpointCorrupt, match="without as many values"):
        read_tensors(path)


@BOTH
def test_a_damaged_file_is_said_to_be_one(tmp_path: Path, is_archive: bool) -> None:
    """Every end and many flipped bytes: a clear refusal, or the same names, never another error."""
    path = save(nn.Linear(3, 2).state_dict(), tmp_path / "a.pth", is_archive)
    content, draw = path.read_bytes(), random.Random(0)
    damaged = [content[: draw.randrange(len(content))] for _ in range(60)]
    for _ in range(300):
        changed = bytearray(content)
        changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        damaged.append(bytes(changed))
    refused = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            read_tensors(path)
        except CheckpointCorrupt:
            refused += 1
    assert refused > 60
