"""`python -m alexnet_core export` and `import-keras`."""

from __future__ import annotations

import argparse
import errno
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

FORMAT_NAMES = ("onnx", "keras", "torch_export")


def add_commands(commands: Commands, parse_overrides: Callable[[list[str]], dict[str, Any]]) -> None:
    """Add both to the program's parser; neither torch nor a format's package is loaded by that."""
    export = commands.add_parser("export", help="write a checkpoint in another format")
    export.add_argument("checkpoint", type=Path)
    export.add_argument("--format", required=True, choices=FORMAT_NAMES)
    export.add_argument("--out", type=Path, required=True, metavar="FILE")
    export.add_argument("--force", action="store_true", help="replace a file that is there")
    export.set_defaults(run=_export)
    reader = commands.add_parser("import-keras", help="make a checkpoint of weights that Keras saved")
    reader.add_argument("file", type=Path, help=".weights.h5, .keras, or an older .h5")
    reader.add_argument("--recipe", required=True, help="whose network it is")
    reader.add_argument("--override", action="append", default=[], metavar="FIELD=VALUE", help="may be repeated")
    reader.add_argument("--classes", required=True, nargs="+", metavar="CLASS", help="in the order of the outputs")
    reader.add_argument("--epsilon", type=_epsilon, default=None, help="of Keras' batch norms, if it has any")
    reader.add_argument("--out", type=Path, required=True, metavar="CHECKPOINT", help="the folder to make")
    reader.set_defaults(run=lambda options: _import_keras(options, parse_overrides(options.override)))


def _epsilon(text: str) -> float:
    """A small number over 0, for argparse."""
    try:
        epsilon = float(text)
    except ValueError:
        epsilon = math.nan
    if not 0 < epsilon < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number between 0 and 1")
    return epsilon


def _export(options: argparse.Namespace) -> int:
    from alexnet_core.export.file import export_checkpoint
    from alexnet_core.network.checkpoint import load_checkpoint

    export_checkpoint(load_checkpoint(options.checkpoint), options.format, options.out, replace=options.force)
    print(f"{options.out}  {options.out.stat().st_size:,} bytes")
    return 0


def _import_keras(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    from alexnet_core.export.keras_reader import read_keras
    from alexnet_core.network.checkpoint import save_checkpoint
    from alexnet_core.recipes import get_recipe

    if options.out.exists():
        raise FileExistsError(errno.EEXIST, "there is such a folder: name another", str(options.out))
    config = get_recipe(options.recipe).config.with_overrides(overrides)
    checkpoint = read_keras(options.file, config, options.classes, options.out, batch_norm_epsilon=options.epsilon)
    saved = save_checkpoint(checkpoint)
    print(f"{saved.path}  weights {saved.weights_sha256}")
    return 0
