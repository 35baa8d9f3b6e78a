"""Finds splits, classes and junk in a tree of image files, from paths alone (a folder or an archive). Torch-free.

The rules: an image's class is the folder that it is in, at whatever depth below. `train/`, `val/` (or `validation/`)
and `test/` may stand above the class folders. One folder around it all is looked through. Junk that systems leave is
passed over: hidden files, `__MACOSX/`, `Thumbs.db`, `desktop.ini`.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from alexnet_core.data.pack import TEST, TRAIN, VALIDATION
from alexnet_core.errors import DatasetInvalid

MAX_NAME_LENGTH = 100
_SPLIT_FOLDERS = {"train": TRAIN, "val": VALIDATION, "validation": VALIDATION, "test": TEST}
_JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
_UNSEEN = frozenset({"Cc", "Cf", "Cs"})  # control, formatting (bidi, zero width), undecodable


@dataclass(frozen=True)
class LabelledFile:
    """A file that should be an image, with its split and class."""

    path: str  #: as it was given
    label: int
    split: int | None  #: TRAIN, VALIDATION or TEST; None where the tree has no splits


@dataclass(frozen=True)
class FolderLayout:
    """The splits, classes and files found in a tree of image files."""

    class_names: tuple[str, ...]  #: sorted
    files: tuple[LabelledFile, ...]  #: by split, class and path
    outside: tuple[str, ...]  #: files that are in no class folder
    empty: tuple[str, ...]  #: class folders without a file
    num_junk: int  #: files that were passed over


def list_paths(folder: Path) -> Iterator[str]:
    """List every file below a folder as a relative path with `/`. Folders end in `/`; links are listed, not followed.

    Raises:
        OSError: the folder can't be read.
    """

    def fail(error: OSError) -> None:
        raise error

    for root, folders, files in os.walk(folder, onerror=fail, followlinks=False):
        base = Path(root).relative_to(folder)
        yield from ((base / name).as_posix() + "/" for name in folders)
        yield from ((base / name).as_posix() for name in files)


def read_layout(paths: Iterable[str]) -> FolderLayout:
    """Find out the split and class of each file.

    Args:
        paths: relative, by `/`, in any order; those of folders end in `/`.

    Raises:
        DatasetInvalid: there are no classes, two look alike, or the tree can't be understood.
    """
    files, folders, num_junk = _without_junk(paths)
    if _is_wrapped(files):
        wrapper = next(parts[0] for _, parts in files if len(parts) > 1)
        files = [(path, parts[1:] if parts[0] == wrapper else parts[:1]) for path, parts in files]
        folders = [parts[1:] for parts in folders if parts[0] == wrapper and len(parts) > 1]
    depth = 1 if _has_splits(files) else 0
    inside = [(path, parts) for path, parts in files if len(parts) > depth + 1]
    outside = sorted(path for path, parts in files if len(parts) <= depth + 1)
    names = _clean_names({parts[: depth + 1] for _, parts in inside})
    class_names = tuple(sorted(set(names.values())))
    labels = {name: label for label, name in enumerate(class_names)}
    listed = [
        LabelledFile(path, labels[names[parts[: depth + 1]]], _SPLIT_FOLDERS[parts[0].casefold()] if depth else None)
        for path, parts in inside
    ]
    listed.sort(key=lambda file: (file.split or 0, file.label, file.path))
    empty = sorted({"/".join(parts) for parts in folders if len(parts) == depth + 1 and parts not in names})
    return FolderLayout(class_names, tuple(listed), tuple(outside), tuple(empty), num_junk)


def clean_name(name: str) -> str:
    """Return a class name as it is shown: composed (NFC), on one line, without invisible characters.

    Raises:
        DatasetInvalid: nothing is left, or more than 100 characters.
    """
    composed = unicodedata.normalize("NFC", name)
    seen = "".join(c for c in composed if c.isspace() or unicodedata.category(c) not in _UNSEEN)
    cleaned = unicodedata.normalize("NFC", " ".join(seen.split()))
    if not cleaned:
        raise DatasetInvalid(
            f"The class folder {name!a:.120} has no name that can be shown. Rename it.", problem="class_name_invalid"
        )
    if len(cleaned) > MAX_NAME_LENGTH:
        raise DatasetInvalid(
            f"The class name {cleaned[:40]!r}… has {len(cleaned)} characters. Use at most {MAX_NAME_LENGTH}.",
            problem="class_name_invalid",
        )
    return cleaned


Parts = tuple[str, ...]


def _without_junk(paths: Iterable[str]) -> tuple[list[tuple[str, Parts]], list[Parts], int]:
    files: list[tuple[str, Parts]] = []
    folders: list[Parts] = []
    num_junk = 0
    for path in paths:
        parts = tuple(part for part in path.split("/") if part not in ("", "."))
        if any(part.startswith(".") or part.casefold() in _JUNK for part in parts):
            num_junk += not path.endswith("/")
        elif not parts:
            continue
        elif path.endswith("/"):
            folders.append(parts)
        else:
            files.append((path, parts))
    return files, folders, num_junk


def _is_wrapped(files: list[tuple[str, Parts]]) -> bool:
    """Whether a single folder contains everything, and is neither a class nor a split."""
    tops = {parts[0] for _, parts in files if len(parts) > 1}
    deeper = any(len(parts) > 2 for _, parts in files)
    return len(tops) == 1 and deeper and next(iter(tops)).casefold() not in _SPLIT_FOLDERS


def _has_splits(files: list[tuple[str, Parts]]) -> bool:
    tops = {parts[0] for _, parts in files if len(parts) > 1}
    named = {top for top in tops if top.casefold() in _SPLIT_FOLDERS}
    holders = {parts[0] for _, parts in files if len(parts) > 2}  # folders with folders in them
    if not named & holders:
        return False  # `train` may be a class: beside `plane` and `car`
    if tops - named:
        others = ", ".join(repr(top) for top in sorted(tops - named)[:3])
        raise DatasetInvalid(
            f"Beside {', '.join(sorted(named))} there is {others}: are these splits or classes? Have either only "
            "train, val and test at the top, with class folders in them, or only class folders.",
            problem="layout_unclear",
        )
    if not any(_SPLIT_FOLDERS[top.casefold()] == TRAIN for top in named):
        raise DatasetInvalid(
            f"There is {' and '.join(sorted(named))}, but no train folder. Add it.", problem="layout_unclear"
        )
    return True


def _clean_names(folders: set[Parts]) -> dict[Parts, str]:
    """Return the class name of each class folder.

    The same name in two splits means the same class; twice in one split it is an error.
    """
    names: dict[Parts, str] = {}
    taken: dict[tuple[Parts, str], str] = {}
    alike: dict[str, str] = {}
    for folder in sorted(folders):
        name = clean_name(folder[-1])
        twin = taken.setdefault((folder[:-1], name), folder[-1])
        other = alike.setdefault(unicodedata.normalize("NFKC", name.casefold()), name)
        if twin != folder[-1] or other != name:
            first = twin if twin != folder[-1] else other
            raise DatasetInvalid(
                f"The class folders {first!a:.120} and {folder[-1]!a:.120} look alike. Merge them, or rename one.",
                problem="class_names_alike",
            )
        names[folder] = name
    return names
