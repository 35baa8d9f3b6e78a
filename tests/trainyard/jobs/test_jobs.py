from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tests.trainyard import rows as db_rows
from trainyard.database.connection import Database
from trainyard.database.tables import IdempotencyKey, Job, Outbox
from trainyard.errors import IdempotencyConflict, IllegalTransition, InvalidRequest, JobNotFound
from trainyard.jobs import idempotency, job_list, jobs
from trainyard.jobs.events import list_state_changes
from trainyard.jobs.job_list import JobFilter
from trainyard.scheduling import leases
from trainyard.states import MOVES, Desired, JobState, ShownState, shown_state, stored_states


def test_a_submitted_job_has_its_event_and_its_wake_up(database: Database) -> None:
    job_id = db_rows.submit(database, name="mine")
    with database.reading() as session:
        job = jobs.get_job(session, "local", job_id)
        assert (job.state, job.name, job.its_dataset.id) == ("queued", "mine", "ds_digits")
        assert [event.reason for event in list_state_changes(session, [job_id])[job_id]] == ["submitted"]
        assert list(session.scalars(select(Outbox.job_id))) == [job_id]


@pytest.mark.parametrize("job_id", ["job_0", "job_\x00", "", "ds_digits", "job_" + "x" * 300, "job_é"])
def test_an_unknown_job_is_not_found(database: Database, job_id: str) -> None:
    with pytest.raises(JobNotFound), database.reading() as session:
        jobs.get_job(session, "local", job_id)


def test_another_owners_job_is_not_there(database: Database) -> None:
    job_id = db_rows.submit(database, "bob")
    with database.writing() as session:
        for action in (jobs.get_job, jobs.cancel, jobs.pause, jobs.resume):
            with pytest.raises(JobNotFound):
                action(session, "alice", job_id)
        assert job_list.list_jobs(session, "alice", limit=10).items == []
        with pytest.raises(InvalidRequest):
            job_list.list_jobs(session, "alice", limit=10, after=job_id)
    assert db_rows.look(database, job_id).state == "queued"


def test_pages_hold_every_job_once_while_more_come(database: Database) -> None:
    made = [db_rows.submit(database) for _ in range(7)]
    seen: list[str] = []
    after = None
    while True:
        with database.reading() as session:
            page = job_list.list_jobs(session, "local", limit=3, after=after)
        seen += [job.id for job in page.items]
        if not page.has_more:
            break
        after = seen[-1]
        db_rows.submit(database)
    assert seen == made[::-1]


def test_a_cursor_holds_when_its_job_left_the_filter(database: Database) -> None:
    older, newer = db_rows.submit(database), db_rows.submit(database)
    with database.writing() as session:
        jobs.cancel(session, "local", newer)
    with database.reading() as session:
        page = job_list.list_jobs(session, "local", limit=3, after=newer, wanted=JobFilter([ShownState.QUEUED]))
    assert [job.id for job in page.items] == [older]


@pytest.mark.parametrize("after", ["job_0", "\x00", "\ud800"])
def test_a_cursor_that_names_nothing_is_refused(database: Database, after: str) -> None:
    with pytest.raises(InvalidRequest), database.reading() as session:
        job_list.list_jobs(session, "local", limit=3, after=after)


def test_filters_by_metadata_and_shown_state(database: Database) -> None:
    tagged = db_rows.submit(database, metadata={"team.a": "x"})
    db_rows.claim(database)
    db_rows.submit(database)
    with database.writing() as session:
        jobs.cancel(session, "local", tagged)
    with database.reading() as session:
        found = job_list.list_jobs(
            session, "local", limit=9, wanted=JobFilter([ShownState.CANCELLING], metadata={"team.a": "x"})
        )
        assert [job.id for job in found.items] == [tagged]
        assert job_list.list_jobs(session, "local", limit=9, wanted=JobFilter([ShownState.RUNNING])).items == []


@pytest.mark.parametrize("state", ["queued", "paused", "running", "cancelled", "succeeded", "failed"])
def test_cancel_in_every_state(database: Database, state: str) -> None:
    job_id = db_rows.submit(database)
    if state == "running":
        db_rows.claim(database)
    else:
        db_rows.write(database, job_id, state=state, finished_at=1.0)
    with database.writing() as session:
        if state in {"succeeded", "failed"}:
            with pytest.raises(IllegalTransition, match=state):
                jobs.cancel(session, "local", job_id)
            return
        shown = jobs.cancel(session, "local", job_id).shown_state
        again = jobs.cancel(session, "local", job_id).shown_state
    assert shown == again == ("cancelling" if state == "running" else "cancelled")
    with database.reading() as session:
        assert len(list_state_changes(session, [job_id])[job_id]) == {"running": 3, "cancelled": 1}.get(state, 2)


@pytest.mark.parametrize("state", ["queued", "paused", "running", "cancelled", "succeeded", "failed"])
def test_pause_in_every_state(database: Database, state: str) -> None:
    job_id = db_rows.submit(database)
    if state == "running":
        db_rows.claim(database)
    elif state == "paused":
        db_rows.act(database, jobs.pause, job_id)
    elif state != "queued":
        db_rows.write(database, job_id, state=state, finished_at=1.0)
    if state in {"cancelled", "succeeded", "failed"}:
        with pytest.raises(IllegalTransition, match=state):
            db_rows.act(database, jobs.pause, job_id)
        return
    shown = db_rows.act(database, jobs.pause, job_id).shown_state
    again = db_rows.act(database, jobs.pause, job_id).shown_state
    assert shown == again == ("pausing" if state == "running" else "paused")
    assert db_rows.try_claim(database) is None, "a paused job waits for its owner"
    with database.reading() as session:
        changes = [event.state for event in list_state_changes(session, [job_id])[job_id]]
    assert changes == (["queued", "running", "pausing"] if state == "running" else ["queued", "paused"])


def test_a_paused_job_goes_back_into_the_queue_with_a_wake_up(database: Database) -> None:
    job_id = db_rows.submit(database)
    db_rows.act(database, jobs.pause, job_id)
    db_rows.write(database, job_id, not_before=9e9)
    with database.writing() as session:
        session.execute(delete(Outbox))
    assert db_rows.act(database, jobs.resume, job_id).state == "queued"
    assert db_rows.act(database, jobs.resume, job_id).state == "queued", "repeating it is harmless"
    with database.reading() as session:
        assert list(session.scalars(select(Outbox.job_id))) == [job_id]
    db_rows.claim(database)
    assert db_rows.act(database, jobs.resume, job_id).state == "running"
    db_rows.act(database, jobs.pause, job_id)
    with pytest.raises(IllegalTransition, match="pausing"):
        db_rows.act(database, jobs.resume, job_id)


@pytest.mark.parametrize("state", ["queued", "running", "cancelling", "cancelled", "succeeded", "failed"])
def test_only_a_paused_job_can_be_resumed(database: Database, state: str) -> None:
    job_id = db_rows.submit(database)
    if state in {"running", "cancelling"}:
        db_rows.claim(database)
    if state == "cancelling":
        db_rows.act(database, jobs.cancel, job_id)
    if state in {"cancelled", "succeeded", "failed"}:
        db_rows.write(database, job_id, state=state, finished_at=1.0)
    with pytest.raises(IllegalTransition, match=state):
        db_rows.act(database, jobs.resume, job_id)
    assert db_rows.look(database, job_id).shown_state == state


def test_a_cancel_replaces_a_pause_and_never_the_other_way(database: Database) -> None:
    job_id = db_rows.submit(database)
    db_rows.claim(database)
    db_rows.act(database, jobs.pause, job_id)
    assert db_rows.act(database, jobs.cancel, job_id).shown_state == "cancelling"
    with pytest.raises(IllegalTransition, match="cancelling"):
        db_rows.act(database, jobs.pause, job_id)
    assert db_rows.look(database, job_id).desired == "cancel"


def test_a_paused_job_can_be_cancelled(database: Database) -> None:
    job_id = db_rows.submit(database)
    db_rows.act(database, jobs.pause, job_id)
    assert db_rows.act(database, jobs.cancel, job_id).state == "cancelled"


@pytest.mark.parametrize("between", [jobs.cancel, None])
def test_a_pause_that_looked_before_another_change_does_not_undo_it(
    database: Database, between: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our look and our write: a cancel of the running job, or the claim of the queued one."""
    job_id = db_rows.submit(database)
    if between is not None:
        db_rows.claim(database)
    real, looks = jobs.get_job, iter([True])

    def look_then_change(session: Session, owner: str, wanted: str, **how: Any) -> Any:
        job = real(session, owner, wanted, **how)
        if next(looks, False):
            session.expunge(job)
            if between is not None:
                session.execute(update(Job).where(Job.id == job_id).values(desired="cancel"))
            else:
                assert leases.claim(session, "wrk_a", 60)
        return job

    monkeypatch.setattr(jobs, "get_job", look_then_change)
    if between is not None:
        with pytest.raises(IllegalTransition, match="cancelling"):
            db_rows.act(database, jobs.pause, job_id)
    else:
        assert db_rows.act(database, jobs.pause, job_id).shown_state == "pausing"


def test_final_states_have_no_moves_and_every_state_is_shown() -> None:
    final = {state for state in JobState if state.is_final}
    assert final == {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    assert set(MOVES) == set(JobState)
    for state in JobState:
        for desired in Desired:
            stored, wanted = stored_states(shown_state(state, desired))
            assert stored is state
            assert wanted in {None, desired}


def test_an_idempotency_key_finds_its_job_and_refuses_another_body(database: Database) -> None:
    job_id = db_rows.submit(database)
    with database.writing() as session:
        assert idempotency.find_job_id(session, "local", "r", "k", {"a": 1, "b": 2}) is None
        idempotency.remember(session, "local", "r", "k", {"a": 1, "b": 2}, job_id)
        assert idempotency.find_job_id(session, "local", "r", "k", {"b": 2, "a": 1}) == job_id
        assert idempotency.find_job_id(session, "bob", "r", "k", {}) is None
        with pytest.raises(IdempotencyConflict):
            idempotency.find_job_id(session, "local", "r", "k", {"a": 2})
    with pytest.raises(IntegrityError), database.writing() as session:
        idempotency.remember(session, "local", "r", "k", {"a": 1}, job_id)
    with database.writing() as session:
        session.get_one(IdempotencyKey, ("local", "r", "k")).created_at -= idempotency.KEPT_S + 1
        session.flush()
        assert idempotency.find_job_id(session, "local", "r", "k", {"a": 2}) is None
        session.expunge_all()
        idempotency.remember(session, "local", "r", "k", {"a": 2}, job_id)


@pytest.mark.parametrize(("key", "value"), [("a'b", "x"), ("$", "x"), ("a", "é\n")])
def test_a_strange_metadata_filter_finds_nothing(database: Database, key: str, value: str) -> None:
    db_rows.submit(database, metadata={"a": "b"})
    with database.reading() as session:
        assert job_list.list_jobs(session, "local", limit=9, wanted=JobFilter(metadata={key: value})).items == []


@pytest.mark.parametrize(("key", "value"), [("a", "\x00"), ("\ud800", "x")])
def test_a_metadata_filter_that_a_database_can_not_take_is_refused(database: Database, key: str, value: str) -> None:
    with pytest.raises(InvalidRequest), database.reading() as session:
        job_list.list_jobs(session, "local", limit=9, wanted=JobFilter(metadata={key: value}))


@pytest.mark.parametrize("new", [{"name": "a\x00"}, {"metadata": {"a": "\x00"}}, {"metadata": {"\ud800": "x"}}])
def test_a_text_that_can_not_be_stored_is_refused(database: Database, new: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        db_rows.submit(database, **new)
