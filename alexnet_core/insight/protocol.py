"""What the API and the child process for insight say to each other. Torch-free.

A message is the length of its JSON, the JSON, and a blob whose length the JSON names. Requests go to the child, one at
a time; it answers each of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from alexnet_core.evaluation.scores import Guess
from alexnet_core.insight.methods import Method, PassKind, Scale, Split, View

MAX_JSON_BYTES = 16 * 2**20
MAX_BLOB_BYTES = 256 * 2**20
_SIZE_BYTES = 8
T = TypeVar("T")


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    blob_bytes: int = 0


# --- to the child ---


class _Request(_Message):
    """Something about one checkpoint."""

    checkpoint: Path
    """Its folder."""
    manifest_sha256: str
    """What is kept in memory under: two folders with the same manifest hold the same."""


class Explain(_Request):
    """Explain the answer for the image in the blob. The answer's blob is a PNG."""

    type: Literal["explain"] = "explain"
    method: Method
    target: str | None
    """The class's name. None: the most probable one."""
    view: View
    px: int | None


class Activate(_Request):
    """Draw what a layer computes for the image in the blob. The answer's blob is a PNG."""

    type: Literal["activate"] = "activate"
    layer: str
    scale: Scale


class DrawFilters(_Request):
    """Draw the kernels of the first convolution. The answer's blob is a PNG."""

    type: Literal["filters"] = "filters"
    scale: Scale


class FindSimilar(_Request):
    """Find the training images that are most like the image in the blob."""

    type: Literal["similar"] = "similar"
    index: Path
    pack: Path
    k: int


class GoOn(_Request):
    """Go on with a pass over a split for some time."""

    type: Literal["go_on"] = "go_on"
    kind: PassKind
    split: Split
    pack: Path
    draft: Path
    done: int
    seconds: float


Request = Explain | Activate | DrawFilters | FindSimilar | GoOn


# --- from the child ---


class Similar(BaseModel):
    """A training image that is alike."""

    split: Split
    index: int
    position: int
    label: str
    file: str | None
    distance: float


class Answer(_Message):
    """What came of a request."""

    code: str = ""
    """What is wrong: that of a `CoreError`, or one of those below. Empty: nothing."""
    message: str = ""
    param: str | None = None
    target: Guess | None = None
    """Of `explain`: the class that is explained."""
    predictions: list[Guess] = []
    """Of `explain`: the most probable classes."""
    similar: list[Similar] = []
    num_indexed: int = 0
    """Of `similar`: images that were compared."""
    done: int = 0
    """Of `go_on`."""
    total: int = 0


#: Codes of answers that are no `CoreError`'s.
BAD_REQUEST, NO_MEMORY, NOT_CALIBRATED, OTHER_CLASSES, NO_INDEX, BROKEN = (
    "bad_request", "no_memory", "not_calibrated", "other_classes", "no_index", "broken",
)  # fmt: skip

_REQUESTS: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="type")])


class ProtocolError(Exception):
    """What came through the pipe is not a message that this version knows."""


def write_message(pipe: IO[bytes], message: Request | Answer, blob: bytes = b"") -> None:
    """Write a message with its blob to an unbuffered pipe.

    Raises:
        OSError: the other side is gone.
    """
    data = message.model_copy(update={"blob_bytes": len(blob)}).model_dump_json().encode()
    for part in (len(data).to_bytes(_SIZE_BYTES, "big") + data, blob):
        view = memoryview(part)
        while view:
            view = view[pipe.write(view) :]


def read_request(pipe: IO[bytes]) -> tuple[Request, bytes]:
    """Read a request and its blob.

    Raises:
        EOFError: the other side is gone.
        ProtocolError: see there.
    """
    return _read_message(pipe, _REQUESTS.validate_json)


def read_answer(pipe: IO[bytes]) -> tuple[Answer, bytes]:
    """Read an answer and its blob.

    Raises:
        EOFError: the other side is gone.
        ProtocolError: see there.
    """
    return _read_message(pipe, Answer.model_validate_json)


def _read_message(pipe: IO[bytes], parse: Any) -> tuple[Any, bytes]:
    size = int.from_bytes(_read(pipe, _SIZE_BYTES), "big")
    if size > MAX_JSON_BYTES:
        raise ProtocolError(f"a message of {size} bytes")
    try:
        message = parse(_read(pipe, size))
    except ValidationError as exc:
        raise ProtocolError(str(exc)) from exc
    if not 0 <= message.blob_bytes <= MAX_BLOB_BYTES:
        raise ProtocolError(f"a blob of {message.blob_bytes} bytes")
    return message, _read(pipe, message.blob_bytes)


def _read(pipe: IO[bytes], size: int) -> bytes:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = pipe.readinto(view)  # type: ignore[attr-defined]  # a pipe's reader has it, `IO` does not
        if not count:
            raise EOFError
        view = view[count:]
    return bytes(data)
