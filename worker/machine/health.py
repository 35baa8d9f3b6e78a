"""Says whether a worker of this machine is well, from a file that it keeps: a check needs no database.

A worker writes to its file after each heartbeat that the database took, unless the loop that looks for jobs stands
still. So one that hangs, was killed, or has no database is unhealthy 15 seconds later. Only what Python has loaded
anyway is imported here, because a check runs every few seconds on cores that train.
"""

from __future__ import annotations

import os
import time

FOLDER = "health"  #: of the data folder
DATA_DIR = "trainyard-data"  #: where `TRAINYARD_DATA_DIR` is not set, as the settings have it
HEALTHY_S = 15.0  #: after a file was written, as long as a heartbeat counts in the database
_KEPT_S = 24 * 3600.0  #: files of workers that were killed, in containers that are gone


class HealthFile:
    """The file of this process. It is made once and then overwritten, which also works on a full disk."""

    def __init__(self, data_dir: str | os.PathLike[str]) -> None:
        self._folder = os.path.join(data_dir, FOLDER)
        self._path = os.path.join(self._folder, f"{_host()}-{os.getpid()}")
        self._descriptor: int | None = None
        self._is_removed = False

    def write(self) -> None:
        """Say that this worker is well now.

        Raises:
            OSError: the file can't be written.
        """
        if self._is_removed:
            return
        if self._descriptor is None:
            os.makedirs(self._folder, exist_ok=True)
            _remove_old(self._folder)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        os.pwrite(self._descriptor, b"%20.3f\n" % time.monotonic(), 0)

    def remove(self) -> None:
        """Remove it: this worker ends. It stays open, because another thread may be writing to it."""
        self._is_removed = True
        if self._descriptor is not None:
            _unlink(self._path)


def is_any_healthy(data_dir: str | os.PathLike[str] | None = None) -> bool:
    """Return whether a worker of this machine was well within the last 15 seconds.

    Args:
        data_dir: of the yard; None: what the environment says.
    """
    folder = os.path.join(data_dir or os.environ.get("TRAINYARD_DATA_DIR") or DATA_DIR, FOLDER)
    return any(_is_healthy(os.path.join(folder, name), name) for name in _list(folder))


def _is_healthy(path: str, name: str) -> bool:
    host, _, pid = name.rpartition("-")
    if host != _host() or not pid.isdigit() or not _is_running(int(pid)):
        return False
    try:
        with open(path, "rb") as file:
            age_s = time.monotonic() - float(file.read(64))
    except (OSError, ValueError):
        return False
    return -0.01 <= age_s <= HEALTHY_S  # far below zero: it was written before the machine was started again


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def _remove_old(folder: str) -> None:
    """Remove what killed workers left: of this machine, and of those that have not written for a day."""
    for name in _list(folder):
        host, _, pid = name.rpartition("-")
        path = os.path.join(folder, name)
        is_ours = host == _host() and pid.isdigit()
        if (is_ours and not _is_running(int(pid))) or _is_old(path):
            _unlink(path)


def _is_old(path: str) -> bool:
    try:
        return time.time() - os.stat(path).st_mtime > _KEPT_S
    except OSError:
        return False


def _list(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return


def _host() -> str:
    return os.uname().nodename
