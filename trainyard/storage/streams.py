"""Growing files in a store whose objects can't grow: parts of a megabyte, the last rewritten as it fills.

The part at an offset is an object of its own, named by its writer's segment and the offset; the listing gives its
length. A part that is written again is replaced as a whole, so a reader finds at least what was there before.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from trainyard.errors import StorageUnavailable
from trainyard.storage.interface import StreamFacts
from trainyard.storage.remote import RemoteFile, RemoteFiles

log = logging.getLogger(__name__)

PART_BYTES = 1 << 20
FOLLOW_EVERY_S = 3.0
LONGEST_WAIT_S = 30.0


class Follower(threading.Thread):
    """Uploads what is appended to a file, or to a folder's files, every few seconds.

    When told to end it uploads the rest, however long the store takes, and removes the local files.
    """

    def __init__(self, files: RemoteFiles, path: Path, key: str, segment: int, *, every_s: float) -> None:
        super().__init__(name=f"follow-{key}", daemon=True)
        self._files, self._path, self._key, self._segment, self._every_s = files, path, key, segment, every_s
        self._sent: dict[str, int] = {}
        self._woken = threading.Event()
        self._is_ending = False
        self._gives_up_at: float | None = None

    def end(self) -> None:
        """Upload the rest and stop."""
        self._is_ending = True
        self._woken.set()

    def give_up(self, after_s: float) -> None:
        """Stop after some seconds, whether the rest is uploaded or not."""
        self._gives_up_at = time.monotonic() + after_s
        self.end()

    def run(self) -> None:
        """The thread's body."""
        wait_s = self._every_s
        while True:
            was_ending = self._is_ending
            self._woken.clear()
            try:
                self._send()
                is_done, wait_s = was_ending, self._every_s
            except (StorageUnavailable, OSError) as exc:
                log.warning("a stream is waiting for the store", extra={"key": self._key, "detail": str(exc)})
                is_done, wait_s = False, min(LONGEST_WAIT_S, 2 * wait_s)
            except Exception:  # whatever it is: the next round may succeed
                log.exception("a stream is waiting for the store", extra={"key": self._key})
                is_done = False
            if is_done or (self._gives_up_at is not None and time.monotonic() >= self._gives_up_at):
                break
            if self._gives_up_at is not None:
                wait_s = min(wait_s, max(0.05, self._gives_up_at - time.monotonic()))
            if not (self._is_ending and not was_ending):
                self._woken.wait(wait_s)
        if self._path.is_dir():
            shutil.rmtree(self._path, ignore_errors=True)
        else:
            self._path.unlink(missing_ok=True)

    def _send(self) -> None:
        if self._path.is_dir():
            for path in sorted(path for path in self._path.rglob("*") if path.is_file()):
                self._send_file(path, f"{self._key}/{path.relative_to(self._path).as_posix()}")
        elif self._path.is_file():
            self._send_file(self._path, self._key)

    def _send_file(self, path: Path, key: str) -> None:
        size, sent = path.stat().st_size, self._sent.get(key, 0)
        with path.open("rb") as file:
            while sent < size:
                start = sent - sent % PART_BYTES
                file.seek(start)
                data = file.read(min(PART_BYTES, size - start))
                if start + len(data) <= sent:
                    return  # it became shorter: what was there stays there
                self._files.write(f"{key}/{self._segment:010d}-{start:015d}", data)
                sent = self._sent[key] = start + len(data)


@dataclass(frozen=True)
class _Part:
    path: str
    at: int  #: in the stream
    size: int


def list_streams(files: RemoteFiles, key: str) -> list[StreamFacts]:
    """See `Storage`."""
    streams: dict[str, list[RemoteFile]] = {}
    for file in files.list_below(key):
        streams.setdefault(file.path.rpartition("/")[0], []).append(file)
    return [
        StreamFacts(name, sum(part.size for part in _place(parts)), max(part.modified_at for part in parts))
        for name, parts in sorted(streams.items())
    ]


def read_stream(files: RemoteFiles, key: str, start: int, end: int) -> bytes:
    """See `Storage`."""
    pieces = []
    for part in _place(files.list_below(key)):
        first, last = max(start, part.at), min(end, part.at + part.size)
        if first < last:
            pieces.append(files.read(part.path, first - part.at, last - part.at))
    return b"".join(pieces)


def _place(files: list[RemoteFile]) -> list[_Part]:
    """Return the parts in order with their positions in the stream.

    A segment ends at its first part that is not full.
    """
    parts: list[_Part] = []
    at, open_segment, expected = 0, "", 0
    for file in sorted(files, key=lambda file: file.path):
        segment, _, offset = file.path.rpartition("/")[2].partition("-")
        if segment != open_segment:
            open_segment, expected = segment, 0
        if not offset.isdigit() or int(offset) != expected:
            continue
        parts.append(_Part(file.path, at, file.size_bytes))
        at += file.size_bytes
        expected = int(offset) + PART_BYTES if file.size_bytes == PART_BYTES else -1
    return parts
