"""Jobs under random faults: `python -m tests.chaos.storm FOLDER [--jobs N] [--seconds S] [--seed N] …`.

Prints a line of JSON a fault and at the end the report; status 1 if a promise was broken, or if the time
did not do for so many jobs.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.history import FINAL, Look, Record, judge, percentile, recoveries, wasted_steps
from tests.chaos.yard import REAPER_S, TTL_S, ChaosYard

SMALL = {"image_px": 16, "width_multiplier": 0.5, "batch_size": 16, "epochs": 4, "interval_steps": 1}
OPEN_JOBS = 6  # how many wait or run at once
SETTLE_S = 120.0


class Storm:
    """One run: submits, looks, breaks things, and judges at the end."""

    def __init__(self, yard: ChaosYard, *, num_jobs: int, seconds: float, seed: int, fault_every_s: float) -> None:
        self.yard, self.num_jobs, self.seconds, self.fault_every_s = yard, num_jobs, seconds, fault_every_s
        self.random = random.Random(seed)
        self.http = httpx.Client(base_url=yard.url, timeout=5, trust_env=False)
        self.faults: Counter[str] = Counter()
        self.looks: dict[str, list[Look]] = defaultdict(list)
        self.jobs: dict[str, str] = {}  # Idempotency-Key -> id
        self.states: dict[str, str] = {}
        self.cancelled: dict[str, float] = {}
        self.deaths: list[tuple[float, str, int]] = []
        self.doubles = self.server_errors = 0
        self._later: list[tuple[float, int, Callable[[], object]]] = []
        self._frozen: set[str] = set()
        self._keys = 0

    def run(self) -> None:
        """Blow until every job has ended or the time is over, then wait until all is calm."""
        began = time.monotonic()
        next_fault, next_look = began + 8, began
        while (moment := time.monotonic()) < began + self.seconds and (self._keys < self.num_jobs or self._open()):
            while self._later and self._later[0][0] <= moment:
                heapq.heappop(self._later)[2]()
            if moment >= next_look:
                next_look = moment + 0.5
                self._look()
                self._submit()
            if moment >= next_fault and self._open():
                next_fault = moment + self.random.expovariate(1 / self.fault_every_s)
                self._break()
            self.yard.tick()
            time.sleep(0.05)
        self._calm_down()

    def _calm_down(self) -> None:
        while self._later:
            heapq.heappop(self._later)[2]()
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            self.yard.tick()
            self._look()
            waiting = [job_id for job_id in self.jobs.values() if self.states.get(job_id) not in FINAL]
            for job_id in waiting:
                if self.states.get(job_id) == "paused":
                    self._post(f"/jobs/{job_id}/resume")
            if not waiting and self.jobs:
                break
            time.sleep(0.5)
        time.sleep(TTL_S)
        self._look()  # what is final stays so

    def _open(self) -> list[str]:
        return [job_id for job_id in self.jobs.values() if self.states.get(job_id, "queued") not in FINAL]

    def _submit(self) -> None:
        if self._keys >= self.num_jobs or len(self._open()) >= OPEN_JOBS:
            return
        key = f"storm-{self._keys}"
        body = {"dataset": "digits", "recipe": "quick", "overrides": SMALL, "seed": self._keys}
        answer = self._post("/jobs", body, key=key)
        if answer is not None and answer.is_success:
            self._keys += 1
            self.jobs[key] = answer.json()["id"]

    def _post(self, path: str, body: Any = None, *, key: str | None = None) -> httpx.Response | None:
        try:
            answer = self.http.post(path, json=body, headers={"Idempotency-Key": key} if key else {})
        except httpx.HTTPError:
            return None
        self.server_errors += answer.status_code == 500
        return answer

    def _look(self) -> None:
        after, moment = None, time.time()
        while True:
            try:
                page = self.http.get("/jobs", params={"limit": 100} | ({"after": after} if after else {})).json()
                rows = page["data"]
            except (httpx.HTTPError, KeyError, ValueError):
                return
            for job in rows:
                step = (job["progress"] or {}).get("step") or 0
                told = (job["state"], job["attempt"], step, job["finished_at"], job["weights_sha256"])
                self.looks[job["id"]].append(Look(moment, *told))
                self.states[job["id"]] = job["state"]
            if not page["has_more"]:
                return
            after = page["last_id"]

    # --- faults ---

    def _break(self) -> None:
        kinds: list[tuple[str, int, Callable[[], bool]]] = [
            ("kill trainer", 4, self._kill_trainer),
            ("kill worker", 3, self._kill_worker),
            ("kill api", 2, self._kill_api),
            ("kill queue", 2, self._kill_queue),
            ("freeze worker past its lease", 2, self._freeze_worker),
            ("freeze queue", 1, lambda: self._freeze("queue", 3)),
            ("empty queue", 2, self._empty_queue),
            ("freeze database", 1, self._freeze_books),
            ("cancel", 1, self._cancel),
            ("pause and resume", 3, self._pause),
            ("repeat posts", 3, self._repeat),
        ]
        name, _, fault = self.random.choices(kinds, [weight for _, weight, _ in kinds])[0]
        if fault():
            self.faults[name] += 1
            self._say(fault=name)

    def _worker(self) -> str:
        return self.random.choice([name for name in self.yard.names if name.startswith("worker")])

    def _kill_trainer(self) -> bool:
        return self.yard.kill_trainer(self._worker())

    def _kill_worker(self) -> bool:
        name = self._worker()
        held = self.yard.leases_of(name)
        self.yard.kill(name)
        self.deaths += [(time.time(), job_id, epoch) for job_id, epoch in held]
        return True

    def _kill_api(self) -> bool:
        self.yard.kill("api")
        return True

    def _kill_queue(self) -> bool:
        self.yard.kill_queue()
        return True

    def _freeze_worker(self) -> bool:
        return self._freeze(self._worker(), TTL_S + 3 * REAPER_S)

    def _freeze(self, name: str, seconds: float) -> bool:
        if name in self._frozen:
            return False
        self._frozen.add(name)
        self.yard.send(name, signal.SIGSTOP)
        self._in(seconds, lambda: (self.yard.send(name, signal.SIGCONT), self._frozen.discard(name)))
        return True

    def _empty_queue(self) -> bool:
        self.yard.empty_queue()
        return True

    def _freeze_books(self) -> bool:
        self.yard.freeze_books(2.0)
        return True

    def _cancel(self) -> bool:
        job_id = self.random.choice(self._open())
        answer = self._post(f"/jobs/{job_id}/cancel")
        if answer is None or answer.status_code != 202:
            return False
        self.cancelled[job_id] = time.time()
        return True

    def _pause(self) -> bool:
        job_id = self.random.choice(self._open())
        answer = self._post(f"/jobs/{job_id}/pause")
        self._in(self.random.uniform(1, 5), lambda: self._resume(job_id))
        return answer is not None and answer.status_code == 202

    def _resume(self, job_id: str) -> None:
        answer = self._post(f"/jobs/{job_id}/resume")
        if answer is None or (answer.status_code == 409 and "wait until" in answer.text):
            self._in(1, lambda: self._resume(job_id))

    def _repeat(self) -> bool:
        """The same POST three times more."""
        number = self.random.randrange(len(self.jobs))
        key = f"storm-{number}"
        body = {"dataset": "digits", "recipe": "quick", "overrides": SMALL, "seed": number}
        for _ in range(3):
            answer = self._post("/jobs", body, key=key)
            if answer is not None and answer.is_success and answer.json()["id"] != self.jobs[key]:
                self.doubles += 1
        return True

    def _in(self, seconds: float, act: Callable[[], object]) -> None:
        heapq.heappush(self._later, (time.monotonic() + seconds, id(act), act))

    def _say(self, **values: Any) -> None:
        print(json.dumps({"at": round(time.time(), 2)} | values), flush=True)

    # --- the verdict ---

    def report(self) -> dict[str, Any]:
        """What was broken, what was wasted, and how long it took to go on."""
        events, steps = self.yard.read_events(), self.yard.read_steps()
        records = {
            job_id: Record(job_id, told, self.looks[job_id], self.cancelled.get(job_id), dict(steps.get(job_id, {})))
            for job_id, told in events.items()
        }
        wasted, needed = wasted_steps(records.values())
        pairs = [recoveries(records[job_id], died_at, epoch) for died_at, job_id, epoch in self.deaths]
        taken = [seconds for seconds, _ in pairs if seconds is not None]
        claimed = [seconds for _, seconds in pairs if seconds is not None]
        ends = Counter(record.events[-1].state for record in records.values())
        return {
            "jobs": len(self.jobs), "ends": dict(ends), "faults": self.faults.total(), "by_kind": dict(self.faults),
            "doubles": self.doubles, "server_errors": self.server_errors,
            "steps_needed": needed, "steps_wasted": wasted,
            "wasted_share": round(wasted / needed, 4) if needed else None,
            "worker_deaths_with_job": len(self.deaths),
            "lease_taken_p50_p95_s": [percentile(taken, 0.5), percentile(taken, 0.95)],
            "claimed_again_p50_p95_s": [percentile(claimed, 0.5), percentile(claimed, 0.95)],
            "broken": judge(records.values(), self.jobs.values()),
        }  # fmt: skip


def main(argv: list[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.storm", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=1800, help="how long jobs and faults come, at most")
    parser.add_argument("--fault-every", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--postgres", nargs=2, metavar=("URL", "PID"))
    options = parser.parse_args(argv)
    postgres = (options.postgres[0], int(options.postgres[1])) if options.postgres else None
    yard = ChaosYard(options.folder, workers=options.workers, postgres=postgres)
    try:
        storm = Storm(
            yard, num_jobs=options.jobs, seconds=options.seconds, seed=options.seed, fault_every_s=options.fault_every
        )
        storm.run()
        report = storm.report()
    finally:
        yard.stop()
    print(json.dumps({"seed": options.seed} | report, indent=2))
    is_short = report["jobs"] < options.jobs  # a storm over too few jobs proves nothing
    return 1 if is_short or report["broken"] or report["doubles"] or report["server_errors"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
