"""Names the images of a pack as files in class folders, for export: `train/cat/000017-IMG_0042.png`. Torch-free.

Class names are free text, and file names come from whoever made the dataset: neither may lead out of the folder that an
archive is unpacked into, and every system must be able to write them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from alexnet_core.data.file_names import open_file_names
from alexnet_core.data.inspection.selection import select
from alexnet_core.data.pack import SPLITS, Pack

_MAX_BYTES = 120  # of a folder's or a file's own name: systems take 255, and some count in UTF-16
_BATCH = 1000  # names that are read at a time
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE | re.DOTALL)  # of Windows


@dataclass(frozen=True)
class ImageFile:
    """The path of an image in an export, and its position in the pack."""

    path: str
    position: int


def list_image_files(pack: Pack) -> Iterator[ImageFile]:
    """Yield a path for every image: split, class, and its number in the pack with the name of its first file.

    Paths are distinct, also where case doesn't matter. The export can be read as a dataset again.

    Raises:
        OSError: the names of the files can't be read just now.
    """
    names = open_file_names(pack.path, len(pack.labels))
    folders = name_folders(pack.class_names)
    split_names = {value: name for name, value in SPLITS.items()}
    positions = select(pack)
    for start in range(0, len(positions), _BATCH):
        batch = positions[start : start + _BATCH].tolist()
        files = [None] * len(batch) if names is None else names.read(batch)
        for position, file in zip(batch, files, strict=True):
            stem = "" if file is None else make_safe(PurePosixPath(file).stem)
            name = f"{position:06d}{'-' if stem else ''}{stem}.png"
            yield ImageFile(
                f"{split_names[int(pack.split[position])]}/{folders[pack.labels[position]]}/{name}", position
            )


def name_folders(class_names: Sequence[str]) -> list[str]:
    """Return a folder's name for each class, all distinct, also where case doesn't matter."""
    safe = [make_safe(name) for name in class_names]
    kept = [name if name and not name.startswith(".") else f"class{name}" for name in safe]
    taken: set[str] = set()
    folders = []
    for label, name in enumerate(kept):
        folder = name
        while unicodedata.normalize("NFKC", folder.casefold()) in taken:
            folder = f"{folder}-{label}"
        taken.add(unicodedata.normalize("NFKC", folder.casefold()))
        folders.append(folder)
    return folders


def make_safe(name: str) -> str:
    """Return a name that every system can write, as similar as possible; "" if nothing is left."""
    clean = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", name))
    clean = clean.encode("utf-8", "replace")[:_MAX_BYTES].decode("utf-8", "ignore").rstrip(". ").lstrip(" ")
    return f"{clean}_" if _RESERVED.fullmatch(clean) else clean
