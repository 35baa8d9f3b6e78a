"""What a trainer tells its worker, as it arrives there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alexnet_core.messages import Alive, FirstStep, Phase, Warned, parse_report
from alexnet_core.trainer.reporting import ReportingHooks, Reports
from tests.alexnet_core.child import describe_attempt
from tests.alexnet_core.toy import write_toy_pack

Arrived = Callable[[], list[Any]]


@pytest.fixture
def pipe() -> tuple[Reports, Arrived]:
    """A connection, and what ends it and returns all that came over it."""
    receive, send = os.pipe()

    def arrived() -> list[Any]:
        os.close(send)
        with os.fdopen(receive, "rb") as lines:
            return [parse_report(line) for line in lines]

    return Reports(send), arrived


def test_a_long_validation_gives_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    receive, send = os.pipe()
    seconds = iter((0.0, 0.4, 1.1, 1.5, 2.2, 9.0))
    monkeypatch.setattr("alexnet_core.trainer.reporting.time.monotonic", lambda: next(seconds))
    hooks = ReportingHooks(Reports(send), should_stop=lambda: False)
    assert not any(hooks.should_stop() for _ in range(5))
    os.close(send)
    with os.fdopen(receive, "rb") as lines:
        assert [parse_report(line) for line in lines] == [Alive()] * 3


def test_a_run_stops_when_that_is_said(pipe: tuple[Reports, Arrived]) -> None:
    reports, arrived = pipe
    assert ReportingHooks(reports, should_stop=lambda: True).should_stop()
    assert arrived() == []


def test_what_happens_is_told_in_the_name_of_the_attempt(pipe: tuple[Reports, Arrived], tmp_path: Path) -> None:
    reports, arrived = pipe
    spec = describe_attempt(write_toy_pack(tmp_path / "pack"), tmp_path)
    hooks = ReportingHooks(reports, should_stop=lambda: False)
    reports.begin(spec)
    hooks.on_first_step()
    hooks.on_warning("odd", "it is odd")
    reports.begin(None)
    hooks.on_evaluating()
    ids = {"job_id": spec.job_id, "lease_epoch": spec.lease_epoch}
    assert arrived() == [FirstStep(**ids), Warned(code="odd", message="it is odd", **ids), Phase(reason="evaluating")]


def test_a_phase_is_told_once(pipe: tuple[Reports, Arrived]) -> None:
    reports, arrived = pipe
    for _ in range(3):
        reports.send_phase(Phase(reason="waiting_for_device"))
    assert arrived() == [Phase(reason="waiting_for_device")]
