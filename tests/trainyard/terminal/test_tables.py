"""Tables: whole in a pipe, fitted to a terminal, coloured only there."""

from __future__ import annotations

import io
import re
from typing import Any

from rich.console import Console

from trainyard.terminal.tables import Column, print_table
from trainyard.terminal.terminal import Terminal

COLUMNS = (
    Column("id", lambda row: row["id"]),
    Column("name", lambda row: row["name"], may_be_cut=True),
    Column("state", lambda row: row["state"], is_state=True),
    Column("more", lambda row: "x" * 20, from_width=100),
)
ROWS: list[dict[str, Any]] = [
    {"id": "job_" + "1" * 26, "name": "n" * 60, "state": "failed"},
    {"id": "job_2", "name": None, "state": "new"},
]


def printed(*, width: int | None) -> str:
    out = io.StringIO()
    console = Console(file=out, highlight=False, soft_wrap=True, force_terminal=width is not None, width=width)
    print_table(Terminal(out=console), COLUMNS, ROWS, empty="nothing")
    return out.getvalue()


def test_a_pipe_gets_every_cell_whole_and_no_colour() -> None:
    lines = printed(width=None).splitlines()
    assert lines[1].split() == [ROWS[0]["id"], ROWS[0]["name"], "failed", "x" * 20]
    assert len(lines) == 3
    assert "\x1b" not in "".join(lines)


def test_a_terminal_gets_lines_that_fit_and_colours() -> None:
    text = printed(width=80)
    assert "\x1b[31mfailed" in text
    plain = re.sub(r"\x1b\[\d*m", "", text).splitlines()
    assert len(plain) == 3, "no row is broken"
    assert str(ROWS[0]["id"]) in plain[1], "an id is never cut"
    assert "…" in plain[1]
    assert "more" not in plain[0]
    assert "more" in printed(width=160)


def test_no_rows_are_said_in_words() -> None:
    out = io.StringIO()
    print_table(Terminal(out=Console(file=out)), COLUMNS, [], empty="no jobs yet [1]")
    assert out.getvalue() == "no jobs yet [1]\n"
