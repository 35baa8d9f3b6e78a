"""Tables of the commands: on a terminal as wide as it is, elsewhere uncut."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from trainyard.commands.rows import Row
from trainyard.commands.terminal import Terminal
from trainyard.commands.words import STYLES


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    text: Callable[[Row], object]
    """What a row shows in it; None shows nothing."""
    is_number: bool = False
    """Whether it stands at the right."""
    is_state: bool = False
    """Whether it has the colour of its state."""
    from_width: int = 0
    """The narrowest terminal, in characters, that has room for it. Elsewhere it is always shown."""
    may_be_cut: bool = False
    """Whether its end is left out where there is no room."""


def print_table(terminal: Terminal, columns: Iterable[Column], rows: Iterable[Row], *, empty: str) -> None:
    """Print rows with a line of titles, or what to say if there are none."""
    console = terminal.out
    shown = [column for column in columns if not console.is_terminal or console.width >= column.from_width]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in shown:
        table.add_column(
            column.title,
            justify="right" if column.is_number else "left",
            no_wrap=True,
            overflow="ellipsis" if column.may_be_cut else "fold",
            min_width=None if column.may_be_cut else len(column.title),
        )
    count = 0
    for row in rows:
        count += 1
        table.add_row(*(_cell(column, row) for column in shown))
    if not count:
        console.print(empty, markup=False)
        return
    terminal.print_wide(table)


def _cell(column: Column, row: Row) -> Text:
    value = column.text(row)
    text = "" if value is None else str(value)
    return Text(text, style=STYLES.get(text, "") if column.is_state else "")
