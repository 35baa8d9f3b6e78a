"""Rows of results as JSON, one a line. Torch-free.

{"row": 17, "file": "cat/7.png", "split": "test", "index": 17, "label": "cat",
 "predictions": [{"label": "cat", "index": 0, "probability": 0.98}, …], "error": null}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from alexnet_core.errors import ImageError
from alexnet_core.predictions.image_lists import ImageFacts

#: Ends of a line for some readers of text (`str.splitlines`), which JSON lets stand as they are.
_LINE_ENDS = {ord(each): f"\\u{ord(each):04x}" for each in "\x85\u2028\u2029"}


class RowCounts(NamedTuple):
    """What a row adds to the counts of its segment; see `prediction_messages.Counts`."""

    num_errors: int = 0
    num_labelled: int = 0
    hits1: int = 0
    hits5: int = 0


class RowFormat:
    """Writes rows for a network's classes. Their names are encoded once."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self._labels = [f'{{"label": {_encode(name)}, "index": {number}, ' for number, name in enumerate(class_names)]

    def write(self, row: int, facts: ImageFacts, ranked: Iterable[tuple[int, float]]) -> bytes:
        """Return the line of an image.

        Args:
            row: its number.
            facts: what is known of it.
            ranked: the most probable classes, best first, each with its probability.
        """
        named = ", ".join(f'{self._labels[index]}"probability": {value:.7g}}}' for index, value in ranked)
        return f'{_begin(row, facts)}, "predictions": [{named}], "error": null}}\n'.encode()

    def write_error(self, row: int, facts: ImageFacts, error: ImageError) -> bytes:
        """Return the line of an image that can't be read."""
        told = _encode({"code": error.code, "message": error.message})
        return f'{_begin(row, facts)}, "predictions": [], "error": {told}}}\n'.encode()


def _begin(row: int, facts: ImageFacts) -> str:
    return (
        f'{{"row": {row}, "file": {_encode(facts.file)}, "split": {_encode(facts.split)}, '
        f'"index": {_encode(facts.index)}, "label": {_encode(facts.label)}'
    )


def _encode(value: object) -> str:
    return json.dumps(value, ensure_ascii=False).translate(_LINE_ENDS)
