"""Writes rows of results as segments: folders with one file of NDJSON, each complete or absent. Torch-free.

rows-00010000-e3/rows.ndjson    the rows from 10,000 on, written under the lease 3
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from alexnet_core.durable import sync_dir
from alexnet_core.layout import SEGMENT_ROWS, segment_name, temporary_name
from alexnet_core.predictions.prediction_messages import Counts, SegmentWritten
from alexnet_core.predictions.rows import RowCounts


@dataclass(frozen=True)
class SegmentLimits:
    """When a segment ends."""

    rows: int
    seconds: float  #: since it began


class SegmentWriter:
    """Collects rows into segments.

    Args:
        target: the folder that they stand in.
        first_row: the first row that is written.
        lease_epoch: of the lease under which they are written.
        limits: when a segment ends.
        tell: called with every segment that is on the disk.
        before_rename: called before a segment gets its name, with its first row; for tests.
        clock: of any zero.
    """

    def __init__(
        self,
        target: Path,
        first_row: int,
        lease_epoch: int,
        limits: SegmentLimits,
        tell: Callable[[SegmentWritten], None],
        *,
        before_rename: Callable[[int], None] = lambda row: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target, self._lease_epoch, self._limits, self._tell = target, lease_epoch, limits, tell
        self._before_rename, self._clock = before_rename, clock
        self._next_row = first_row
        self._open: _Segment | None = None

    def write(self, line: bytes, counts: RowCounts) -> None:
        """Append the next row.

        Args:
            line: as JSON, with its end.
            counts: of this row alone.
        """
        if self._open is None:
            self._open = _Segment(self._target, self._next_row, self._lease_epoch, self._clock())
        self._open.append(line, counts)
        self._next_row += 1
        is_old = self._clock() - self._open.began >= self._limits.seconds
        if is_old or self._next_row - self._open.first_row >= self._limits.rows:
            self.flush()

    def flush(self) -> None:
        """End the segment that is being written, if there is one."""
        segment, self._open = self._open, None
        if segment is not None:
            self._tell(segment.commit(lambda: self._before_rename(segment.first_row)))

    def close(self) -> None:
        """Remove what is not complete."""
        if self._open is not None:
            self._open.remove()
            self._open = None


class _Segment:
    """A segment that is being written, under a temporary name."""

    def __init__(self, target: Path, first_row: int, lease_epoch: int, began: float) -> None:
        self.first_row, self.began = first_row, began
        self._name = segment_name(first_row, lease_epoch)
        self._target, self._folder = target / self._name, target / temporary_name(self._name)
        self._folder.mkdir(parents=True)
        self._file: BinaryIO = (self._folder / SEGMENT_ROWS).open("xb")
        self._digest = hashlib.sha256()
        self._num_rows, self._totals = 0, RowCounts()

    def append(self, line: bytes, counts: RowCounts) -> None:
        self._file.write(line)
        self._digest.update(line)
        self._num_rows += 1
        self._totals = RowCounts(*map(sum, zip(self._totals, counts, strict=True)))

    def commit(self, before_rename: Callable[[], None]) -> SegmentWritten:
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
            size = self._file.tell()
        sync_dir(self._folder)
        before_rename()
        self._folder.rename(self._target)
        sync_dir(self._target.parent)
        return SegmentWritten(
            name=self._name,
            first_row=self.first_row,
            counts=Counts(num_rows=self._num_rows, **self._totals._asdict()),
            size_bytes=size,
            sha256=self._digest.hexdigest(),
        )

    def remove(self) -> None:
        self._file.close()
        shutil.rmtree(self._folder, ignore_errors=True)
