"""A yard whose queue server freezes or has no room, and one whose processes all sleep at once, as a laptop's do.

No worker looks for jobs by itself here: what starts was woken.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from redis import Redis

from tests.integration.fleet import FAST, SLOW, wait_for
from tests.integration.running import RunningYard, start_yard
from trainyard.client import Client, Json
from trainyard.scheduling.queue import QUEUE_NAME

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

TTL_S = 3.0
SETTINGS = {
    "TRAINYARD_LEASE_TTL_S": str(TTL_S),
    "TRAINYARD_REAPER_S": "1",
    "TRAINYARD_TICK_S": "0.5",
    "TRAINYARD_WAKE_AGAIN_S": "2",
    "TRAINYARD_IDLE_POLL_S": "3600",
    "TRAINYARD_RECOVERY_EVERY_S": "1",
    "TRAINYARD_TRAINER_THREADS": "1",
}


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningYard]:
    running = start_yard(tmp_path_factory.mktemp("yard") / "data", **SETTINGS)
    try:
        yield running
    finally:
        for pid in running.descendants():
            os.kill(pid, signal.SIGCONT)
        running.stop()


def find(yard: RunningYard, word: str) -> int:
    """The process of the yard whose command line has a word."""
    found = [pid for pid in yard.descendants() if word in _read(pid, "cmdline").split("\0")]
    assert len(found) == 1, found
    return found[0]


def queue_of(yard: RunningYard) -> int:
    [pid] = [pid for pid in yard.descendants() if "valkey-server" in _read(pid, "cmdline")]
    return pid


def redis_of(yard: RunningYard) -> Redis:
    settings = dict(item.partition("=")[::2] for item in _read(find(yard, "worker"), "environ").split("\0"))
    return Redis.from_url(settings["TRAINYARD_REDIS_URL"])


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:
        return ""


def queue_state(yard: RunningYard) -> str:
    answer = httpx.get(f"{yard.url}/readyz", trust_env=False, timeout=20)
    assert answer.status_code == 200, "a queue that is away makes nobody unready"
    return str(answer.json()["queue"])


def wait_for_state(client: Client, job_id: str, *states: str) -> Json:
    found: Json = wait_for(lambda: (job := client.get_job(job_id))["state"] in states and job)
    return found


def start_slow_job(client: Client, seed: int) -> str:
    """A job that trains until it is told to stop, after its first checkpoint."""
    job_id = str(client.create_job("digits", overrides=SLOW, seed=seed)["id"])
    wait_for(lambda: client.get_job(job_id)["latest_checkpoint"])
    return job_id


def assert_it_starts_now(yard: RunningYard, client: Client, job_id: str) -> None:
    """The queue is back: a job that waited succeeds, at its first attempt."""
    assert wait_for_state(client, job_id, "succeeded", "failed")["state"] == "succeeded"
    assert client.get_job(job_id)["attempt"] == 1
    wait_for(lambda: queue_state(yard) == "ok")


@pytest.mark.chaos
def test_a_frozen_queue_stops_nothing_that_runs_and_its_wake_ups_are_sent_later(
    yard: RunningYard, client: Client
) -> None:
    running = start_slow_job(client, 1)
    queue = queue_of(yard)
    os.kill(queue, signal.SIGSTOP)
    try:
        waiting = client.create_job("digits", overrides=FAST)["id"]
        step = client.get_job(running)["progress"]["step"]
        wait_for(lambda: client.get_job(running)["progress"]["step"] > step)
        client.cancel_job(running)
        wait_for_state(client, running, "cancelled")
        wait_for_state(client, waiting, "succeeded")  # who was busy looks for the next job by itself
        late = client.create_job("digits", overrides=FAST)["id"]  # nobody is awake, and no wake-up message can be heard
        wait_for(lambda: queue_state(yard) == "degraded")
        assert client.get_job(late)["state"] == "queued"
    finally:
        os.kill(queue, signal.SIGCONT)
    assert_it_starts_now(yard, client, late)


def test_a_queue_without_room_refuses_no_job_and_it_starts_once_there_is_room(
    yard: RunningYard, client: Client
) -> None:
    redis = redis_of(yard)
    wait_for(lambda: redis.llen(QUEUE_NAME) == 0)
    redis.config_set("maxmemory", 1)
    try:
        job_id = client.create_job("digits", overrides=FAST)["id"]
        wait_for(lambda: queue_state(yard) == "degraded")
        assert client.get_job(job_id)["state"] == "queued"
    finally:
        redis.config_set("maxmemory", 0)
        redis.close()
    assert_it_starts_now(yard, client, job_id)


def test_a_yard_that_slept_as_a_whole_goes_on_and_takes_no_job_from_its_worker(
    yard: RunningYard, client: Client
) -> None:
    job_id = start_slow_job(client, 2)
    log = yard.folder / "logs" / "api.log"
    late_before = log.read_text().count("the reaper was late")
    services = [find(yard, "api"), find(yard, "worker"), queue_of(yard)]
    everybody = [yard.process.pid, *yard.descendants()]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(2 * TTL_S)
    for pid in everybody:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: log.read_text().count("the reaper was late") > late_before)
    job = client.get_job(job_id)
    wait_for(lambda: client.get_job(job_id)["latest_checkpoint"] != job["latest_checkpoint"])
    time.sleep(TTL_S)  # and two more rounds of the reaper at least
    job = client.get_job(job_id)
    assert (job["state"], job["attempt"], job["failures"]) == ("running", 1, 0)
    client.cancel_job(job_id)
    ended = wait_for_state(client, job_id, "cancelled")
    assert [change["reason"] for change in ended["state_history"]].count("claimed") == 1
    assert [find(yard, "api"), find(yard, "worker"), queue_of(yard)] == services, "nobody took another for dead"
