"""The data folder as a store: folders on a local or shared file system, which readers use where they are."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from alexnet_core.layout import GONE_PREFIX, TEMPORARY_PREFIX
from alexnet_core.regular_files import open_regular
from trainyard.errors import StorageMismatch, StorageUnavailable
from trainyard.storage.interface import ALWAYS, StreamFacts, parts_of

MARK = "store-id"  # the file that tells one data folder from another


class LocalStorage:
    """Folders below the data folder."""

    publishes_at_once = True

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._expected_id: str | None = None

    def folder(self, key: str) -> Path:
        """Return the folder or file of a key, which may not exist."""
        return self._root.joinpath(*parts_of(key))

    def place(self, key: str, writer: str) -> Path:
        """See `Storage`. It is next to the final place, so that publishing is only a rename."""
        return self.folder(key)

    def publish(self, folder: Path, key: str, *, is_wanted: Callable[[], bool] = ALWAYS) -> None:
        """See `Storage`."""
        target = self.folder(key)
        if folder.absolute() != target:
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)

    def clear(self, key: str, writer: str) -> None:
        """See `Storage`."""

    @contextlib.contextmanager
    def materialise(self, key: str, *, without: str = "", fresh: bool = False) -> Iterator[Path]:
        """See `Storage`. The kernel's lock works between all processes, and is released when its process ends."""
        folder = self.folder(key)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            self._confirm_absence(folder)
            raise
        try:
            with contextlib.suppress(OSError):  # a file system without locks: the grace before a removal must do
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield folder
        finally:
            os.close(descriptor)

    def read_part(self, key: str, file: str, start: int, end: int) -> bytes:
        """See `Storage`."""
        with self.materialise(key) as folder, open_regular(folder, file) as found:
            found.seek(start)
            return found.read(max(0, end - start))

    def exists(self, key: str, file: str = "") -> bool:
        """See `Storage`."""
        is_there = (self.folder(key) / file).exists()
        if not is_there:
            self.confirm()
        return is_there

    def _confirm_absence(self, folder: Path) -> None:
        """Check that something is absent, and not just unreadable.

        If a disk is missing, the store's mark or even the folder above is missing too.

        Raises:
            StorageUnavailable: it can't be told.
        """
        self.confirm()
        if self._expected_id is None and not folder.parent.is_dir():
            raise StorageUnavailable(
                f"the data folder can't be read: {folder.parent} does not exist; is its disk mounted?"
            )

    def list_names(self, key: str) -> list[str]:
        """See `Storage`."""
        try:
            return sorted(os.listdir(self.folder(key)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def delete(self, key: str, part: str = "") -> bool:
        """See `Storage`. The folder is renamed first, so that a half-removed one is never taken for complete."""
        path = self.folder(f"{key}/{part}" if part else key)
        if path.name.startswith(GONE_PREFIX):
            return _remove(path)
        doomed = path.with_name(GONE_PREFIX + path.name)
        _remove(doomed)  # what a removal that was cut off left; the name must be free
        try:
            with _alone(path):
                path.rename(doomed)
        except FileNotFoundError:  # gone already, or another reconciler was faster
            if part:
                self._confirm_absence(self.folder(key))
            return True
        except BlockingIOError:
            return False
        return _remove(doomed)

    @contextlib.contextmanager
    def following(self, path: Path, key: str, segment: int) -> Iterator[None]:
        """See `Storage`. Readers read the same files."""
        yield

    def list_streams(self, key: str) -> list[StreamFacts]:
        """See `Storage`. Only regular files are listed: the yard writes no links or pipes."""
        path = self.folder(key)
        paths = sorted(path.rglob("*")) if path.is_dir() and not path.is_symlink() else [path]
        found = []
        for each in paths:
            with contextlib.suppress(FileNotFoundError):
                facts = each.lstat()
                if stat.S_ISREG(facts.st_mode):
                    name = each.relative_to(self._root).as_posix()
                    found.append(StreamFacts(name, facts.st_size, facts.st_mtime))
        return found

    def read_stream(self, key: str, start: int, end: int) -> bytes:
        """See `Storage`."""
        try:
            descriptor = os.open(self.folder(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return b""
        with open(descriptor, "rb") as file:
            file.seek(start)
            return file.read(max(0, end - start))

    def list_unfinished(self, key: str) -> Iterator[tuple[str, object]]:
        """See `Storage`."""
        for name in self.list_names(key):
            if name.startswith(TEMPORARY_PREFIX):
                yield f"{key}/{name}", _look_of(self.folder(f"{key}/{name}"))

    def read_mark(self) -> str | None:
        """See `Storage`."""
        try:
            return (self._root / MARK).read_text(encoding="ascii").strip() or None
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            raise StorageUnavailable(f"{self._root / MARK} can't be read: {exc}") from exc

    def write_mark(self, store_id: str) -> None:
        """See `Storage`. The mark is written to another name first, so that nobody reads half of it."""
        draft = self._root / f".{MARK}-{os.getpid()}-{store_id}"
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with draft.open("w", encoding="ascii") as file:
                file.write(store_id + "\n")
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(draft, self._root / MARK)
        except OSError as exc:
            raise StorageUnavailable(f"{self._root / MARK} can't be written: {exc}") from exc
        finally:
            draft.unlink(missing_ok=True)

    def expect(self, store_id: str) -> None:
        """See `Storage`."""
        self._expected_id = store_id

    def confirm(self) -> None:
        """See `Storage`."""
        if self._expected_id is None:
            return
        found = self.read_mark()
        if found is None:
            text = f"{self._root} has no file {MARK}: its disk is away, or it is not this yard's data folder"
            raise StorageMismatch(text)
        if found != self._expected_id:
            text = f"its {MARK} says {found}, the database {self._expected_id}"
            raise StorageMismatch(f"{self._root} is another yard's data folder: {text}")

    def close(self) -> None:
        """See `Storage`."""


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep readers out inside the block.

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


def _look_of(folder: Path) -> object:
    """Return a value that changes whenever a writer writes into a folder."""
    try:
        paths = [folder, *sorted(folder.rglob("*"))]
        return [(path.name, facts.st_size, facts.st_mtime_ns) for path in paths if (facts := path.stat())]
    except FileNotFoundError:
        return None
