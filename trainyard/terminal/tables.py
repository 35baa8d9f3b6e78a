"""Tables of the commands: on a terminal as wide as it is, elsewhere uncut."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from trainyard.terminal.rows import Row
from trainyard.terminal.terminal import Terminal
from trainyard.terminal.words import STYLES


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
    lines = [[_cell(column, row) for column in shown] for row in rows]
    if not lines:
        console.print(empty, markup=False)
        return
    for index, column in enumerate(shown):
        widest = max(len(column.title), *(cell.cell_len for cell in (line[index] for line in lines)))
        table.add_column(
            column.title,
            justify="right" if column.is_number else "left",
            no_wrap=not column.may_be_cut,  # rich narrows only columns that it may wrap
            min_width=len(column.title) if column.may_be_cut else widest,
        )
    for line in lines:
        table.add_row(*line)
    terminal.print_wide(table)


def _cell(column: Column, row: Row) -> Text:
    value = column.text(row)
    text = "" if value is None else str(value)
    return Text(text, style=STYLES.get(text, "") if column.is_state else "", no_wrap=True, overflow="ellipsis")
