from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainyard.private_files import FolderUnusable, keep_private


@pytest.fixture(autouse=True)
def same_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_and_what_is_made_in_it_are_its_user_s_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    keep_private(folder)
    (folder / "file").write_text("x")
    (folder / "below").mkdir()
    assert (mode_of(folder), mode_of(folder / "file"), mode_of(folder / "below")) == (0o700, 0o600, 0o700)


def test_a_folder_that_was_open_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    keep_private(tmp_path)
    assert mode_of(tmp_path) == 0o700


def test_migrate_leaves_nothing_that_others_may_read(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    environment = os.environ | {"TRAINYARD_DATA_DIR": str(folder)}
    subprocess.run([sys.executable, "-m", "trainyard", "migrate"], env=environment, check=True, umask=0o022)
    assert mode_of(folder) == 0o700
    assert {mode_of(path) & 0o077 for path in folder.rglob("*")} == {0}


@pytest.mark.parametrize("command", ["trainyard migrate", "trainyard reconcile", "api", "worker"])
def test_a_folder_that_can_t_be_made_is_said_in_a_line(command: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    environment = os.environ | {"TRAINYARD_DATA_DIR": str(tmp_path / "file" / "data")}
    done = subprocess.run([sys.executable, "-m", *command.split()], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "TRAINYARD_DATA_DIR" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_folder_that_can_t_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for a file system that is mounted to be read
    with pytest.raises(FolderUnusable, match="can't be written"):
        keep_private(tmp_path)
