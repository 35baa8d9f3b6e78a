from __future__ import annotations

import pytest

from tests.trainyard import rows as db_rows
from trainyard.database.connection import Database
from trainyard.database.tables import NOT_YET
from trainyard.errors import InvalidRequest
from trainyard.jobs import job_list
from trainyard.jobs.job_list import JobFilter
from trainyard.states import ShownState, WorkKind


def find(database: Database, wanted: JobFilter, *, limit: int = 100, after: str | None = None) -> list[str]:
    with database.reading() as session:
        page = job_list.list_jobs(session, "local", limit=limit, after=after, wanted=wanted)
    return [job.id for job in page.items]


def in_states(database: Database, *states: str) -> list[str]:
    """Jobs, the oldest first, in these shown states."""
    made = []
    for number, state in enumerate(states):
        job_id = db_rows.submit(database)
        stored = {"pausing": "running", "cancelling": "running"}.get(state, state)
        desired = {"pausing": "pause", "cancelling": "cancel"}.get(state, "run")
        running = {"lease_owner": "wrk_a", "lease_expires_at": 4e9} if stored == "running" else {}
        ended = {"finished_at": 1.0} if stored in {"succeeded", "failed", "cancelled"} else {}
        db_rows.write(database, job_id, state=stored, desired=desired, created_at=float(number), **running, **ended)
        made.append(job_id)
    return made


def test_several_states_are_one_list_in_the_order_of_time(database: Database) -> None:
    made = in_states(database, "failed", "running", "queued", "failed", "pausing", "succeeded", "running", "failed")
    wanted = JobFilter([ShownState.FAILED, ShownState.RUNNING])
    assert find(database, wanted) == [made[place] for place in (7, 6, 3, 1, 0)]
    first = find(database, wanted, limit=2)
    assert first == [made[7], made[6]]
    assert find(database, wanted, limit=2, after=first[-1]) == [made[3], made[1]]
    twice = JobFilter([ShownState.FAILED, ShownState.FAILED, ShownState.PAUSING])
    assert find(database, twice) == [made[place] for place in (7, 4, 3, 0)]


def test_a_text_is_found_in_id_name_and_the_datasets_name(database: Database) -> None:
    named = db_rows.submit(database, name="Night RUN 100% _a_")
    other = db_rows.submit(database, name="base")
    assert find(database, JobFilter(text="night run")) == [named]
    assert find(database, JobFilter(text="IGIT")) == [other, named]
    assert find(database, JobFilter(text=other[-8:])) == [other]
    assert find(database, JobFilter(text="0%")) == [named]
    assert find(database, JobFilter(text="%")) == [named]
    assert find(database, JobFilter(text="_a")) == [named]
    assert find(database, JobFilter(text="n_g")) == []
    assert find(database, JobFilter(text="base", states=[ShownState.FAILED])) == []
    with pytest.raises(InvalidRequest):
        find(database, JobFilter(text="\ud800"))


def test_a_recipe_is_found_before_the_dataset_is_ready_too(database: Database) -> None:
    ready, waiting, unnamed = (db_rows.submit(database) for _ in range(3))
    db_rows.write(database, waiting, recipe="", not_before=NOT_YET, config={"recipe": "quick", "overrides": {}})
    db_rows.write(database, unnamed, recipe="", not_before=NOT_YET, config={"recipe": None, "overrides": {}})
    assert find(database, JobFilter(recipe="quick")) == [waiting, ready]
    assert find(database, JobFilter(recipe="small-images")) == []


def test_counts_are_of_all_states_whatever_states_are_wanted(database: Database) -> None:
    in_states(database, "failed", "running", "queued", "failed", "pausing", "cancelling", "paused", "succeeded")
    db_rows.submit(database, owner="alice")
    prediction = db_rows.submit(database, name="no training run")
    db_rows.write(database, prediction, kind=WorkKind.PREDICT)
    named = db_rows.submit(database, name="base")
    with database.reading() as session:
        counts = job_list.count_by_state(session, "local", JobFilter([ShownState.FAILED]))
        named_only = job_list.count_by_state(session, "local", JobFilter(text=named))
    assert counts == {
        ShownState.QUEUED: 2,
        ShownState.RUNNING: 1,
        ShownState.PAUSING: 1,
        ShownState.CANCELLING: 1,
        ShownState.PAUSED: 1,
        ShownState.SUCCEEDED: 1,
        ShownState.FAILED: 2,
        ShownState.CANCELLED: 0,
    }
    assert named_only == dict.fromkeys(ShownState, 0) | {ShownState.QUEUED: 1}
