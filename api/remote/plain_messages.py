"""How a plain prediction travels between the processes: numbers and texts, then the image or the answer.

JSON for the same costs several times as much, and this is sent for every small image.
"""

from __future__ import annotations

import struct

from api.serving.interface import PlainAnswer

_ASKED = struct.Struct("!QHHH")  #: number of the call, classes to name, bytes of the owner and of the reference
_ANSWERED = struct.Struct("!QH")  #: number of the call, bytes of the checkpoint's id


def pack_question(number: int, owner: str, reference: str, image: bytes, top_k: int) -> bytes:
    """Pack what a web process asks."""
    texts = owner.encode(), reference.encode()
    return b"".join((_ASKED.pack(number, top_k, len(texts[0]), len(texts[1])), *texts, image))


def unpack_question(message: bytes) -> tuple[int, str, str, bytes, int]:
    """Return number, owner, reference, image and how many classes to name."""
    number, top_k, owner_size, reference_size = _ASKED.unpack_from(message)
    owner_end = _ASKED.size + owner_size
    end = owner_end + reference_size
    return number, message[_ASKED.size : owner_end].decode(), message[owner_end:end].decode(), message[end:], top_k


def pack_answer(number: int, answer: PlainAnswer) -> bytes:
    """Pack what the engine answers."""
    checkpoint = answer.checkpoint.encode()
    return b"".join((_ANSWERED.pack(number, len(checkpoint)), checkpoint, answer.text))


def unpack_answer(message: bytes) -> tuple[int, PlainAnswer]:
    """Return the number of the call and its answer."""
    number, size = _ANSWERED.unpack_from(message)
    end = _ANSWERED.size + size
    return number, PlainAnswer(message[_ANSWERED.size : end].decode(), message[end:])
