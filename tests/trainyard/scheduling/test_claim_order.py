from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, text, update

from tests.trainyard import rows as db_rows
from trainyard.database.connection import FROZEN_S, Database, now, read_clock
from trainyard.database.ids import new_id
from trainyard.database.tables import Counter, Job, JobEvent, Outbox
from trainyard.errors import DatabaseUnavailable
from trainyard.jobs import jobs
from trainyard.jobs.events import list_state_changes
from trainyard.scheduling import claim_order, leases, queue_view, workers
from trainyard.scheduling.leases import Ending, Lease
from trainyard.scheduling.workers import WorkerIdentity
from trainyard.states import WorkKind

FAR = 1e10
BUSY = {"lease_owner": "wrk_z", "lease_expires_at": FAR}


def add_jobs(database: Database, *rows: dict[str, Any]) -> list[str]:
    """Jobs straight into the table, as they are described."""
    db_rows.submit(database)
    with database.writing() as session:
        for table in (JobEvent, Outbox, Job):
            session.execute(delete(table))
        usual: dict[str, Any] = {
            "owner": "local", "dataset_id": "ds_digits", "recipe": "quick", "config": {}, "seed": 1, "labels": {},
            "state": "queued", "not_before": 0.0, "max_failures": 3, "created_at": 1.0, "queued_at": 1.0,
            "priority": 0, "claim_number": 0, "lease_owner": None, "lease_expires_at": None, "finished_at": None,
            "state_reason": None,
        }  # fmt: skip
        full = [usual | {"id": new_id("job")} | row for row in rows]
        if full:
            session.execute(insert(Job), full)
        newest = max((row["claim_number"] for row in full), default=0)
        session.execute(update(Counter).values(value=newest))
        if session.get_bind().dialect.name == "postgresql":
            session.execute(text(f"SELECT setval('claims', {max(1, newest)})"))
    return [row["id"] for row in full]


def claim_all(database: Database, limit: int | None) -> list[str]:
    taken: list[str] = []
    while True:
        claimed = db_rows.claim_job(database, "wrk_a", 60, max_running_per_owner=limit)
        if claimed is None:
            return taken
        taken.append(claimed[0].id)


def claim_all_at_once(database: Database, limit: int | None) -> list[str]:
    """The same in one transaction, which spares a commit a claim."""
    taken: list[str] = []
    with database.writing() as session:
        while claimed := leases.claim(session, "wrk_a", 60, max_running_per_owner=limit):
            taken.append(claimed[0].id)
    return taken


def walk(database: Database, limit: int | None) -> list[str]:
    with database.reading() as session:
        return [turn.job_id for turn in queue_view.walk(session, read_clock(session), limit)]


def pages(database: Database, owner: str, limit: int | None, size: int) -> list[queue_view.Waiting]:
    found: list[queue_view.Waiting] = []
    after = None
    while True:
        with database.reading() as session:
            page = queue_view.list_queue(session, owner, limit=size, after=after, max_running_per_owner=limit)
        found += page.items
        if not page.has_more:
            return found
        after = found[-1].job.id


def add_worker(database: Database) -> None:
    with database.writing() as session:
        workers.register(session, WorkerIdentity(new_id("wrk"), "here", 1, ("cpu",)))


def predict_claims(rows: list[dict[str, Any]], limit: int | None) -> list[str]:
    """The rule in its plainest form: look at everything anew before each claim."""
    rows = [dict(row) for row in rows]
    taken: list[str] = []
    while True:
        running = {row["owner"]: 0 for row in rows}
        last = dict.fromkeys(running, 0)
        for row in rows:
            running[row["owner"]] += row["state"] == "running"
            last[row["owner"]] = max(last[row["owner"]], row["claim_number"])
        free = [
            row for row in rows
            if row["state"] == "queued" and row["not_before"] == 0 and (limit is None or running[row["owner"]] < limit)
        ]  # fmt: skip
        if not free:
            return taken
        chosen = min(
            free,
            key=lambda row: (
                -row["priority"], running[row["owner"]], last[row["owner"]], row["queued_at"], row["id"]
            ),
        )  # fmt: skip
        chosen["state"], chosen["claim_number"] = "running", max(last.values()) + 1
        taken.append(chosen["id"])


@st.composite
def described_jobs(draw: st.DrawFn) -> list[dict[str, Any]]:
    jobs = st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from(["queued", "queued", "queued", "running", "succeeded"]),
        st.integers(-1, 1),
        st.sampled_from([0.0, 0.0, 0.0, FAR]),
        st.integers(1, 4),
    )
    rows = []
    for number, (owner, state, priority, not_before, queued_at) in enumerate(draw(st.lists(jobs, max_size=14)), 1):
        row = {
            "id": f"job_{number:026d}", "owner": owner, "state": state, "priority": priority,
            "not_before": not_before, "queued_at": float(queued_at), "claim_number": 0,
        }  # fmt: skip
        if state != "queued":
            row["claim_number"] = number
        rows.append(row | (BUSY if state == "running" else {}) | ({"finished_at": 1.0} if state == "succeeded" else {}))
    return rows


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=described_jobs(), limit=st.sampled_from([None, 1, 2, 3]), size=st.integers(1, 5))
def test_claims_follow_the_queue_that_was_shown(
    database: Database, rows: list[dict[str, Any]], limit: int | None, size: int
) -> None:
    add_jobs(database, *rows)
    expected = predict_claims(rows, limit)
    shown = walk(database, limit)
    assert shown[: len(expected)] == expected
    assert sorted(shown) == sorted(row["id"] for row in rows if row["state"] == "queued")
    places = {entry.job.id: entry.position for owner in "abcd" for entry in pages(database, owner, limit, size)}
    assert sorted(places, key=lambda job_id: places[job_id]) == shown
    assert sorted(places.values()) == list(range(1, len(shown) + 1))
    assert claim_all_at_once(database, limit) == expected


def test_an_owner_with_one_job_starts_after_at_most_one_of_an_owner_with_fifty(database: Database) -> None:
    many = [{"owner": "a", "queued_at": 1.0 + number} for number in range(50)]
    *_, lone = add_jobs(database, *many, {"owner": "b", "queued_at": 99.0})
    taken: list[str] = []
    for _ in range(3):  # one slot: the job before ends first
        job_id = db_rows.try_claim(database)
        assert job_id
        taken.append(job_id)
        db_rows.write(database, job_id, state="succeeded", finished_at=1.0)
    assert taken[1] == lone
    assert db_rows.look(database, taken[2]).owner == "a"


def test_priority_goes_before_fairness_and_the_limit_before_priority(database: Database) -> None:
    busy = {"owner": "a", "state": "running", "claim_number": 1} | BUSY
    _, urgent, calm = add_jobs(database, busy, {"owner": "a", "priority": 9}, {"owner": "b"})
    assert walk(database, None) == [urgent, calm]
    assert walk(database, 1) == [calm, urgent]
    assert claim_all(database, 1) == [calm]


@pytest.mark.parametrize("limit", [1, 3])
def test_claims_at_once_never_exceed_the_limit_of_an_owner(database: Database, limit: int) -> None:
    add_jobs(database, *({"owner": "a"} for _ in range(8)), *({"owner": "b"} for _ in range(8)))
    barrier = threading.Barrier(6)
    taken: list[str] = []

    def work() -> None:
        barrier.wait()
        taken.extend(claim_all(database, limit))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as session:
        running = list(session.scalars(select(Job.owner).where(Job.state == "running")))
    assert sorted(running) == ["a"] * limit + ["b"] * limit
    assert len(set(taken)) == len(taken) == 2 * limit


def test_a_claim_that_waits_for_another_sees_what_it_took(database: Database) -> None:
    add_jobs(database, {"owner": "a"}, {"owner": "a"})
    begun, taken = threading.Event(), []

    def work() -> None:
        begun.set()
        with database.writing() as session:
            taken.append(leases.claim(session, "wrk_b", 60, max_running_per_owner=1))

    second = threading.Thread(target=work)
    with database.writing() as session:
        assert leases.claim(session, "wrk_a", 60, max_running_per_owner=1)
        db_rows.allow_silence(session)
        second.start()
        assert begun.wait(10)
        second.join(0.3)  # as long as it waits for us, this does not end it; if it did not wait, it would be done
        assert second.is_alive()
    second.join()
    assert taken == [None]


@pytest.mark.postgres
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_a_worker_that_froze_within_its_claim_holds_up_others_for_less_than_two_seconds(database: Database) -> None:
    """By itself: no setting of the server's or of the connection's says so."""
    add_jobs(database, {"owner": "a"}, {"owner": "b"})

    def claim_and_freeze() -> None:
        with database.writing() as session:
            assert leases.claim(session, "wrk_frozen", 60)
            bears.append(session.scalar(text("SHOW idle_in_transaction_session_timeout")))
            began = time.monotonic()
            assert db_rows.try_claim(database, "wrk_b")
            waited.append(time.monotonic() - began)

    bears: list[str | None] = []
    waited: list[float] = []
    with pytest.raises(DatabaseUnavailable):
        claim_and_freeze()
    assert bears == [f"{round(1000 * leases.SILENT_CLAIM_S)}ms"]
    assert leases.SILENT_CLAIM_S < 2
    assert waited[0] < FROZEN_S / 2, "not the connection's own setting, however busy this machine is"
    assert db_rows.try_claim(database, "wrk_c"), "what the frozen one had taken is free again"


def require_turns_kept(database: Database, claim_for: Callable[[str, int], tuple[Job, Lease] | None]) -> None:
    """Let eight workers claim at once, six jobs an owner at most, each for a worker and one more of its slots."""
    owners = ("a", "b", "c")
    add_jobs(database, *({"owner": owner, "queued_at": float(number)} for owner in owners for number in range(10)))
    taken: list[tuple[int, str]] = []

    def claim_some(worker: str) -> None:
        slot = 0
        while claimed := claim_for(worker, slot):
            taken.append((claimed[0].claim_number, claimed[0].owner))
            slot += 1

    threads = [threading.Thread(target=claim_some, args=(f"wrk_{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    order = [owner for _, owner in sorted(taken)]
    assert len(order) == 3 * 6, "as many as all may have, and none beyond"
    assert [set(order[begin : begin + 3]) for begin in range(0, 18, 3)] == [set(owners)] * 6, "turn by turn"


def test_many_who_claim_at_once_keep_the_order_of_owners_and_their_limit(database: Database) -> None:
    def claim_for(worker: str, slot: int) -> tuple[Job, Lease] | None:
        return db_rows.claim_job(database, worker, 60, slot=slot, max_running_per_owner=6)

    require_turns_kept(database, claim_for)


@pytest.mark.postgres
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_a_worker_that_froze_within_its_claim_holds_up_no_other(database: Database, postgres_url: str) -> None:
    [job_id] = add_jobs(database, {"owner": "a"})
    frozen = Database(postgres_url, frozen_s=0.5)

    def claim_and_freeze() -> None:
        with frozen.writing() as session:
            assert leases.claim(session, "wrk_frozen", 60)
            db_rows.claim(database, "wrk_b")  # waits until the server has ended the frozen transaction

    with pytest.raises(DatabaseUnavailable):
        claim_and_freeze()
    frozen.close()
    assert db_rows.look(database, job_id).lease_owner == "wrk_b"


@pytest.mark.parametrize(
    ("way", "reasons"),
    [
        ("drain", ["submitted", "claimed", "drain", "claimed"]),
        ("failure", ["submitted", "claimed", "trainer_killed", "claimed"]),
        ("disk_full", ["submitted", "claimed", "disk_full", "claimed"]),
        ("reaper", ["submitted", "claimed", "lease_lost", "claimed"]),
        ("pause", ["submitted", "claimed", "requested", "paused", "resumed"]),
    ],
)
def test_a_job_that_comes_back_keeps_its_place_and_a_resumed_one_does_not(
    database: Database, way: str, reasons: list[str]
) -> None:
    first, second = db_rows.submit(database), db_rows.submit(database)
    took_place_at = db_rows.look(database, first).queued_at
    lease = db_rows.claim(database)
    if way == "pause":
        db_rows.act(database, jobs.pause, first)
    endings: dict[str, dict[str, Any]] = {
        "failure": {"failure": "trainer_killed"},
        "disk_full": {"failure": "disk_full"},
    }
    with database.writing() as session:
        if way == "reaper":
            leases.reap(session, read_clock(session) + 61, first_backoff_s=2)
        else:
            leases.end_attempt(session, lease, Ending(**endings.get(way, {"stopped": way})), first_backoff_s=2)
    if way == "pause":
        db_rows.act(database, jobs.resume, first)
    db_rows.write(database, first, not_before=0.0)  # as if it had waited
    assert db_rows.try_claim(database) == (second if way == "pause" else first)
    assert (db_rows.look(database, first).queued_at == took_place_at) == (way != "pause")
    with database.reading() as session:
        changes = list_state_changes(session, [first])[first]
    assert [change.reason for change in changes] == reasons
    assert [change.at for change in changes] == sorted(change.at for change in changes)


def test_a_claim_reads_no_more_than_the_first_of_each_owner(database: Database) -> None:
    """The plan of the query with many rows: searches by index only, on both databases."""
    add_jobs(database, *({"owner": f"o{number % 5}", "queued_at": float(number)} for number in range(3000)))
    with database.writing() as session:
        session.execute(text("ANALYZE"))
        sqlite = session.get_bind().dialect.name == "sqlite"
        seen: list[str] = []
        execute = session.connection().exec_driver_sql
        heads = claim_order._hop if sqlite else claim_order._hop_laterally
        statement = (
            claim_order._standings(heads, claim_order._MOMENT, claim_order._KIND)
            .params(moment=5e9, kind=WorkKind.TRAIN)
            .compile(session.get_bind(), compile_kwargs={"literal_binds": True})
        )
        plan = execute(f"EXPLAIN {'QUERY PLAN' if sqlite else ''} {statement}".replace("%%", "%"))
        seen = [str(row[-1]) for row in plan]
    assert any("ix_jobs_turn" in line for line in seen), seen
    bad = [line for line in seen if "SCAN jobs" in line or "Seq Scan on jobs" in line or "USE TEMP B-TREE" in line]
    assert bad == [], seen


def test_a_not_due_job_is_shown_last_and_not_claimed(database: Database) -> None:
    late, soon, due = add_jobs(
        database, {"priority": 9, "not_before": FAR + 1}, {"not_before": FAR}, {"queued_at": 5.0}
    )
    assert walk(database, None) == [due, soon, late]
    assert claim_all(database, None) == [due]
    with database.writing() as session:
        session.execute(update(Job).where(Job.id == soon).values(not_before=now()))
    assert claim_all(database, None) == [soon]
