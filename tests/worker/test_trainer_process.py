"""The worker's end of a trainer's pipes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from worker import trainer as trainer_module
from worker.trainer import TrainerProcess

FAKE_TRAINER = """#!{python}
import sys
fileno = int(sys.argv[sys.argv.index("--report-fd") + 1])
with open(fileno, "w", buffering=1) as reports:
    reports.write('{{"type": "ready"}}\\nno JSON\\n')
    for line in sys.stdin:
        reports.write(line)
"""


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the trainer's place that says back what it hears."""
    program = tmp_path / "echo"
    program.write_text(FAKE_TRAINER.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setattr(trainer_module.sys, "executable", str(program))
    return program


@pytest.mark.usefixtures("echo")
def test_a_trainer_hears_a_word_now_and_then_and_what_is_no_report_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trainer_module, "WORD_EVERY_S", 0.01)
    trainer = TrainerProcess(1)
    try:
        assert not trainer.has_ended
        assert trainer.receive(60) == {"type": "ready"}
        assert trainer.is_ready
        assert trainer.receive(60) == {"type": "word"}
        stop = {"type": "stop", "reason": "pause"}
        trainer.send(stop)
        assert stop in iter(lambda: trainer.receive(60), None)
    finally:
        trainer.kill()
    assert trainer.wait() == -9


@pytest.mark.usefixtures("echo")
def test_words_to_a_trainer_that_is_gone_or_closed_are_lost_without_a_sound() -> None:
    trainer = TrainerProcess(1)
    trainer.kill()
    assert trainer.wait() == -9
    trainer.send({"type": "stop", "reason": "pause"})
    while not trainer.has_ended:
        trainer.receive(60)
    assert trainer.receive(60) is None
    assert not trainer.is_alive
    with pytest.raises(ProcessLookupError):
        os.kill(trainer.pid, 0)
    trainer.terminate()
    trainer.kill()
