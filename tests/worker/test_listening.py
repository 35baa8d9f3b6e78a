from __future__ import annotations

from typing import Any

import pytest
from kombu.transport import redis

from worker.listening import WakeUpChannel, WakeUpTransport, build_message


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
        build_message(),
    ],
)
def test_whatever_lies_in_the_queue_becomes_a_fresh_wake_up(message: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    delivered: list[Any] = []
    monkeypatch.setattr(redis.Transport, "_deliver", lambda self, *taken: delivered.append(taken))
    WakeUpTransport._deliver(WakeUpTransport.__new__(WakeUpTransport), message, "train")
    [(wake_up, queue)] = delivered
    assert queue == "train"
    fresh = build_message()
    assert wake_up.keys() == fresh.keys()
    assert {**wake_up["headers"], "id": 0, "root_id": 0} == {**fresh["headers"], "id": 0, "root_id": 0}
    assert wake_up["properties"]["delivery_tag"] == wake_up["headers"]["id"]
    if isinstance(message, dict):
        assert wake_up["properties"]["delivery_tag"] != message.get("properties", {}).get("delivery_tag")


@pytest.mark.parametrize("trouble", [ValueError, UnicodeDecodeError, RecursionError, KeyError, ConnectionError])
def test_what_can_not_be_read_is_thrown_away_and_a_lost_connection_is_not(
    trouble: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, **options: Any) -> None:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no") if trouble is UnicodeDecodeError else trouble()

    monkeypatch.setattr(redis.Channel, "_brpop_read", fail)
    channel = WakeUpChannel.__new__(WakeUpChannel)
    if trouble is ConnectionError:
        with pytest.raises(ConnectionError):
            channel._brpop_read()
    else:
        assert channel._brpop_read() is True
