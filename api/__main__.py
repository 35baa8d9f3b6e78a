"""Serves the API: `python -m api [--die-with-parent PID]`. Everything else is a `TRAINYARD_*` setting."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from alexnet_core import child_processes
from api.bootstrap import read_settings
from api.supervisor import Supervisor

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def main(
    die_with_parent: Annotated[
        int | None, typer.Option(metavar="PID", help="End when the process PID, our parent, ends.")
    ] = None,
) -> None:
    """Serve Trainyard's HTTP API; everything else is a TRAINYARD_* setting."""
    if die_with_parent is not None:
        child_processes.die_with_parent(die_with_parent)
    sys.exit(serve())


def serve() -> int:
    """Serve until SIGTERM or SIGINT. Returns 2 if the settings are not valid or the port is taken."""
    settings = read_settings()
    return 2 if settings is None else Supervisor(settings).run()


if __name__ == "__main__":
    app(prog_name="python -m api")
