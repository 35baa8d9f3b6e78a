"""Reads a table of image files and classes: CSV or JSON lines. Torch-free.

A table counts as a manifest if one of its columns is called as files are, and another as classes are.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from alexnet_core.errors import DatasetInvalid

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson")
MAX_TABLE_BYTES = 64 << 20
_FILE = ("file_name", "filename", "file", "path", "file_path", "filepath", "image", "image_path", "img")
_LABEL = ("label", "class", "class_name", "category", "target")
_SPLIT = ("split", "set", "subset", "partition")
_DELIMITERS = (",", ";", "\t")
_OF_JSON_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Row:
    """A line of a manifest."""

    line: int  #: from 1, the heading included
    file: str  #: "" if there is none
    label: str  #: "" if there is none
    split: str  #: "" if there is none


@dataclass(frozen=True)
class Table:
    """The rows of a manifest, and the columns they are from."""

    rows: list[Row]
    columns: tuple[str, ...]


def read_table(path: str, data: bytes) -> Table | None:
    """Read a manifest. None: the table is not one.

    Args:
        path: its name tells CSV from JSON lines.
        data: the content of the file.

    Raises:
        DatasetInvalid: it is one, and can't be read.
    """
    read = _read_json_lines if PurePosixPath(path.casefold()).suffix in _OF_JSON_LINES else _read_csv
    try:
        return read(data)
    except (ValueError, csv.Error, RecursionError) as exc:
        raise DatasetInvalid(
            f"The manifest {path!a:.200} can't be read ({exc!s:.200}). Save it as CSV or JSON lines in UTF-8.",
            problem="manifest_unreadable",
        ) from exc


def _read_csv(data: bytes) -> Table | None:
    heading = data[:65_536].decode("utf-8-sig", errors="replace").partition("\n")[0]
    for delimiter in _DELIMITERS:
        columns = next(csv.reader([heading.rstrip("\r")], delimiter=delimiter), [])
        if (chosen := _choose(columns)) is not None:
            break
    else:
        return None
    text = io.StringIO(data.decode("utf-8-sig"), newline="")
    lines = csv.DictReader(text, fieldnames=columns, delimiter=delimiter, restkey="", restval="")
    next(lines, None)
    return _collect(((lines.line_num, values) for values in lines), chosen)


def _read_json_lines(data: bytes) -> Table | None:
    heading = data[:65_536].partition(b"\n")[0]
    try:
        first = json.loads(heading.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    chosen = _choose(first) if isinstance(first, dict) else None
    return None if chosen is None else _collect(_parse_lines(data.decode("utf-8-sig")), chosen)


def _parse_lines(text: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    for number, line in enumerate(io.StringIO(text), start=1):
        if not line.strip():
            continue
        values = json.loads(line)
        if not isinstance(values, dict):
            raise ValueError(f"line {number} is not an object")
        yield number, values


def _choose(columns: Iterable[str]) -> tuple[str, str, str | None] | None:
    """Choose the columns of files, labels and splits by their names. None: there are none of files or of labels."""
    by_word = {column.strip().casefold().replace(" ", "_").replace("-", "_"): column for column in columns}
    file, label, split = (
        next((by_word[word] for word in words if word in by_word), None) for words in (_FILE, _LABEL, _SPLIT)
    )
    return None if file is None or label is None else (file, label, split)


def _collect(lines: Iterable[tuple[int, Mapping[str, object]]], chosen: tuple[str, str, str | None]) -> Table:
    file, label, split = chosen
    rows = [
        Row(number, _text(values.get(file)), _text(values.get(label)), _text(values.get(split)) if split else "")
        for number, values in lines
        if any(map(_text, values.values()))
    ]
    return Table(rows, tuple(column for column in chosen if column is not None))


def _text(value: object) -> str:
    """Return a cell as text; "" if it is empty or holds several values."""
    return str(value).strip() if isinstance(value, str | int | float) else ""
