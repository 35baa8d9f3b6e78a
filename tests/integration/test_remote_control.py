"""Celery's own tools beside a running worker, and what somebody at the broker can do with its remote control."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.fleet import FAST, NEVER_S, SLOW, Fleet, Gather, wait_for
from trainyard.scheduling.queue import build_celery
from worker.remote_control import REFUSAL

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

ANSWERED_WITHIN_S = 30


def command_of(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "celery", "-A", "worker.app", *arguments]


def environment_of(fleet: Fleet) -> dict[str, str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("TRAINYARD_")}
    return env | {"TRAINYARD_REDIS_URL": fleet.queue.url}


def ask(fleet: Fleet, *arguments: str, timeout_s: int = ANSWERED_WITHIN_S) -> subprocess.CompletedProcess[str]:
    command = command_of(*arguments, "--json", "--timeout", str(timeout_s))
    return subprocess.run(
        command, env=environment_of(fleet), capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip


@contextmanager
def dumped_events(fleet: Fleet, path: Path) -> Iterator[None]:
    """Inside, Celery writes every event that it hears into a file."""
    with path.open("wb") as file:
        process = subprocess.Popen(
            command_of("events", "--dump"), env=environment_of(fleet) | {"PYTHONUNBUFFERED": "1"}, stdout=file
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def start_ready_worker(fleet: Fleet) -> tuple[subprocess.Popen[bytes], str]:
    """A worker that listens, and its name for Celery."""
    worker = fleet.start_worker()
    wait_for(lambda: "worker is ready" in fleet.log(worker))
    return worker, f"{fleet.worker_id(worker)}@{os.uname().nodename}"


def test_celery_finds_the_worker_and_shows_what_it_does(gather: Gather, tmp_path: Path) -> None:
    fleet = gather(idle_poll_s=NEVER_S)
    worker, name = start_ready_worker(fleet)
    one = ("--destination", name)
    assert json.loads(ask(fleet, "inspect", "ping", *one).stdout) == {name: {"ok": "pong"}}
    events = tmp_path / "events"
    with dumped_events(fleet, events):
        wait_for(lambda: re.search(rf"^{name} \[.*\] heartbeat", events.read_text(), flags=re.M))
        job_id = fleet.submit(SLOW)
        wait_for(lambda: "task started" in events.read_text() and "train.wake" in events.read_text())
    wait_for(lambda: fleet.has_event(job_id, "claimed", 1))
    password = fleet.queue.url.split(":")[2].partition("@")[0]
    for inspection in ("active", "conf"):
        done = ask(fleet, "inspect", inspection, *one)
        assert done.returncode == 0, (inspection, done)
        assert password not in done.stdout
        if inspection == "active":
            assert [task["name"] for task in json.loads(done.stdout)[name]] == ["train.wake"]
    app = build_celery(fleet.queue.url)
    for inspection in ("stats", "report", "registered", "active_queues", "reserved", "scheduled"):
        answers = app.control.broadcast(inspection, reply=True, destination=[name], timeout=ANSWERED_WITHIN_S)
        assert [list(answer) for answer in answers] == [[name]], inspection
        assert "error" not in answers[0][name], answers
        assert password not in json.dumps(answers)
    worker.terminate()
    assert worker.wait(2 * fleet.settings.stop_grace_s) == 0
    lines = [json.loads(line) for line in fleet.log(worker).splitlines()]  # no banner, no word about the signal
    assert any(line["message"] == "worker drains" for line in lines)


def test_without_remote_control_nothing_is_answered_and_no_event_is_sent(gather: Gather, tmp_path: Path) -> None:
    fleet = gather(idle_poll_s=NEVER_S, remote_control="off")
    start_ready_worker(fleet)
    events = tmp_path / "events"
    with dumped_events(fleet, events):
        wait_for(lambda: fleet.redis().pubsub_numpat() == 1)  # it listens, and nobody else
        assert ask(fleet, "inspect", "ping", timeout_s=5).returncode == 69
        job_id = fleet.submit(FAST)
        wait_for(lambda: fleet.job(job_id).state == "succeeded")
    assert "heartbeat" not in events.read_text()
    assert "task" not in events.read_text()


def test_whoever_is_at_the_broker_can_end_no_worker_and_make_none_deaf(gather: Gather) -> None:
    fleet = gather(idle_poll_s=NEVER_S, slots=2)
    worker, name = start_ready_worker(fleet)
    job_id = fleet.submit(SLOW)
    wait_for(lambda: fleet.has_event(job_id, "first_step", 1))
    app = build_celery(fleet.queue.url)
    commands: dict[str, dict[str, Any]] = {
        "shutdown": {}, "pool_restart": {"modules": ["os"], "reload": True}, "pool_shrink": {"n": 2},
        "cancel_consumer": {"queue": "train"}, "add_consumer": {"queue": "other"},
        "rate_limit": {"task_name": "train.wake", "rate_limit": "1/h"},
        "time_limit": {"task_name": "train.wake", "hard": 1}, "disable_events": {},
        "terminate": {"signal": "KILL", "task_id": ["x"]}, "no_such_command": {},
    }  # fmt: skip
    for command, arguments in commands.items():
        answers = app.control.broadcast(
            command, arguments=arguments, reply=True, destination=[name], timeout=ANSWERED_WITHIN_S
        )
        assert answers == [{name: {"error": REFUSAL}}], command
    redis = fleet.redis()
    address = str(uuid.uuid4())
    elsewhere = {"exchange": "", "routing_key": "train"}
    ping = {
        "method": "ping",
        "ticket": address,
        "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": address},
    }
    for garbage in (
        b"\x00\xff", b"[" * 100_000, b"[]", b"7", b"{}", b'{"body": 7}', envelope([]), envelope({"method": 7}),
        envelope(ping | {"reply_to": elsewhere}), envelope(ping | {"pattern": "(", "matcher": "pcre"}),
    ):  # fmt: skip
        redis.publish("/0.celery.pidbox", garbage)
    bindings = "_kombu.binding.reply.celery.pidbox"
    redis.delete(bindings)
    redis.set(bindings, "no set at all")
    assert redis.publish("/0.celery.pidbox", envelope(ping)) == 1
    wait_for(lambda: "WRONGTYPE" in fleet.log(worker))
    redis.delete(bindings)
    assert app.control.ping(destination=[name], timeout=ANSWERED_WITHIN_S) == [{name: {"ok": "pong"}}]
    second = fleet.submit(FAST)  # only a wake-up message can tell of it
    wait_for(lambda: fleet.job(second).state == "succeeded" or worker.poll() is not None)
    assert worker.poll() is None, fleet.log(worker)
    assert (fleet.job(job_id).state, fleet.job(job_id).lease_epoch) == ("running", 1)
    worker.terminate()
    assert worker.wait(2 * fleet.settings.stop_grace_s) == 0


def test_a_worker_that_sends_events_ends_though_the_queue_is_gone(gather: Gather, tmp_path: Path) -> None:
    fleet = gather(idle_poll_s=NEVER_S)
    worker, _ = start_ready_worker(fleet)
    job_id = fleet.submit(SLOW)
    wait_for(lambda: fleet.has_event(job_id, "first_step", 1))
    fleet.kill_queue()
    log_length = len(fleet.log(worker))
    wait_for(lambda: "Connection" in fleet.log(worker)[log_length:])  # a heartbeat was tried, and the queue is missed
    worker.terminate()
    assert worker.wait(2 * fleet.settings.stop_grace_s) == 0
    assert fleet.job(job_id).state_reason == "drain"


def test_a_worker_that_sends_events_ends_though_the_queue_is_frozen(gather: Gather) -> None:
    fleet = gather(idle_poll_s=NEVER_S)
    worker, _ = start_ready_worker(fleet)
    job_id = fleet.submit(SLOW)
    wait_for(lambda: fleet.has_event(job_id, "first_step", 1))
    with fleet.frozen_queue():
        worker.terminate()
        assert worker.wait(2 * fleet.settings.stop_grace_s) == 0
    assert "the connection to the queue does not close" in fleet.log(worker)
    assert fleet.job(job_id).state_reason == "drain"


def envelope(body: Any) -> bytes:
    return json.dumps({
        "body": base64.b64encode(json.dumps(body).encode()).decode(), "content-type": "application/json",
        "content-encoding": "utf-8", "headers": {}, "properties": {"body_encoding": "base64"},
    }).encode()  # fmt: skip
