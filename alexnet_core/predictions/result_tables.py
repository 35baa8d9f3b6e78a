"""Turns rows of results into tables: CSV (RFC 4180), or Parquet. Few rows are in memory at a time. Torch-free."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

from alexnet_core.predictions.spreadsheet_cells import disarm

if TYPE_CHECKING:
    import pyarrow

CSV_COLUMNS = ("row", "file", "split", "index", "label", "error", "error_message")
_LEAST_ROWS, _CELLS_A_GROUP = 100, 50_000  # of a row group: a row has `top_k` predictions


def write_csv(lines: Iterable[bytes], out: IO[bytes], *, top_k: int) -> None:
    """Write a table with a column pair for each of the `top_k` most probable classes: `prediction_1`, `probability_1`.

    A cell that a spreadsheet would run as a formula begins with an apostrophe.

    Args:
        lines: of NDJSON, as `rows` writes them.
        out: where to.
        top_k: classes that the rows have at most.
    """
    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=False)
    writer = csv.writer(text)
    ranks = range(1, top_k + 1)
    writer.writerow([*CSV_COLUMNS, *(name for rank in ranks for name in (f"prediction_{rank}", f"probability_{rank}"))])
    for line in lines:
        row = json.loads(line)
        error = row["error"] or {"code": None, "message": None}
        cells = [row["row"], row["file"], row["split"], row["index"], row["label"], error["code"], error["message"]]
        cells += [cell for told in row["predictions"] for cell in (told["label"], told["probability"])]
        cells += [None] * (len(CSV_COLUMNS) + 2 * top_k - len(cells))
        writer.writerow(disarm(cell) if isinstance(cell, str) else cell for cell in cells)
    text.flush()
    text.detach()


def write_parquet(lines: Iterable[bytes], out: IO[bytes], *, top_k: int) -> None:
    """Write a table with the list of predictions in one column. A row group has the fewer rows, the longer they are.

    Args:
        lines: of NDJSON, as `rows` writes them.
        out: where to; it need not be seekable.
        top_k: classes that the rows have at most.
    """
    import pyarrow
    from pyarrow import parquet

    schema = build_schema()
    sink = pyarrow.PythonFile(out, mode="w")
    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        for group in _in_groups(lines, max(_LEAST_ROWS, _CELLS_A_GROUP // top_k)):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))


def build_schema() -> pyarrow.Schema:
    """Return the columns of a Parquet table."""
    import pyarrow as pa

    told = pa.struct([("label", pa.string()), ("index", pa.int32()), ("probability", pa.float64())])
    return pa.schema(
        [
            ("row", pa.int64()),
            ("file", pa.string()),
            ("split", pa.string()),
            ("index", pa.int64()),
            ("label", pa.string()),
            ("predictions", pa.list_(told)),
            ("error", pa.struct([("code", pa.string()), ("message", pa.string())])),
        ]
    )


def _in_groups(lines: Iterable[bytes], size: int) -> Iterator[list[dict[str, Any]]]:
    rest = iter(lines)
    while group := [json.loads(line) for line in islice(rest, size)]:
        yield group
