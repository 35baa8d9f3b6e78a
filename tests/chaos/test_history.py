"""The judge finds each kind of broken guarantee, and nothing in a history that keeps them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.history import (
    Death,
    Event,
    Look,
    Record,
    Recovery,
    find_recovery,
    judge,
    percentile,
    wasted_steps,
)

JOB = "job_a"


def event(seq: int, type_: str, state: str, reason: str | None, epoch: int, **data: Any) -> Event:
    worker = f"wrk_{epoch}" if type_ != "state" or reason in {"claimed", "finished", "paused"} else None
    return Event(seq, float(seq), type_, state, reason, epoch, worker, data)


GOOD = [
    event(1, "state", "queued", "submitted", 0),
    event(2, "state", "running", "claimed", 1),
    event(3, "started", "running", None, 1, step=0),
    event(4, "checkpoint", "running", None, 1, step=10),
    event(5, "state", "queued", "lease_lost", 1),
    event(6, "state", "running", "claimed", 2),
    event(7, "started", "running", None, 2, step=10),
    event(8, "checkpoint", "running", None, 2, step=20),
    event(9, "state", "succeeded", "finished", 2),
]
LOOKS = [
    Look(1, "queued", 0, 0),
    Look(4, "running", 1, 12),
    Look(7, "running", 2, 10),
    Look(9, "succeeded", 2, 20, "t"),
]
POINTS = [(1, 3.5), (2, 8.5)]
RECORD = Record(JOB, GOOD, LOOKS, executed={1: 14, 2: 10}, points=POINTS)


def changed(number: int, **values: Any) -> Record:
    return replace(RECORD, events=[replace(it, **values) if it.seq == number else it for it in GOOD])


def seen(*looks: Look) -> Record:
    return replace(RECORD, looks=looks)


def test_a_history_that_keeps_every_promise() -> None:
    assert judge([RECORD], [JOB], step_slack=5) == []


def test_a_look_between_the_time_of_a_start_and_its_commit_sees_the_attempt_before() -> None:
    looks = [Look(7.01, "running", 2, 12), Look(7.5, "running", 2, 10), *LOOKS[3:]]
    assert judge([replace(RECORD, looks=looks)], [JOB], step_slack=5) == []


UNSAVED_PAUSE = [*GOOD[:3], event(4, "state", "pausing", "requested", 1), event(5, "state", "paused", "paused", 1)]
BAD = {
    "1 no loss: it ended": replace(RECORD, events=GOOD[:-1]),
    "3 terminal is final: succeeded": replace(RECORD, events=[*GOOD, event(10, "state", "queued", "resumed", 2)]),
    "3 terminal is final: it ended twice": replace(RECORD, events=[*GOOD, event(10, "state", "failed", "x", 2)]),
    "3 terminal is final: seen": seen(*LOOKS, Look(10, "succeeded", 2, 20, "later")),
    "4 legal moves: queued became succeeded": changed(6, state="succeeded"),
    "4 legal moves: the events are not": changed(4, seq=5),
    "4 legal moves: seen": seen(Look(1, "cancelling", 1, 0), Look(2, "running", 1, 0)),
    "4 legal moves: event 8": changed(8, state="paused"),
    "4 legal moves: it began": replace(RECORD, events=GOOD[1:]),
    "5 one epoch a claim: [1, 3]": changed(6, lease_epoch=3),
    "5 one epoch a claim: attempt": seen(Look(1, "running", 2, 0), Look(2, "running", 1, 0)),
    "6 single writer: event 8 has epoch 1": changed(8, lease_epoch=1),
    "6 single writer: event 8 is by": changed(8, worker_id="wrk_1"),
    "6 single writer: event 8 (checkpoint)": changed(8, state="queued"),
    "6 single writer: a point of epoch 1": replace(RECORD, points=[(1, 6.5)]),
    "6 single writer: a point of epoch 3": replace(RECORD, points=[(3, 6.5)]),
    "7 monotone progress: checkpoint 5": changed(8, data={"step": 5}),
    "7 monotone progress: it went on": changed(7, data={"step": 3}),
    "7 monotone progress: step 12, then 2 in": seen(Look(4, "running", 1, 12), Look(5, "running", 1, 2)),
    "7 monotone progress: step 12, then 10 in attempt 2": seen(Look(8, "running", 2, 12), Look(8.5, "running", 2, 10)),
    "7 monotone progress: step 30, then 10": seen(Look(1, "running", 1, 30), Look(2, "running", 2, 10)),
    "10 cancel wins": replace(RECORD, cancelled_at=8.5),
    "11 pause frees": replace(RECORD, events=UNSAVED_PAUSE),
}  # fmt: skip


@pytest.mark.parametrize("rule", BAD)
def test_a_broken_promise_is_found(rule: str) -> None:
    assert [line for line in judge([BAD[rule]], [JOB], step_slack=5) if line.startswith(rule)]


def test_lost_jobs_and_phantoms_are_found() -> None:
    assert judge([], [JOB]) == [f"1 no loss: {JOB} was accepted and is not there"]
    assert judge([RECORD], []) == [f"2 no phantom: nobody asked for {JOB}"]


def test_steps_that_were_made_again_are_wasted() -> None:
    assert wasted_steps([RECORD]) == (4, 20)


def claimed(job_id: str, at: float, worker: str) -> Record:
    return Record(job_id, [Event(1, at, "state", "running", "claimed", 1, worker)])


DEATH = Death(3.5, JOB, 1, free_peers=frozenset({"wrk_2", "wrk_9"}))


@pytest.mark.parametrize(
    ("other", "harmed", "had_free_peer"),
    [
        (claimed("job_b", 7.0, "wrk_9"), {}, True),
        (claimed("job_b", 5.5, "wrk_9"), {}, True),  # wrk_2 was free all the time: it claimed the job itself
        (claimed("job_b", 5.5, "wrk_9"), {"wrk_2": [4.0]}, False),
        (claimed("job_b", 5.5, "wrk_2"), {"wrk_9": [3.0, 4.0]}, False),
        (claimed("job_b", 5.5, "wrk_2"), {"wrk_9": [3.0, 7.0]}, True),
    ],
)
def test_a_recovery_tells_whether_a_peer_stayed_free(
    other: Record, harmed: dict[str, list[float]], had_free_peer: bool
) -> None:
    found = find_recovery({JOB: RECORD, "job_b": other}, DEATH, harmed, within_s=10)
    assert found == Recovery(DEATH, taken_s=1.5, claimed_s=2.5, had_free_peer=had_free_peer)


def test_a_peer_that_is_free_for_as_long_as_a_recovery_may_take_had_its_chance() -> None:
    peer_then_dies = {"wrk_9": [5.0]}
    death = replace(DEATH, free_peers=frozenset({"wrk_9"}))
    for within_s, had_free_peer in ((1.0, True), (2.0, False)):
        found = find_recovery({JOB: RECORD}, death, peer_then_dies, within_s=within_s)
        assert found is not None
        assert found.had_free_peer is had_free_peer


@pytest.mark.parametrize(("changed_at", "had_free_peer"), [([3.0], True), ([4.0], False), ([6.5], True)])
def test_a_peer_whose_store_is_away_is_not_free(changed_at: list[float], had_free_peer: bool) -> None:
    found = find_recovery({JOB: RECORD}, DEATH, {}, within_s=10, store_changed_at=changed_at)
    assert found is not None
    assert found.had_free_peer is had_free_peer


def test_a_death_after_the_jobs_end_or_of_a_job_that_is_not_wanted_now_is_no_recovery() -> None:
    assert find_recovery({JOB: RECORD}, Death(8.5, JOB, 2), {}, within_s=10) is None
    paused = [*GOOD[:5], event(6, "state", "paused", "requested", 1)]
    assert find_recovery({JOB: replace(RECORD, events=paused)}, DEATH, {}, within_s=10) is None


def test_percentiles() -> None:
    assert [percentile(range(1, 101), share) for share in (0.5, 0.95)] == [51, 96]
    assert percentile([7.0], 0.95) == 7.0
    assert percentile([], 0.95) is None
