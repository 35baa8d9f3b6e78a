"""The files of an object store by fsspec, with short retries and one error for everything that means "not now"."""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from trainyard.errors import StorageUnavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

TRIES = 3
FIRST_WAIT_S = 0.2
#: So long after a failure a call that begins fails at once, unless it is the one that looks whether the store is back.
REST_S = 1.0
_DELETED_AT_ONCE = 1000


@dataclass(frozen=True)
class RemoteFile:
    """An object as it appears in a listing."""

    path: str  #: below the store's root
    size_bytes: int
    modified_at: float  #: seconds since 1970


class RemoteFiles:
    """Objects below a root, each of which is written completely or not at all.

    Args:
        filesystem: of fsspec; it must neither cache listings nor retry for long.
        root: bucket and prefix.
        sleep: between two tries.
    """

    def __init__(self, filesystem: Any, root: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._filesystem, self._root, self._sleep = filesystem, root.strip("/"), sleep
        self._probing = threading.Lock()
        self._failed_at = -REST_S

    def __str__(self) -> str:
        return self._root

    def read(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        """Return an object's bytes, or a range of them; fewer if the object is shorter.

        Raises:
            FileNotFoundError: there is no such object, or no such bucket.
            StorageUnavailable: the store does not answer, or refuses.
        """
        data: bytes = self._call("read", lambda: self._filesystem.cat_file(self._full(path), start=start, end=end))
        return data

    def write(self, path: str, data: bytes) -> None:
        """Write an object."""
        self._call("write", lambda: self._filesystem.pipe_file(self._full(path), data))

    def write_new(self, path: str, data: bytes) -> None:
        """Write an object unless it exists. Stores that can't guarantee this are checked first."""
        if not self.list_below(path):
            self.write(path, data)

    def upload(self, local: Path, path: str) -> None:
        """Write an object from a local file, large ones in parts."""
        self._call("write", lambda: self._filesystem.put_file(str(local), self._full(path)))

    def list_below(self, path: str) -> list[RemoteFile]:
        """List the object with this path and all below it, in order; none if there is nothing."""
        found = self._call("list", lambda: self._filesystem.find(self._full(path), detail=True)) or {}
        prefix = len(self._root) + 1
        files = [
            RemoteFile(name[prefix:], int(entry["size"] or 0), _to_seconds(entry))
            for name, entry in found.items()
            if entry["type"] == "file"
        ]
        return sorted(files, key=lambda file: file.path)

    def list_names(self, path: str) -> list[str]:
        """List the names directly below a path."""
        try:
            found = self._call("list", lambda: self._filesystem.ls(self._full(path), detail=False))
        except FileNotFoundError:
            return []
        own = self._full(path)
        return sorted({name.rstrip("/").rpartition("/")[2] for name in found if name.rstrip("/") != own})

    def remove(self, paths: Iterable[str]) -> None:
        """Remove objects; harmless for those that don't exist."""
        every = [self._full(path) for path in paths]
        for start in range(0, len(every), _DELETED_AT_ONCE):
            with contextlib.suppress(FileNotFoundError):
                self._call("remove", partial(self._filesystem.rm, every[start : start + _DELETED_AT_ONCE]))

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def _call(self, what: str, act: Callable[[], T]) -> T:
        """Return what a call returns, after several tries if needed.

        While the store is known to be unavailable, only one caller at a time checks whether it is back. The others fail
        at once, so that a store that hangs does not hold all threads of a process.
        """
        is_away = time.monotonic() - self._failed_at < REST_S
        if is_away and not self._probing.acquire(blocking=False):
            raise StorageUnavailable(f"the store {self._root} has just failed: try again in a moment")
        try:
            return self._try(what, act)
        finally:
            if is_away:
                self._probing.release()

    def _try(self, what: str, act: Callable[[], T]) -> T:
        wait_s = FIRST_WAIT_S
        for left in reversed(range(TRIES)):
            try:
                result = act()
            except FileNotFoundError:
                raise
            except Exception as exc:  # of fsspec, botocore, aiohttp, asyncio: no tree of errors covers them
                self._failed_at = time.monotonic()
                if left == 0 or isinstance(exc, TimeoutError | PermissionError) or "Timeout" in type(exc).__name__:
                    raise StorageUnavailable(f"the store {self._root}: can't {what}: {_describe(exc)}") from exc
                self._sleep(wait_s * random.uniform(0.5, 1.5))
                wait_s *= 3
            else:
                self._failed_at = -REST_S
                return result
        raise AssertionError("unreachable")


def _describe(exc: Exception) -> str:
    """Describe what is wrong, in a line. None of these messages contains the credentials."""
    lines = str(exc).splitlines() or [""]
    return f"{type(exc).__name__}: {lines[0][:300]}".rstrip(": ")


def _to_seconds(entry: dict[str, Any]) -> float:
    modified = entry.get("LastModified") or entry.get("mtime") or entry.get("created")
    if isinstance(modified, datetime):
        return modified.timestamp()
    return float(modified or 0)
