"""How a worker listens to the queue: every message counts as a wake-up message, and its content is not used.

Celery's own consumer ends if an element of the Redis list is not a message, and hangs for good after a few half
messages. So every message is replaced by a new one before Celery sees it. Remote control commands use the same
transport, and are rebuilt in the same way.
"""

from __future__ import annotations

import base64
import logging
import uuid
from queue import Empty
from typing import Any

from kombu.transport import redis

from trainyard.scheduling.queue import QUEUE_NAME, WAKE_TASK
from worker.remote_control import read_command

log = logging.getLogger(__name__)

_BODY = base64.b64encode(b"[[], {}, {}]").decode()
_UNREADABLE = (ValueError, TypeError, KeyError, RecursionError)


class WakeUpChannel(redis.Channel):
    """A channel that throws away what can't be read."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]  # kombu has no types
        except _UNREADABLE as exc:
            log.warning("the queue held something that is not a message; it was dropped", extra={"detail": repr(exc)})
            return True

    def _receive_one(self, client: Any) -> Any:
        try:
            return super()._receive_one(client)  # type: ignore[no-untyped-call]  # kombu has no types
        except (*_UNREADABLE, Empty) as exc:
            log.warning("the control queue held something that is not a message", extra={"detail": repr(exc)})
            return True


class WakeUpTransport(redis.Transport):
    """A transport that passes on a new wake-up message for each that arrives, and remote control commands."""

    Channel = WakeUpChannel

    def _deliver(self, message: Any, queue: str) -> None:
        if queue != QUEUE_NAME:
            self._deliver_command(message, queue)
            return
        if not _is_wake_up(message):
            log.warning("the queue held a message of another program; it only counts as a wake-up message")
        super()._deliver(build_message(), queue)  # type: ignore[no-untyped-call]  # kombu has no types

    def _deliver_command(self, message: Any, queue: str) -> None:
        command = read_command(message)
        if command is None:
            log.warning("the control queue held something that is not a command; it was dropped")
            return
        super()._deliver(command, queue)  # type: ignore[no-untyped-call]  # kombu has no types


def _is_wake_up(message: Any) -> bool:
    headers = message.get("headers") if isinstance(message, dict) else None
    return isinstance(headers, dict) and headers.get("task") == WAKE_TASK


def build_message() -> dict[str, Any]:
    """Build a message as Celery sends it for the only task."""
    name = str(uuid.uuid4())
    headers = {
        "lang": "py", "task": WAKE_TASK, "id": name, "root_id": name, "parent_id": None, "group": None,
        "argsrepr": "()", "kwargsrepr": "{}", "eta": None, "expires": None, "retries": 0, "timelimit": [None, None],
        "ignore_result": True,
    }  # fmt: skip
    properties = {
        "correlation_id": name, "delivery_tag": name, "delivery_mode": 2, "priority": 0, "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": QUEUE_NAME},
    }  # fmt: skip
    content = {"content-encoding": "utf-8", "content-type": "application/json"}
    return {"body": _BODY, "headers": headers, "properties": properties} | content
