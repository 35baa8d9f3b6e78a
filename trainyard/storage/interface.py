"""What a store of files must be able to do. All other code refers to a folder by its key, never by its path.

Two kinds of things are stored. A *folder* (a dataset pack, a checkpoint) is published once, as a whole, and never
changes until it is removed. A *stream* (a job's log, a TensorBoard event file) grows at its end while others read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol


class StoredFilesDamaged(Exception):
    """Bytes were read from the store itself, and they are not those that were published."""


@dataclass(frozen=True)
class StreamFacts:
    """The facts about a stream when it was listed."""

    key: str
    size_bytes: int
    modified_at: float  #: seconds since 1970


def ALWAYS() -> bool:  # noqa: N802 - it stands for a value
    """Say yes."""
    return True


class Storage(Protocol):
    """A store under keys such as `checkpoints/job_…/epoch-00000042-e1`.

    Every method raises `StorageUnavailable` if the store can't answer now, or is not this yard's. Only a store that
    answers and is the yard's own can say that something does not exist.
    """

    @property
    def publishes_at_once(self) -> bool:
        """Whether `publish` takes practically no time and can't fail, so that it needs no thread of its own."""
        ...

    def place(self, key: str, writer: str) -> Path:
        """Return a local path to write to. `publish` or `following` then make the content visible under this key.

        Args:
            key: the thing's, or of the folder that it will stand in.
            writer: tells writers of the same key apart: a lease, say.
        """
        ...

    def publish(self, folder: Path, key: str, *, is_wanted: Callable[[], bool] = ALWAYS) -> None:
        """Make a local folder visible under a key, all of it or nothing. Publishing it again changes nothing.

        Until `clear`, this process can still read the files where they are.

        Args:
            folder: what to publish.
            key: where.
            is_wanted: asked at the end, where publishing takes long: if not, nothing becomes visible.
        """
        ...

    def clear(self, key: str, writer: str) -> None:
        """Remove what a writer's `place` contains, unless it is published or is the store itself."""
        ...

    def materialise(self, key: str, *, without: str = "", fresh: bool = False) -> AbstractContextManager[Path]:
        """Yield a local folder with the content of a key, which nobody removes while the block runs.

        Args:
            key: of the folder.
            without: a folder within that is not needed: it may be there or not.
            fresh: read it from the store, although a copy is at hand.

        Raises:
            FileNotFoundError: it is not in the store.
            StoredFilesDamaged: what is in the store is not what was published.
        """
        ...

    def read_part(self, key: str, file: str, start: int, end: int) -> bytes:
        """Return the bytes of a published folder's file from `start` to before `end`, fewer if it ends earlier.

        Nothing else of the folder is read, and the bytes are not compared with a checksum.

        Raises:
            FileNotFoundError: it is not in the store.
        """
        ...

    def exists(self, key: str, file: str = "") -> bool:
        """Whether a folder is published under this key, and has this file."""
        ...

    def list_names(self, key: str) -> list[str]:
        """Return the names directly below a key, in order; none if there is nothing."""
        ...

    def delete(self, key: str, part: str = "") -> bool:
        """Remove what is below a key, or only a folder within a published one. Harmless if it does not exist.

        Returns:
            Whether it is gone; False: somebody reads it, so try again later.
        """
        ...

    def following(self, path: Path, key: str, segment: int) -> AbstractContextManager[None]:
        """While the block runs, make visible to readers what is appended to a local file, or to a folder's files.

        Args:
            path: of the file or folder; need not be there yet.
            key: of the stream, or of the folder that the streams stand in.
            segment: higher than that of every earlier writer of this stream; readers get segments in their order.
        """
        ...

    def list_streams(self, key: str) -> list[StreamFacts]:
        """Return the stream with this key, or those below it, in the order of their keys; none if there are none."""
        ...

    def read_stream(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes of a stream from `start` to before `end`, fewer if it ends earlier, none if it is absent."""
        ...

    def list_unfinished(self, key: str) -> Iterator[tuple[str, object]]:
        """Yield what is not completely written below a key: its key, and a value that changes while it is written."""
        ...

    def read_mark(self) -> str | None:
        """Return the id that was written into this store. None: there is none."""
        ...

    def write_mark(self, store_id: str) -> None:
        """Write the store's id, unless it has one."""
        ...

    def expect(self, store_id: str) -> None:
        """Accept only a store with this id from now on."""
        ...

    def confirm(self) -> None:
        """Return if the store answers and is the yard's own.

        Raises:
            StorageUnavailable: it does not answer, or is another one.
        """
        ...

    def close(self) -> None:
        """Upload what is waiting, for a short time at most, and release what this process holds."""
        ...


def parts_of(key: str) -> tuple[str, ...]:
    """Split a key into its names.

    Raises:
        ValueError: it is no key.
    """
    parts = PurePosixPath(key).parts
    if not parts or any(part in {"..", "/"} for part in parts):
        raise ValueError(f"not a key: {key!r}")
    return parts
