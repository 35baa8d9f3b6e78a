"""Judges the history of a yard: a pure function of its events, what a poller saw, the requests and the steps made.

Each broken guarantee is one line that begins with its rule. Without a line, nothing that was recorded contradicts the
contract.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

FINAL = frozenset({"succeeded", "failed", "cancelled"})
WAITING = FINAL | {"paused"}
_AT_WORK = frozenset({"running", "pausing", "cancelling"})

#: Shown states that may follow each other in the events. A change of the desired state is an event too.
NEXT: dict[str, frozenset[str]] = {
    "queued": frozenset({"running", "paused", "failed", "cancelled"}),
    "running": frozenset({"pausing", "cancelling", "queued", "succeeded", "failed"}),
    "pausing": frozenset({"cancelling", "queued", "paused", "succeeded", "failed"}),
    "cancelling": frozenset({"cancelled"}),
    "paused": frozenset({"queued", "failed", "cancelled"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}


@dataclass(frozen=True)
class Event:
    """One event in a job's log."""

    seq: int
    at: float
    type: str
    state: str
    reason: str | None
    lease_epoch: int
    worker_id: str | None = None
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """A job as a poller saw it."""

    at: float
    state: str
    attempt: int
    step: int
    finished_at: str | None = None
    weights_sha256: str | None = None


@dataclass(frozen=True)
class Record:
    """Everything that is known about a job."""

    job_id: str
    events: Sequence[Event]
    looks: Sequence[Look] = ()
    cancelled_at: float | None = None  #: when a cancel was acknowledged, by the database's clock
    executed: dict[int, int] = field(default_factory=dict)  #: lease_epoch -> steps that its trainer made
    points: Sequence[tuple[int, float]] = ()  #: lease_epoch and time of every point of the job's series


@dataclass(frozen=True)
class Death:
    """A worker that was killed while it had a job."""

    at: float
    job_id: str
    lease_epoch: int
    free_peers: frozenset[str] = frozenset()  #: workers that ran unharmed just then, without a job


@dataclass(frozen=True)
class Recovery:
    """How a job went on after its worker was killed."""

    death: Death
    taken_s: float  #: from the death to the end of the lease in the database
    claimed_s: float  #: from the death to the next claim
    #: One stayed free and unharmed, with its store, until the claim, or for as long as a claim may take.
    had_free_peer: bool


def judge(records: Iterable[Record], submitted: Iterable[str], *, step_slack: int = 10**9) -> list[str]:
    """List every broken guarantee.

    Args:
        records: of every job that the yard lists.
        submitted: the ids that a POST answered.
        step_slack: how far the shown step may fall back after a crash.
    """
    records, wanted = list(records), set(submitted)
    known = {record.job_id for record in records}
    broken = [f"1 no loss: {job_id} was accepted and is not there" for job_id in sorted(wanted - known)]
    broken += [f"2 no phantom: nobody asked for {job_id}" for job_id in sorted(known - wanted)]
    for record in records:
        broken += [f"{line} ({record.job_id})" for line in _judge_job(record, step_slack)]
    return broken


def _judge_job(record: Record, step_slack: int) -> Iterator[str]:
    events = list(record.events)
    if not events or events[-1].state not in WAITING:
        yield f"1 no loss: it ended nowhere but in {events[-1].state if events else 'nothing'}"
    if [event.seq for event in events] != list(range(1, len(events) + 1)):
        yield "4 legal moves: the events are not numbered without gaps"
    yield from _judge_states(events)
    yield from _judge_claims(events)
    yield from _judge_checkpoints(events)
    yield from _judge_points(record)
    yield from _judge_looks(record, step_slack)
    yield from _judge_cancel(record)


def _judge_states(events: list[Event]) -> Iterator[str]:
    changes = [event for event in events if event.type == "state"]
    if changes and changes[0].state != "queued":
        yield f"4 legal moves: it began as {changes[0].state}"
    for old, new in pairwise(changes):
        if old.state in FINAL:
            yield f"3 terminal is final: {old.state} became {new.state}"
        elif new.state not in NEXT[old.state]:
            yield f"4 legal moves: {old.state} became {new.state} (event {new.seq})"
    if sum(event.state in FINAL for event in changes) > 1:
        yield "3 terminal is final: it ended twice"
    for old, new in pairwise(events):
        if new.type != "state" and new.state != old.state:
            yield f"4 legal moves: event {new.seq} is no change of state and shows one"


def _judge_claims(events: list[Event]) -> Iterator[str]:
    claims = [event for event in events if event.type == "state" and event.reason == "claimed"]
    if [event.lease_epoch for event in claims] != list(range(1, len(claims) + 1)):
        yield f"5 one epoch a claim: {[event.lease_epoch for event in claims]}"
    holder: Event | None = None
    for event in events:
        if event.reason == "claimed" and event.type == "state":
            holder = event
        epoch = holder.lease_epoch if holder else 0
        if event.lease_epoch != epoch:
            yield f"6 single writer: event {event.seq} has epoch {event.lease_epoch}, the newest claim {epoch}"
        if holder and event.worker_id not in {None, holder.worker_id}:
            yield f"6 single writer: event {event.seq} is by {event.worker_id}, the lease is {holder.worker_id}'s"
        if event.type in {"checkpoint", "started", "phase"} and event.state not in _AT_WORK:
            yield f"6 single writer: event {event.seq} ({event.type}) of a job that is {event.state}"


def _judge_checkpoints(events: list[Event]) -> Iterator[str]:
    newest = -1
    for event in events:
        if event.type == "checkpoint":
            step = int(event.data["step"])
            if step < newest:
                yield f"7 monotone progress: checkpoint {step} after {newest}"
            newest = max(newest, step)
        elif event.type == "started" and int(event.data["step"]) < newest:
            yield f"7 monotone progress: it went on from {event.data['step']} with a checkpoint of {newest}"
        elif event.type == "state" and event.state == "paused" and event.reason == "paused" and event.worker_id:
            started = [it for it in events[: event.seq] if it.type == "started" and it.lease_epoch == event.lease_epoch]
            saved = [it for it in events[: event.seq] if it.type == "checkpoint"]
            if started and not saved:
                yield f"11 pause frees: event {event.seq} paused a trained job without a checkpoint"


def _judge_points(record: Record) -> Iterator[str]:
    """Check that each point's lease epoch and time belong to the same lease."""
    tenures = dict(_tenures(record.events))
    for epoch, at in record.points:
        begin, end = tenures.get(epoch, (math.inf, 0.0))
        if not begin <= at <= end:
            yield f"6 single writer: a point of epoch {epoch} at {at}, whose lease held from {begin} to {end}"


def _tenures(events: Iterable[Event]) -> Iterator[tuple[int, tuple[float, float]]]:
    """Yield each lease epoch with the times of its claim and its end."""
    held: Event | None = None
    for event in (it for it in events if it.type == "state"):
        if held is not None and event.state not in _AT_WORK:
            yield held.lease_epoch, (held.at, event.at)
            held = None
        elif event.reason == "claimed":
            held = event
    if held is not None:
        yield held.lease_epoch, (held.at, math.inf)


def _judge_looks(record: Record, step_slack: int) -> Iterator[str]:
    path = sorted(record.looks, key=lambda look: look.at)
    shown_since = dict(_starts_seen(record.events))  # until then: the step of the attempt before
    for old, new in pairwise(path):
        if old.state in FINAL and _result(old) != _result(new):
            yield f"3 terminal is final: seen as {_result(old)}, then as {_result(new)}"
        elif new.state != old.state and new.state not in _reachable(old.state):
            yield f"4 legal moves: seen as {old.state}, then as {new.state}"
        if new.attempt < old.attempt:
            yield f"5 one epoch a claim: attempt {old.attempt}, then {new.attempt}"
        if new.attempt == old.attempt and new.step < old.step and old.at >= shown_since.get(old.attempt, math.inf):
            yield f"7 monotone progress: step {old.step}, then {new.step} in attempt {new.attempt}"
        if new.step < old.step - step_slack:
            yield f"7 monotone progress: step {old.step}, then {new.step}"


def _starts_seen(events: Sequence[Event]) -> Iterator[tuple[int, float]]:
    """Yield each lease epoch with a time at which its start was certainly in the database.

    An event's time is taken before its commit, so a look between the two still sees what was before. The next event of
    the job comes after that commit.
    """
    for event, after in pairwise(events):
        if event.type == "started":
            yield event.lease_epoch, after.at


def _result(look: Look) -> tuple[str, str | None, str | None]:
    return look.state, look.finished_at, look.weights_sha256


def _reachable(state: str) -> set[str]:
    """Return every state that a poller may see next, however many it missed."""
    found: set[str] = set()
    waiting = [state]
    while waiting:
        for target in NEXT[waiting.pop()] - found:
            found.add(target)
            waiting.append(target)
    return found


def _judge_cancel(record: Record) -> Iterator[str]:
    if record.cancelled_at is None or not record.events:
        return
    last = record.events[-1]
    if last.state != "cancelled":
        yield f"10 cancel wins: it was answered and the job is {last.state}"


def wasted_steps(records: Iterable[Record]) -> tuple[int, int]:
    """Return the steps that were made again and those that were needed, over all jobs, from the trainers' logs.

    For a cancelled job, the steps needed are those that its furthest attempt reached.
    """
    executed = needed = 0
    for record in records:
        starts = {event.lease_epoch: int(event.data["step"]) for event in record.events if event.type == "started"}
        reached = [starts.get(epoch, 0) + count for epoch, count in record.executed.items()]
        executed += sum(record.executed.values())
        needed += max(reached, default=0)
    return executed - needed, needed


def find_recovery(
    records: Mapping[str, Record],
    death: Death,
    harmed: Mapping[str, Sequence[float]],
    within_s: float,
    store_changed_at: Sequence[float] = (),
) -> Recovery | None:
    """Return how a dead worker's job went on. None: it was given back before, or was not to go on at once.

    Args:
        records: of all jobs: their claims tell which workers were free.
        death: of the worker.
        harmed: worker -> when it was killed or frozen.
        within_s: how long a recovery may take: a peer that stays free for so long had its chance.
        store_changed_at: when the store went away or came back: no peer takes a job that it can't read.
    """
    states = [it for it in records[death.job_id].events if it.type == "state"]
    for lost, after in pairwise(states):
        if lost.lease_epoch == death.lease_epoch and lost.reason == "lease_lost" and after.reason == "claimed":
            claimed_s = after.at - death.at
            until = death.at + min(claimed_s, within_s)
            taken = [it for it in _claims(records.values()) if (it.at, it.worker_id) != (after.at, after.worker_id)]
            busy = {it.worker_id for it in taken if death.at < it.at < until}
            hurt = {worker for worker, moments in harmed.items() if any(death.at <= at < until for at in moments)}
            is_store_there = not any(death.at <= at < until for at in store_changed_at)
            has_free_peer = is_store_there and bool(death.free_peers - busy - hurt)
            return Recovery(death, lost.at - death.at, claimed_s, has_free_peer)
    return None


def _claims(records: Iterable[Record]) -> Iterator[Event]:
    for record in records:
        yield from (it for it in record.events if it.type == "state" and it.reason == "claimed")


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value such that this share of the values is not larger."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
