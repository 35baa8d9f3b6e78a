"""Local copies of an object store's content: found by content, kept while they are read, limited in size.

A copy is a folder named after the checksums of its files. It is made under another name and renamed, so a folder with
its final name is complete. A reader holds a lock of the kernel on it, which ends with its process. Any number of
processes may share a cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from alexnet_core.layout import GONE_PREFIX, TEMPORARY_PREFIX

log = logging.getLogger(__name__)


class Cache:
    """A folder of local copies.

    Args:
        root: of this cache; made when it is not there.
        max_bytes: what the copies may take; the ones longest unused go first, those that are read stay.
    """

    def __init__(self, root: Path, *, max_bytes: int) -> None:
        self._root, self._max_bytes = root.absolute(), max_bytes
        self._making: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def holding(self, sizes: Mapping[str, int], name: str, fetch: Callable[[Path], None]) -> Iterator[Path]:
        """Yield the copy of this name, which is fetched first if it is missing or a file has the wrong length.

        Args:
            sizes: of its files.
            name: see `name_of`.
            fetch: writes the files into an empty folder.
        """
        with self._lock:
            making = self._making.setdefault(name, threading.Lock())
        while True:
            held = self._hold(name, sizes)
            if held is not None:
                break
            with making:
                if (held := self._hold(name, sizes)) is None:
                    self._make(name, fetch)
        self.sweep()
        try:
            yield self._root / name
        finally:
            os.close(held)

    def forget(self, name: str) -> None:
        """Remove a copy. Whoever reads it keeps its open files."""
        with contextlib.suppress(OSError):
            doomed = self._root / f"{GONE_PREFIX}{name}-{uuid.uuid4().hex[:8]}"
            (self._root / name).rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)

    def adopt(self, name: str, folder: Path, names: list[str]) -> None:
        """Keep files that are already on this disk as a copy, without copying their bytes."""

        def link(target: Path) -> None:
            for file in names:
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                os.link(folder / file, target / file)

        with contextlib.suppress(OSError):  # another file system, say: the copy is fetched when it is needed
            self._make(name, link)
            self.sweep()

    def sweep(self) -> int:
        """Remove copies until the rest fits, and leftovers of killed processes. Return the bytes that stay."""
        copies = []
        with contextlib.suppress(FileNotFoundError):
            for path in self._root.iterdir():
                if path.name.startswith((TEMPORARY_PREFIX, GONE_PREFIX)):
                    _remove_unless_held(path, path)
                elif path.is_dir():
                    with contextlib.suppress(FileNotFoundError):
                        copies.append((path.stat().st_mtime, path, _size_of(path)))
        total = sum(size for _, _, size in copies)
        for _, path, size in sorted(copies):
            if total <= self._max_bytes:
                break
            if _remove_unless_held(path, path.with_name(f"{GONE_PREFIX}{path.name}-{uuid.uuid4().hex[:8]}")):
                total -= size
        return total

    def _hold(self, name: str, sizes: Mapping[str, int]) -> int | None:
        """Return a descriptor with a reader's lock on a complete copy. None: there is none."""
        path = self._root / name
        try:
            held = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(held, fcntl.LOCK_SH)
            os.utime(path)
            is_same = os.fstat(held).st_ino == path.stat().st_ino
            if is_same and all((path / file).stat().st_size == size for file, size in sizes.items()):
                return held
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(held)
            raise
        os.close(held)
        self.forget(name)
        return None

    def _make(self, name: str, fetch: Callable[[Path], None]) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        draft = self._root / f"{TEMPORARY_PREFIX}{name}-{uuid.uuid4().hex[:8]}"
        draft.mkdir()
        held = os.open(draft, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(held, fcntl.LOCK_SH)  # so that no sweep takes it for one whose writer was killed
            fetch(draft)
            with contextlib.suppress(OSError):  # another process was faster
                draft.rename(self._root / name)
        finally:
            os.close(held)
            shutil.rmtree(draft, ignore_errors=True)


def name_of(checksums: Mapping[str, str]) -> str:
    """Return the name of the copy of these files."""
    return hashlib.sha256(json.dumps(sorted(checksums.items())).encode()).hexdigest()[:40]


def _remove_unless_held(path: Path, doomed: Path) -> bool:
    try:
        held = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if doomed != path:
            path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    except OSError:
        return False
    finally:
        os.close(held)
    return True


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
