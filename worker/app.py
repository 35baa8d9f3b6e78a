"""The Celery app, with a single task without arguments that wakes this worker. Celery does nothing else.

`celery -A worker.app inspect ping` finds the attribute `app`: a client of the yard's queue, made on first use.
"""

from __future__ import annotations

from typing import Any, NoReturn

from celery import Celery, signals
from celery.exceptions import CeleryCommandException

from trainyard.scheduling.queue import WAKE_TASK, build_celery
from trainyard.settings import Settings
from worker import remote_control
from worker.listening import WakeUpTransport
from worker.station import Station


def build_app(redis_url: str, station: Station, *, is_inspectable: bool = False) -> Celery:
    """Build the app of this process, tied to its station.

    Args:
        redis_url: where the queue is.
        station: what a wake-up message wakes.
        is_inspectable: whether the worker answers Celery's inspections and sends events.
    """
    app = build_celery(redis_url)
    app.conf.broker_transport = WakeUpTransport
    if is_inspectable:
        remote_control.restrict(app)

    @app.task(name=WAKE_TASK)  # type: ignore[untyped-decorator]  # Celery has no types
    def wake() -> None:
        """Claim and train jobs until none is waiting."""
        station.work()

    # weak=False: Celery would otherwise forget the bound methods at once
    signals.worker_ready.connect(lambda **_: station.open(), weak=False)
    signals.worker_shutting_down.connect(lambda **_: station.drain(), weak=False)
    signals.worker_shutdown.connect(lambda **_: station.close(), weak=False)
    signals.setup_logging.connect(lambda **_: None, weak=False)  # the process has set up its own
    return app


def build_client(settings: Settings) -> Celery:
    """Build an app for Celery's own tools, which queries the workers of a yard and can't be a worker itself.

    Raises:
        ValueError: the settings name no queue.
    """
    if settings.redis_url is None:
        raise ValueError("TRAINYARD_REDIS_URL is not set: it says where the yard's queue is")
    app = build_celery(settings.redis_url.get_secret_value())
    app.Worker = _refuse_to_work
    return app


def _refuse_to_work(**_: object) -> NoReturn:
    """Refuse to start a worker without a station, which would take wake-up messages and train nothing."""
    raise CeleryCommandException("start a worker with `python -m worker` or `trainyard worker`", exit_code=2)


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    return build_client(Settings())
