"""A mapped file is a copy of its own, and its memory can be taken back."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from alexnet_core.inference.mapped_file import give_back, map_file

MIB = 1 << 20


def resident_bytes() -> int:
    """What this process has in memory of mapped files."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssFile:")]
    return 1024 * int(line.split()[1])


def test_what_is_given_back_is_read_again(tmp_path: Path) -> None:
    data = bytes(range(256)) * (32 * MIB // 256)
    mapping = map_file(data, tmp_path)
    assert mapping is not None
    assert [*tmp_path.iterdir()] == []  # it has no name, so that it goes with the process
    assert mapping[:] == data
    with_all = resident_bytes()
    give_back(mapping)
    assert with_all - resident_bytes() > 28 * MIB
    assert mapping[:] == data


def test_without_room_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert map_file(b"data", tmp_path / "is not there") is None
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert map_file(b"data", tmp_path) is None
