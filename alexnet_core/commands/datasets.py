"""Opens the dataset that a command names: a built-in one, a folder or archive of images, or a pack. Torch-free."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path

from alexnet_core.data.intake.options import IntakeOptions
from alexnet_core.data.intake.packing import pack_images
from alexnet_core.data.pack import Pack, open_pack, open_whole
from alexnet_core.data.published.builtin import BUILTINS, prepare
from alexnet_core.data.sources import list_paths
from alexnet_core.errors import ConfigError, DatasetDamaged, DatasetUnavailable
from alexnet_core.layout import PACK_FACTS

log = logging.getLogger(__name__)


def open_dataset(reference: str, *, data_dir: Path, source: Path | None = None, verify: bool = True) -> Pack:
    """Open the pack of a built-in dataset, of a folder or archive of images, or at a path. A missing one is made.

    The pack is made again if the archive, or a name, size or time of a file in the folder, has changed, and if the pack
    is damaged.

    Args:
        reference: a built-in dataset's name, else the path of a pack, or of a folder or archive of images.
        data_dir: where packs are kept.
        source: of a built-in dataset: see `builtin.prepare`.
        verify: read a pack that is there as a whole.

    Raises:
        DatasetUnavailable: there is nothing of that name, or its files are not there.
        DatasetInvalid: the archive is refused, or the files can't be trained on.
        DatasetDamaged: the pack at that path is damaged.
        ConfigError: the packs would lie among the images.
    """
    open_there = open_whole if verify else open_pack
    if reference in BUILTINS:
        target = data_dir / reference
        return _open_or_make(target, open_there, lambda: prepare(reference, source_dir=source, target_dir=target))
    images = Path(reference)
    if _stands(images):
        pack = open_pack(images)
        if verify:
            pack.verify()
        return pack
    if not images.exists():
        raise DatasetUnavailable(
            f"there is no dataset {reference!r}: use one of {', '.join(BUILTINS)}, or the path of a folder or archive "
            "with a folder of images for each class"
        )
    require_outside(reference, data_dir, "--data-dir")
    name = name_of(images)
    target = data_dir / f"{name}-{_fingerprint(images)}"
    return _open_or_make(target, open_there, lambda: pack_images(images, target, IntakeOptions(name=name)))


def require_outside(reference: str, folder: Path, option: str) -> None:
    """Refuse to write into a folder of images, where the new files would be read as images the next time.

    Args:
        reference: see `open_dataset`; anything but a folder of images has no inside.
        folder: to be written.
        option: that names it.

    Raises:
        ConfigError: it lies inside.
    """
    images = Path(reference)
    if reference not in BUILTINS and not _stands(images) and folder.resolve().is_relative_to(images.resolve()):
        raise ConfigError(f"{folder} is inside the folder of images {images}: give {option} a folder outside it")


def _open_or_make(target: Path, open_there: Callable[[Path], Pack], make: Callable[[], Pack]) -> Pack:
    try:
        if _stands(target):
            return open_there(target)
    except DatasetDamaged as exc:
        log.warning("%s It is made again.", exc)
    return make()


def _stands(path: Path) -> bool:
    return (path / PACK_FACTS).is_file()


def name_of(images: Path) -> str:
    """Return the name that a dataset gets from its folder or archive of images."""
    name = images.resolve().name
    if not images.is_dir():
        name = re.sub(r"(\.(zip|tgz|tzst|tar(\.(gz|zst))?))$", "", name, flags=re.IGNORECASE)
    return name or "images"


def _fingerprint(images: Path) -> str:
    """Return 16 characters that change if the archive, or the name, size or time of any file in the folder, changes."""
    sha = hashlib.sha256()
    for path in sorted(list_paths(images)) if images.is_dir() else [""]:
        status = os.lstat(images / path) if path else os.stat(images)
        size, time = (0, 0) if path.endswith("/") else (status.st_size, status.st_mtime_ns)
        sha.update(os.fsencode(f"{path}\0{size}\0{time}\0"))
    return sha.hexdigest()[:16]
