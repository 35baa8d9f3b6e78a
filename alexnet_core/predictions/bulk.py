"""Predicts a list of images, from a row on, in batches: few images are in memory at a time.

Images are decoded in threads (Pillow works without the interpreter's lock) while the network computes the batch before.

B batch, C channels, H height, W width, K classes
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet_core.data.intake.ordered_map import map_in_order
from alexnet_core.errors import Diverged, ImageError
from alexnet_core.predictions.image_lists import ImageFacts, ImageList, read_or_explain
from alexnet_core.predictions.networks import Network
from alexnet_core.predictions.rows import RowCounts, RowFormat

_VALUES_AT_ONCE = 1 << 23  # of a batch's input
_LEAST_IMAGES, _MOST_IMAGES = 8, 256  # of a batch
_TOP_FEW = 5  # counted beside the most probable class

#: An image as its thread leaves it: the network's input, or why there is none.
Prepared = NDArray[np.float32] | ImageError


@dataclass(frozen=True, slots=True)
class Row:
    """The result of one image."""

    line: bytes  #: as JSON, with its end
    counts: RowCounts


@dataclass(frozen=True)
class _Told:
    """What is told of each image."""

    top_k: int
    temperature: float
    row_format: RowFormat
    known: dict[str, int]  #: the network's classes, by their names


def predict_rows(
    network: Network,
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
        network: the network.
        images: what to predict.
        first_row: where to begin.
        top_k: how many classes are named.
        temperature: logits are divided by it.
        threads: that decode.
        on_progress: called after each batch with the number of rows up to there.

    Raises:
        Diverged: the network computes values that are not finite: JSON has no word for them.
        OSError: the disk fails.
    """
    names = network.class_names
    told = _Told(top_k, temperature, RowFormat(names), {name: index for index, name in enumerate(names)})
    batch_size = _choose_batch_size(network)

    def prepare(row: int) -> Prepared:
        pixels = read_or_explain(images, row)
        return pixels if isinstance(pixels, ImageError) else network.preprocess(pixels)

    prepared = map_in_order(prepare, range(first_row, len(images)), threads, at_once=min(16, batch_size))
    for start in range(first_row, len(images), batch_size):
        rows = range(start, min(start + batch_size, len(images)))
        facts, given = images.describe(rows), [next(prepared) for _ in rows]
        yield from _finish_batch(network, told, rows, given, facts)
        on_progress(rows.stop)


def _finish_batch(
    network: Network, told: _Told, rows: range, prepared: list[Prepared], facts: list[ImageFacts]
) -> Iterator[Row]:
    inputs = [each for each in prepared if not isinstance(each, ImageError)]
    ranked = iter(_rank(network, inputs, told))
    for row, given, fact in zip(rows, prepared, facts, strict=True):
        if isinstance(given, ImageError):
            yield Row(told.row_format.write_error(row, fact, given), RowCounts(num_errors=1))
            continue
        best = next(ranked)
        line = told.row_format.write(row, fact, best[: told.top_k])
        yield Row(line, _count(best, told.known.get(fact.label or "")))


def _rank(network: Network, inputs: list[NDArray[np.float32]], told: _Told) -> list[list[tuple[int, float]]]:
    """Return the most probable classes of each image, best first: `top_k` of them, or the few that are counted."""
    if not inputs:
        return []
    logits_BK = network.logits(np.stack(inputs)) / np.float32(told.temperature)
    if not np.isfinite(logits_BK).all():
        raise Diverged("The network computes values that are not finite for one of the images: use another checkpoint.")
    powers_BK = np.exp(logits_BK - logits_BK.max(axis=1, keepdims=True))
    probabilities_BK = powers_BK / powers_BK.sum(axis=1, keepdims=True)
    best_BK = np.argsort(-logits_BK, axis=1, kind="stable")[:, : max(told.top_k, _TOP_FEW)]
    values_BK = np.take_along_axis(probabilities_BK, best_BK, axis=1)
    return [
        list(zip(row_i, row_p, strict=True)) for row_i, row_p in zip(best_BK.tolist(), values_BK.tolist(), strict=True)
    ]


def _count(ranked: list[tuple[int, float]], label: int | None) -> RowCounts:
    if label is None:
        return RowCounts()
    few = [index for index, _ in ranked[:_TOP_FEW]]
    return RowCounts(num_labelled=1, hits1=int(few[0] == label), hits5=int(label in few))


def _choose_batch_size(network: Network) -> int:
    side = network.transform.image_px
    return max(_LEAST_IMAGES, min(_MOST_IMAGES, _VALUES_AT_ONCE // (network.transform.channels * side * side)))
