"""Jobs under random faults: `python -m tests.chaos.storm FOLDER [--jobs N] [--faults N] [--seed N] …`.

Prints a line of JSON for each fault and the report at the end. Status 1: a guarantee was broken, or a figure of the
report misses its target; `--promises-only` (for a machine with other work) checks only the guarantees.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.datasets import Datasets
from tests.chaos.faults import Faults
from tests.chaos.history import FINAL, Look, Record, find_recovery, judge, percentile, wasted_steps
from tests.chaos.observer import Observer
from tests.chaos.predictions import Predictions
from tests.chaos.watcher import Watcher
from tests.chaos.yard import RECOVERY_WITHIN_S, TTL_S, ChaosYard
from tests.object_store import AWS

SMALL = {"image_px": 16, "width_multiplier": 0.5, "batch_size": 8}
FIRST_FAULT_S = 8.0  # by then the workers are there
FULL_S, SLACK_S = 30.0, 60.0  # more jobs than workers, then half as many, so that a dead one's peers are free; and anew
LOOK_S, LOOK_AT_ALL_S = 0.5, 5.0
SETTLE_S = 300.0
LEAST_PREDICTIONS = 3  # over many images: the first can be asked for when a job has its first checkpoint
MAX_WASTE = 0.10


class Storm:
    """One run: submits jobs, watches them, causes faults, and judges the history at the end."""

    def __init__(
        self, yard: ChaosYard, *, num_jobs: int, num_faults: int, seconds: float, seed: int, fault_every_s: float,
        epochs: int,
    ) -> None:  # fmt: skip
        self.yard, self.num_jobs, self.num_faults = yard, num_jobs, num_faults
        self.seconds, self.fault_every_s = seconds, fault_every_s
        self.overrides = SMALL | {"epochs": epochs}
        self.random = random.Random(seed)
        self.http = httpx.Client(base_url=yard.url, timeout=5, trust_env=False)
        self.faults = Faults(yard, self, self.random)
        self.datasets = Datasets(yard, seed)
        self.predictions = Predictions(yard)
        self.watcher = Watcher(yard.url)
        self.looks: dict[str, list[Look]] = defaultdict(list)
        self.jobs: dict[str, str] = {}  # Idempotency-Key -> id
        self._datasets_of: dict[str, str] = {}  # Idempotency-Key -> dataset
        self.states: dict[str, str] = {}
        self.answers: Counter[int] = Counter()
        self.server_errors: list[str] = []
        self.repeats = self.doubles = 0
        self._began = 0.0

    def run(self) -> None:
        """Cause faults until there were enough jobs and faults, or time is over; then wait until all jobs end."""
        self._began = time.monotonic()
        self.datasets.start()
        self.predictions.start()
        self.watcher.start()
        next_fault, next_look, next_look_at_all = self._began + FIRST_FAULT_S, self._began, self._began
        while (moment := time.monotonic()) < self._began + self.seconds and not self._is_over():
            self.faults.go_on()
            if moment >= next_look:
                next_look = moment + LOOK_S
                self._look(at_all=moment >= next_look_at_all)
                self.datasets.look()
                next_look_at_all = max(next_look_at_all, moment + LOOK_AT_ALL_S * (moment >= next_look_at_all))
                self._submit()
            if moment >= next_fault and self.open_jobs():
                next_fault = moment + self.random.expovariate(1 / self.fault_every_s)
                if name := self.faults.strike():
                    print(json.dumps({"at": round(time.time(), 2), "fault": name}), flush=True)
            self.yard.tick()
            time.sleep(0.05)
        self._calm_down()

    def _is_over(self) -> bool:
        enough = len(self.jobs) >= self.num_jobs and len(self.predictions.asked) >= LEAST_PREDICTIONS
        return enough and self.faults.done.total() >= self.num_faults

    def _calm_down(self) -> None:
        self.datasets.push_no_more()
        self.predictions.ask_no_more()
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            self.faults.go_on(at_once=True)
            self.yard.tick()
            self._look(at_all=True)
            waiting = self.open_jobs()
            for job_id in waiting:
                if self.states.get(job_id) == "paused":
                    self.post(f"/jobs/{job_id}/resume")
            if not waiting and self.jobs:
                break
            time.sleep(0.5)
        self.datasets.finish(SETTLE_S)
        self.predictions.finish(SETTLE_S)
        time.sleep(TTL_S)
        self._look(at_all=True)  # what is final stays so
        self.watcher.finish(SETTLE_S, max((it.number for it in self.yard.read_log()), default=0))

    # --- the owner of the jobs ---

    def open_jobs(self) -> list[str]:
        return [job_id for job_id in self.jobs.values() if self.states.get(job_id, "queued") not in FINAL]

    def post(self, path: str) -> httpx.Response | None:
        return self._ask("POST", path)

    def repeat_post(self, times: int) -> bool:
        key, before = f"storm-{self.random.randrange(len(self.jobs))}", self.repeats
        for _ in range(times):
            answer = self._ask("POST", "/jobs", json=self._body(key), headers={"Idempotency-Key": key})
            if answer is not None and answer.is_success:
                self.repeats += 1
                self.doubles += answer.json()["id"] != self.jobs[key]
        return self.repeats > before

    def _submit(self) -> None:
        workers = len(self.yard.names) - 1
        is_full = (time.monotonic() - self._began) % (FULL_S + SLACK_S) < FULL_S
        if len(self.open_jobs()) >= (workers + 2 if is_full else max(1, workers // 2)):
            return
        key = f"storm-{len(self.jobs)}"
        answer = self._ask("POST", "/jobs", json=self._body(key), headers={"Idempotency-Key": key})
        if answer is not None and answer.is_success:
            self.jobs[key] = answer.json()["id"]

    def _body(self, key: str) -> dict[str, Any]:
        seed = int(key.rpartition("-")[2])
        wanted = self._datasets_of.setdefault(key, self._choose_dataset())
        return {"dataset": wanted, "recipe": "quick", "overrides": self.overrides, "seed": seed}

    def _choose_dataset(self) -> str:
        """Choose digits, mostly, or a dataset of the storm's own that is ready or still coming."""
        own = [*self.datasets.ready, *self.datasets.coming]
        return self.random.choice(own) if own and self.random.random() < 0.3 else "digits"

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        try:
            answer = self.http.request(method, path, **options)
        except httpx.HTTPError:
            return None
        self.answers[answer.status_code] += 1
        if answer.status_code == 500:
            self.server_errors.append(f"{method} {path}: {answer.text[:500]}")
        return answer

    def _look(self, *, at_all: bool) -> None:
        """Look at the newest jobs, which are the active ones, or at all of them."""
        after = None
        while True:
            moment = time.time()
            params = {"limit": 100 if at_all else 20} | ({"after": after} if after else {})
            answer = self._ask("GET", "/jobs", params=params)
            if answer is None or not answer.is_success:
                return
            page = answer.json()
            for job in page["data"]:
                step = (job["progress"] or {}).get("step") or 0
                told = (job["state"], job["attempt"], step, job["finished_at"], job["weights_sha256"])
                self.looks[job["id"]].append(Look(moment, *told))
                self.states[job["id"]] = job["state"]
            if not at_all or not page["has_more"]:
                return
            after = page["last_id"]

    # --- the verdict ---

    def report(self) -> dict[str, Any]:
        """Report the faults, the wasted steps, and how long it took to go on."""
        events, points, steps = self.yard.read_events(), self.yard.read_points(), self.yard.read_steps()
        cancelled = self.faults.cancelled
        looks = {job_id: [astuple(look) for look in seen] for job_id, seen in self.looks.items()}
        (self.yard.folder / "looks.json").write_text(json.dumps(looks))  # to look at where the judge complains
        records = {
            job_id: Record(
                job_id, told, self.looks[job_id], cancelled.get(job_id), dict(steps.get(job_id, {})), points[job_id]
            )
            for job_id, told in events.items()
        }
        wasted, needed = wasted_steps(records.values())
        changes = self.yard.store.changed_at if self.yard.store is not None else ()
        known = (
            find_recovery(records, it, self.faults.harmed, RECOVERY_WITHIN_S, changes) for it in self.faults.deaths
        )
        recoveries = [it for it in known if it is not None]
        with_peer = [it for it in recoveries if it.had_free_peer]
        own = [event for told in self.yard.read_validations().values() for event in told]
        validations = Counter(event.reason for event in own if event.type == "state")
        of_predictions = [event for told in self.yard.read_predictions().values() for event in told]
        predicting = Counter(event.reason for event in of_predictions if event.type == "state")
        attempts = Counter(event.reason for told in events.values() for event in told if event.type == "state")
        return {
            "jobs": len(self.jobs), "ends": dict(Counter(told[-1].state for told in events.values())),
            "faults": self.faults.done.total(), "by_kind": dict(self.faults.done),
            "answers": dict(self.answers), "repeated_posts_answered": self.repeats,
            "doubles": self.doubles + self.datasets.doubles + self.predictions.doubles,
            "server_errors": self.server_errors,
            "datasets": len(self.datasets.pushed), "datasets_ready": len(self.datasets.ready),
            "uploads_cut": self.datasets.cuts, "validation_attempts": validations["claimed"],
            "predictions": len(self.predictions.asked), "prediction_attempts": predicting["claimed"],
            "result_streams_cut": self.predictions.cuts,
            "events_of_the_yard": len(self.watcher.numbers), "streams_of_the_yard": self.watcher.cuts,
            "resets": self.watcher.resets,
            "attempts": attempts["claimed"], "leases_lost": attempts["lease_lost"],
            "stale_writers_refused": self.yard.count_in_logs("attempt ends: job_"),
            "late_reapers": self.yard.count_in_logs("the reaper was late"),
            "steps_needed": needed, "steps_wasted": wasted,
            "wasted_share": round(wasted / needed, 4) if needed else None,
            "worker_deaths_with_job": len(self.faults.deaths),
            "lease_taken_s": _spread([it.taken_s for it in recoveries]),
            "claimed_again_s": _spread([it.claimed_s for it in recoveries]),
            "claimed_again_with_a_free_peer_s": _spread([it.claimed_s for it in with_peer]),
            "from_lease_taken_to_claim_with_a_free_peer_s": _spread([it.claimed_s - it.taken_s for it in with_peer]),
            "slow": [str(it) for it in recoveries if it.claimed_s > RECOVERY_WITHIN_S],
            "broken": judge(records.values(), self.jobs.values()) + self.yard.judge_checkpoints()
            + self.datasets.judge() + self.predictions.judge()
            + self.watcher.judge(self.yard.read_log(), {job_id: told[-1].state for job_id, told in events.items()}),
        }  # fmt: skip


def _spread(seconds: Sequence[float]) -> dict[str, float | None]:
    """Summarise how many there were, and how long they took."""
    shown = {"p50": percentile(seconds, 0.5), "p95": percentile(seconds, 0.95), "max": max(seconds, default=None)}
    return {"count": len(seconds)} | {name: value and round(value, 2) for name, value in shown.items()}


def find_missed(report: dict[str, Any], *, num_jobs: int, num_faults: int, promises_only: bool) -> list[str]:
    """List what is not as it must be."""
    missed = [name for name in ("broken", "doubles", "server_errors") if report[name]]
    ended = sum(number for state, number in report["ends"].items() if state in FINAL)
    missed += [f"{ended} jobs ended of {num_jobs}"] * (ended < num_jobs)
    missed += [f"{report['faults']} faults of {num_faults}"] * (report["faults"] < num_faults)
    if promises_only:
        return missed
    if (report["wasted_share"] or 0) >= MAX_WASTE:
        missed.append(f"steps made again: {report['wasted_share']:.1%}, allowed are less than {MAX_WASTE:.0%}")
    if (p95_s := report["claimed_again_with_a_free_peer_s"]["p95"]) is None or p95_s > RECOVERY_WITHIN_S:
        missed.append(f"claimed again with a free peer: p95 {p95_s} s, allowed are {RECOVERY_WITHIN_S:g} s")
    return missed


def main(argv: list[str]) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.storm", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=100, help="how many must end")
    parser.add_argument("--faults", type=int, default=300, help="how many must happen")
    parser.add_argument("--seconds", type=float, default=3600, help="how long jobs and faults come, at most")
    parser.add_argument("--fault-every", type=float, default=4.1, help="seconds between two faults, in the mean")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=2, help="of each job")
    parser.add_argument("--promises-only", action="store_true", help="no bar for wasted steps and seconds")
    parser.add_argument("--postgres", nargs=2, metavar=("URL", "PID"))
    parser.add_argument("--object-store", action="store_true", help="a data folder for each process, and SeaweedFS")
    options = parser.parse_args(argv)
    postgres = (options.postgres[0], int(options.postgres[1])) if options.postgres else None
    if options.object_store:
        os.environ |= AWS
    yard = ChaosYard(options.folder, workers=options.workers, postgres=postgres, has_store=options.object_store)
    observer = Observer(options.folder.resolve(), overlap_s=math.inf if options.promises_only else TTL_S)
    observer.start()
    try:
        storm = Storm(
            yard, num_jobs=options.jobs, num_faults=options.faults, seconds=options.seconds, seed=options.seed,
            fault_every_s=options.fault_every, epochs=options.epochs,
        )  # fmt: skip
        began = time.monotonic()
        storm.run()
        report = storm.report() | {"seconds": round(time.monotonic() - began)}
        report["broken"] += observer.complaints
        report |= observer.longest()
    finally:
        observer.stop()
        yard.stop()
    bars = {"num_jobs": options.jobs, "num_faults": options.faults, "promises_only": options.promises_only}
    missed = find_missed(report, **bars)
    print(json.dumps({"seed": options.seed} | report | {"missed": missed}, indent=2))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
