"""Segments of results are complete or absent."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from alexnet_core.predictions.prediction_messages import SegmentWritten
from alexnet_core.predictions.rows import RowCounts
from alexnet_core.predictions.segments import SegmentLimits, SegmentWriter


class Told(list[SegmentWritten]):
    def __call__(self, segment: SegmentWritten) -> None:
        self.append(segment)


def test_rows_become_segments_by_number_and_by_time(tmp_path: Path) -> None:
    told, now = Told(), [0.0]
    limits = SegmentLimits(rows=3, seconds=10)
    writer = SegmentWriter(tmp_path, 100, 7, limits, told, clock=lambda: now[0])
    for number in range(5):
        writer.write(b"%d\n" % number, RowCounts(num_errors=number == 1, num_labelled=1, hits1=1, hits5=1))
    now[0] = 10.5
    writer.write(b"5\n", RowCounts())
    writer.write(b"6\n", RowCounts())
    writer.flush()
    writer.flush()
    assert [(it.name, it.first_row, it.counts.num_rows) for it in told] == [
        ("rows-00000100-e7", 100, 3),
        ("rows-00000103-e7", 103, 3),
        ("rows-00000106-e7", 106, 1),
    ]
    counts = told[0].counts
    assert (counts.num_errors, counts.num_labelled, counts.hits1, counts.hits5) == (1, 3, 3, 3)
    data = (tmp_path / told[1].name / "rows.ndjson").read_bytes()
    assert (data, told[1].size_bytes, told[1].sha256) == (b"3\n4\n5\n", 6, hashlib.sha256(data).hexdigest())


def test_a_segment_that_is_not_complete_leaves_nothing_under_its_name(tmp_path: Path) -> None:
    def fail(row: int) -> None:
        raise RuntimeError

    writer = SegmentWriter(tmp_path, 0, 1, SegmentLimits(rows=2, seconds=10), Told(), before_rename=fail)
    writer.write(b"0\n", RowCounts())
    with pytest.raises(RuntimeError):
        writer.write(b"1\n", RowCounts())
    assert all(path.name.startswith(".tmp-") for path in tmp_path.iterdir())
    writer = SegmentWriter(tmp_path / "other", 0, 1, SegmentLimits(rows=2, seconds=10), Told())
    writer.write(b"0\n", RowCounts())
    writer.close()
    assert list((tmp_path / "other").iterdir()) == []
