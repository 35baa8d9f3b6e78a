"""`python -m alexnet_core prepare`: make the pack of a dataset. Loads torch only to fetch a built-in one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alexnet_core.commands.datasets import name_of, require_outside
from alexnet_core.data.intake import IntakeOptions, pack_folder
from alexnet_core.data.pack import Pack
from alexnet_core.data.published.builtin import BUILTINS, prepare
from alexnet_core.data.squares import MAX_SIDE_PX, MIN_SIDE_PX
from alexnet_core.durable import is_disk_full
from alexnet_core.errors import CoreError, DatasetInvalid, DatasetUnavailable, DiskFull
from alexnet_core.layout import PACK_FACTS, PACK_REPORT
from alexnet_core.parent import die_with_parent


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
    name = args.name or name_of(folder)
    options = IntakeOptions(name=name, image_px=args.image_px, flip_safe=not args.no_flip)
    return pack_folder(folder, args.target, options)


def _describe(pack: Pack) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((pack.path / PACK_FACTS).read_text(encoding="utf-8"))
    report = pack.path / PACK_REPORT
    if report.is_file():
        answer["report"] = json.loads(report.read_text(encoding="utf-8"))
    return answer
