"""`python -m alexnet_core import-torchvision` and `import-caffe`: make checkpoints from published weights."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alexnet_core.commands import arguments

if TYPE_CHECKING:
    from alexnet_core.network.checkpoint import Checkpoint

Classes = Annotated[list[str], typer.Option(metavar="CLASS...", help="Class names in the order of the outputs.")]
ClassesFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A text file with one class on each line, in that order.")
]
Out = Annotated[Path, typer.Option(metavar="CHECKPOINT", help="The folder to make.")]


def import_torchvision(
    file: Annotated[Path, typer.Argument(help="A .pth file: a state dict of torchvision.models.alexnet.")],
    out: Out,
    classes: Classes = [],  # noqa: B006 - Typer hands over a new list
    classes_file: ClassesFile = None,
    override: arguments.Override = [],  # noqa: B006
) -> int:
    """Make a checkpoint from torchvision's weights."""
    from alexnet_core.export.imported import import_torchvision as read
    from alexnet_core.recipes import get_recipe

    names = _read_classes(classes, classes_file, out)
    config = get_recipe("torchvision").config.with_overrides(arguments.parse_overrides(override))
    return _save(read(file, config, names, out))


def import_caffe(
    file: Annotated[Path, typer.Argument(help="A .caffemodel file with the layers of bvlc_alexnet.")],
    out: Out,
    mean: Annotated[Path | None, typer.Option(metavar="BINARYPROTO", help="The mean image.")] = None,
    classes: Classes = [],  # noqa: B006
    classes_file: ClassesFile = None,
    override: arguments.Override = [],  # noqa: B006
) -> int:
    """Make a checkpoint from Caffe's weights."""
    from alexnet_core.export.imported import import_caffe as read
    from alexnet_core.recipes import get_recipe

    names = _read_classes(classes, classes_file, out)
    config = get_recipe("caffe").config.with_overrides(arguments.parse_overrides(override))
    return _save(read(file, config, names, out, mean=mean))


def _read_classes(classes: list[str], classes_file: Path | None, out: Path) -> list[str]:
    from alexnet_core.data.layouts.imagenet import read_classes

    if bool(classes) == (classes_file is not None):
        raise typer.BadParameter("name the classes with either --classes or --classes-file")
    if out.exists():
        raise FileExistsError(errno.EEXIST, "this folder exists already: name another one", str(out))
    return classes if classes_file is None else list(read_classes(classes_file.read_text(encoding="utf-8")).values())


def _save(checkpoint: Checkpoint) -> int:
    from alexnet_core.network.checkpoint import save_checkpoint

    saved = save_checkpoint(checkpoint)
    print(f"{saved.path}  weights {saved.weights_sha256}")
    return 0
