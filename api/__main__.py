"""Serves the API: `python -m api [--die-with-parent PID]`. Everything else is a `TRAINYARD_*` setting."""

from __future__ import annotations

import sys

import typer

from alexnet_core.child_processes import die_with_parent
from api.bootstrap import read_settings
from api.supervisor import Supervisor
from trainyard.parent_option import ParentPid

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def main(
    parent_pid: ParentPid = None,
) -> None:
    """Serve Trainyard's HTTP API; everything else is a TRAINYARD_* setting."""
    if parent_pid is not None:
        die_with_parent(parent_pid)
    sys.exit(serve())


def serve() -> int:
    """Serve until SIGTERM or SIGINT. Returns 2 if the settings are not valid or the port is taken."""
    settings = read_settings()
    return 2 if settings is None else Supervisor(settings).run()


if __name__ == "__main__":
    app(prog_name="python -m api")
