"""Messages arrive whole, in whatever pieces the socket delivers them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from api.remote.messages import MessageProtocol


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_messages_arrive_whole_in_pieces_of_any_size(size: int) -> None:
    sent: list[tuple[dict[str, Any], list[bytes]]] = [
        ({"number": 1, "text": "ä"}, [b"", b"\x00" * 300, b"png"]),
        ({"cancel": 1}, []),
        ({"number": 2}, [b"x"]),
    ]
    wire, received = Wire(), list[tuple[dict[str, Any], list[bytes]]]()

    async def send() -> None:
        sender = MessageProtocol(lambda content, parts: None)
        sender.connection_made(wire)
        for content, parts in sent:
            assert sender.send(content, parts)
        assert not wire.written, "all of them are written at once"
        await asyncio.sleep(0)

    asyncio.run(send())
    receiver = MessageProtocol(lambda content, parts: received.append((content, parts)))
    for start in range(0, len(wire.written), size):
        receiver.data_received(wire.written[start : start + size])
    assert received == sent


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_messages_of_bytes_alone_arrive_between_the_others(size: int) -> None:
    wire, received = Wire(), list[object]()

    async def send() -> None:
        sender = MessageProtocol(lambda content, parts: None)
        sender.connection_made(wire)
        for number in range(3):
            sender.send_bytes(bytes([number]) * 40)
            sender.send({"number": number}, [b"part"])
        assert sender.unsent_bytes == 3 * (8 + 40) + 3 * (8 + len('{"number": 0, "_": [4]}') + 4)
        await asyncio.sleep(0)
        assert sender.unsent_bytes == 0

    asyncio.run(send())
    receiver = MessageProtocol(lambda content, parts: received.append(content), on_bytes=received.append)
    for start in range(0, len(wire.written), size):
        receiver.data_received(wire.written[start : start + size])
    assert received == [it for number in range(3) for it in (bytes([number]) * 40, {"number": number})]


def test_nothing_is_sent_over_a_connection_that_is_gone() -> None:
    lost = list[bool]()
    protocol = MessageProtocol(lambda content, parts: None, lambda: lost.append(True))
    assert not protocol.send({})
    wire = Wire()

    async def lose() -> None:
        protocol.connection_made(wire)
        assert protocol.send({})
        protocol.connection_lost(None)
        await asyncio.sleep(0)

    asyncio.run(lose())
    assert not wire.written
    assert lost == [True]
    assert not protocol.send({})
