"""`python -m worker`: run a worker until SIGTERM, which drains it: running jobs write a checkpoint and are given back.

`--healthcheck` asks instead whether this machine's worker showed a heartbeat just now (exit 0) or not (exit 1).
"""

from __future__ import annotations

import argparse
import socket
import sys

from pydantic import ValidationError

from alexnet_core.failpoints import Failpoints
from trainyard import failpoints, logs
from trainyard.database.connection import Database
from trainyard.errors import DatabaseUnavailable
from trainyard.processes import die_with_parent
from trainyard.scheduling import workers
from trainyard.settings import Settings


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("--die-with-parent", type=int, metavar="PID", help="end at once when this parent is gone")
    parser.add_argument("--healthcheck", action="store_true", help="ask for a heartbeat instead")
    arguments = parser.parse_args()
    if arguments.die_with_parent is not None:
        die_with_parent(arguments.die_with_parent)
    try:
        settings = Settings()
    except ValidationError as exc:
        print(exc, file=sys.stderr)  # noqa: T201 - before logging is set up
        return 2
    logs.configure(settings.log_level)
    failpoints.arm(settings, Failpoints)
    return check_health(settings) if arguments.healthcheck else run(settings)


def run(settings: Settings) -> int:
    """Run the worker."""
    from worker.app import build_app
    from worker.station import Station

    if settings.redis_url is None:
        print("TRAINYARD_REDIS_URL is not set: a worker needs a queue to listen to", file=sys.stderr)  # noqa: T201
        return 2
    station = Station(settings)
    app = build_app(settings.redis_url.get_secret_value(), station)
    slots = str(len(station.identity.devices))
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    try:
        app.worker_main(["worker", "--pool", "threads", "--concurrency", slots, "--loglevel", "WARNING", *quiet])
    finally:  # also where Celery gives up by itself: its end must not leave jobs to their leases
        station.close()
    return 0


def check_health(settings: Settings) -> int:
    """Whether a worker of this machine was seen just now, as an exit status."""
    try:
        with Database(settings.sqlalchemy_url).reading() as session:
            return 0 if workers.is_host_live(session, socket.gethostname()) else 1
    except DatabaseUnavailable:
        return 1


if __name__ == "__main__":
    sys.exit(main())
