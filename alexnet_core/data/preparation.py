"""`python -m alexnet_core prepare`: make the pack of a dataset. Loads torch only to fetch a built-in one."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from alexnet_core.data.folders import list_paths
from alexnet_core.data.intake import IntakeOptions, pack_folder
from alexnet_core.data.pack import Pack, open_pack, open_whole
from alexnet_core.data.published.builtin import BUILTINS, prepare
from alexnet_core.data.squares import MAX_SIDE_PX, MIN_SIDE_PX
from alexnet_core.durable import is_disk_full
from alexnet_core.errors import ConfigError, CoreError, DatasetDamaged, DatasetInvalid, DatasetUnavailable, DiskFull
from alexnet_core.parent import die_with_parent

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Print pack.json as one line of JSON and return 0, or {"error": {"code", "message"}} and return 1.

    Of a folder of images the line has its "report" too.
    """
    args = _parse(argv)
    if args.parent_pid is not None:
        die_with_parent(args.parent_pid)
    answer: dict[str, Any]
    try:
        answer = _describe(_prepare(args))
    except DatasetInvalid as exc:
        error = {"code": exc.code, "message": str(exc), "problem": exc.problem}
        answer = {"error": error} | ({"report": exc.report} if exc.report else {})
    except CoreError as exc:
        answer = {"error": {"code": exc.code, "message": str(exc)}}
    except OSError as exc:
        code = DiskFull.code if is_disk_full(exc) else "internal_error"
        answer = {"error": {"code": code, "message": f"the pack {args.target} can't be made: {exc}"}}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 1 if "error" in answer else 0


def open_dataset(reference: str, *, data_dir: Path, source: Path | None = None, verify: bool = True) -> Pack:
    """The pack of a built-in dataset, of a folder of images, or at a path; made where it is not there yet.

    The pack of a folder is made anew when a name, size or time of a file in it has changed; so is a damaged pack.

    Args:
        reference: a built-in dataset's name, else the path of a pack or of a folder of class folders.
        data_dir: where packs are kept.
        source: of a built-in dataset: see `builtin.prepare`.
        verify: read a pack that is there as a whole.

    Raises:
        DatasetUnavailable: there is nothing of that name, or its files are not there.
        DatasetInvalid: the folder's files can't be trained on.
        DatasetDamaged: the pack at that path is damaged.
        ConfigError: the packs would lie among the images.
    """
    open_there = open_whole if verify else open_pack
    if reference in BUILTINS:
        target = data_dir / reference
        return _open_or_make(target, open_there, lambda: prepare(reference, source_dir=source, target_dir=target))
    folder = Path(reference)
    if _stands(folder):
        pack = open_pack(folder)
        if verify:
            pack.verify()
        return pack
    if not folder.is_dir():
        raise DatasetUnavailable(
            f"there is no dataset {reference!r}: use one of {', '.join(BUILTINS)}, or the path of a folder with a "
            "folder of images for each class"
        )
    require_outside(reference, data_dir, "--data-dir")
    name = _name(folder)
    target = data_dir / f"{name}-{_fingerprint(folder)}"
    return _open_or_make(target, open_there, lambda: pack_folder(folder, target, IntakeOptions(name=name)))


def require_outside(reference: str, folder: Path, option: str) -> None:
    """Refuse to write into a folder of images: what is written would be taken for images the next time.

    Args:
        reference: see `open_dataset`; anything but a folder of images has no inside.
        folder: to be written.
        option: that names it.

    Raises:
        ConfigError: it lies inside.
    """
    images = Path(reference)
    if reference not in BUILTINS and not _stands(images) and folder.resolve().is_relative_to(images.resolve()):
        raise ConfigError(f"{folder} lies in the folder of images {images}: give {option} a folder outside it")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="alexnet_core prepare", description=main.__doc__)
    parser.add_argument("--dataset", required=True, help=f"one of {', '.join(BUILTINS)}, or a folder of class folders")
    parser.add_argument("--target", required=True, type=Path, help="the pack's folder")
    parser.add_argument(
        "--source", type=Path, default=None, help="of a built-in dataset: the folder or archive of its published files"
    )
    parser.add_argument(
        "--image-px", type=int, default=None, help=f"of a folder: side to store, {MIN_SIDE_PX} to {MAX_SIDE_PX}"
    )
    parser.add_argument("--no-flip", action="store_true", help="of a folder: a mirrored image may show another class")
    parser.add_argument("--name", default=None, help="of a folder: the dataset's name; the folder's own if left out")
    parser.add_argument("--parent-pid", type=int, default=None, help="end when this process, our parent, ends")
    args = parser.parse_args(argv)
    of_folders = [args.image_px is not None, args.no_flip, args.name is not None]
    if args.dataset in BUILTINS and any(of_folders):
        parser.error("--image-px, --no-flip and --name are for folders")
    if args.dataset not in BUILTINS and args.source is not None:
        parser.error("--source is for built-in datasets")
    if args.image_px is not None and not MIN_SIDE_PX <= args.image_px <= MAX_SIDE_PX:
        parser.error(f"--image-px is {args.image_px}: use {MIN_SIDE_PX} to {MAX_SIDE_PX}")
    return args


def _prepare(args: argparse.Namespace) -> Pack:
    if args.dataset in BUILTINS:
        return prepare(args.dataset, source_dir=args.source, target_dir=args.target)
    folder = Path(args.dataset)
    if not folder.is_dir():
        raise DatasetUnavailable(
            f"There is no built-in dataset and no folder {args.dataset!r}. Known: {', '.join(BUILTINS)}."
        )
    require_outside(args.dataset, args.target, "--target")
    name = args.name or _name(folder)
    options = IntakeOptions(name=name, image_px=args.image_px, flip_safe=not args.no_flip)
    return pack_folder(folder, args.target, options)


def _describe(pack: Pack) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((pack.path / "pack.json").read_text(encoding="utf-8"))
    report = pack.path / "report.json"
    if report.is_file():
        answer["report"] = json.loads(report.read_text(encoding="utf-8"))
    return answer


def _open_or_make(target: Path, open_there: Callable[[Path], Pack], make: Callable[[], Pack]) -> Pack:
    try:
        if _stands(target):
            return open_there(target)
    except DatasetDamaged as exc:
        log.warning("%s It is made again.", exc)
    return make()


def _stands(path: Path) -> bool:
    return (path / "pack.json").is_file()


def _name(folder: Path) -> str:
    return folder.resolve().name or "images"


def _fingerprint(folder: Path) -> str:
    """16 characters that change with the name, size or time of any file in it."""
    sha = hashlib.sha256()
    for path in sorted(list_paths(folder)):
        status = os.lstat(folder / path)
        size, time = (0, 0) if path.endswith("/") else (status.st_size, status.st_mtime_ns)
        sha.update(os.fsencode(f"{path}\0{size}\0{time}\0"))
    return sha.hexdigest()[:16]
