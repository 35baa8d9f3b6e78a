"""Serve the API: `python -m api [--die-with-parent PID]`. Everything else is a `TRAINYARD_*` setting."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress

import uvicorn
from pydantic import ValidationError

from alexnet_core.failpoints import Failpoints
from trainyard import failpoints, logs
from trainyard.processes import die_with_parent
from trainyard.settings import Settings

GRACEFUL_S = 20


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 2: the settings don't allow it."""
    parser = argparse.ArgumentParser(prog="python -m api", description="Serve Trainyard's HTTP API.")
    parser.add_argument("--die-with-parent", type=int, metavar="PID", help="end when the process PID, our parent, ends")
    arguments = parser.parse_args(argv)
    if arguments.die_with_parent is not None:
        die_with_parent(arguments.die_with_parent)
    try:
        settings = Settings()
        settings.check_exposure()
    except ValidationError as exc:
        problem = exc.errors()[0]
        return _refuse(f"{'.'.join(map(str, problem['loc'])) or 'settings'}: {problem['msg']}")
    except ValueError as exc:
        return _refuse(str(exc))
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle inference threads must not burn the trainer's cores
    logs.configure(settings.log_level)
    failpoints.arm(settings, Failpoints)

    from api.app import create_app
    from api.http.server import Server

    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_S,
    )
    with suppress(KeyboardInterrupt):  # raised again by uvicorn once everything is down
        Server(config, app).run()
    return 0


def _refuse(reason: str) -> int:
    sys.stderr.write(f"trainyard api: {' '.join(reason.split())}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
