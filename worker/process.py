"""The worker's process: its options and settings, and Celery in it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from pydantic import ValidationError

from alexnet_core.child_processes import die_with_parent
from alexnet_core.failpoints import Failpoints
from trainyard import failpoints, logs, tracing
from trainyard.parent_option import ParentPid
from trainyard.private_files import FolderUnusable, keep_private
from trainyard.settings import Settings
from trainyard.settings.refused_settings import explain
from worker.machine.health import is_any_healthy

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def main(
    parent_pid: ParentPid = None,
    healthcheck: Annotated[bool, typer.Option("--healthcheck", help="Only check whether a worker is well.")] = False,
) -> None:
    """Run a worker until SIGTERM; everything else is a TRAINYARD_* setting."""
    if parent_pid is not None:
        die_with_parent(parent_pid)
    sys.exit(_start(healthcheck=healthcheck))


def _start(*, healthcheck: bool) -> int:
    try:
        settings = Settings()
        keep_private(settings.data_dir)
    except (ValidationError, FolderUnusable) as exc:
        reason = explain(exc) if isinstance(exc, ValidationError) else str(exc)
        print(f"trainyard worker: {reason}", file=sys.stderr)  # noqa: T201 - before logging is set up
        return 2
    if healthcheck:  # with another option; alone, `__main__` answers it
        return 0 if is_any_healthy(settings.data_dir) else 1
    logs.configure(settings.log_level)
    failpoints.arm(settings, Failpoints)
    return run(settings)


def run(settings: Settings) -> int:
    """Run the worker."""
    from celery import signals
    from celery.apps import worker as celery_worker

    from worker.app import build_app
    from worker.leaving import Leaving
    from worker.station import Station

    if settings.redis_url is None:
        print("TRAINYARD_REDIS_URL is not set: a worker needs a queue to listen to", file=sys.stderr)  # noqa: T201
        return 2
    try:
        tracing.check(settings)
    except ValueError as exc:
        print(f"trainyard worker: {exc}", file=sys.stderr)  # noqa: T201
        return 2
    tracing.start(settings, "trainyard-worker")
    station = Station(settings)
    leaving = Leaving(station)
    signals.worker_shutting_down.connect(lambda **_: leaving.start(), weak=False)
    is_inspectable = settings.is_inspectable
    app = build_app(settings.redis_url.get_secret_value(), station, is_inspectable=is_inspectable)
    name = f"{station.identity.id}@{station.identity.host}"  # two workers of a machine need two
    slots = str(len(station.identity.devices))
    options = ["--hostname", name, "--pool", "threads", "--concurrency", slots, "--loglevel", "WARNING"]
    unused = ["--without-gossip", "--without-mingle", *([] if is_inspectable else ["--without-heartbeat"])]
    celery_worker.safe_say = lambda *_: None  # its lines about signals are no JSON, and the station logs the drain
    try:
        app.worker_main(["--quiet", "worker", *options, *unused])
    finally:  # also if Celery gives up by itself: jobs should not wait until their leases expire
        leaving.celery_ended()
        station.close()
        tracing.stop()
    return 0
