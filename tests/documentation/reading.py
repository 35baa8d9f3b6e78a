"""A reader with a yard: prepares a page and does what it says."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.documentation.preparations import PREPARATIONS, Reader, Trained
from tests.documentation.terminal import Terminal
from tests.documentation.walk import walk


def read_page(page: str, folder: Path, port: int, trained: Trained | None = None) -> None:
    """Prepare what the page says that the reader has, then run it.

    Args:
        folder: is made.
        port: of the yard, or of the one that the page starts.
        trained: what the yard has, where pages share it.
    """
    reader = Reader(folder, port, trained=trained)
    reader.environment |= {"TRAINYARD_PORT": str(port), "TRAINYARD_URL": reader.url}
    folder.mkdir()
    with contextlib.ExitStack() as lasting:
        reader.lasting = lasting
        PREPARATIONS[page].prepare(reader)
        terminal = lasting.enter_context(Terminal(folder, reader.environment))
        if reader.python:
            assert terminal.type_python(reader.python).wait() == 0
        walk(page, terminal, {8000: port} | reader.ports, reader.names)
