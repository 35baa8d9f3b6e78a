"""`python -m alexnet_core predict`: says what is on image files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alexnet_core.commands import arguments


def predict(
    checkpoint: arguments.Checkpoint,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="One or more image files.")],
    top_k: Annotated[int, typer.Option(parser=arguments.count, metavar="K", help="Classes to name.")] = 5,
    others: arguments.Others = [],  # noqa: B006 - Typer hands over a new list
) -> int:
    """Classify image files and print one line for each."""
    from alexnet_core.data.images import decode_image
    from alexnet_core.errors import ImageError
    from alexnet_core.evaluation.ensemble import Ensemble

    predictor = Ensemble.load([checkpoint, *others])
    for path in images:
        try:
            pixels = decode_image(path.read_bytes())
        except ImageError as exc:
            raise type(exc)(f"{path}: {exc}") from exc
        [predictions] = predictor.predict([pixels], top_k)
        print(f"{path}  " + "  ".join(f"{p.label} {p.probability:.1%}" for p in predictions))
    return 0
