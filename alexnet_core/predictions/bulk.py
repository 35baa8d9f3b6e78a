"""Predicts a list of images, from a row on, in batches: few images are in memory at a time.

Images are decoded in threads (Pillow and torch work without the interpreter's lock) while the network computes the
batch before. The arithmetic is that of `Predictor`, in fp32.

B batch, C channels, H height, W width, K classes
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet_core.data.intake.ordered_map import map_in_order
from alexnet_core.errors import ImageError
from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.predictions.image_lists import ImageFacts, ImageList, read_or_explain
from alexnet_core.predictions.rows import RowCounts, RowFormat

_VALUES_AT_ONCE = 1 << 23  # of a batch's input
_LEAST_IMAGES, _MOST_IMAGES = 8, 256  # of a batch
_SMALL_VALUES = 3 * 64 * 64  # of an image: to prepare it alone takes longer than to copy it
_TOP_FEW = 5  # counted beside the most probable class

#: An image as its thread leaves it: the network's input, the pixels of a small image, or why there are none.
Prepared = Tensor | NDArray[np.uint8] | ImageError


@dataclass(frozen=True, slots=True)
class Row:
    """The result of one image."""

    line: bytes  #: as JSON, with its end
    counts: RowCounts


def predict_rows(
    predictor: Predictor,
    images: ImageList,
    *,
    first_row: int,
    top_k: int,
    temperature: float,
    threads: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Iterator[Row]:
    """Yield a row for each image from `first_row` on, in their order.

    Args:
        predictor: the network.
        images: what to predict.
        first_row: where to begin.
        top_k: how many classes are named.
        temperature: logits are divided by it.
        threads: that decode.
        on_progress: called after each batch with the number of rows up to there.

    Raises:
        OSError: the disk fails.
    """
    batch_size, row_format = _choose_batch_size(predictor), RowFormat(predictor.class_names)
    known = {name: index for index, name in enumerate(predictor.class_names)}

    def prepare(row: int) -> Prepared:
        pixels = read_or_explain(images, row)
        if isinstance(pixels, ImageError) or pixels.size <= _SMALL_VALUES:
            return pixels
        return predictor.preprocess(pixels)

    prepared = map_in_order(prepare, range(first_row, len(images)), threads, at_once=min(16, batch_size))
    for start in range(first_row, len(images), batch_size):
        rows = range(start, min(start + batch_size, len(images)))
        facts, given = images.describe(rows), [next(prepared) for _ in rows]
        yield from _finish_batch(predictor, row_format, known, rows, given, facts, top_k, temperature)
        on_progress(rows.stop)


def _finish_batch(
    predictor: Predictor,
    row_format: RowFormat,
    known: dict[str, int],
    rows: range,
    prepared: list[Prepared],
    facts: list[ImageFacts],
    top_k: int,
    temperature: float,
) -> Iterator[Row]:
    readable = [each for each in prepared if not isinstance(each, ImageError)]
    ranked = iter(_rank(predictor, readable, top_k, temperature))
    for row, given, fact in zip(rows, prepared, facts, strict=True):
        if isinstance(given, ImageError):
            yield Row(row_format.write_error(row, fact, given), RowCounts(num_errors=1))
            continue
        best = next(ranked)
        yield Row(row_format.write(row, fact, best[:top_k]), _count(best, known.get(fact.label or "")))


def _rank(
    predictor: Predictor, readable: list[Tensor | NDArray[np.uint8]], top_k: int, temperature: float
) -> list[list[tuple[int, float]]]:
    """Return the most probable classes of each image, best first: `top_k` of them, or the few that are counted."""
    if not readable:
        return []
    logits_BK = predictor.logits(_to_input(predictor, readable)) / temperature
    most = min(max(top_k, _TOP_FEW), logits_BK.shape[1])
    values, indices = torch.softmax(logits_BK, dim=1).topk(most, dim=1)
    return [
        list(zip(row_i, row_p, strict=True)) for row_i, row_p in zip(indices.tolist(), values.tolist(), strict=True)
    ]


def _to_input(predictor: Predictor, readable: list[Tensor | NDArray[np.uint8]]) -> Tensor:
    """Return the network's input for a batch. Small images of one shape are prepared together."""
    inputs: list[Tensor] = [each for each in readable if isinstance(each, Tensor)]
    if len(inputs) == len(readable):
        return torch.stack(inputs)
    if not inputs and len({each.shape for each in readable}) == 1:
        return predictor.preprocessing.to_input(torch.from_numpy(np.stack([np.asarray(each) for each in readable])))
    return torch.stack([each if isinstance(each, Tensor) else predictor.preprocess(each) for each in readable])


def _count(ranked: list[tuple[int, float]], label: int | None) -> RowCounts:
    if label is None:
        return RowCounts()
    few = [index for index, _ in ranked[:_TOP_FEW]]
    return RowCounts(num_labelled=1, hits1=int(few[0] == label), hits5=int(label in few))


def _choose_batch_size(predictor: Predictor) -> int:
    side = predictor.preprocessing.image_px
    values = predictor.preprocessing.channels * side * side
    return max(_LEAST_IMAGES, min(_MOST_IMAGES, _VALUES_AT_ONCE // values))
