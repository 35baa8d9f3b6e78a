"""The Celery app: one task without arguments that wakes this worker. Celery does nothing else."""

from __future__ import annotations

from celery import Celery, signals

from trainyard.scheduling.queue import WAKE_TASK, build_celery
from worker.listening import WakeUpTransport
from worker.station import Station


def build_app(redis_url: str, station: Station) -> Celery:
    """The app of this process, bound to its station."""
    app = build_celery(redis_url)
    app.conf.broker_transport = WakeUpTransport

    @app.task(name=WAKE_TASK)  # type: ignore[untyped-decorator]
    def wake() -> None:
        """Take jobs until none is waiting."""
        station.work()

    # weak=False: Celery would otherwise forget the bound methods at once
    signals.worker_ready.connect(lambda **_: station.open(), weak=False)
    signals.worker_shutting_down.connect(lambda **_: station.drain(), weak=False)
    signals.worker_shutdown.connect(lambda **_: station.close(), weak=False)
    signals.setup_logging.connect(lambda **_: None, weak=False)  # the process has set up its own
    return app
