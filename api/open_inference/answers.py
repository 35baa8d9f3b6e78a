"""The answer to a request for inference, as JSON or with binary data behind it.

N images, K classes
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from api.open_inference.requests import InferBody, WantedOutput
from api.open_inference.tensors import write_texts
from trainyard.errors import InvalidRequest

PROBABILITIES, LABELS = "probabilities", "labels"
OUTPUTS = (PROBABILITIES, LABELS)
MAX_CLASSIFICATION = 1000


@dataclass(frozen=True)
class Output:
    """An output tensor: numbers or texts."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    numbers: NDArray[np.float32] | None = None
    texts: Sequence[str] = ()

    @property
    def data(self) -> list[Any]:
        """Its values for JSON, row by row."""
        return list(self.texts) if self.numbers is None else self.numbers.reshape(-1).tolist()

    @property
    def raw(self) -> bytes:
        """Its values as binary data."""
        if self.numbers is None:
            return write_texts([text.encode() for text in self.texts])
        return self.numbers.astype("<f4").tobytes()


def check_outputs(body: InferBody) -> None:
    """Refuse outputs that there are not, before anything is computed.

    Raises:
        InvalidRequest: one is unknown, or its classification is no number of classes.
    """
    for wanted in body.outputs or []:
        if wanted.name not in OUTPUTS:
            raise InvalidRequest(
                f"there is no output {wanted.name[:80]!r}: there are `{PROBABILITIES}` and `{LABELS}`", param="outputs"
            )
        count = _classification(wanted)
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_CLASSIFICATION:
            raise InvalidRequest(
                f"classification is {str(count)[:40]}: a number of classes up to {MAX_CLASSIFICATION}", param="outputs"
            )
        if count and wanted.name != PROBABILITIES:
            raise InvalidRequest(f"classification is for `{PROBABILITIES}`, not for `{wanted.name}`", param="outputs")


def most_named(body: InferBody) -> int:
    """Return how many classes must be named for each image."""
    return max([1, *(int(_classification(wanted)) for wanted in body.outputs or [])])


def build_outputs(
    body: InferBody, probabilities_NK: NDArray[np.float32], named: Sequence[Sequence[str]]
) -> list[tuple[Output, bool]]:
    """Return the outputs that were asked for, all if none was named, and whether each is sent as binary data.

    Args:
        body: of the request.
        probabilities_NK: by image and class.
        named: by image the most probable classes, `most_named` of them.
    """
    wanted = body.outputs or [WantedOutput(name=name) for name in OUTPUTS]
    all_binary = body.parameters.get("binary_data_output") is True
    built = []
    for it in wanted:
        binary = it.parameters.get("binary_data", all_binary) is True
        built.append((_build(it, probabilities_NK, named), binary))
    return built


def _build(wanted: WantedOutput, probabilities_NK: NDArray[np.float32], named: Sequence[Sequence[str]]) -> Output:
    num_images, num_classes = probabilities_NK.shape
    if count := min(_classification(wanted), num_classes):
        texts = [
            f"{row[index]:.6f}:{index}:{name}"
            for row, names in zip(probabilities_NK, named, strict=True)
            for index, name in zip(np.argsort(-row, kind="stable")[:count].tolist(), names, strict=False)
        ]
        return Output(wanted.name, "BYTES", (num_images, count), texts=texts)
    if wanted.name == LABELS:
        return Output(LABELS, "BYTES", (num_images,), texts=[names[0] for names in named])
    return Output(PROBABILITIES, "FP32", probabilities_NK.shape, numbers=probabilities_NK)


def _classification(wanted: WantedOutput) -> Any:
    return wanted.parameters.get("classification", 0)


def encode(content: dict[str, Any], outputs: Sequence[tuple[Output, bool]]) -> tuple[bytes, int | None]:
    """Return the answer's body, and the length of its JSON if binary data follows it."""
    described, binary = [], []
    for output, is_binary in outputs:
        entry: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        if is_binary:
            binary.append(output.raw)
            entry["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            entry["data"] = output.data
        described.append(entry)
    text = json.dumps({**content, "outputs": described}).encode()
    return b"".join((text, *binary)), len(text) if any(is_binary for _, is_binary in outputs) else None
