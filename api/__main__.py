"""Serves the API: `python -m api [--die-with-parent PID]`. Everything else is a `TRAINYARD_*` setting."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Annotated

import typer
import uvicorn
from pydantic import ValidationError

from alexnet_core import parent
from alexnet_core.failpoints import Failpoints
from alexnet_core.memory import bound_arenas
from api.garbage import collect_rarely
from trainyard import failpoints, logs
from trainyard.private_files import keep_private
from trainyard.settings import Settings, explain

GRACEFUL_S = 20


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def main(
    die_with_parent: Annotated[
        int | None, typer.Option(metavar="PID", help="End when the process PID, our parent, ends.")
    ] = None,
) -> None:
    """Serve Trainyard's HTTP API; everything else is a TRAINYARD_* setting."""
    if die_with_parent is not None:
        parent.die_with_parent(die_with_parent)
    sys.exit(serve())


def serve() -> int:
    """Serve until SIGTERM or SIGINT. Returns 2 if the settings are not valid."""
    try:
        settings = Settings()
        settings.check_exposure()
    except ValidationError as exc:
        return _refuse(explain(exc))
    except ValueError as exc:
        return _refuse(str(exc))
    bound_arenas(os.environ)
    collect_rarely()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle inference threads must not burn the trainer's cores
    keep_private(settings.data_dir)
    logs.configure(settings.log_level)
    failpoints.arm(settings, Failpoints)

    from api.app import create_app
    from api.http.server import Server, build_door, raise_file_limit

    served = create_app(settings)
    config = uvicorn.Config(
        served,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_S,
        http="httptools",
        ws="none",
    )
    raise_file_limit()
    with suppress(KeyboardInterrupt):  # raised again by uvicorn once everything is down
        Server(config, served, build_door(settings)).run()
    return 0


def _refuse(reason: str) -> int:
    sys.stderr.write(f"trainyard api: {' '.join(reason.split())}\n")
    return 2


if __name__ == "__main__":
    app(prog_name="python -m api")
