"""Celery's remote control: what a worker makes of a command, whoever sent it."""

from __future__ import annotations

import base64
import json
import logging
import uuid
from types import SimpleNamespace
from typing import Any, cast

import pytest
from celery.events.dispatcher import EventDispatcher
from celery.worker.control import Panel
from kombu.messaging import Producer
from pydantic import SecretStr

from trainyard.settings import Settings
from worker.remote_control import (
    INSPECTIONS,
    REFUSAL,
    SILENCE_S,
    InspectionNode,
    PromptDispatcher,
    read_command,
)

TICKET, ADDRESS = str(uuid.uuid4()), str(uuid.uuid4())
PING = {
    "method": "ping", "arguments": {}, "destination": None, "pattern": None, "matcher": None, "ticket": TICKET,
    "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": ADDRESS},
}  # fmt: skip
#: Every command of Celery's that ends a worker, changes how it works, or writes something; and its own secret ones.
DANGEROUS = {
    "add_consumer", "autoscale", "cancel_consumer", "disable_events", "election", "hello", "memdump", "memsample",
    "objgraph", "pool_grow", "pool_restart", "pool_shrink", "query_task", "rate_limit", "revoke",
    "revoke_by_stamped_headers", "shutdown", "terminate", "time_limit",
}  # fmt: skip


def message(body: Any) -> dict[str, Any]:
    return {"body": base64.b64encode(json.dumps(body).encode()).decode(), "headers": {"clock": "x"}, "properties": 7}


def body_of(rebuilt: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(rebuilt["body"]))


def test_a_command_is_rebuilt_without_its_arguments_and_headers() -> None:
    rebuilt = read_command(message(PING | {"arguments": {"with_defaults": True}, "more": 1}))
    assert rebuilt is not None
    assert body_of(rebuilt) == {key: value for key, value in PING.items() if key != "matcher"}
    assert rebuilt["headers"] == {}
    assert rebuilt["content-type"] == "application/json"


@pytest.mark.parametrize(
    "bad",
    [
        None, 7, [], {}, {"body": None}, {"body": "?"}, {"body": base64.b64encode(b"\xff").decode()},
        {"body": base64.b64encode(b"[" * 100_000).decode()}, message([]), message({"method": None}),
        message(PING | {"method": "x" * 101}), message(PING | {"destination": 7}),
        message(PING | {"pattern": "(a+)+$", "matcher": "pcre"}), message(PING | {"ticket": "x"}),
        message(PING | {"reply_to": {"exchange": "", "routing_key": ADDRESS}}),
        message(PING | {"reply_to": {"exchange": "reply.celery.pidbox", "routing_key": "train"}}),
    ],
)  # fmt: skip
def test_what_is_no_command_is_thrown_away(bad: Any) -> None:
    assert read_command(bad) is None


@pytest.fixture
def node() -> InspectionNode:
    mailbox = SimpleNamespace(clock=SimpleNamespace(adjust=lambda _: None))
    return InspectionNode("w@host", "state", None, Panel.data, mailbox)


def test_every_command_of_celery_is_known_here_as_harmless_or_refused() -> None:
    """A new version of Celery may bring others."""
    aliases = {info.alias for info in Panel.meta.values() if info.alias}
    assert set(Panel.data) - aliases == INSPECTIONS | DANGEROUS


@pytest.mark.parametrize("name", [*sorted(DANGEROUS), "dump_conf", "os.system"])
def test_another_command_is_refused_in_words(
    node: InspectionNode, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(Panel.data, name, lambda *_, **__: pytest.fail("it ran"))
    with caplog.at_level(logging.WARNING):
        assert node.dispatch(name, {}) == {"error": REFUSAL}
    assert [record.message for record in caplog.records] == ["a command of Celery's remote control was refused"]


def test_an_inspection_runs_without_arguments_and_its_answer_can_be_sent(
    node: InspectionNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Panel.data, "stats", lambda state: {"state": state, "transport": int})
    assert node.dispatch("stats", {"anything": 1}) == {"state": "state", "transport": "<class 'int'>"}


def test_an_answer_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery would retry for as long as the broker is away, and hold the worker's end up."""
    sent: list[Any] = []
    monkeypatch.setattr(Producer, "__init__", lambda *_, **__: None)
    monkeypatch.setattr(Producer, "publish", lambda self, data, **options: sent.append(options["retry"]))
    node = cast(InspectionNode, SimpleNamespace(channel=None))
    InspectionNode.reply(node, {}, "reply.celery.pidbox", ADDRESS, TICKET)
    assert sent == [False]


def test_an_event_is_tried_once_and_a_slow_broker_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, took_s, sent = [100.0], 10.0, []

    def publish(self: EventDispatcher, event: str, *_: object, retry: bool = True) -> None:
        sent.append((event, retry))
        clock[0] += took_s

    monkeypatch.setattr(EventDispatcher, "_publish", publish)
    monkeypatch.setattr("worker.remote_control.time", SimpleNamespace(monotonic=lambda: clock[0]))
    dispatcher = PromptDispatcher.__new__(PromptDispatcher)
    for event in ("heartbeat", "succeeded", "offline"):
        dispatcher._publish(event, None, "", retry=True)
    assert sent == [("heartbeat", False)]
    clock[0], took_s = 100.0 + 10 + SILENCE_S, 0.0
    for event in ("later", "and again"):
        dispatcher._publish(event, None, "", retry=True)
    assert sent[1:] == [("later", False), ("and again", False)]


@pytest.mark.parametrize(
    ("choice", "url", "expected"),
    [
        ("auto", "redis://:secret@127.0.0.1:6379/0", True),
        ("auto", "redis://localhost", True),
        ("auto", "redis://[::1]:6379/0", True),
        ("auto", "redis://redis:6379/0", False),
        ("auto", "redis://127.0.0.1@10.0.0.1:6379/0", False),
        ("auto", "redis://127.0.0.1:6379/0;redis://10.0.0.1:6379/0", False),
        ("auto", None, False),
        ("on", "redis://10.0.0.1:6379/0", True),
        ("off", "redis://127.0.0.1:6379/0", False),
    ],
)
def test_without_a_word_only_a_broker_on_loopback_is_trusted(choice: Any, url: str | None, expected: bool) -> None:
    settings = Settings(remote_control=choice, redis_url=None if url is None else SecretStr(url))
    assert settings.is_inspectable is expected
