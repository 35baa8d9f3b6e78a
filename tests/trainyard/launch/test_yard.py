"""The yard's own rules, without a yard: what signals do to its children."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainyard.launch import yard
from trainyard.launch.children import Child
from trainyard.launch.yard import Yard
from trainyard.settings import Settings

DEAF = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); signal.pause()"


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def start_deaf() -> subprocess.Popen[bytes]:
    """A child that takes no notice of SIGTERM."""
    process = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.stdout.close()
    return process


def yard_with_a_deaf_child(tmp_path: Path) -> tuple[Yard, Child]:
    child = Child("worker", start_deaf)
    child.run()
    return Yard(Settings(data_dir=tmp_path), say=lambda _: None, children=[child]), child


def test_two_signals_before_the_stop_began_kill_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yard, "CHILD_GRACE_S", 60.0)
    up, child = yard_with_a_deaf_child(tmp_path)
    up._count_signal(signal.SIGINT, None)
    up._count_signal(signal.SIGINT, None)
    began_at = time.monotonic()
    up.stop()
    assert time.monotonic() - began_at < 30
    assert not child.is_alive()


def test_one_signal_gives_a_child_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yard, "CHILD_GRACE_S", 0.3)
    up, child = yard_with_a_deaf_child(tmp_path)
    up._count_signal(signal.SIGINT, None)
    began_at = time.monotonic()
    up.stop()
    assert time.monotonic() - began_at >= 0.3
    assert not child.is_alive()


def test_without_any_signal_yet_the_first_one_in_the_stop_kills(tmp_path: Path) -> None:
    up, child = yard_with_a_deaf_child(tmp_path)
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    began_at = time.monotonic()
    up.stop()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert time.monotonic() - began_at < 8, "it did not wait for the grace of 10 s"
    assert not child.is_alive()
