"""Checkpoints in other formats: each made once, by a child process, and kept in a folder of limited size.

The child is `python -m alexnet_core export`: a conversion needs torch, takes seconds, and a gigabyte for a large
network. It verifies what it reads. One runs at a time on a machine, with a low priority; who waits longer than
`PATIENCE_S` is told to come back. What was made is verified whenever it is sent, and made again if it was damaged.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alexnet_core.child_processes import scrubbed_environment
from alexnet_core.errors import CheckpointCorrupt, DiskFull
from alexnet_core.errors import CheckpointIncompatible as IncompatibleCore
from alexnet_core.errors import ExportUnsupported as Unsupported
from alexnet_core.layout import EXPORTS
from trainyard.build import build_id
from trainyard.errors import CheckpointIncompatible, TooManyDownloads
from trainyard.export_errors import ExportFailed, ExportUnsupported
from trainyard.settings import Settings
from trainyard.storage.cache import Cache
from trainyard.upload_errors import DiskFull as NoSpace

log = logging.getLogger(__name__)

PATIENCE_S = 120.0
MOST_S = 600.0  #: that a conversion may take
FILES = {"onnx": "model.onnx", "keras": "model.weights.h5", "torch_export": "model.pt2"}
_FACTS = "facts.json"  #: written last
_BUSY = "converting.lock"
_POLL_S = 0.1
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Export:
    """A converted checkpoint."""

    path: Path  #: of the file
    sha256: str
    size_bytes: int


class _MadeElsewhere(Exception):
    """Another process made it while this one waited."""


class Exports:
    """The converted checkpoints on this machine. Any number of threads and processes may share them."""

    def __init__(self, settings: Settings, *, patience_s: float = PATIENCE_S) -> None:
        self._root = settings.data_dir.absolute() / EXPORTS
        self._cache = Cache(self._root, max_bytes=settings.export_cache_bytes)
        self._patience_s = patience_s

    @contextmanager
    def holding(self, checkpoint_id: str, folder: Path, form: str) -> Iterator[Export]:
        """Yield a checkpoint in another format, which stays while the block runs; it is made first if it is missing.

        Args:
            checkpoint_id: whose.
            folder: its files.
            form: one of `FILES`.

        Raises:
            CheckpointCorrupt: a file of the checkpoint is missing or damaged.
            ExportUnsupported: the format can't say what the network does.
            ExportFailed: it could not be made now.
            CheckpointIncompatible: another version of this program wrote it.
            DiskFull: there is no room for it.
            TooManyDownloads: others are being made.
        """
        build = hashlib.sha256(build_id().encode()).hexdigest()[:8]  # another release may convert differently
        name = f"{checkpoint_id}.{form}.{build}"
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                with self._cache.holding(
                    {}, name, lambda target: self._make(name, folder, form, target, deadline)
                ) as made:
                    if (export := _read(made, form)) is not None:
                        yield export
                        return
            except _MadeElsewhere:
                continue
            log.warning("a converted checkpoint was damaged; it is made again", extra={"export": name})
            self._cache.forget(name)

    def _make(self, name: str, folder: Path, form: str, target: Path, deadline: float) -> None:
        with _alone(self._root / _BUSY, deadline):
            if (self._root / name).exists():
                raise _MadeElsewhere
            file = target / FILES[form]
            began = time.monotonic()
            _convert(folder, form, file)
            facts = {"sha256": _hash(file), "size": file.stat().st_size}
            (target / _FACTS).write_text(json.dumps(facts))
            log.info(
                "a checkpoint was converted", extra={"export": name, "seconds": round(time.monotonic() - began, 1)}
            )


def _read(made: Path, form: str) -> Export | None:
    """Return what was made. None: it is damaged."""
    try:
        facts = json.loads((made / _FACTS).read_bytes())
        export = Export(made / FILES[form], str(facts["sha256"]), int(facts["size"]))
        return export if _hash(export.path) == export.sha256 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def _alone(path: Path, deadline: float) -> Iterator[None]:
    """Let one conversion run at a time on this machine: another would take the cores and memory of predictions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TooManyDownloads(
                        "other checkpoints are being converted: try again in a moment", retry_after_s=30
                    ) from None
                time.sleep(_POLL_S)
        yield


def _convert(folder: Path, form: str, file: Path) -> None:
    command = [sys.executable, "-m", "alexnet_core", "export", str(folder), "--format", form, "--out", str(file)]
    try:
        done = subprocess.run(
            [*command, "--parent-pid", str(os.getpid())],
            env=scrubbed_environment() | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=MOST_S,
            start_new_session=True,
        )
    except (subprocess.TimeoutExpired, OSError) as exc:
        log.error("a conversion did not end in time, or was not started", exc_info=exc)
        raise ExportFailed(retry_after_s=30) from exc
    if done.returncode == 0:
        return
    said = done.stderr.decode(errors="replace").strip()
    code, _, message = (said.splitlines() or [""])[-1].partition(": ")
    if code == Unsupported.code:
        raise ExportUnsupported(f"{message} (`?format=`)", param="format")
    if code == CheckpointCorrupt.code:
        raise CheckpointCorrupt(message)
    if code == IncompatibleCore.code:
        raise CheckpointIncompatible(param="checkpoint_id")
    if code == DiskFull.code:
        raise NoSpace("the disk has no room for the converted checkpoint: try again later", retry_after_s=60)
    log.error("a conversion ended with status %d: %s", done.returncode, said[-2000:])
    raise ExportFailed(retry_after_s=30)


def _hash(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as source:
        while piece := source.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
