"""`python -m alexnet_core prepare`: makes the pack of a dataset. Loads torch only to download a built-in one."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alexnet_core.child_processes import die_with_parent
from alexnet_core.commands import arguments
from alexnet_core.durable import is_disk_full
from alexnet_core.errors import CoreError, DatasetInvalid, DatasetUnavailable, DiskFull
from alexnet_core.layout import PACK_FACTS, PACK_REPORT
from alexnet_core.memory import bound_arenas

if TYPE_CHECKING:
    from alexnet_core.data.pack import Pack


def prepare(
    dataset: Annotated[str, typer.Option(help="A built-in dataset, or a folder or archive of images.")],
    target: Annotated[Path, typer.Option(help="The pack's folder.")],
    source: arguments.Source = None,
    image_px: Annotated[int | None, typer.Option(help="For images: side of the stored squares.")] = None,
    no_flip: Annotated[bool, typer.Option("--no-flip", help="For images: never mirror them.")] = False,
    name: Annotated[
        str | None, typer.Option(help="For images: the dataset's name; default: that of the folder or archive.")
    ] = None,
    validation_fraction: Annotated[
        float | None, typer.Option(help="For images: the share of each class to validate on, if no split is given.")
    ] = None,
    test_fraction: Annotated[
        float | None, typer.Option(help="For images: the share of each class to test on, if no split is given.")
    ] = None,
    split_seed: Annotated[
        int | None,
        typer.Option(parser=arguments.count, metavar="N", help="For images: another seed holds other images back."),
    ] = None,
    max_entries: Annotated[
        int | None,
        typer.Option(parser=arguments.count, metavar="N", help="For an archive: how many members it may have."),
    ] = None,
    max_unpacked_bytes: Annotated[
        int | None,
        typer.Option(
            parser=arguments.count, metavar="N", help="For an archive: how many bytes all members may have together."
        ),
    ] = None,
    parent_pack: Annotated[
        Path | None,
        typer.Option(help="For images: the pack of an earlier version; the report says what differs from it."),
    ] = None,
    parent_pid: arguments.ParentPid = None,
) -> int:
    """Make a dataset's pack and print its pack.json in one line.

    For a folder or archive of images the line also has its "report". On an error the line is
    {"error": {"code", "message"}}.
    """
    if parent_pid is not None:
        die_with_parent(parent_pid)
    bound_arenas(os.environ)  # before threads decode images
    values = {
        "image_px": image_px,
        "flip_safe": False if no_flip else None,
        "name": name,
        "validation_fraction": validation_fraction,
        "test_fraction": test_fraction,
        "split_seed": split_seed,
        "parent_pack": parent_pack,
    }
    limits = {"max_entries": max_entries, "max_unpacked_bytes": max_unpacked_bytes}
    chosen = PrepareOptions(dataset, target, source, _given(values), _given(limits))
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
    intake: dict[str, Any]  #: fields of `IntakeOptions` that were given
    limits: dict[str, Any]  #: fields of `ArchiveLimits` that were given


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _require_that_belong_together(args: PrepareOptions) -> None:
    from alexnet_core.data.intake.options import MAX_FRACTION, MIN_FRACTION
    from alexnet_core.data.published.builtin import BUILTINS
    from alexnet_core.data.squares import MAX_SIDE_PX, MIN_SIDE_PX

    if args.dataset in BUILTINS and (args.intake or args.limits):
        raise typer.BadParameter(
            "of the options for images none fits a built-in dataset: they are for folders and archives"
        )
    if args.dataset not in BUILTINS and args.source is not None:
        raise typer.BadParameter("--source is for built-in datasets")
    image_px = args.intake.get("image_px", MIN_SIDE_PX)
    if not MIN_SIDE_PX <= image_px <= MAX_SIDE_PX:
        raise typer.BadParameter(f"--image-px is {image_px}: use {MIN_SIDE_PX} to {MAX_SIDE_PX}")
    for option in ("validation_fraction", "test_fraction"):
        value = args.intake.get(option, MIN_FRACTION)
        if not MIN_FRACTION <= value <= MAX_FRACTION:
            raise typer.BadParameter(f"--{option.replace('_', '-')} is {value}: use {MIN_FRACTION} to {MAX_FRACTION}")


def _prepare(args: PrepareOptions) -> Pack:
    from alexnet_core.commands.datasets import name_of, require_outside
    from alexnet_core.data.archives.members import ArchiveLimits
    from alexnet_core.data.intake.options import IntakeOptions
    from alexnet_core.data.intake.packing import pack_images
    from alexnet_core.data.published import builtin

    if args.dataset in builtin.BUILTINS:
        return builtin.prepare(args.dataset, source_dir=args.source, target_dir=args.target)
    images = Path(args.dataset)
    if not images.exists():
        raise DatasetUnavailable(
            f"There is no built-in dataset, no folder and no archive {args.dataset!r}. "
            f"Known: {', '.join(builtin.BUILTINS)}."
        )
    require_outside(args.dataset, args.target, "--target")
    options = IntakeOptions(name=name_of(images), archive_limits=ArchiveLimits(**args.limits))
    return pack_images(images, args.target, replace(options, **args.intake))


def _describe(pack: Pack) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads((pack.path / PACK_FACTS).read_text(encoding="utf-8"))
    report = pack.path / PACK_REPORT
    if report.is_file():
        answer["report"] = json.loads(report.read_text(encoding="utf-8"))
    return answer
