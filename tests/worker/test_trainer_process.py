"""The worker's end of a trainer's pipes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from alexnet_core.messages import Alive, Failed, Ready, Stop, StopReason, Warned
from worker import trainer as trainer_module
from worker.trainer import TrainerProcess

PREAMBLE = """#!{python}
import json, sys
fileno = int(sys.argv[sys.argv.index("--report-fd") + 1])
reports = open(fileno, "w", buffering=1)
"""
ECHO = """
reports.write('{"type": "ready"}\\n')
for line in sys.stdin:
    reports.write(json.dumps({"type": "warning", "code": "echo", "message": line}) + "\\n")
"""


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], TrainerProcess]:
    """Starts a program in the trainer's place."""

    def start(body: str) -> TrainerProcess:
        program = tmp_path / "trainer"
        program.write_text(PREAMBLE.format(python=sys.executable) + body)
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        return TrainerProcess(1)

    return start


def test_a_trainer_hears_a_heartbeat_now_and_then(
    play: Callable[[str], TrainerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "HEARTBEAT_EVERY_S", 0.01)
    trainer = play(ECHO)
    try:
        assert not trainer.has_ended
        assert trainer.receive(60) == Ready()
        assert trainer.is_ready
        assert trainer.receive(60) == Warned(code="echo", message='{"type":"heartbeat"}\n')
        stop = Stop(reason=StopReason.PAUSE)
        trainer.send(stop)
        heard = Warned(code="echo", message=stop.to_line().decode())
        assert heard in iter(lambda: trainer.receive(60), None)
    finally:
        trainer.kill()
    assert trainer.wait() == -9


@pytest.mark.parametrize(
    ("line", "trouble"),
    [
        ("no JSON", "Invalid JSON"),
        ('{"type": "gone_fishing"}', "gone_fishing"),
        ('{"code": "x"}', "type"),
        ("[1]", "object"),
        ('{"type": "warning", "code": "x"}', "warning.message: Field required"),
        ('{"type": "alive", "mood": "good"}', "alive.mood"),
        ('{"type": "finished", "outcome": "succeeded"}', "weights_sha256"),
    ],
)
def test_a_line_that_is_no_report_counts_as_a_failure_and_those_after_it_are_heard(
    play: Callable[[str], TrainerProcess], line: str, trouble: str
) -> None:
    trainer = play(f"""reports.write({line!r} + "\\n"); reports.write('{{"type": "alive"}}\\n')""")
    failed = trainer.receive(60)
    assert isinstance(failed, Failed)
    assert failed.code == "protocol_error"
    assert trouble in failed.message
    assert trainer.receive(60) == Alive()
    assert trainer.wait() == 0


def test_a_report_that_was_cut_off_by_the_trainers_end_is_passed_over(play: Callable[[str], TrainerProcess]) -> None:
    trainer = play("""reports.write('{"type": "alive"}\\n{"type": "checkpo')""")
    assert trainer.receive(60) == Alive()
    assert trainer.receive(60) is None
    assert trainer.has_ended
    assert trainer.wait() == 0


def test_commands_to_a_trainer_that_is_gone_or_closed_are_lost_without_a_sound(
    play: Callable[[str], TrainerProcess],
) -> None:
    trainer = play(ECHO)
    trainer.kill()
    assert trainer.wait() == -9
    trainer.send(Stop(reason=StopReason.PAUSE))
    while not trainer.has_ended:
        trainer.receive(60)
    assert trainer.receive(60) is None
    assert not trainer.is_alive
    with pytest.raises(ProcessLookupError):
        os.kill(trainer.pid, 0)
    trainer.terminate()
    trainer.kill()
