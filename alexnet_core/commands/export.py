"""`python -m alexnet_core export` and `import-keras`. The library of a format is imported only when it is needed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer
from typer.core import TyperCommand

from alexnet_core.child_processes import die_with_parent
from alexnet_core.commands import arguments

NICENESS = 10  #: of a service's child, which gives way to predictions and to training
Format = Literal["onnx", "keras", "torch_export"]
FORMAT_NAMES: tuple[str, ...] = get_args(Format)


def export(
    checkpoint: arguments.Checkpoint,
    form: Annotated[Format, typer.Option("--format", help="The format to write.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to make.")],
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    parent_pid: arguments.ParentPid = None,
) -> int:
    """Write a checkpoint's network in another format."""
    if parent_pid is not None:
        die_with_parent(parent_pid)
        os.nice(NICENESS)
    from alexnet_core.export.file import export_checkpoint
    from alexnet_core.network.checkpoint import load_checkpoint

    export_checkpoint(load_checkpoint(checkpoint), form, out, replace=force)
    print(f"{out}  {out.stat().st_size:,} bytes")
    return 0


class ClassesUpToTheNextOption(TyperCommand):
    """Lets `--classes a b c` name all three classes.

    In Typer an option takes one value and has to be repeated for more.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the option's name before each of its values."""
        words: list[str] = []
        option = ""
        for word in args:
            if word.startswith("-"):
                option = word
            elif option == "--classes" and words[-1] != "--classes":
                words.append("--classes")
            words.append(word)
        return super().parse_args(ctx, words)


def import_keras(
    file: Annotated[Path, typer.Argument(help="Weights: .weights.h5, .keras, or an older .h5.")],
    recipe: Annotated[str, typer.Option(help="The recipe with the same network.")],
    classes: Annotated[list[str], typer.Option(metavar="CLASS...", help="Class names in the order of the outputs.")],
    out: Annotated[Path, typer.Option(metavar="CHECKPOINT", help="The folder to make.")],
    override: arguments.Override = [],  # noqa: B006 - Typer hands over a new list
    epsilon: Annotated[
        float | None,
        typer.Option(
            parser=arguments.epsilon, metavar="EPSILON", help="Epsilon of Keras' batch norms, if there are any."
        ),
    ] = None,
) -> int:
    """Make a checkpoint from weights that Keras saved."""
    from alexnet_core.export.keras_reader import read_keras
    from alexnet_core.network.checkpoint import save_checkpoint
    from alexnet_core.recipes import get_recipe

    if out.exists():
        raise FileExistsError(errno.EEXIST, "this folder exists already: name another one", str(out))
    config = get_recipe(recipe).config.with_overrides(arguments.parse_overrides(override))
    saved = save_checkpoint(read_keras(file, config, classes, out, batch_norm_epsilon=epsilon))
    print(f"{saved.path}  weights {saved.weights_sha256}")
    return 0
