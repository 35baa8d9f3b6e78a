"""The folder in memory where the processes of one API keep what they count, so that each of them can tell the sum.

`prometheus-client` writes the files: it maps one for each process and kind of metric. The process that starts the
others makes the folder, hands its path on as `PROMETHEUS_MULTIPROC_DIR`, which must be set before `prometheus_client`
is imported, and says which processes have ended. Without that variable a process counts alone, in its own memory.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from enum import StrEnum
from pathlib import Path

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "trainyard-metrics-"
_OWNED, _FOLDING = "owned.lock", "folding.lock"
_SETTLED_S = 60.0  # a folder that is younger may not be locked yet by the process that makes it
_ENDED = "ended"  #: in place of a process's number


class ProcessRole(StrEnum):
    """What a process of an API does."""

    WEB = "web"  #: answers requests
    ENGINE = "engine"  #: decodes images and computes predictions


class MetricsFolder:
    """The folder, as the process sees it that made it and starts the others. It is removed by `close`."""

    def __init__(self, parent: Path | None = None) -> None:
        """Make a folder, and remove those that killed processes left.

        Args:
            parent: where; None: in memory, or where there is no such place, among the temporary files.
        """
        parent = parent or _find_parent()
        _remove_abandoned(parent)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        self._held = ExitStack()
        self._held.enter_context(_locked(self.path / _OWNED, fcntl.LOCK_EX))
        (self.path / _FOLDING).touch()

    @property
    def environment(self) -> dict[str, str]:
        """What the environment of each process must have before it starts."""
        return {_VARIABLE: str(self.path)}

    def process_ended(self, pid: int) -> None:
        """Forget the gauges of a process that has ended, and keep what it counted.

        Its counts are added to those of all ended ones, so the folder does not grow however many processes are started.
        """
        from prometheus_client.mmap_dict import MmapedDict

        with _locked(self.path / _FOLDING, fcntl.LOCK_EX):
            for file in [*self.path.glob(f"gauge_*_{pid}.db"), *self.path.glob(f"process_*_{pid}")]:
                file.unlink(missing_ok=True)
            for kind in ("counter", "histogram"):
                file = self.path / f"{kind}_{pid}.db"
                if not file.exists():
                    continue
                if not file.stat().st_size:  # killed while it made the file
                    file.unlink()
                    continue
                total = MmapedDict(str(self.path / f"{kind}_{_ENDED}.db"))
                for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file)):
                    total.write_value(key, total.read_value(key)[0] + value, 0.0)
                total.close()
                file.unlink()

    def close(self) -> None:
        """Remove the folder; harmless a second time."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._held.close()


def shared_folder() -> Path | None:
    """Return the folder that this process shares with others. None: it counts alone."""
    path = os.environ.get(_VARIABLE)
    return None if path is None else Path(path)


def announce(role: ProcessRole) -> None:
    """Tell the processes of this API that this one runs."""
    if (folder := shared_folder()) is not None:
        (folder / f"process_{role}_{os.getpid()}").touch()


def list_processes() -> list[tuple[ProcessRole, int]]:
    """Return the processes of this API with their numbers. One that counts alone lists itself."""
    if (folder := shared_folder()) is None:
        return [(ProcessRole.WEB, os.getpid())]
    parts = [path.name.split("_") for path in folder.glob("process_*_*")]
    return [(ProcessRole(role), int(pid)) for _, role, pid in parts]


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Keep the counts of ended processes from being moved within the block."""
    with _locked(folder / _FOLDING, fcntl.LOCK_SH):
        yield


@contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, how)
        yield


def _find_parent() -> Path:
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and os.access(memory, os.W_OK) else Path(tempfile.gettempdir())


def _remove_abandoned(parent: Path) -> None:
    for path in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # locked, another user's, or just gone
            if time.time() - path.stat().st_mtime < _SETTLED_S:
                continue
            with _locked(path / _OWNED, fcntl.LOCK_EX | fcntl.LOCK_NB):
                shutil.rmtree(path, ignore_errors=True)
