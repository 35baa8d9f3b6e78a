"""Reads ImageNet's folder as published: classes by synset, and validation images with their classes in a file.

    ILSVRC/Data/CLS-LOC/train/n01440764/n01440764_18.JPEG
    ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000001.JPEG
    LOC_synset_mapping.txt      n01440764 tench, Tinca tinca
    LOC_val_solution.csv        ILSVRC2012_val_00048981,n03995372 85 1 499 272

This is how the competition's files are arranged on Kaggle. The development kit, `ILSVRC2012_devkit_t12/data`, has the
classes of the validation images as numbers, one on each line, in `ILSVRC2012_validation_ground_truth.txt`, and the
synsets of these numbers in `meta.mat`. It is used if there is no `LOC_val_solution.csv`. Torch-free.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from alexnet_core.data.layouts.folders import read_layout
from alexnet_core.data.layouts.labelled_files import LabelledFiles
from alexnet_core.data.sources import Source, read_whole
from alexnet_core.errors import DatasetInvalid, ImageError

MAPPING, SOLUTION = "LOC_synset_mapping.txt", "LOC_val_solution.csv"
GROUND_TRUTH, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_MAX_TABLE_BYTES = 64 << 20  # the largest of them has 7 MB
_MAX_META_BYTES = 1 << 20  # the published one has 0.03 MB
_SYNSET = re.compile(r"n\d{8}")
_VALIDATION_IMAGE = re.compile(r"(ILSVRC2012_val_(\d{8}))\.jpe?g", re.IGNORECASE)


def read_classes(text: str) -> dict[str, str]:
    """Read the class names from a text with one class on each line, in its order, such as `n01440764 tench`.

    Returns:
        By synset; lines that begin with none stand for themselves.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found: dict[str, str] = {}
    for line in lines:
        synset, _, words = line.partition(" ")
        is_synset = _SYNSET.fullmatch(synset) is not None
        found[synset if is_synset else line] = f"{synset} {words.split(',')[0]}".strip() if is_synset else line
    return found


def is_published(source: Source) -> bool:
    """Whether a folder or archive contains ImageNet as it was published."""
    return _find_file(source, MAPPING) is not None


def read_published(source: Source) -> LabelledFiles:
    """Find out the class and split of each of ImageNet's images.

    Raises:
        DatasetInvalid: the classes of the validation images are not there or don't fit.
    """
    places = arrange(source)
    paths = {place: path for path, place in places.items()}
    layout = read_layout(places.values())
    files = tuple(replace(file, path=paths[file.path]) for file in layout.files)
    return replace(layout, files=files, kind="imagenet")


def arrange(source: Source) -> dict[str, str]:
    """Map the path of each image in the folder to the path `split/class/file` that the layout reader expects.

    Validation images become the test split: published accuracies are measured on them, and training holds back images
    of its own for validation. The competition's own test images have no published classes and are left out.

    Args:
        source: as published.

    Raises:
        DatasetInvalid: the classes of the validation images are not there or don't fit.
    """
    mapping = _find_file(source, MAPPING)
    assert mapping is not None
    classes = read_classes(_read_text(source, mapping))
    listed = list(source.paths)
    validation = {path: match for path in listed if (match := _VALIDATION_IMAGE.fullmatch(PurePosixPath(path).name))}
    truth = _read_truth(source) if validation else {}
    arranged: dict[str, str] = {}
    for path in listed:
        parent, name = PurePosixPath(path).parent, PurePosixPath(path).name
        if path in validation:
            synset, split = truth.get(validation[path][1]) or _synset_above(parent), "test"
            if synset is None:
                raise _refused(f"the class of {name} is in neither {SOLUTION} nor {GROUND_TRUTH}")
        else:
            synset, split = _synset_above(parent), "train"
            if synset is None or "train" not in parent.parts:
                continue
        if synset not in classes:
            raise _refused(f"{name} has the class {synset}, which is not in {MAPPING}")
        arranged[path] = f"{split}/{classes[synset]}/{name}"
    return arranged


def _synset_above(parent: PurePosixPath) -> str | None:
    return parent.name if _SYNSET.fullmatch(parent.name) else None


def _read_truth(source: Source) -> Mapping[str, str]:
    """Read the synset of each validation image, by its name without suffix; empty if no file has it."""
    if (solution := _find_file(source, SOLUTION)) is not None:
        rows = (line.split(",") for line in _read_text(source, solution).splitlines()[1:])
        return {row[0]: row[1].split()[0] for row in rows if len(row) == 2 and row[1].split()}
    truth, meta = _find_file(source, GROUND_TRUTH), _find_file(source, META)
    if truth is None:
        return {}
    if meta is None:
        raise _refused(
            f"{GROUND_TRUTH} has numbers of classes, and {META}, which tells their synsets, is not beside it"
        )
    synsets, numbers = _read_meta(source, meta), _read_text(source, truth).split()
    if unknown := sorted(set(numbers) - set(synsets)):
        raise _refused(f"{META} does not have the class number {unknown[0]}")
    return {f"ILSVRC2012_val_{place:08d}": synsets[number] for place, number in enumerate(numbers, start=1)}


def _read_meta(source: Source, path: str) -> dict[str, str]:
    """Read the synset for each number of the development kit."""
    import scipy.io

    try:
        content = io.BytesIO(read_whole(source, path, _MAX_META_BYTES))
        rows = scipy.io.loadmat(content, squeeze_me=True)["synsets"]
        return {str(int(row["ILSVRC2012_ID"])): str(row["WNID"]) for row in rows}
    except (KeyError, ValueError, TypeError, IndexError, OSError, NotImplementedError, ImageError) as exc:
        raise _refused(f"{META} can't be read: {exc}") from exc


def _find_file(source: Source, name: str) -> str | None:
    """Find a file at the top of the published tree, or beside the images in one of its folders."""
    paths = set(source.paths)
    places = ("", "ILSVRC/", "ILSVRC2012_devkit_t12/data/", "data/")
    return next((place + name for place in places if place + name in paths), None)


def _read_text(source: Source, path: str) -> str:
    try:
        return read_whole(source, path, _MAX_TABLE_BYTES).decode("utf-8")
    except (ImageError, UnicodeDecodeError) as exc:
        raise _refused(f"{path} can't be read: {exc}") from exc


def _refused(reason: str) -> DatasetInvalid:
    return DatasetInvalid(f"ImageNet's folder can't be understood: {reason}.", problem="imagenet_incomplete")
