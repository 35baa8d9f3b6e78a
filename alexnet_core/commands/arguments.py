"""Arguments that several commands share, and how text from the command line becomes values. Torch-free."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def count(text: str | int) -> int:
    """Parse a whole number from 0. A default value passes through unchanged."""
    if not str(text).isdecimal():
        raise typer.BadParameter(f"{text!r} is not a whole number from 0")
    return int(text)


def seconds(text: str) -> float:
    """Parse a number of seconds."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise typer.BadParameter(f"{text!r} is not a number of seconds over 0")
    return value


def epsilon(text: str) -> float:
    """Parse a small positive number."""
    value = _number(text)
    if not 0 < value < 1:
        raise typer.BadParameter(f"{text!r} is not a number between 0 and 1")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """Parse options such as `epochs=3` and `flip=false` into a dictionary. A value that is not JSON is a text."""
    overrides: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            overrides[name] = json.loads(text)
        except ValueError:
            overrides[name] = text
    return overrides


Checkpoint = Annotated[Path, typer.Argument(help="A checkpoint's folder.")]
Others = Annotated[
    list[Path],
    typer.Option("--with", metavar="CHECKPOINT", help="Average its probabilities too; may be repeated."),
]
DatasetName = Annotated[
    str, typer.Option("--dataset", help="A built-in dataset, a folder or archive of images, or a pack.")
]
Source = Annotated[
    Path | None, typer.Option(help="For a built-in dataset: the folder or archive with its published files.")
]
DEFAULT_DATA_DIR = Path("data")
DataDir = Annotated[Path, typer.Option(help="Where packs are kept.")]
Override = Annotated[list[str], typer.Option(metavar="FIELD=VALUE", help="A training option; may be repeated.")]
Device = Annotated[Literal["cpu", "cuda"], typer.Option(help="Where to compute.")]
Picture = Annotated[Path, typer.Option("--out", metavar="PNG", help="The picture to write.")]
ParentPid = Annotated[int | None, typer.Option(help="End when this process, our parent, ends.")]
