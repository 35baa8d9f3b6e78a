from __future__ import annotations

from typing import Any

import pytest
from kombu.transport import redis

from worker.listening import BellChannel, BellTransport, build_bell


@pytest.mark.parametrize(
    "message",
    [
        None,
        7,
        [],
        {},
        {"headers": None},
        {"headers": {"task": ["x"]}},
        {"headers": {"task": "os.system"}},
        build_bell(),
    ],
)
def test_whatever_lies_in_the_queue_becomes_a_fresh_bell(message: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    delivered: list[Any] = []
    monkeypatch.setattr(redis.Transport, "_deliver", lambda self, message, queue: delivered.append((message, queue)))
    BellTransport._deliver(BellTransport.__new__(BellTransport), message, "train")
    [(bell, queue)] = delivered
    assert queue == "train"
    fresh = build_bell()
    assert bell.keys() == fresh.keys()
    assert {**bell["headers"], "id": 0, "root_id": 0} == {**fresh["headers"], "id": 0, "root_id": 0}
    assert bell["properties"]["delivery_tag"] == bell["headers"]["id"]
    if isinstance(message, dict):
        assert bell["properties"]["delivery_tag"] != message.get("properties", {}).get("delivery_tag")


@pytest.mark.parametrize("trouble", [ValueError, UnicodeDecodeError, RecursionError, KeyError, ConnectionError])
def test_what_can_not_be_read_is_thrown_away_and_a_lost_connection_is_not(
    trouble: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, **options: Any) -> None:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no") if trouble is UnicodeDecodeError else trouble()

    monkeypatch.setattr(redis.Channel, "_brpop_read", fail)
    channel = BellChannel.__new__(BellChannel)
    if trouble is ConnectionError:
        with pytest.raises(ConnectionError):
            channel._brpop_read()
    else:
        assert channel._brpop_read() is True
