"""The bytes of uploads on this machine's disk, until an upload is complete and its folder is published.

`<data folder>/uploads/<upload>/content` has at least the bytes that the database's row says; what lies beyond them is
cut off when the next writer opens it. A writer holds the kernel's lock of the upload's folder, which works between all
processes of a machine and is released when its process ends. Who waits for a writer's end shares one of the content.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from alexnet_core.layout import UPLOAD_CONTENT, UPLOADS
from trainyard.database.ids import has_form, new_id
from trainyard.errors import StorageUnavailable
from trainyard.upload_errors import DiskFull, UploadLocked

_GLANCE_S = 0.02  # much longer than a look at a lock takes
MARK = "folder-id"  #: the file that tells one folder of uploads from another


class UploadFolder:
    """The folder in which uploads arrive: of one process, or of several that share a disk."""

    def __init__(self, data_dir: Path, *, min_free_bytes: int = 0) -> None:
        self._root = data_dir.absolute() / UPLOADS
        self._min_free_bytes = min_free_bytes

    def read_id(self) -> str:
        """Return this folder's id, which is made when it is asked for the first time.

        Raises:
            StorageUnavailable: the folder can't be read or written.
            DiskFull: the same, because its disk is full.
        """
        with _translated_errors():
            mark = self._root / MARK
            with contextlib.suppress(FileNotFoundError):
                return mark.read_text(encoding="ascii").strip()
            self._root.mkdir(parents=True, exist_ok=True)
            draft = self._root / f".{MARK}-{new_id('store')}"
            try:
                draft.write_text(new_id("store"), encoding="ascii")
                _sync(draft)
                with contextlib.suppress(FileExistsError):  # another process was faster
                    os.link(draft, mark)
            finally:
                draft.unlink(missing_ok=True)
            _sync(self._root)
            return mark.read_text(encoding="ascii").strip()

    def path(self, upload_id: str) -> Path:
        """Return the folder of an upload, which need not exist."""
        if not has_form(upload_id, "upl"):
            raise ValueError(f"not the id of an upload: {upload_id!r}")
        return self._root / upload_id

    def create(self, upload_id: str) -> None:
        """Make the folder and the empty file of a new upload.

        Raises:
            DiskFull: there is no space for it.
            StorageUnavailable: it can't be written.
        """
        folder = self.path(upload_id)
        with _translated_errors():
            folder.mkdir(parents=True)
            (folder / UPLOAD_CONTENT).touch(exist_ok=False)
            _sync(folder)
            _sync(self._root)

    @contextlib.contextmanager
    def opened(self, upload_id: str) -> Iterator[UploadFile]:
        """Yield the file of an upload, to which nobody else can write inside the block.

        Raises:
            UploadLocked: another process writes to it.
            FileNotFoundError: it is not in this folder.
        """
        file = UploadFile.open(self.path(upload_id))
        try:
            yield file
        finally:
            file.close()

    def is_written(self, upload_id: str) -> bool:
        """Whether anybody writes to an upload, in whichever process. One that is not in this folder is not written."""
        with contextlib.suppress(FileNotFoundError), _open_read_only(self.path(upload_id)) as descriptor:
            return not _try_lock(descriptor, fcntl.LOCK_SH)
        return False

    @contextlib.contextmanager
    def waiting(self, upload_id: str) -> Iterator[WaitingPlace]:
        """Yield what shows an upload's writer, inside the block, that somebody waits for its end."""
        with contextlib.ExitStack() as held:
            descriptor = None
            with contextlib.suppress(FileNotFoundError):  # it has been removed
                descriptor = held.enter_context(_open_read_only(self.path(upload_id) / UPLOAD_CONTENT))
            yield WaitingPlace(descriptor)

    def check_space(self, new_bytes: int) -> None:
        """Check that so many bytes more leave enough free space.

        Raises:
            DiskFull: they do not.
        """
        with _translated_errors():
            self._root.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._root).free
        if free - new_bytes < self._min_free_bytes:
            raise DiskFull(
                f"{new_bytes} bytes more do not fit on the disk for uploads: {max(0, free - self._min_free_bytes)} are "
                "free. Try again later, or free some space"
            )

    def list_ids(self) -> list[str]:
        """Return the uploads that have a folder here."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(name for name in os.listdir(self._root) if has_form(name, "upl"))
        return []

    def remove(self, upload_id: str) -> bool:
        """Remove what an upload has here. Harmless if that is nothing.

        Returns:
            Whether it is gone. False: somebody writes to it or reads it.
        """
        folder = self.path(upload_id)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return not folder.exists()


class WaitingPlace:
    """A place among those who wait for the end of an upload's writer."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def take(self) -> None:
        """Let the writer see it. Called again and again: for moments, while a writer looks, no place can be taken."""
        if self._descriptor is not None:
            _try_lock(self._descriptor, fcntl.LOCK_SH)


class UploadFile:
    """The file of one upload, open for its only writer."""

    def __init__(self, lock: int, content: int) -> None:
        self._lock, self._content = lock, content
        self._size = os.fstat(content).st_size

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the file in an upload's folder; see `UploadFolder.opened`."""
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if not _try_lock(lock, fcntl.LOCK_EX):
                time.sleep(_GLANCE_S)  # somebody may only look whether it is written
                if not _try_lock(lock, fcntl.LOCK_EX):
                    raise UploadLocked(retry_after_s=1)
            return cls(lock, os.open(folder / UPLOAD_CONTENT, os.O_RDWR | os.O_NOFOLLOW))
        except BaseException:
            os.close(lock)
            raise

    @property
    def size(self) -> int:
        """Bytes in the file, whether they are synced or not."""
        return self._size

    def is_awaited(self) -> bool:
        """Whether another process waits until this writer has ended."""
        if not _try_lock(self._content, fcntl.LOCK_EX):
            return True
        fcntl.flock(self._content, fcntl.LOCK_UN)
        return False

    def cut(self, size: int) -> None:
        """Remove what comes after so many bytes."""
        with _translated_errors():
            os.ftruncate(self._content, size)
        self._size = size

    def append(self, data: bytes | memoryview) -> None:
        """Write bytes to the end.

        Raises:
            DiskFull: there is no space for all of them; some may be written.
            StorageUnavailable: the disk does not take them.
        """
        rest = memoryview(data)
        with _translated_errors():
            while rest:
                written = os.pwrite(self._content, rest, self._size)
                self._size += written
                rest = rest[written:]

    def sync(self) -> None:
        """Return when everything that was written is on the disk.

        Raises:
            DiskFull: there is no space for it.
            StorageUnavailable: the disk does not take it.
        """
        with _translated_errors():
            os.fdatasync(self._content)

    def read(self, start: int, number: int) -> bytes:
        """Return bytes of the file, fewer at its end."""
        return os.pread(self._content, number, start)

    def close(self) -> None:
        """Close it, and let others write."""
        os.close(self._content)
        os.close(self._lock)


@contextlib.contextmanager
def _open_read_only(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise DiskFull from exc
        raise StorageUnavailable(f"the disk for uploads can't be used: {exc.strerror}") from exc
