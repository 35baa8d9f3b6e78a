"""Where folders of files live (packs, checkpoints). Everything above knows a folder by its key, never by its path."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Protocol

from alexnet_core.layout import GONE_PREFIX


class Storage(Protocol):
    """A store of immutable folders under keys such as `checkpoints/job_…/epoch-00000042-e1`."""

    def folder(self, key: str) -> Path:
        """A local folder with this content, or where it would stand; may not be there."""
        ...

    def key_of(self, folder: Path) -> str:
        """The key of a folder that lies in the store.

        Raises:
            ValueError: it lies elsewhere.
        """
        ...

    def reading(self, key: str) -> AbstractContextManager[Path]:
        """The local folder, which nobody removes while the block runs.

        Raises:
            FileNotFoundError: it is gone.
        """
        ...

    def list_names(self, key: str) -> list[str]:
        """The names directly below a key, in order; none where there is no such folder."""
        ...

    def delete(self, key: str) -> bool:
        """Remove a folder or file; harmless when it is gone.

        Returns:
            Whether it is gone; False: somebody reads it, so try again later.
        """
        ...

    def free_bytes(self) -> int:
        """Room that is left."""
        ...


class LocalStorage:
    """Folders below the data folder, on a local or shared file system."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    def folder(self, key: str) -> Path:
        """See `Storage`."""
        parts = PurePosixPath(key).parts
        if not parts or any(part in {"..", "/"} for part in parts):
            raise ValueError(f"not a key: {key!r}")
        return self._root.joinpath(*parts)

    def key_of(self, folder: Path) -> str:
        """See `Storage`."""
        return folder.resolve().relative_to(self._root.resolve()).as_posix()

    @contextlib.contextmanager
    def reading(self, key: str) -> Iterator[Path]:
        """See `Storage`. A lock of the kernel's: it holds against every process, and ends with its own."""
        folder = self.folder(key)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # a file system without locks: the grace before a removal must do
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield folder
        finally:
            os.close(descriptor)

    def list_names(self, key: str) -> list[str]:
        """See `Storage`."""
        try:
            return sorted(os.listdir(self.folder(key)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def delete(self, key: str) -> bool:
        """See `Storage`. The folder leaves its name first, so that a half-removed one is never taken for whole."""
        path = self.folder(key)
        if path.name.startswith(GONE_PREFIX):
            return _remove(path)
        doomed = path.with_name(GONE_PREFIX + path.name)
        _remove(doomed)  # what a removal that was cut off left; the name must be free
        try:
            with _alone(path):
                path.rename(doomed)
        except FileNotFoundError:  # gone already, or another reconciler was faster
            return True
        except BlockingIOError:
            return False
        return _remove(doomed)

    def free_bytes(self) -> int:
        """See `Storage`."""
        return shutil.disk_usage(self._root).free


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep readers out.

    Raises:
        BlockingIOError: there is one.
        FileNotFoundError: there is nothing to keep them out of.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno in {errno.EWOULDBLOCK, errno.EAGAIN}:
            os.close(descriptor)
            raise BlockingIOError(exc.errno, "somebody reads it") from exc
    try:
        yield
    finally:
        os.close(descriptor)


def _remove(path: Path) -> bool:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    return not path.exists()
