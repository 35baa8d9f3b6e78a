"""Where folders of files live (packs, checkpoints). Everything above knows a folder by its key, never by its path."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path, PurePosixPath
from typing import Protocol


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

    def delete(self, key: str) -> None:
        """Remove a folder; harmless when it is gone."""
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

    def delete(self, key: str) -> None:
        """See `Storage`. The folder leaves its name first, so that a half-removed one is never taken for whole."""
        folder = self.folder(key)
        doomed = folder.with_name(f".gone-{folder.name}")
        with contextlib.suppress(FileNotFoundError):  # gone already, or another reconciler was faster
            folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def free_bytes(self) -> int:
        """See `Storage`."""
        return shutil.disk_usage(self._root).free
