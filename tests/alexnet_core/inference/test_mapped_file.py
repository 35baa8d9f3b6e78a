"""A mapped file is a copy of its own, and its memory can be taken back."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from alexnet_core.inference.mapped_file import Scratch, give_back

MIB = 1 << 20


def write(file: BinaryIO) -> None:
    file.write(b"bytes")


def resident_bytes() -> int:
    """What this process has in memory of mapped files."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssFile:")]
    return 1024 * int(line.split()[1])


def test_what_is_given_back_is_read_again(tmp_path: Path) -> None:
    data = bytes(range(256)) * (32 * MIB // 256)
    mapping = Scratch(tmp_path).map_file(lambda file: file.write(data), len(data))
    assert mapping is not None
    assert [*tmp_path.iterdir()] == []  # it has no name, so that it goes with the process
    assert mapping[:] == data
    with_all = resident_bytes()
    give_back(mapping)
    assert with_all - resident_bytes() > 28 * MIB
    assert mapping[:] == data


def test_without_room_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert Scratch(tmp_path / "is not there").map_file(write, 5) is None
    assert Scratch(tmp_path).map_file(refuse, 5) is None
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert Scratch(tmp_path).map_file(write, 5) is None


def test_what_is_to_stay_free_of_the_disk_stays_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 10 * MIB
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(100 * MIB, 90 * MIB, free))
    assert Scratch(tmp_path, free - 5).map_file(write, 5) is not None
    assert Scratch(tmp_path, free - 4).map_file(write, 5) is None
