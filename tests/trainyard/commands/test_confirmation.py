"""When a command asks before it takes something away."""

from __future__ import annotations

import pytest
import typer

from trainyard.commands.confirmation import ask_before
from trainyard.terminal.terminal import Terminal


class Answering(Terminal):
    """A terminal with a person who always gives the same answer, or with nobody."""

    can_ask = True

    def __init__(self, answer: bool | None) -> None:
        super().__init__()
        self.answer, self.asked = answer, 0
        self.can_ask = answer is not None

    def confirm(self, question: str) -> bool:
        self.asked += 1
        assert self.answer is not None
        return self.answer


@pytest.mark.parametrize(("answer", "is_sure", "asked"), [(True, False, 1), (None, False, 0), (False, True, 0)])
def test_a_command_goes_on_after_a_yes_and_where_it_need_not_ask(
    answer: bool | None, is_sure: bool, asked: int
) -> None:
    terminal = Answering(answer)
    ask_before(terminal, "Remove a?", is_sure=is_sure, refused="nothing is removed")
    assert terminal.asked == asked


def test_a_no_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        ask_before(Answering(False), "Remove a?", is_sure=False, refused="nothing is removed")
    assert ended.value.exit_code == 1
    assert "nothing is removed" in capsys.readouterr().err
