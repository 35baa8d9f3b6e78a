"""The question before a command takes something away for good."""

from __future__ import annotations

from typing import Annotated

import typer

from trainyard.commands.connecting import FAILED, refusal
from trainyard.terminal.terminal import Terminal

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def ask_before(terminal: Terminal, question: str, *, is_sure: bool, refused: str) -> None:
    """Ask, if a person can answer, whether to go on.

    Args:
        terminal: where.
        question: is answered with y or n.
        is_sure: go on without asking.
        refused: what the command says if the answer is no.

    Raises:
        Refusal: the answer is no.
    """
    if not is_sure and terminal.can_ask and not terminal.confirm(question):
        raise refusal(refused, FAILED)
