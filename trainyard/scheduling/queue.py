"""The queue carries only wake-up messages for workers. Only the database says what is to be done.

A lost, repeated or late message is harmless, so no guarantee of the broker is relied on. The Celery settings follow
from that; `docs/decisions/0001-the-queue-only-wakes-workers.md` has the reasons.
"""

from __future__ import annotations

from typing import Any, Protocol

from celery import Celery

QUEUE_NAME = "train"
WAKE_TASK = "train.wake"


class QueueUnavailable(Exception):
    """The queue server does not answer."""


class Waker(Protocol):
    """Something that wakes workers."""

    def wake(self) -> None:
        """Wake one worker that is idle.

        Raises:
            QueueUnavailable: the message can't be sent right now.
        """
        ...

    def waiting(self) -> int:
        """Return how many wake-up messages no worker has taken yet.

        Raises:
            QueueUnavailable: nobody can tell right now.
        """
        ...


class SilentWaker:
    """A waker for tests and for a process that has no queue: it counts, but wakes nobody."""

    def __init__(self) -> None:
        self.wake_ups = 0
        self.broken = False

    def wake(self) -> None:
        """See `Waker`."""
        if self.broken:
            raise QueueUnavailable("the queue is down")
        self.wake_ups += 1

    def waiting(self) -> int:
        """See `Waker`."""
        if self.broken:
            raise QueueUnavailable("the queue is down")
        return 0


class CeleryWaker:
    """Sends a Celery message without arguments. It blocks up to some seconds: never call it within a request."""

    def __init__(self, redis_url: str) -> None:
        self._app = build_celery(redis_url)

    def wake(self) -> None:
        """See `Waker`."""
        try:
            self._app.send_task(WAKE_TASK, queue=QUEUE_NAME, retry=False, ignore_result=True)
        except Exception as exc:  # kombu lets every kind of transport error through
            raise QueueUnavailable(f"the queue accepts no message: {type(exc).__name__}") from exc

    def waiting(self) -> int:
        """See `Waker`."""
        try:
            with self._app.connection_for_write() as connection:
                return int(connection.default_channel.client.llen(QUEUE_NAME))
        except Exception as exc:
            raise QueueUnavailable(f"the queue does not answer: {type(exc).__name__}") from exc


def build_celery(redis_url: str) -> Celery:
    """Build the Celery app, configured so that Celery only carries wake-up messages."""
    app = Celery("trainyard", broker=redis_url, set_as_current=False)
    app.conf.update(
        result_backend=None,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_default_queue=QUEUE_NAME,
        task_create_missing_queues=False,
        task_acks_late=False,
        task_reject_on_worker_lost=False,
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_pool="threads",
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=_transport_options(),
    )
    return app


def _transport_options() -> dict[str, Any]:
    return {
        "visibility_timeout": 3600,
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 25,
        "unacked_restore_interval": 10,
        "unacked_restore_throttle": 1,
        "retry_on_timeout": False,
        "max_retries": 0,
    }
