"""Messages over a local socket: a JSON object and any number of byte strings, such as images.

On the wire: the length of the whole and of the JSON (4 bytes each), the JSON, the byte strings one after the other.
Their lengths stand in the JSON.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable, Sequence
from typing import Any, cast

_HEAD = struct.Struct("!II")
_LENGTHS = "_"  # the field of the JSON with the byte strings' lengths


class MessageProtocol(asyncio.Protocol):
    """One end of a connection: sends messages, and passes on those that arrive."""

    def __init__(
        self,
        on_message: Callable[[dict[str, Any], list[bytes]], None],
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        """Make it.

        Args:
            on_message: takes each message's object and byte strings, in the event loop.
            on_lost: called once, when the connection is gone.
        """
        self._on_message, self._on_lost = on_message, on_lost
        self._arrived = bytearray()
        self._to_send: list[bytes] = []  # in this round of the event loop
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast(asyncio.WriteTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._transport = None
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._arrived += data
        while len(self._arrived) >= _HEAD.size:
            size, json_size = _HEAD.unpack_from(self._arrived)
            end = _HEAD.size + size
            if len(self._arrived) < end:
                return
            whole = bytes(self._arrived[_HEAD.size : end])
            del self._arrived[:end]
            self._on_message(*_split(whole, json_size))

    def send(self, content: dict[str, Any], parts: Sequence[bytes] = ()) -> bool:
        """Send a message. False: the connection is gone."""
        if self._transport is None or self._transport.is_closing():
            return False
        text = json.dumps({**content, _LENGTHS: [len(part) for part in parts]} if parts else content).encode()
        size = len(text) + sum(map(len, parts))
        if not self._to_send:  # one write for all messages of a round: each would wake the other process
            asyncio.get_running_loop().call_soon(self._flush)
        self._to_send += [_HEAD.pack(size, len(text)), text, *parts]
        return True

    @property
    def unsent_bytes(self) -> int:
        """How much waits to be taken by the other end."""
        waiting = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return waiting + sum(map(len, self._to_send))

    def close(self) -> None:
        """Close the connection once what was sent is on its way."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        whole, self._to_send = b"".join(self._to_send), []
        if self._transport is not None and whole:
            self._transport.write(whole)


def _split(whole: bytes, json_size: int) -> tuple[dict[str, Any], list[bytes]]:
    content: dict[str, Any] = json.loads(whole[:json_size])
    parts, start = [], json_size
    for length in content.pop(_LENGTHS, ()):
        parts.append(whole[start : start + length])
        start += length
    return content, parts
