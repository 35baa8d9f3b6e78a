"""The option that binds a process of a yard to the process that starts it."""

from __future__ import annotations

from typing import Annotated

import typer

OPTION = "--die-with-parent"

ParentPid = Annotated[
    int | None, typer.Option(OPTION, metavar="PID", help="End when the process PID, our parent, ends.")
]
