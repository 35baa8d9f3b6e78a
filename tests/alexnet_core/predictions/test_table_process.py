"""A table that is made in a process of its own is whole, or is known not to be."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator

import pytest
from pyarrow import parquet

from alexnet_core.predictions.table_process import CSV, PARQUET, TableFailed, TableProcess
from tests.alexnet_core.predictions.test_result_tables import LINES


def many(count: int) -> Iterator[bytes]:
    data = b"".join(LINES)
    for _ in range(count):
        yield data[:100]
        yield data[100:]


@pytest.mark.parametrize("kind", [CSV, PARQUET])
def test_a_table_is_made_while_its_rows_come(kind: str) -> None:
    process = TableProcess(kind, 2, many(5000))
    data = b"".join(process.pieces())
    process.close()
    process.close()
    if kind == CSV:
        assert data.count(b"a/b.png") == 5000
    else:
        assert parquet.read_table(io.BytesIO(data)).num_rows == 15_000


def test_rows_that_can_not_be_read_make_no_whole_table() -> None:
    def rows() -> Iterator[bytes]:
        yield LINES[0]
        raise OSError("the disk fails")

    process = TableProcess(CSV, 2, rows())
    with pytest.raises(TableFailed):
        list(process.pieces())
    process.close()


def test_a_table_that_nobody_reads_to_its_end_is_given_up() -> None:
    process = TableProcess(CSV, 2, many(10**9))
    assert next(process.pieces())
    process.close()
    assert process._process.poll() is not None
    assert not process._feeder.is_alive()


def test_a_table_outlives_the_thread_that_began_it() -> None:
    begun: list[tuple[TableProcess, Iterator[bytes]]] = []
    came: list[bytes] = []

    def begin() -> None:
        process = TableProcess(CSV, 2, many(20_000))
        begun.append((process, process.pieces()))
        came.append(next(begun[0][1]))

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    process, rest = begun[0]
    assert b"".join([*came, *rest]).count(b"a/b.png") == 20_000
    process.close()
