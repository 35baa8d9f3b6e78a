"""`python -m alexnet_core prepare`: makes the pack of a dataset. Loads torch only to download a built-in one."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alexnet_core.commands import arguments
from alexnet_core.durable import is_disk_full
from alexnet_core.errors import CoreError, DatasetInvalid, DatasetUnavailable, DiskFull
from alexnet_core.layout import PACK_FACTS, PACK_REPORT
from alexnet_core.parent import die_with_parent

if TYPE_CHECKING:
    from alexnet_core.data.pack import Pack


def prepare(
    dataset: Annotated[str, typer.Option(help="A built-in dataset, or a folder of class folders.")],
    target: Annotated[Path, typer.Option(help="The pack's folder.")],
    source: arguments.Source = None,
    image_px: Annotated[int | None, typer.Option(help="Of a folder: side of the squares to store.")] = None,
    no_flip: Annotated[
        bool, typer.Option("--no-flip", help="Of a folder: a mirrored image may show another class.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="Of a folder: the dataset's name; the folder's own if left out.")
    ] = None,
    parent_pid: arguments.ParentPid = None,
) -> int:
    """Make a dataset's pack and print its pack.json in one line.

    Of a folder of images the line has its "report" too. Where it fails, the line is {"error": {"code", "message"}}.
    """
    if parent_pid is not None:
        die_with_parent(parent_pid)
    chosen = PrepareOptions(dataset, target, source, image_px, no_flip, name)
    _require_that_belong_together(chosen)
    answer: dict[str, Any]
    try:
        answer = _describe(_prepare(chosen))
    except DatasetInvalid as exc:
        error = {"code": exc.code, "message": str(exc), "problem": exc.problem}
        answer = {"error": error} | ({"report": exc.report} if exc.report else {})
    except CoreError as exc:
        answer = {"error": {"code": exc.code, "message": str(exc)}}
    except OSError as exc:
        code = DiskFull.code if is_disk_full(exc) else "internal_error"
        answer = {"error": {"code": code, "message": f"the pack {target} can't be made: {exc}"}}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 1 if "error" in answer else 0


@dataclass(frozen=True)
class PrepareOptions:
    """The options of the command line; see `prepare`."""

    dataset: str
    target: Path
    source: Path | None
    image_px: int | None
    no_flip: bool
    name: str | None


def _require_that_belong_together(args: PrepareOptions) -> None:
    from alexnet_core.data.published.builtin import BUILTINS
    from alexnet_core.data.squares import MAX_SIDE_PX, MIN_SIDE_PX

    of_folders = [args.image_px is not None, args.no_flip, args.name is not None]
    if args.dataset in BUILTINS and any(of_folders):
        raise typer.BadParameter("--image-px, --no-flip and --name are for folders")
    if args.dataset not in BUILTINS and args.source is not None:
        raise typer.BadParameter("--source is for built-in datasets")
    if args.image_px is not None and not MIN_SIDE_PX <= args.image_px <= MAX_SIDE_PX:
        raise typer.BadParameter(f"--image-px is {args.image_px}: use {MIN_SIDE_PX} to {MAX_SIDE_PX}")


def _prepare(args: PrepareOptions) -> Pack:
    from alexnet_core.commands.datasets import name_of, require_outside
    from alexnet_core.data.intake import IntakeOptions, pack_folder
    from alexnet_core.data.published import builtin

    if args.dataset in builtin.BUILTINS:
        return builtin.prepare(args.dataset, source_dir=args.source, target_dir=args.target)
    folder = Path(args.dataset)
    if not folder.is_dir():
        raise DatasetUnavailable(
            f"There is no built-in dataset and no folder {args.dataset!r}. Known: {', '.join(builtin.BUILTINS)}."
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
