"""Finds the classes of images in a manifest: a CSV or JSON-lines file with file names and labels. Torch-free.

A manifest names files relative to its own folder, or to a folder above that; failing that, by a file name that is there
only once. Its splits are from its own column, from its own name (`train.csv`), or from the names of folders. Several
manifests are read together, as the `metadata.csv` of each split in an `imagefolder` of Hugging Face.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from pathlib import PurePosixPath

from alexnet_core.data.layouts.class_names import DistinctNames
from alexnet_core.data.layouts.folders import is_junk, split_path
from alexnet_core.data.layouts.labelled_files import FileTable, LabelledFiles, Rejection
from alexnet_core.data.layouts.manifest_tables import ENDINGS, HEADING_BYTES, MAX_TABLE_BYTES, Row, Table, read_table
from alexnet_core.data.layouts.split_words import find_split
from alexnet_core.data.sources import Source, read_whole
from alexnet_core.errors import DatasetInvalid, ImageError

_MAX_CANDIDATES = 100
_MAX_ROWS_A_FILE, _MAX_ROWS_MORE = 10, 1000  # rows may repeat files, or name some that were left out
_IMAGE_ENDINGS = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif",
)  # fmt: skip


def read_manifests(source: Source) -> LabelledFiles | None:
    """Find out the class and split of each image that a manifest names. None: there is no manifest.

    Raises:
        DatasetInvalid: a manifest can't be read, names no file that is there, or has a split that is not known.
    """
    files = [path for path in source.paths if not path.endswith("/")]
    kept = [path for path in files if not is_junk(split_path(path))]
    tables = _read_tables(source, kept)
    if not tables:
        return None
    reader = _Reader(kept)
    for path, table in tables.items():
        for row in table.rows:
            reader.add(path, row)
    if not reader.found:
        raise DatasetInvalid(
            f"The manifest {', '.join(tables)!a:.200} names no file that is there. {reader.explain_rejected()} "
            "Name files relative to the manifest's folder, or remove it if the images are in class folders.",
            problem="manifest_names_nothing",
        )
    return reader.finish(tables, num_junk=len(files) - len(kept))


def _read_tables(source: Source, paths: list[str]) -> dict[str, Table]:
    """Read the tables that are manifests, by their paths; those at the top first."""
    candidates = [path for path in paths if path.casefold().endswith(ENDINGS)]
    candidates.sort(key=lambda path: (path.count("/"), path))
    tables: dict[str, Table] = {}
    left = MAX_TABLE_BYTES
    for path in candidates[:_MAX_CANDIDATES]:
        try:
            with source.open(path) as file:
                if read_table(path, file.read(HEADING_BYTES)) is None:
                    continue
            data = read_whole(source, path, left)
        except ImageError as exc:
            raise DatasetInvalid(
                f"The table {path!a:.200} can't be read ({exc}).", problem="manifest_unreadable"
            ) from exc
        left -= len(data)
        if (table := read_table(path, data)) is not None:
            tables[path] = table
    return tables


class _Reader:
    """Matches rows with files."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths
        self._known = set(paths)
        counts = Counter(PurePosixPath(path).name for path in paths)
        self._by_name = {name: path for path in paths if counts[name := PurePosixPath(path).name] == 1}
        self._distinct = DistinctNames()
        self._rejected: list[Rejection] = []
        self._num_left = _MAX_ROWS_A_FILE * len(paths) + _MAX_ROWS_MORE
        self.found: dict[str, tuple[str, int | None]] = {}  #: label and split by path

    def add(self, manifest: str, row: Row) -> None:
        """Match a row with its file, or reject it."""
        self._num_left -= 1
        if self._num_left < 0 or len(self._rejected) > len(self._paths) + _MAX_ROWS_MORE:
            raise DatasetInvalid(
                f"The manifest {manifest!a:.200} has many more rows than there are files. Name each file once. "
                f"{self.explain_rejected()}".rstrip(),
                problem="manifest_too_long",
            )
        where = f"{manifest} line {row.line}"
        path = self._find(manifest, row.file)
        if path is None:
            what = f"It is named in {where}, but it is not there." if row.file else f"There is no file name in {where}."
            self._rejected.append(Rejection(row.file or where, "file_missing", what))
            return
        if not row.label:
            self._rejected.append(Rejection(path, "label_missing", f"It has no label in {where}."))
            return
        meant = self._distinct.take(row.label, among="classes"), _find_split(manifest, row, path)
        if self.found.setdefault(path, meant) != meant:
            reason = f"It has another label or split in {where} than before."
            self._rejected.append(Rejection(path, "label_contradicts", reason))

    def explain_rejected(self) -> str:
        """Return the reason why the first row was rejected; "" if none was."""
        return f"{self._rejected[0].file!a:.120}: {self._rejected[0].reason}" if self._rejected else ""

    def finish(self, tables: dict[str, Table], *, num_junk: int) -> LabelledFiles:
        """Return the files with class and split, and those that no manifest names."""
        for rejection in self._rejected:
            self.found.pop(rejection.file, None)
        class_names = _sort_names({name for name, _ in self.found.values()})
        labels = {name: label for label, name in enumerate(class_names)}
        listed = FileTable.ordered((split, labels[name], path) for path, (name, split) in self.found.items())
        named = self.found.keys() | {rejection.file for rejection in self._rejected} | tables.keys()
        outside = [path for path in self._paths if path.casefold().endswith(_IMAGE_ENDINGS) and path not in named]
        notes = [
            f"classes are from {path!r}, columns {', '.join(map(repr, table.columns))}, not from the names of folders"
            for path, table in tables.items()
        ]
        return LabelledFiles(
            class_names, listed, tuple(sorted(outside)), num_junk=num_junk, kind="manifest",
            rejected=tuple(self._rejected), notes=tuple(notes),
        )  # fmt: skip

    def _find(self, manifest: str, name: str) -> str | None:
        """Find the file that a row names. Paths are only looked up, never opened by what a manifest says."""
        if not name:
            return None
        relative = name.replace("\\", "/")
        for folder in (PurePosixPath(manifest).parent, *PurePosixPath(manifest).parent.parents):
            path = posixpath.normpath(posixpath.join(str(folder), relative.lstrip("/")))
            if path in self._known:
                return path
        return self._by_name.get(PurePosixPath(relative).name)


def _find_split(manifest: str, row: Row, path: str) -> int | None:
    """Find the split of a row: in its own column, in the manifest's name, or in the names of folders."""
    if row.split:
        split = find_split(row.split)
        if split is None:
            raise DatasetInvalid(
                f"{manifest} line {row.line} has the split {row.split!a:.80}. Use train, validation or test.",
                problem="split_unknown",
            )
        return split
    stem = PurePosixPath(manifest).name.partition(".")[0]
    words = [*re.split(r"[-_ ]", stem), *PurePosixPath(path).parts[:-1]]
    return next((split for word in words if (split := find_split(word)) is not None), None)


def _sort_names(names: set[str]) -> tuple[str, ...]:
    """Sort class names; numbers by their value."""
    if all(name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))
