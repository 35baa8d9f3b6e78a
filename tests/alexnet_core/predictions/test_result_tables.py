"""Rows of results as JSON, as CSV and as Parquet."""

from __future__ import annotations

import csv
import io
import json

from pyarrow import parquet

from alexnet_core.errors import ImageUnreadable
from alexnet_core.predictions.image_lists import ImageFacts
from alexnet_core.predictions.result_tables import write_csv, write_parquet
from alexnet_core.predictions.rows import RowFormat

NASTY = 'a "b"\n=1,\u2028é\x85\u2029'
FORMAT = RowFormat(["cat", NASTY])
LINES = [
    FORMAT.write(0, ImageFacts("a/b.png", "test", 3, "cat"), [(1, 0.75), (0, 0.25)]),
    FORMAT.write(1, ImageFacts("=HYPERLINK(1)", None, None, None), [(0, 1e-12), (1, 1.0)]),
    FORMAT.write_error(2, ImageFacts(NASTY, None, None, None), ImageUnreadable("It is @damaged.")),
]


def test_rows_are_json_of_one_line_whatever_the_names_hold() -> None:
    assert [line.count(b"\n") for line in LINES] == [1, 1, 1]
    assert [len(line.decode().splitlines()) for line in LINES] == [1, 1, 1]
    rows = [json.loads(line) for line in LINES]
    assert rows[0] == {
        "row": 0, "file": "a/b.png", "split": "test", "index": 3, "label": "cat",
        "predictions": [
            {"label": NASTY, "index": 1, "probability": 0.75}, {"label": "cat", "index": 0, "probability": 0.25},
        ],
        "error": None,
    }  # fmt: skip
    assert rows[1]["predictions"][0]["probability"] == 1e-12
    assert (rows[2]["file"], rows[2]["error"]["code"]) == (NASTY, "image_unreadable")


def test_csv_has_every_row_and_no_formula() -> None:
    out = io.BytesIO()
    write_csv(LINES, out, top_k=3)
    table = list(csv.DictReader(io.StringIO(out.getvalue().decode(), newline="")))
    assert [it["row"] for it in table] == ["0", "1", "2"]
    assert table[0]["prediction_1"] == NASTY
    assert (table[0]["probability_2"], table[0]["prediction_3"]) == ("0.25", "")
    assert table[1]["file"] == "'=HYPERLINK(1)"
    assert (table[2]["error"], table[2]["error_message"]) == ("image_unreadable", "It is @damaged.")


def test_parquet_has_the_same_rows_and_no_rows_at_all_make_a_table_too() -> None:
    out, empty = io.BytesIO(), io.BytesIO()
    write_parquet(LINES, out, top_k=2)
    assert parquet.read_table(io.BytesIO(out.getvalue())).to_pylist() == [json.loads(line) for line in LINES]
    write_parquet([], empty, top_k=2)
    assert parquet.read_table(io.BytesIO(empty.getvalue())).num_rows == 0


def test_a_row_group_of_parquet_has_few_rows_if_they_are_long() -> None:
    for top_k, num_groups in ((1000, 3), (5, 1)):
        out = io.BytesIO()
        write_parquet(LINES[:1] * 250, out, top_k=top_k)
        assert parquet.ParquetFile(io.BytesIO(out.getvalue())).num_row_groups == num_groups
