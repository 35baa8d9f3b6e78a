"""Messages with blobs through a pipe."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from alexnet_core.insight import protocol
from alexnet_core.insight.methods import Method, View
from alexnet_core.insight.protocol import Answer, Explain, ProtocolError, read_answer, read_request, write_message

Pipe = tuple[IO[bytes], IO[bytes]]
REQUEST = Explain(
    checkpoint=Path("/c"), manifest_sha256="a", method=Method.GRAD_CAM, target=None, view=View.HEAT, px=None
)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    read_end, write_end = os.pipe()
    with open(read_end, "rb", buffering=0) as source, open(write_end, "wb", buffering=0) as sink:
        yield source, sink


def test_a_message_comes_out_as_it_went_in(pipe: Pipe) -> None:
    blob = os.urandom(3_000_000)  # more than a pipe holds
    writing = threading.Thread(target=write_message, args=(pipe[1], REQUEST, blob))
    writing.start()
    found, read = read_request(pipe[0])
    writing.join()
    assert read == blob
    assert found == REQUEST.model_copy(update={"blob_bytes": len(blob)})
    write_message(pipe[1], Answer(done=3, total=7))
    assert read_answer(pipe[0]) == (Answer(done=3, total=7), b"")


def test_the_end_of_the_other_side_is_told(pipe: Pipe) -> None:
    pipe[1].write((100).to_bytes(8, "big") + b"{")
    pipe[1].close()
    with pytest.raises(EOFError):
        read_answer(pipe[0])


@pytest.mark.parametrize(
    "data",
    [
        (protocol.MAX_JSON_BYTES + 1).to_bytes(8, "big"),
        (7).to_bytes(8, "big") + b"no json",
        (18).to_bytes(8, "big") + b'{"blob_bytes": -1}',
        (12).to_bytes(8, "big") + b'{"other": 1}',
    ],
)
def test_what_is_no_message_is_refused(pipe: Pipe, data: bytes) -> None:
    pipe[1].write(data)
    with pytest.raises(ProtocolError):
        read_answer(pipe[0])
