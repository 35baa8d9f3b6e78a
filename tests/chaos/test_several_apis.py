"""Three API processes, each with its reconciler, and two workers on one database must act as one."""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from redis.exceptions import RedisError
from sqlalchemy import func, select

from tests.chaos.history import FINAL, Event, Look, Record, judge
from tests.integration.fleet import Fleet, wait_for
from tests.processes import children_of
from trainyard.database.tables import Checkpoint, JobEvent, Outbox
from trainyard.launch.queue_server import free_port
from trainyard.settings import child_environment

APIS, WORKERS = 3, 2
TTL_S, REAPER_S = 4.0, 1.0
SMALL = {"image_px": 16, "width_multiplier": 0.5, "batch_size": 16, "epochs": 3}
SEEDS = 3  # jobs of the same seed must end with the same weights
OPEN_JOBS = 4
FAULT_EVERY_S = 2.5
END_WITHIN_S = 420.0


class Yard:
    """A yard with several APIs, whose only reconcilers are those of its APIs."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.fleet = Fleet(
            folder, database_url=database_url, lease_ttl_s=TTL_S, reaper_s=REAPER_S, tick_s=0.25, idle_poll_s=2.0,
            relay_s=0.5, wake_again_s=2.0, backoff_s=0.2, recovery_every_s=0.5, max_failures=100, garbage_grace_s=2.0,
            serving_threads=1,
        )  # fmt: skip
        self.fleet.reconciler.stop()
        self._ports = [free_port() for _ in range(APIS)]
        self.urls = [f"http://127.0.0.1:{port}" for port in self._ports]
        self.apis = [self._start_api(index) for index in range(APIS)]
        self.workers = [self.fleet.start_worker() for _ in range(WORKERS)]

    def _start_api(self, index: int) -> subprocess.Popen[bytes]:
        env = child_environment(self.fleet.settings)
        env |= {"TRAINYARD_PORT": str(self._ports[index]), "TRAINYARD_REDIS_URL": self.fleet.queue.url}
        command = [sys.executable, "-m", "api", "--die-with-parent", str(os.getpid())]
        with (self.fleet.folder / "logs" / f"api-{index}.log").open("ab") as log:
            return subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)

    def mend(self) -> None:
        """Start again what has died."""
        self.apis = [it if it.poll() is None else self._start_api(index) for index, it in enumerate(self.apis)]
        self.workers = [it if it.poll() is None else self.fleet.start_worker() for it in self.workers]

    def read_events(self) -> dict[str, list[Event]]:
        events: dict[str, list[Event]] = defaultdict(list)
        with self.fleet.database.reading() as session:
            for row in session.scalars(select(JobEvent).order_by(JobEvent.job_id, JobEvent.seq)):
                told = (row.seq, row.at, row.type, row.state, row.reason, row.lease_epoch, row.worker_id, row.data)
                events[row.job_id].append(Event(*told))
        return events

    def stop(self) -> None:
        for api in self.apis:
            if api.poll() is None:
                api.send_signal(signal.SIGCONT)
                api.kill()
                api.wait()
        self.fleet.stop()


class Owner:
    """Asks all three APIs for the same, and each for something."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard
        self._clients = [httpx.Client(base_url=url, timeout=4, trust_env=False) for url in yard.urls]
        self._turns = cycle(self._clients)
        self._pool = ThreadPoolExecutor(APIS)
        self.answers: Counter[int] = Counter()
        self.is_unanswered = False  #: nobody told the id of the last job that was asked for
        self.jobs: dict[str, str] = {}  # Idempotency-Key -> id
        self.looks: dict[str, list[Look]] = defaultdict(list)
        self.states: dict[str, str] = {}
        self.cancelled: dict[str, float] = {}

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        """Ask the next API in turn. None: no answer."""
        return self._ask(next(self._turns), method, path, **options)

    def ask_all(self, method: str, path: str, **options: Any) -> list[httpx.Response]:
        """Ask all APIs at once, and return the answers that came."""
        asked = [self._pool.submit(self._ask, client, method, path, **options) for client in self._clients]
        return [answer for it in asked if (answer := it.result()) is not None]

    def _ask(self, client: httpx.Client, method: str, path: str, **options: Any) -> httpx.Response | None:
        try:
            answer = client.request(method, path, **options)
        except httpx.HTTPError:
            return None
        self.answers[answer.status_code] += 1
        return answer

    def submit(self) -> None:
        """Send the same request to all three at the same time, which must make one job."""
        number = len(self.jobs)
        key = f"job-{number}"
        body = {"dataset": "digits", "recipe": "quick", "overrides": SMALL, "seed": number % SEEDS}
        answers = self.ask_all("POST", "/jobs", json=body, headers={"Idempotency-Key": key})
        assert {answer.status_code for answer in answers} <= {200, 202, 409, 503}, [it.text for it in answers]
        assert sum(answer.status_code == 202 for answer in answers) <= 1
        made = {answer.json()["id"] for answer in answers if answer.is_success}
        assert len(made) <= 1, "one request, one job"
        self.is_unanswered = not made
        if made:
            self.jobs[key] = made.pop()

    def look(self) -> None:
        moment, answer = time.time(), self.ask("GET", "/jobs", params={"limit": 100})
        if answer is None or not answer.is_success:
            return
        for job in answer.json()["data"]:
            step = (job["progress"] or {}).get("step") or 0
            told = (job["state"], job["attempt"], step, job["finished_at"], job["weights_sha256"])
            self.looks[job["id"]].append(Look(moment, *told))
            self.states[job["id"]] = job["state"]

    def open_jobs(self) -> list[str]:
        return [job_id for job_id in self.jobs.values() if self.states.get(job_id) not in FINAL]

    def close(self) -> None:
        self._pool.shutdown()
        for client in self._clients:
            client.close()


class Faults:
    """Causes each kind a few times, in a random order. Each method returns whether it could be done."""

    def __init__(self, yard: Yard, owner: Owner, seed: int) -> None:
        self._yard, self._owner, self._random = yard, owner, random.Random(seed)
        self._later: list[tuple[float, Callable[[], object]]] = []
        kinds = {
            self._kill_api: 4, self._freeze_api: 3, self._kill_worker: 3, self._kill_trainer: 3, self._pause: 3,
            self._cancel: 1, self._empty_queue: 2,
        }  # fmt: skip
        self.left = [kind for kind, times in kinds.items() for _ in range(times)]
        self._random.shuffle(self.left)

    def strike(self) -> None:
        if not self.left[-1]():
            self._random.shuffle(self.left)
        else:
            self.left.pop()

    def go_on(self) -> None:
        due = [it for it in self._later if it[0] <= time.monotonic()]
        self._later = [it for it in self._later if it not in due]
        for _, act in due:
            act()

    @property
    def are_over(self) -> bool:
        return not self.left and not self._later

    def _in(self, seconds: float, act: Callable[[], object]) -> None:
        self._later.append((time.monotonic() + seconds, act))

    def _kill_api(self) -> bool:
        self._random.choice(self._yard.apis).kill()
        return True

    def _freeze_api(self) -> bool:
        """Freeze an API until leases expire: its reaper is late, while two others were not."""
        api = self._random.choice(self._yard.apis)
        api.send_signal(signal.SIGSTOP)
        self._in(TTL_S + 2 * REAPER_S, lambda: api.send_signal(signal.SIGCONT))
        return True

    def _kill_worker(self) -> bool:
        self._random.choice(self._yard.workers).kill()
        return True

    def _kill_trainer(self) -> bool:
        pids = children_of(self._random.choice(self._yard.workers).pid)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(pids)

    def _pause(self) -> bool:
        job_id = self._one()
        answer = job_id and self._owner.ask("POST", f"/jobs/{job_id}/pause")
        if not answer or answer.status_code != 202:
            return False
        self._in(1.0, lambda: self._resume(job_id))
        return True

    def _resume(self, job_id: str) -> None:
        """Resume a job through another API than the one that paused it."""
        answer = self._owner.ask("POST", f"/jobs/{job_id}/resume")
        if answer is None or answer.status_code == 503 or (answer.status_code == 409 and "wait until" in answer.text):
            self._in(0.5, lambda: self._resume(job_id))

    def _cancel(self) -> bool:
        job_id = self._one()
        answer = job_id and self._owner.ask("POST", f"/jobs/{job_id}/cancel")
        if not answer or answer.status_code != 202:
            return False
        self._owner.cancelled[job_id] = time.time()
        return True

    def _empty_queue(self) -> bool:
        with contextlib.suppress(RedisError), self._yard.fleet.redis() as redis:
            redis.flushall()
        return True

    def _one(self) -> str:
        return self._random.choice(self._owner.open_jobs() or [""])


@pytest.fixture
def yard(tmp_path: Path, empty_url: str) -> Iterator[Yard]:
    started = Yard(tmp_path / "data", empty_url)
    yield started
    started.stop()


@pytest.fixture
def owner(yard: Yard) -> Iterator[Owner]:
    asking = Owner(yard)
    yield asking
    asking.close()


@pytest.mark.chaos
def test_three_apis_and_two_workers_act_as_one_while_they_die(yard: Yard, owner: Owner) -> None:
    blow(yard, owner, Faults(yard, owner, seed=5))
    events = yard.read_events()
    records = [
        Record(job_id, told, owner.looks[job_id], owner.cancelled.get(job_id)) for job_id, told in events.items()
    ]
    assert judge(records, owner.jobs.values()) == []
    assert not [status for status in owner.answers if status >= 500 and status != 503], owner.answers
    wait_for(lambda: len(owner.ask_all("GET", "/readyz")) == APIS)
    for path in ["/jobs?limit=100", *[f"/jobs/{job_id}/events" for job_id in owner.jobs.values()]]:
        told = [answer.json() for answer in owner.ask_all("GET", path)]
        assert len(told) == APIS
        assert told[0] == told[1] == told[2]
    ended = [look[-1] for look in owner.looks.values()]
    assert Counter(look.state for look in ended)["succeeded"] >= len(ended) - 1, "but the one that was cancelled"
    assert_one_result_a_seed(owner)
    wait_for(lambda: newest_checkpoints(owner) == {newest_published(yard)})
    wait_for(lambda: folders(yard) == committed(yard))
    wait_for(lambda: is_outbox_empty(yard))


def blow(yard: Yard, owner: Owner, faults: Faults) -> None:
    """Cause faults while jobs run, until each kind was done and every job has ended."""
    wait_for(lambda: len(owner.ask_all("GET", "/healthz")) == APIS)
    deadline, next_fault = time.monotonic() + END_WITHIN_S, time.monotonic() + 2 * FAULT_EVERY_S
    while not faults.are_over or owner.open_jobs() or owner.is_unanswered:
        assert time.monotonic() < deadline, (owner.states, faults.left)
        if owner.is_unanswered or (faults.left and len(owner.open_jobs()) < OPEN_JOBS):
            owner.submit()
        owner.look()
        faults.go_on()
        if faults.left and time.monotonic() >= next_fault:
            next_fault = time.monotonic() + FAULT_EVERY_S
            faults.strike()
        yard.mend()
        time.sleep(0.1)
    time.sleep(TTL_S)
    for _ in range(APIS):
        owner.look()  # what is final stays so, whoever is asked


def assert_one_result_a_seed(owner: Owner) -> None:
    results: dict[int, set[str | None]] = defaultdict(set)
    for key, job_id in owner.jobs.items():
        if owner.states[job_id] == "succeeded":
            results[int(key.removeprefix("job-")) % SEEDS].add(owner.looks[job_id][-1].weights_sha256)
    assert [len(found) for found in results.values()] == [1] * SEEDS
    assert len(set.union(*results.values())) == SEEDS


def newest_checkpoints(owner: Owner) -> set[str]:
    """Return what each API serves as `latest`."""
    image = io.BytesIO()
    Image.new("L", (8, 8)).save(image, "PNG")
    answers = owner.ask_all("POST", "/predict", content=image.getvalue(), headers={"Content-Type": "image/png"})
    served = [answer.json()["model"]["checkpoint"] if answer.is_success else answer.text for answer in answers]
    return set(served) if len(served) == APIS else set()


def newest_published(yard: Yard) -> str | None:
    with yard.fleet.database.reading() as session:
        newest = select(Checkpoint.id).where(Checkpoint.publication.is_not(None))
        return session.scalar(newest.order_by(Checkpoint.publication.desc()).limit(1))


def folders(yard: Yard) -> set[str]:
    root = yard.fleet.folder
    return {str(path.relative_to(root)) for path in root.glob("checkpoints/*/*")}


def committed(yard: Yard) -> set[str]:
    with yard.fleet.database.reading() as session:
        return set(session.scalars(select(Checkpoint.key).where(Checkpoint.status == "committed")))


def is_outbox_empty(yard: Yard) -> bool:
    with yard.fleet.database.reading() as session:
        return session.scalar(select(func.count()).select_from(Outbox)) == 0
