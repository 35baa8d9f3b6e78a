from __future__ import annotations

from datetime import UTC, datetime

import pytest

from trainyard.scheduling.queue_view import WaitsFor
from trainyard.terminal import words


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.04, "0.0 s"), (4.2, "4.2 s"), (59.4, "59 s"), (187, "3:07"), (7387, "2:03:07"), (None, "")]
)
def test_durations(seconds: float | None, said: str) -> None:
    assert words.say_duration(seconds) == said


@pytest.mark.parametrize(("seconds", "said"), [(3, "3 s ago"), (300, "5 min ago"), (7300, "2 h ago"), (2e5, "2 d ago")])
def test_how_long_ago(seconds: float, said: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    at = datetime.fromtimestamp(now.timestamp() - seconds, UTC)
    assert words.say_ago(at, now) == said
    assert words.say_ago(at.isoformat().replace("+00:00", "Z"), now) == said
    assert words.say_ago(None) == ""


@pytest.mark.parametrize(("size", "said"), [(12, "12 B"), (1536, "1.5 kB"), (2.3e8, "230 MB"), (4e15, "4,000.0 TB")])
def test_sizes(size: float, said: str) -> None:
    assert words.say_bytes(size) == said


def test_small_losses_keep_their_figures() -> None:
    assert [words.say_loss(value) for value in (2.30258, 0.0001234, None)] == ["2.303", "1.23e-04", ""]


def test_everything_that_a_job_can_wait_for_has_words() -> None:
    assert set(words.WAITS_FOR) == set(WaitsFor)
    assert words.say_waiting("a_new_reason") == "waits for: a_new_reason"
