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
MAX_TABLE_BYTES = 64 << 20  #: of all manifests together
HEADING_BYTES = 65_536  #: within which the columns are named
MAX_ROW_LENGTH = 1 << 18  #: in characters
_FILE = ("file_name", "filename", "file", "path", "file_path", "filepath", "image", "image_path", "img")
_LABEL = ("label", "class", "class_name", "category", "target")
_SPLIT = ("split", "set", "subset", "partition")
_DELIMITERS = (",", ";", "\t")
_OF_JSON_LINES = (".jsonl", ".ndjson")

Chosen = tuple[str, str, str | None]  # the columns of files, labels and splits


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

    rows: Iterator[Row]  #: read as they are asked for; DatasetInvalid where the file is damaged
    columns: tuple[str, ...]


def read_table(path: str, data: bytes) -> Table | None:
    """Read a manifest. None: the table is not one.

    Args:
        path: its name tells CSV from JSON lines.
        data: the content of the file.
    """
    is_json = PurePosixPath(path.casefold()).suffix in _OF_JSON_LINES
    found = _find_columns_of_json(data) if is_json else _find_columns_of_csv(data)
    if found is None:
        return None
    heading, delimiter, chosen = found
    lines = _BoundedLines(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=None if is_json else ""))
    values = _read_json(lines) if is_json else _read_csv(lines, heading, delimiter)
    rows = _translated(path, _choose_values(values, chosen))
    return Table(rows, tuple(column for column in chosen if column is not None))


class _BoundedLines:
    """The lines of a table. A row may not be longer than any that a program writes, and so takes little memory."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._row_length = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(MAX_ROW_LENGTH + 1):
            self._row_length += len(line)
            if self._row_length > MAX_ROW_LENGTH:
                raise ValueError(f"a row has more than {MAX_ROW_LENGTH:,} characters")
            yield line

    def begin_row(self) -> None:
        """Allow a whole row again."""
        self._row_length = 0


def _find_columns_of_csv(data: bytes) -> tuple[list[str], str, Chosen] | None:
    heading = data[:HEADING_BYTES].decode("utf-8-sig", errors="replace").partition("\n")[0]
    for delimiter in _DELIMITERS:
        try:
            columns = next(csv.reader([heading.rstrip("\r")], delimiter=delimiter), [])
        except csv.Error:
            return None
        if (chosen := _choose(columns)) is not None:
            return columns, delimiter, chosen
    return None


def _find_columns_of_json(data: bytes) -> tuple[list[str], str, Chosen] | None:
    try:
        first = json.loads(data[:HEADING_BYTES].partition(b"\n")[0].decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    chosen = _choose(first) if isinstance(first, dict) else None
    return None if chosen is None else (list(first), "", chosen)


def _read_csv(lines: _BoundedLines, heading: list[str], delimiter: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    reader = csv.reader(iter(lines), delimiter=delimiter)
    next(reader, None)
    lines.begin_row()
    for cells in reader:
        lines.begin_row()
        yield reader.line_num, dict(zip(heading, cells, strict=False))


def _read_json(lines: _BoundedLines) -> Iterator[tuple[int, Mapping[str, object]]]:
    for number, line in enumerate(lines, start=1):
        lines.begin_row()
        values = json.loads(line) if line.strip() else {}
        if not isinstance(values, dict):
            raise ValueError(f"line {number} is not an object")
        yield number, values


def _choose_values(lines: Iterable[tuple[int, Mapping[str, object]]], chosen: Chosen) -> Iterator[Row]:
    file, label, split = chosen
    for number, values in lines:
        if any(map(_text, values.values())):  # others are empty
            in_split = _text(values.get(split)) if split else ""
            yield Row(number, _text(values.get(file)), _text(values.get(label)), in_split)


def _translated(path: str, rows: Iterator[Row]) -> Iterator[Row]:
    try:
        yield from rows
    except (ValueError, csv.Error, RecursionError) as exc:
        raise DatasetInvalid(
            f"The manifest {path!a:.200} can't be read ({exc!s:.200}). Save it as CSV or JSON lines in UTF-8.",
            problem="manifest_unreadable",
        ) from exc


def _choose(columns: Iterable[str]) -> Chosen | None:
    """Choose the columns of files, labels and splits by their names. None: there are none of files or of labels."""
    by_word = {column.strip().casefold().replace(" ", "_").replace("-", "_"): column for column in columns}
    file, label, split = (
        next((by_word[word] for word in words if word in by_word), None) for words in (_FILE, _LABEL, _SPLIT)
    )
    return None if file is None or label is None else (file, label, split)


def _text(value: object) -> str:
    """Return a cell as text; "" if it is empty or holds several values."""
    return str(value).strip() if isinstance(value, str | int | float) else ""
