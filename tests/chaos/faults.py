"""The faults of a chaos run: one method for each kind, which returns true if it could be done."""

from __future__ import annotations

import heapq
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import count
from typing import Protocol

import httpx

from tests.chaos.history import Death
from tests.chaos.store import Mode
from tests.chaos.yard import REAPER_S, TTL_S, ChaosYard
from tests.processes import children_of
from trainyard.errors import DatabaseUnavailable

FREEZE_S = TTL_S + 3 * REAPER_S  # a worker that is frozen for so long loses its lease
DATABASE_FREEZE_S = 2.0
STORE_AWAY_S = TTL_S + 3 * REAPER_S  # longer than a lease
READ_ONLY_S = TTL_S + 2 * REAPER_S  # longer than a lease: who survives it survives a failover


class Owner(Protocol):
    """The client that submits the jobs."""

    def open_jobs(self) -> list[str]:
        """Return the ids of jobs that have not ended."""

    def post(self, path: str) -> httpx.Response | None:
        """Send a POST and return the answer. None: there was no answer."""

    def repeat_post(self, times: int) -> bool:
        """Send one of the requests for a job again. True: any of them was answered with a job."""


class Faults:
    """Breaks a yard at random. Every kind comes once before any is chosen by its weight."""

    def __init__(self, yard: ChaosYard, owner: Owner, rng: random.Random) -> None:
        self.yard, self.owner, self.random = yard, owner, rng
        self.done: Counter[str] = Counter()
        self.deaths: list[Death] = []
        self.harmed: dict[str, list[float]] = defaultdict(list)  #: worker id -> when it was killed or frozen
        self.cancelled: dict[str, float] = {}  #: job id -> when its cancel was answered
        self._kinds: dict[str, tuple[int, Callable[[], bool]]] = {
            "kill trainer": (4, self._kill_trainer),
            "kill worker": (5, self._kill_worker),
            "kill worker that validates": (2, self._kill_validating),
            "kill intake": (2, self._kill_intake),
            "kill worker that predicts": (2, self._kill_predicting),
            "kill predictor": (2, self._kill_predictor),
            "kill api": (2, self._kill_api),
            "kill queue": (2, self._kill_queue),
            "freeze worker past its lease": (1, lambda: self._freeze_worker(with_trainers=False)),
            "freeze worker and trainer past the lease": (1, lambda: self._freeze_worker(with_trainers=True)),
            "freeze api": (1, lambda: self._freeze("api", 3, children_of(self.yard.pid_of("api")))),
            "freeze queue": (1, lambda: self._freeze("queue", 3)),
            "empty queue": (2, self._empty_queue),
            "freeze database": (1, self._freeze_database),
            "cancel": (1, self._cancel),
            "pause and resume": (3, self._pause),
            "repeat posts": (3, self._repeat),
        }
        if yard.postgres is not None:
            self._kinds |= {
                "read-only database": (2, lambda: self._harm_database(yard.forbid_writes, READ_ONLY_S)),
                "lock timeouts": (1, lambda: self._harm_database(yard.lock_jobs, DATABASE_FREEZE_S)),
                "no connection left": (1, lambda: self._harm_database(yard.take_connections, DATABASE_FREEZE_S)),
            }
        if (store := yard.store) is not None:
            self._kinds |= {
                "store refuses connections": (2, lambda: store.close_gate(Mode.REFUSING, STORE_AWAY_S)),
                "store is slow": (2, lambda: store.close_gate(Mode.SLOW, STORE_AWAY_S)),
                "store answers 503": (2, lambda: store.close_gate(Mode.BUSY, STORE_AWAY_S)),
                "freeze store": (2, lambda: store.freeze(STORE_AWAY_S)),
                "kill store": (3, lambda: store.kill(self.random.uniform(0, STORE_AWAY_S))),
            }
        self._bag = list(self._kinds)
        self.random.shuffle(self._bag)
        self._later: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = count()
        self._frozen: set[str] = set()

    def strike(self) -> str | None:
        """Do one fault and return its name. None: the chosen one can't be done just now."""
        weights = [weight for weight, _ in self._kinds.values()]
        name = self._bag.pop() if self._bag else self.random.choices(list(self._kinds), weights)[0]
        try:
            is_done = self._kinds[name][1]()
        except DatabaseUnavailable:  # from a look that comes before any harm
            is_done = False
        if is_done:
            self.done[name] += 1
            return name
        if self.done[name] == 0:
            self._bag.insert(0, name)
        return None

    def go_on(self, *, at_once: bool = False) -> None:
        """Unfreeze what was frozen and resume what was paused, when it is time."""
        while self._later and (at_once or self._later[0][0] <= time.monotonic()):
            heapq.heappop(self._later)[2]()

    def _in(self, seconds: float, act: Callable[[], object]) -> None:
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._numbers), act))

    # --- processes ---

    def _worker(self) -> str:
        return self.random.choice([name for name in self.yard.names if name.startswith("worker")])

    def _kill_trainer(self) -> bool:
        """Kill every trainer of a worker, including the spare."""
        pids = self.yard.trainers_of(self._worker())
        self.yard.signal(pids, signal.SIGKILL)
        return bool(pids)

    def _kill_worker(self) -> bool:
        """Kill a worker, half of the time one that has a job."""
        busy = sorted(name for name, it in self.yard.standing().items() if it.held)
        return self._kill(self.random.choice(busy) if busy and self.random.random() < 0.5 else self._worker())

    def _kill(self, name: str) -> bool:
        standing = self.yard.standing()
        free = [it.worker_id for other, it in standing.items() if not it.held and other not in {name, *self._frozen}]
        self.yard.kill(name)
        at, died = time.time(), standing[name]
        peers = frozenset(worker_id for worker_id in free if worker_id is not None)
        self.deaths += [Death(at, job_id, epoch, peers) for job_id, epoch in died.held]
        self._note_harm(name, died.worker_id, at)
        return True

    def _kill_validating(self) -> bool:
        """Kill a worker that takes in a dataset."""
        busy = [name for name in self.yard.names if name.startswith("worker") and self.yard.intakes_of(name)]
        if not busy:
            return False
        return self._kill(self.random.choice(busy))

    def _kill_intake(self) -> bool:
        """Kill a child that takes in a dataset."""
        pids = self.yard.intakes_of(self._worker())
        self.yard.signal(pids, signal.SIGKILL)
        return bool(pids)

    def _kill_predicting(self) -> bool:
        """Kill a worker that predicts many images."""
        busy = [name for name in self.yard.names if name.startswith("worker") and self.yard.predictors_of(name)]
        if not busy:
            return False
        return self._kill(self.random.choice(busy))

    def _kill_predictor(self) -> bool:
        """Kill a child that predicts many images."""
        pids = self.yard.predictors_of(self._worker())
        self.yard.signal(pids, signal.SIGKILL)
        return bool(pids)

    def _note_harm(self, name: str, worker_id: str | None, at: float) -> None:
        if worker_id is not None:
            self.harmed[worker_id].append(at)

    def _kill_api(self) -> bool:
        self.yard.kill("api")
        return True

    def _kill_queue(self) -> bool:
        self.yard.kill_queue()
        return True

    def _freeze_worker(self, *, with_trainers: bool) -> bool:
        """Freeze a worker.

        With its trainers it is like a machine that sleeps; without, they train on until they miss its heartbeats.
        """
        name = self._worker()
        worker_id = self.yard.standing()[name].worker_id
        trainers = self.yard.trainers_of(name) if with_trainers else []
        if not self._freeze(name, FREEZE_S, trainers):
            return False
        self._note_harm(name, worker_id, time.time())
        return True

    def _freeze(self, name: str, seconds: float, children: list[int] | None = None) -> bool:
        if name in self._frozen:
            return False
        self._frozen.add(name)
        pids = [self.yard.pid_of(name), *(children or [])]
        self.yard.signal(pids, signal.SIGSTOP)

        def thaw() -> None:
            self.yard.signal(pids, signal.SIGCONT)
            self._frozen.discard(name)

        self._in(seconds, thaw)
        return True

    def _empty_queue(self) -> bool:
        self.yard.empty_queue()
        return True

    def _freeze_database(self) -> bool:
        self.yard.freeze_database(DATABASE_FREEZE_S)
        return True

    @staticmethod
    def _harm_database(harm: Callable[[float], None], seconds: float) -> bool:
        harm(seconds)
        return True

    # --- requests ---

    def _cancel(self) -> bool:
        job_id = self._open_job()
        answer = self.owner.post(f"/jobs/{job_id}/cancel") if job_id else None
        if job_id is None or answer is None or answer.status_code != 202:
            return False
        self.cancelled[job_id] = time.time()
        return True

    def _pause(self) -> bool:
        job_id = self._open_job()
        if job_id is None:
            return False
        answer = self.owner.post(f"/jobs/{job_id}/pause")
        self._in(self.random.uniform(1, 5), lambda: self._resume(job_id))
        return answer is not None and answer.status_code == 202

    def _resume(self, job_id: str) -> None:
        answer = self.owner.post(f"/jobs/{job_id}/resume")
        if answer is None or (answer.status_code == 409 and "wait until" in answer.text):
            self._in(1, lambda: self._resume(job_id))

    def _repeat(self) -> bool:
        return self.owner.repeat_post(3)

    def _open_job(self) -> str | None:
        waiting = self.owner.open_jobs()
        return self.random.choice(waiting) if waiting else None
