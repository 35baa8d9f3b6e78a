"""Restricts Celery's remote control of a worker: it answers questions, takes no arguments and changes nothing.

Anyone who can write to the broker can send a command. Celery's own commands can end a worker without a drain, make it
stop listening, or revoke wake-up messages. None of them is needed here: the database says what is to be done, and
SIGTERM drains a worker.
"""

from __future__ import annotations

import base64
import json
import logging
import time
import uuid
from typing import Any, Literal

from celery import Celery
from celery.app.control import Control
from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher
from celery.utils.serialization import jsonify
from kombu import pidbox
from kombu.messaging import Producer
from pydantic import BaseModel, Field, ValidationError

log = logging.getLogger(__name__)

#: Celery's commands that change nothing: `enable_events` finds them on, `heartbeat` sends one. All others are refused.
INSPECTIONS = frozenset({
    "active", "active_queues", "clock", "conf", "enable_events", "heartbeat", "ping", "registered", "report",
    "reserved", "revoked", "scheduled", "stats",
})  # fmt: skip
SLOW_S, SILENCE_S = 1.0, 60.0  #: an event that took longer, and how long none is sent after it
REFUSAL = "this worker answers inspections only; SIGTERM drains it, and the API moves its jobs"


def restrict(app: Celery) -> None:
    """Let the workers of an app answer inspections, and send events while the broker accepts them."""
    app.control_cls = InspectionControl
    app.events_cls = PromptEvents
    app.conf.update(worker_enable_remote_control=True, worker_send_task_events=True)


class ReplyAddress(BaseModel):
    """Where an answer goes: only to the reply queue that the client has bound."""

    exchange: Literal["reply.celery.pidbox"]
    routing_key: uuid.UUID


class Command(BaseModel):
    """A command as Celery's control sends it, without its arguments, which are not used here."""

    method: str = Field(max_length=100)
    destination: list[str] | None = None
    pattern: None = None  #: a stranger's regular expression is not run
    ticket: uuid.UUID | None = None
    reply_to: ReplyAddress | None = None


def read_command(message: Any) -> dict[str, Any] | None:
    """Rebuild a message of the control queue from its known parts. None: it is not a command."""
    try:
        command = Command.model_validate_json(base64.b64decode(message["body"], validate=True))
    except (ValidationError, ValueError, TypeError, KeyError, RecursionError):
        return None
    body = command.model_dump(mode="json") | {"arguments": {}}
    properties = {"delivery_tag": str(uuid.uuid4()), "delivery_info": {}, "body_encoding": "base64"}
    return {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {},
        "properties": properties,
    }


class InspectionNode(pidbox.Node):
    """Answers inspections and refuses all other commands."""

    def handle(self, method: str, arguments: object = None) -> Any:
        """Run an inspection with its default arguments, or say why not."""
        if method not in INSPECTIONS:
            log.warning("a command of Celery's remote control was refused", extra={"command": method})
            return {"error": REFUSAL}
        return jsonify((self.handlers or {})[method](self.state), unknown_type_filter=repr)

    def reply(self, data: object, exchange: str, routing_key: str, ticket: str | None, **_: object) -> None:
        """Send an answer once, on the worker's own connection.

        Celery would try for ever, and a signal could not end that.
        """
        Producer(self.channel, auto_declare=False).publish(  # type: ignore[no-untyped-call]  # kombu has no types
            data, exchange=exchange, routing_key=routing_key, serializer="json", headers={"ticket": ticket}, retry=False
        )


class InspectionMailbox(pidbox.Mailbox):
    """Celery's control queue, with nodes that only answer inspections."""

    node_cls = InspectionNode


class InspectionControl(Control):  # type: ignore[misc]  # Celery has no types
    """Celery's remote control, restricted to inspections."""

    Mailbox = InspectionMailbox


class PromptDispatcher(EventDispatcher):  # type: ignore[misc]  # Celery has no types
    """Sends events to the broker, each once, and pauses for a while after one that was slow.

    The consumer's own thread sends them. Celery retries a heartbeat for ever, and with a frozen broker each event takes
    the socket's time limit, so a worker that was told to end would wait for all of them.
    """

    _silent_until = 0.0

    def _publish(self, event: Any, producer: Any, routing_key: str, **_: object) -> None:
        if time.monotonic() < self._silent_until:
            return
        began_at = time.monotonic()
        super()._publish(event, producer, routing_key, retry=False)
        if time.monotonic() - began_at > SLOW_S:
            self._silent_until = time.monotonic() + SILENCE_S


class PromptEvents(Events):  # type: ignore[misc]  # Celery has no types
    """Celery's events, sent by `PromptDispatcher`."""

    dispatcher_cls = PromptDispatcher
