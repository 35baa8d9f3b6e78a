"""Finds splits, classes and junk in a tree of image files, from paths alone (a folder or an archive). Torch-free.

The rules: an image's class is the folder that it is in, at whatever depth below. `train/`, `val/` and `test/` (or
another usual word, see `split_words`) may stand above the class folders. One folder around everything is looked
through; so is one inside it that has the same name, is called `data`, `dataset` or `images`, or contains the splits.
Junk that systems leave is ignored: hidden files, `__MACOSX/`, `Thumbs.db`, `desktop.ini`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from alexnet_core.data.layouts.class_names import DistinctNames, look_alike
from alexnet_core.data.layouts.labelled_files import FileTable, LabelledFiles
from alexnet_core.data.layouts.split_words import find_split
from alexnet_core.data.pack import SPLITS, TRAIN
from alexnet_core.errors import DatasetInvalid

_JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
_WRAPPERS = frozenset({"data", "dataset", "images"})

Parts = tuple[str, ...]
Files = dict[Parts, list[str]]  # the paths of the files in each folder; a dataset has few folders


def read_layout(paths: Iterable[str]) -> LabelledFiles:
    """Find out the split and class of each file.

    Args:
        paths: relative, by `/`, in any order; those of folders end in `/`.

    Raises:
        DatasetInvalid: there are no classes, two look alike, or the tree can't be understood.
    """
    files, folders, num_junk = _without_junk(paths)
    wrapper, files = _unwrap(files)
    folders = [parts[len(wrapper) :] for parts in folders if len(parts) > len(wrapper) and _is_in(parts, wrapper)]
    depth = 1 if _has_splits(files) else 0
    inside = {folder: paths_of for folder, paths_of in files.items() if len(folder) > depth}
    outside = sorted(path for folder, paths_of in files.items() if len(folder) <= depth for path in paths_of)
    names = _clean_names({folder[: depth + 1] for folder in inside})
    class_names = tuple(sorted(set(names.values())))
    labels = {name: label for label, name in enumerate(class_names)}
    listed = FileTable.ordered(
        (find_split(folder[0]) if depth else None, labels[names[folder[: depth + 1]]], path)
        for folder, paths_of in inside.items()
        for path in paths_of
    )
    empty = sorted({"/".join(parts) for parts in folders if len(parts) == depth + 1 and parts not in names})
    notes = _describe(wrapper, sorted({folder[0] for folder in inside}) if depth else [])
    return LabelledFiles(class_names, listed, tuple(outside), tuple(empty), num_junk, notes=notes)


def split_path(path: str) -> Parts:
    """Return the parts of a path. `PurePosixPath.parts` would keep room for every name that it has ever seen."""
    return tuple(part for part in path.split("/") if part not in ("", "."))


def is_junk(parts: Sequence[str]) -> bool:
    """Whether a path, given in parts, is junk that a system left."""
    return any(part.startswith(".") or part.casefold() in _JUNK for part in parts)


def _without_junk(paths: Iterable[str]) -> tuple[Files, list[Parts], int]:
    files: Files = defaultdict(list)
    folders: list[Parts] = []
    known: dict[str, Parts] = {}  # the parts of a folder's path, so that those of its files need no memory
    num_junk = 0
    for path in paths:
        within, _, name = path.rpartition("/")
        folder = known.get(within)
        if folder is None:
            folder = known[within] = split_path(within)
        if is_junk((*folder, name)):
            num_junk += name != ""
        elif name:
            files[folder].append(path)
        elif folder:
            folders.append(folder)
    return files, folders, num_junk


def _unwrap(files: Files) -> tuple[Parts, Files]:
    """Return the folders around everything, and the files by their folders inside these."""
    stages: list[tuple[Parts, Files]] = [((), files)]
    while (name := _find_wrapper(files)) is not None:
        within: Files = defaultdict(list)
        for folder, paths in files.items():
            within[folder[1:]] += paths
        files = within
        stages.append(((*stages[-1][0], name), files))
    if _holds_splits(files):
        return stages[-1]
    chosen = stages[0]
    for wrapper, within in stages[1:]:
        if len(wrapper) > 1 and wrapper[-1] != wrapper[-2] and wrapper[-1].casefold() not in _WRAPPERS:
            break  # it may be the only class
        chosen = wrapper, within
    return chosen


def _find_wrapper(files: Files) -> str | None:
    """Return the single folder that contains everything and is neither a class nor a split. None: there is none."""
    tops = {folder[0] for folder in files if folder}
    deeper = any(len(folder) > 1 for folder in files)
    return next(iter(tops)) if len(tops) == 1 and deeper and find_split(next(iter(tops))) is None else None


def _holds_splits(files: Files) -> bool:
    tops = {folder[0] for folder in files if len(folder) > 1}
    return bool(tops) and all(find_split(top) is not None for top in tops)


def _is_in(parts: Parts, wrapper: Parts) -> bool:
    return parts[: len(wrapper)] == wrapper


def _has_splits(files: Files) -> bool:
    tops = {folder[0] for folder in files if folder}
    named = {top for top in tops if find_split(top) is not None}
    holders = {folder[0] for folder in files if len(folder) > 1}  # folders with folders in them
    if not named & holders:
        return False  # `train` may be a class: beside `plane` and `car`
    if tops - named:
        others = ", ".join(repr(top) for top in sorted(tops - named)[:3])
        raise DatasetInvalid(
            f"Beside {', '.join(sorted(named))} there is {others}: are these splits or classes? Have either only "
            "train, val and test at the top, with class folders in them, or only class folders.",
            problem="layout_unclear",
        )
    if not any(find_split(top) == TRAIN for top in named):
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
    distinct = DistinctNames()
    for folder in sorted(folders):
        name = distinct.take(folder[-1])
        twin = taken.setdefault((folder[:-1], name), folder[-1])
        if twin != folder[-1]:
            raise look_alike("class folders", twin, folder[-1])
        names[folder] = name
    return names


def _describe(wrapper: Parts, splits: list[str]) -> tuple[str, ...]:
    notes = [f"the folder {'/'.join(wrapper)!r} is around everything and was looked through"] if wrapper else []
    for split in splits:
        meant = next(name for name, value in SPLITS.items() if value == find_split(split))
        if split != meant:
            notes.append(f"the folder {split!r} was taken for the {meant} split")
    return tuple(notes)
