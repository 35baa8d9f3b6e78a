"""Measures how many workers claim jobs and commit checkpoints on one PostgreSQL, by the product's own functions.

    .venv/bin/python -m bench.fleet [--workers 200] [--jobs 100000] [--owners 8] [--seconds 20] [--rounds 5]

Starts a PostgreSQL server of its own that writes to disk as it would in use (fsync, full pages), fills it with jobs of
which half have ended, and lets the workers, threads of eight processes with a connection each, do four things. Each
process has claimed, committed and ended once before, as a worker's own process builds its statements once: otherwise
its 25 threads would all build the same ones at the start.

- claims: each takes a job and ends its attempt, over and over: claims a second, and how long one takes;
- commits: each has a job, and all commit an epoch's checkpoint at the same moment, a few rounds: milliseconds, and how
  many did not get through, as the database gave up or was given up. The first round stands alone, because each
  connection then prepares its statements;
- a frozen claimer: a process is stopped (SIGSTOP) between its claim and the commit of it; the others claim on. The
  longest time in which nobody got a job, and the longest claim;
- a frozen committer: the same with a checkpoint's commit.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from sqlalchemy import insert, text

from alexnet_core.layout import CheckpointKind
from tests.postgres import server_pid, serving
from tests.processes import children_of
from trainyard.artifacts.checkpoint_commits import NewCheckpoint, commit_checkpoint
from trainyard.database import connection
from trainyard.database.connection import Database
from trainyard.database.schema import migrate
from trainyard.database.tables import Dataset, Job
from trainyard.errors import DatabaseUnavailable
from trainyard.scheduling.claim_message import claim_at_once
from trainyard.scheduling.end_message import end_at_once
from trainyard.scheduling.leases import Ending, Lease, claim
from trainyard.states import DatasetState, JobState

PROCESSES = 8
TTL_S = 600.0
FREEZE_AFTER_S = 5.0
FROZEN_FOR_S = 40.0  # longer than the server bears a silent client, wherever it is silent
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "max_connections": 400,
           "shared_buffers": "512MB"}  # fmt: skip


@dataclass
class Seen:
    """What the workers of one process measured in one part."""

    took: list[float] = field(default_factory=list)  #: seconds of each that succeeded
    done_at: list[float] = field(default_factory=list)  #: `time.monotonic` at its end: one clock for all processes
    failed: int = 0
    first: list[float] = field(default_factory=list)  #: as `took`, of each worker's first
    cpu_s: float = 0.0  #: that the workers' processes used between the common start and the last end
    server_cpu_s: float = 0.0  #: the same of PostgreSQL's processes


@dataclass
class Starts:
    """How the workers of one process wait for each other, and for those of the other processes."""

    threads: threading.Barrier  #: this process's workers and its main thread
    workers: threading.Barrier  #: this process's workers
    processes: Any  #: between two rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=100_000, help="in the table")
    parser.add_argument("--owners", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20, help="of claims")
    parser.add_argument("--rounds", type=int, default=5, help="of commits")
    given = parser.parse_args()
    with serving(settings=DURABLE) as url:
        _fill(url, given.jobs, given.owners)
        print(f"{given.workers} workers, {given.jobs} jobs of {given.owners} owners; load {os.getloadavg()[0]:.1f}")
        claims, wall_s = _run(url, given.workers, _claim_for, given.seconds)
        _print("claims", claims)
        print(f"  {len(claims.took) / wall_s:.0f} claims/s")
        _print_cpu(claims, "a claim and the end of its attempt")
        commits, _ = _run(url, given.workers, _commit_rounds, given.rounds)
        _print("first commits, all at once", Seen(took=commits.first))
        _print("commits, all at once", commits)
        _print_cpu(commits, "a commit")
        for name, freeze in (("claimer", _claim_and_freeze), ("committer", _commit_and_freeze)):
            act = _claim_for if name == "claimer" else _commit_for
            with _freezing(url, freeze) as stop:
                seen, wall_s = _run(url, given.workers, act, FROZEN_FOR_S, after_a_while=stop)
            frozen_at = stop()
            _print(f"beside a frozen {name}", seen)
            print(f"  {len(seen.took) / wall_s:.0f} a second")
            after = sorted(moment for moment in seen.done_at if moment > frozen_at)
            gap = max(b - a for a, b in pairwise([frozen_at, *after, frozen_at + FROZEN_FOR_S - FREEZE_AFTER_S]))
            print(f"  longest time in which nobody got through: {gap:.2f} s")


def _context() -> Any:
    return multiprocessing.get_context("spawn")


@contextmanager
def _freezing(url: str, freeze: Callable[..., None]) -> Iterator[Callable[[], float]]:
    """Keep a process ready inside the block. The function freezes it, once, and returns the time of that."""
    context = _context()
    go, told = context.Event(), context.Queue()
    process = context.Process(target=freeze, args=(url, go, told))
    process.start()
    told.get()  # it is connected
    moments: list[float] = []

    def stop() -> float:
        if not moments:
            go.set()
            moments.append(told.get())
        return moments[0]

    try:
        yield stop
    finally:
        process.kill()
        process.join()


def _run(
    url: str,
    workers: int,
    act: Callable[..., None],
    amount: float,
    *,
    after_a_while: Callable[[], object] = lambda: None,
) -> tuple[Seen, float]:
    """Let all workers do one thing. Return what they measured, and the seconds from the start to the last end."""
    context = _context()
    ready, between, results = context.Barrier(PROCESSES + 1), context.Barrier(PROCESSES), context.Queue()
    shares = [len(range(index, workers, PROCESSES)) for index in range(PROCESSES)]
    processes = [
        context.Process(target=_work, args=(url, share, act, amount, (ready, between), results, index))
        for index, share in enumerate(shares)
    ]
    for process in processes:
        process.start()
    ready.wait()
    began, server = time.monotonic(), server_pid(url)
    server_cpu_s = _cpu_s_of(server)
    seen = Seen()
    time.sleep(FREEZE_AFTER_S)
    after_a_while()
    for _ in processes:
        part = results.get()
        seen.took += part.took
        seen.done_at += part.done_at
        seen.failed += part.failed
        seen.first += part.first
        seen.cpu_s += part.cpu_s
    wall_s = time.monotonic() - began
    seen.server_cpu_s = _cpu_s_of(server) - server_cpu_s
    for process in processes:
        process.join()
    return seen, wall_s


def _work(
    url: str, share: int, act: Callable[..., None], amount: float, barriers: Any, results: Any, index: int
) -> None:
    ready, between = barriers
    connection._POOL["pool_size"] = share  # each worker keeps its connection, as in a process of its own
    database, seen = Database(url), Seen()
    first = _take_job(database, f"wrk_{index}")  # builds the statements once, as a worker's process does
    _commit(database, first, 0)
    _end(database, first)
    starts = Starts(threading.Barrier(share + 1), threading.Barrier(share), between)
    threads = [
        threading.Thread(target=act, args=(database, f"wrk_{index}_{number}", amount, starts, seen))
        for number in range(share)
    ]
    for thread in threads:
        thread.start()
    starts.threads.wait()  # all have what they need
    ready.wait()
    cpu_s = time.process_time()
    starts.threads.wait()
    for thread in threads:
        thread.join()
    seen.cpu_s = time.process_time() - cpu_s
    results.put(seen)
    database.close()


def _timed(seen: Seen, act: Callable[[], object]) -> Any:
    began = time.monotonic()
    try:
        result = act()
    except DatabaseUnavailable:
        seen.failed += 1
        return None
    ended = time.monotonic()
    seen.took.append(ended - began)
    seen.done_at.append(ended)
    return result


def _claim(database: Database, worker: str) -> Lease | None:
    claimed = claim_at_once(database, worker, TTL_S)
    return claimed and claimed[1]


def _end(database: Database, lease: Lease) -> None:
    while True:
        try:
            end_at_once(database, lease, Ending(succeeded=True), first_backoff_s=1)
            return
        except DatabaseUnavailable:
            time.sleep(0.1)


def _claim_for(database: Database, worker: str, seconds: float, starts: Starts, seen: Seen) -> None:
    database.ping()
    starts.threads.wait()
    starts.threads.wait()
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        lease = _timed(seen, lambda: _claim(database, worker))
        if lease is not None:
            _end(database, lease)


def _commit(database: Database, lease: Lease, step: int) -> None:
    new = NewCheckpoint(
        kind=CheckpointKind.EPOCH, key=f"checkpoints/{lease.job_id}/epoch-{step}", epoch=step, step=step,
        metrics={"val_top1": 0.5}, files={}, size_bytes=1, weights_sha256="0" * 64, manifest_sha256="1" * 64,
        is_best=True,
    )  # fmt: skip
    with database.writing() as session:
        commit_checkpoint(session, lease, new, keep_latest=2, ttl_s=TTL_S)


def _take_job(database: Database, worker: str) -> Lease:
    while True:
        try:
            lease = _claim(database, worker)
        except DatabaseUnavailable:
            continue
        assert lease is not None, "the jobs are used up"
        return lease


def _commit_rounds(database: Database, worker: str, rounds: int, starts: Starts, seen: Seen) -> None:
    lease = _take_job(database, worker)
    starts.threads.wait()
    starts.threads.wait()
    for step in range(rounds + 1):
        result = Seen() if step == 0 else seen
        _timed(result, lambda step=step: _commit(database, lease, step))  # type: ignore[misc]
        seen.first += result.took if step == 0 else []
        if starts.workers.wait() == 0:
            starts.processes.wait()
        starts.workers.wait()
    _end(database, lease)


def _commit_for(database: Database, worker: str, seconds: float, starts: Starts, seen: Seen) -> None:
    lease, step = _take_job(database, worker), 0
    starts.threads.wait()
    starts.threads.wait()
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        step += 1
        _timed(seen, lambda step=step: _commit(database, lease, step))  # type: ignore[misc]
    _end(database, lease)


def _claim_and_freeze(url: str, go: Any, told: Any) -> None:
    database = Database(url)
    database.ping()
    told.put(0.0)
    go.wait()
    while True:
        try:
            with database.writing() as session:
                assert claim(session, "wrk_frozen", TTL_S) is not None
                _freeze(told)
        except DatabaseUnavailable:
            continue


def _freeze(told: Any) -> None:
    told.put(time.monotonic())
    told.close()
    told.join_thread()
    os.kill(os.getpid(), signal.SIGSTOP)


def _commit_and_freeze(url: str, go: Any, told: Any) -> None:
    database = Database(url)
    lease = _take_job(database, "wrk_frozen")
    told.put(0.0)
    go.wait()
    new = NewCheckpoint(
        kind=CheckpointKind.EPOCH, key="checkpoints/frozen", epoch=1, step=1, metrics={}, files={}, size_bytes=1,
        weights_sha256="0" * 64, manifest_sha256="1" * 64, is_best=True,
    )  # fmt: skip
    with database.writing() as session:
        commit_checkpoint(session, lease, new, keep_latest=2)
        _freeze(told)


def _fill(url: str, count: int, owners: int) -> None:
    """Fill the table: every second job has ended, the others wait."""
    database = Database(url)
    migrate(database)
    with database.writing() as session:
        session.add(
            Dataset(id="ds_digits", name="digits", state=DatasetState.READY, facts={}, key="packs/x", created_at=0.0)
        )
    for begin in range(0, count, 5000):
        rows = []
        for number in range(begin, min(count, begin + 5000)):
            has_ended = number % 2 == 0
            rows.append(
                {"id": f"job_{number:026d}", "owner": f"owner-{number // 2 % owners}", "dataset_id": "ds_digits",
                 "recipe": "quick", "config": {"epochs": 2}, "seed": 1, "labels": {}, "max_failures": 3,
                 "state": JobState.SUCCEEDED if has_ended else JobState.QUEUED, "not_before": 0.0,
                 "created_at": float(number), "queued_at": float(number),
                 "finished_at": 1.0 if has_ended else None}
            )  # fmt: skip
        with database.writing() as session:
            session.execute(insert(Job), rows)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as vacuum:
        vacuum.execute(text("VACUUM ANALYZE"))
    database.close()


def _cpu_s_of(postmaster: int) -> float:
    """Read the CPU seconds that a server's processes have used, also those that have ended."""
    ticks = 0
    for pid in (postmaster, *children_of(postmaster)):
        with suppress(FileNotFoundError):  # it has ended: then its parent has its times
            times = [int(field) for field in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]]
            ticks += sum(times if pid == postmaster else times[:2])
    return ticks / os.sysconf("SC_CLK_TCK")


def _print_cpu(seen: Seen, what: str) -> None:
    count = len(seen.took) + len(seen.first)
    workers_ms, server_ms = (1000 * seconds / count for seconds in (seen.cpu_s, seen.server_cpu_s))
    print(f"  CPU of {what}: {workers_ms:.1f} ms of its worker, {server_ms:.1f} ms of the server")


def _print(name: str, seen: Seen) -> None:
    took = sorted(1000 * seconds for seconds in seen.took)
    if len(took) < 2:
        print(f"{name}: {len(took)} got through, {seen.failed} did not")
        return
    cuts = statistics.quantiles(took, n=100)
    print(
        f"{name}: {len(took)} got through, {seen.failed} did not; p50 {cuts[49]:.0f} ms, p99 {cuts[98]:.0f} ms, "
        f"longest {took[-1]:.0f} ms"
    )


if __name__ == "__main__":
    main()
