"""What was computed once for a checkpoint and is kept on this machine: indexes of similar images, answers for splits.

A result is a folder `insight/<checkpoint>/<kind>-<split>-<version>` of the data folder. It is made in a draft beside
it, by one process at a time, and renamed when it is whole. What has been unused longest goes first when there is no
room, and what belongs to checkpoints that are gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from alexnet_core.durable import sync_dir
from alexnet_core.insight.methods import PassKind, Split
from alexnet_core.layout import GONE_PREFIX, TEMPORARY_PREFIX, temporary_name

FOLDER = "insight"
VERSION = 1  #: of what is in the folders
ABANDONED_S = 3600.0  #: a draft without a change for so long was left by a killed process


@dataclass(frozen=True)
class ResultKey:
    """What a result is of."""

    checkpoint_id: str
    kind: PassKind
    split: Split

    @property
    def path(self) -> str:
        """The folder, below that of all results."""
        return f"{self.checkpoint_id}/{self.kind}-{self.split}-{VERSION}"


class Results:
    """The results that are kept on this machine, for all API processes that share the data folder."""

    def __init__(self, data_dir: Path, *, max_bytes: int) -> None:
        self._root, self._max_bytes = data_dir.absolute() / FOLDER, max_bytes

    def find(self, key: ResultKey) -> Path | None:
        """Return a result's folder, which counts as used now. None: it is not there."""
        folder = self._root / key.path
        try:
            os.utime(folder)
        except OSError:
            return None
        return folder

    def forget(self, key: ResultKey) -> None:
        """Remove a result that can't be read, so that it is made again."""
        _remove(self._root / key.path)

    def begin(self, key: ResultKey) -> Draft | None:
        """Return a draft for a result. None: another process is making it."""
        folder = self._root / key.path
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder.parent / f".{folder.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return None
        draft = folder.parent / temporary_name(folder.name)
        draft.mkdir()
        return Draft(draft, folder, lock)

    def sweep(self, select_existing: Callable[[Iterable[str]], set[str]]) -> None:
        """Remove the results of checkpoints that are gone, drafts that were left, and what there is no room for.

        Args:
            select_existing: returns those of some checkpoints' ids that still exist.
        """
        if not self._root.is_dir():
            return
        names = {entry.name for entry in os.scandir(self._root) if entry.is_dir() and entry.name.startswith("ckpt_")}
        for name in names - select_existing(names):
            _remove(self._root / name)
        kept: list[tuple[float, int, Path]] = []
        for folder in self._root.glob("*/*"):
            with contextlib.suppress(OSError):
                if folder.name.startswith((TEMPORARY_PREFIX, GONE_PREFIX)):
                    if time.time() - _last_change(folder) > ABANDONED_S:
                        _remove(folder)
                elif folder.is_dir():
                    size = sum(file.stat().st_size for file in folder.iterdir())
                    kept.append((folder.stat().st_mtime, size, folder))
        total = sum(size for _, size, _ in kept)
        for _, size, folder in sorted(kept)[:-1]:  # the one that was used last stays, however large
            if total <= self._max_bytes:
                break
            _remove(folder)
            total -= size


@dataclass
class Draft:
    """A result that is being made by this process."""

    path: Path
    _target: Path
    _lock: int

    def publish(self) -> Path:
        """Make it the result, which outlives a power cut. One that is there already is replaced."""
        for file in self.path.iterdir():
            _sync(file)
        sync_dir(self.path)
        if self._target.exists():
            _remove(self._target)
        self.path.rename(self._target)
        sync_dir(self._target.parent)
        self._unlock()
        return self._target

    def abandon(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _last_change(folder: Path) -> float:
    return max([folder.stat().st_mtime, *(file.stat().st_mtime for file in folder.iterdir())])


def _remove(folder: Path) -> None:
    """Remove a folder so that nobody sees half of it."""
    gone = folder.parent / f"{GONE_PREFIX}{temporary_name(folder.name)}"
    with contextlib.suppress(OSError):
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
