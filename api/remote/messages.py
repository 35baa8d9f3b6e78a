"""Messages over a local socket: a JSON object and any number of byte strings, such as images; or bytes alone.

On the wire: the length of the whole and of the JSON (4 bytes each), the JSON, the byte strings one after the other.
Their lengths stand in the JSON. A message of bytes alone has no JSON, so its length is 0.
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
        on_bytes: Callable[[bytes], None] = lambda message: None,
    ) -> None:
        """Make it.

        Args:
            on_message: takes each message's object and byte strings, in the event loop.
            on_lost: called once, when the connection is gone.
            on_bytes: takes each message of bytes alone.
        """
        self._on_message, self._on_lost, self._on_bytes = on_message, on_lost, on_bytes
        self._arrived = bytearray()
        self._to_send: list[bytes] = []  # in this round of the event loop
        self._to_send_bytes = 0
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
        if self._arrived:
            self._arrived += data
            data = bytes(self._arrived) if self._has_whole() else b""
        start = 0
        while len(data) - start >= _HEAD.size:
            size, json_size = _HEAD.unpack_from(data, start)
            end = start + _HEAD.size + size
            if len(data) < end:
                break
            whole, start = data[start + _HEAD.size : end], end
            if json_size:
                self._on_message(*_split(whole, json_size))
            else:
                self._on_bytes(whole)
        if start or not self._arrived:
            self._arrived = bytearray(data[start:])

    def _has_whole(self) -> bool:
        """Whether the first message of what arrived is all there: else nothing is copied yet."""
        return (
            len(self._arrived) >= _HEAD.size and len(self._arrived) >= _HEAD.size + _HEAD.unpack_from(self._arrived)[0]
        )

    def send(self, content: dict[str, Any], parts: Sequence[bytes] = ()) -> bool:
        """Send a message. False: the connection is gone."""
        if self._transport is None or self._transport.is_closing():
            return False
        text = json.dumps({**content, _LENGTHS: [len(part) for part in parts]} if parts else content).encode()
        self._queue([text, *parts], len(text))
        return True

    def send_bytes(self, message: bytes) -> bool:
        """Send a message of bytes alone. False: the connection is gone."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._queue([message], 0)
        return True

    def _queue(self, parts: list[bytes], json_size: int) -> None:
        if not self._to_send:  # one write for all messages of a round: each would wake the other process
            asyncio.get_running_loop().call_soon(self._flush)
        size = sum(map(len, parts))
        self._to_send_bytes += _HEAD.size + size
        self._to_send += [_HEAD.pack(size, json_size), *parts]

    @property
    def unsent_bytes(self) -> int:
        """How much waits to be taken by the other end."""
        waiting = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return waiting + self._to_send_bytes

    def close(self) -> None:
        """Close the connection once what was sent is on its way."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        whole, self._to_send, self._to_send_bytes = b"".join(self._to_send), [], 0
        if self._transport is not None and whole:
            self._transport.write(whole)


def _split(whole: bytes, json_size: int) -> tuple[dict[str, Any], list[bytes]]:
    content: dict[str, Any] = json.loads(whole[:json_size])
    parts, start = [], json_size
    for length in content.pop(_LENGTHS, ()):
        parts.append(whole[start : start + length])
        start += length
    return content, parts
