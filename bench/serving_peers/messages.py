"""How each server wants to be asked, and where its answer has the classes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Message:
    """A request's body with its headers."""

    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Named:
    """A class in an answer."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class Dialect:
    """The form of a server's requests and answers."""

    path: str
    build: Callable[[bytes, str], Message]  #: of the encoded image and its media type
    read: Callable[[bytes], list[Named]]  #: of the answer's body


def find_difference(found: list[Named], expected: list[Named], *, within: float) -> str | None:
    """Compare an answer with another server's.

    The first class must be the same, and no probability may differ by more than `within`. Classes that are about as
    probable may have changed places, or one of them may be missing for the next.

    Returns:
        What differs, in words; None: nothing does.
    """
    if len(found) != len(expected):
        return f"it names {len(found)} classes, not {len(expected)}"
    if (found[0].index, found[0].label) != (expected[0].index, expected[0].label):
        return f"its first class is {found[0]}, not {expected[0]}"
    least = expected[-1].probability
    known = {named.index: named.probability for named in expected}
    for named in found:
        if abs(named.probability - known.get(named.index, least)) > within:
            return f"it gives {named.label} {named.probability:.4f}, not {known.get(named.index, least):.4f}"
    return None


def _build_raw(image: bytes, content_type: str) -> Message:
    return Message({"Content-Type": content_type}, image)


def _build_octets(image: bytes, content_type: str) -> Message:
    return Message({"Content-Type": "application/octet-stream"}, image)


def _read_object(body: bytes) -> list[Named]:
    return _read_named(json.loads(body)["predictions"])


def _build_list(image: bytes, content_type: str) -> Message:
    return _json_message({"images": [base64.b64encode(image).decode()]})


def _read_list(body: bytes) -> list[Named]:
    [answer] = json.loads(body)
    return _read_named(answer["predictions"])


def _build_v2_json(image: bytes, content_type: str) -> Message:
    data = {"name": "image", "datatype": "BYTES", "shape": [1, 1], "data": [base64.b64encode(image).decode()]}
    return _json_message({"inputs": [data | {"parameters": {"content_type": "base64"}}]})


def _read_v2_json(body: bytes) -> list[Named]:
    [output] = json.loads(body)["outputs"]
    [answer] = output["data"]
    return _read_named(json.loads(answer)["predictions"])


def _build_v2_binary(image: bytes, content_type: str) -> Message:
    """Build a request of the protocol's binary extension: JSON, then the length of the image, then the image."""
    data = len(image).to_bytes(4, "little") + image
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Message(headers, head + data)


def _read_v2_tensors(body: bytes) -> list[Named]:
    outputs = {output["name"]: output["data"] for output in json.loads(body)["outputs"]}
    columns = (outputs["label"], outputs["index"], outputs["probability"])
    return [Named(label, index, probability) for label, index, probability in zip(*columns, strict=True)]


def _json_message(value: Any) -> Message:
    return Message({"Content-Type": "application/json"}, json.dumps(value).encode())


def _read_named(rows: list[dict[str, Any]]) -> list[Named]:
    return [Named(row["label"], row["index"], row["probability"]) for row in rows]


TRAINYARD = Dialect("/predict", _build_raw, _read_object)
OCTETS = Dialect("/predict", _build_octets, _read_object)
RAY = Dialect("/", _build_octets, _read_object)
TORCHSERVE = Dialect("/predictions/peer", _build_octets, _read_object)
BENTOML = Dialect("/predict", _build_list, _read_list)
MLSERVER = Dialect("/v2/models/peer/infer", _build_v2_json, _read_v2_json)
TRITON = Dialect("/v2/models/peer/infer", _build_v2_binary, _read_v2_tensors)
