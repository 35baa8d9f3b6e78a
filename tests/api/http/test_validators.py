"""`ETag` and 304 of `GET /jobs/{id}`: as long as the answer is the same, and not one moment longer."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import JSON, delete, update

from api.reading.job_reader import JobReader, describe_jobs
from tests.api.served import Served, error_of, wait_until
from trainyard.client import Client
from trainyard.client.answers import Answer
from trainyard.database.connection import now
from trainyard.database.ids import new_id
from trainyard.database.tables import Job, Worker
from trainyard.errors import DatabaseUnavailable
from trainyard.jobs import jobs
from trainyard.scheduling import leases, workers
from trainyard.scheduling.leases import Ending, Lease
from trainyard.scheduling.workers import WorkerIdentity

#: Columns that no client sees: written by every heartbeat, or for the order of the claims.
UNSEEN = {"kind", 
    "heartbeat_at", "lease_expires_at", "lease_epoch", "slot", "claim_number", "committed_step", "dataset_digest",
    "event_seq", "not_before", "traceparent",
}  # fmt: skip


class Reader:
    """A client that asks with the tag of its last answer."""

    def __init__(self, served: Served, job_id: str) -> None:
        self._http, self._path = served.http, f"/jobs/{job_id}"
        self.tag, self.job = "", dict[str, Any]()

    def look(self) -> bool:
        """Whether the answer was another; whatever it was, it must be the truth."""
        answer = self._http.get(self._path, headers={"If-None-Match": self.tag} if self.tag else {})
        whole = self._http.get(self._path)
        if answer.status_code == 304:
            assert (answer.headers["etag"], whole.headers["etag"]) == (self.tag, self.tag)
            assert whole.json() == self.job
            return False
        assert answer.status_code == 200
        assert answer.headers["etag"] != self.tag
        assert answer.json() != self.job
        assert answer.json() == whole.json()
        self.tag, self.job = answer.headers["etag"], answer.json()
        return True


def write(served: Served, **values: Any) -> None:
    with served.database.writing() as session:
        session.execute(update(Job).values(values))


def test_a_304_has_a_tag_and_no_body(served: Served) -> None:
    path = f"/jobs/{served.add_job()}"
    first = served.http.get(path)
    assert first.headers["cache-control"] == "no-cache, private"
    again = served.http.get(path, headers={"If-None-Match": first.headers["etag"], "X-Request-ID": "my-request-7"})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert again.headers["cache-control"] == "no-cache, private"
    assert again.headers["x-request-id"] == "my-request-7"
    assert again.headers["x-content-type-options"] == "nosniff"
    assert "content-type" not in again.headers


@pytest.mark.parametrize(
    ("known", "status"),
    [
        ("{tag}", 304), ("W/{tag}", 304), ("*", 304), ('"a", {tag}', 304), ('"a*b",{tag}, W/"c"', 304),
        ('"other"', 200), ('"a*b"', 200), ("{bare}", 200), ('"', 200), ("", 200), ('""', 200), (",,,", 200),
    ],
)  # fmt: skip
def test_which_lines_match(served: Served, known: str, status: int) -> None:
    path = f"/jobs/{served.add_job()}"
    tag = served.http.get(path).headers["etag"]
    line = known.format(tag=tag, bare=tag.strip('"'))
    assert served.http.get(path, headers={"If-None-Match": line}).status_code == status


def test_the_tag_may_stand_in_the_second_of_two_lines(served: Served) -> None:
    path = f"/jobs/{served.add_job()}"
    lines = [("If-None-Match", '"other"'), ("If-None-Match", served.http.get(path).headers["etag"])]
    assert served.http.get(path, headers=lines).status_code == 304


def test_a_job_that_is_not_there_has_no_tag(served: Served) -> None:
    for job_id in ("job_nowhere", new_id("job")):
        answer = served.http.get(f"/jobs/{job_id}", headers={"If-None-Match": "*"})
        error_of(answer, 404, "job_not_found")
        assert "etag" not in answer.headers


def test_other_answers_are_kept_by_no_cache(served: Served) -> None:
    job_id = served.add_job()
    for path in ("/jobs", "/queue", "/workers", f"/jobs/{job_id}/checkpoints"):
        answer = served.http.get(path)
        assert (answer.headers["cache-control"], answer.headers.get("etag")) == ("no-store", None), path


def test_the_tag_is_another_after_every_change_in_a_jobs_life(served: Served) -> None:
    job_id = served.add_job()
    lease = Lease(job_id, 1, "wrk_test")
    reader = Reader(served, job_id)

    def beat(**columns: Any) -> None:
        with served.database.writing() as session:
            leases.heartbeat(session, lease, 60, **columns)

    def end(ending: Ending) -> None:
        with served.database.writing() as session:
            leases.end_attempt(session, lease, ending, first_backoff_s=60)

    def claim() -> None:
        nonlocal lease
        write(served, not_before=0.0)
        with served.database.writing() as session:
            claimed = leases.claim(session, "wrk_next", 60)
            assert claimed is not None
            lease = claimed[1]

    def post(action: str) -> Callable[[], Any]:
        return lambda: served.http.post(f"/jobs/{job_id}/{action}").raise_for_status()

    assert reader.look()
    steps: list[Callable[[], Any]] = [
        lambda: beat(progress={"step": 1}),
        lambda: beat(progress={"step": 2}),
        lambda: served.add_checkpoint(job_id, 1),
        post("pause"),
        lambda: end(Ending(stopped="pause")),
        post("resume"),
        claim,
        lambda: end(Ending(failure="trainer_killed")),
        claim,
        post("cancel"),
        lambda: end(Ending(stopped="cancel")),
    ]
    for step in steps:
        step()
        assert reader.look()
        assert not reader.look()
        if reader.job["state"] == "running":
            beat()  # writes columns that nobody sees
            assert not reader.look()
    assert reader.job["state"] == "cancelled"


@pytest.mark.parametrize("column", sorted({column.name for column in Job.__table__.c} - {"id", "owner", "dataset_id"}))
def test_the_tag_is_another_after_a_change_of_any_column_that_is_seen(served: Served, column: str) -> None:
    job_id = served.add_job()
    reader = Reader(served, job_id)
    reader.look()
    changes: dict[str, dict[str, Any]] = {
        "state": {"state": "failed", "finished_at": 5.0}, "desired": {"desired": "pause"}, "kind": {"kind": "validate"},
        "parent_id": {"parent_id": job_id}, "metadata": {"labels": {"a": "b"}},
    }  # fmt: skip
    values = changes.get(column, {})
    if not values:
        kind = Job.__table__.c[column].type
        values = {column: {"epochs": 99} if isinstance(kind, JSON) else kind.python_type(77)}
    write(served, **values)
    assert reader.look() == (column not in UNSEEN)


class TestQueued:
    """What a queued job shows hangs on the clock, on workers and on other jobs too."""

    @pytest.fixture
    def queued(self, served: Served) -> tuple[str, str]:
        first, second = (served.http.post("/jobs", json={"dataset": "digits"}).json()["id"] for _ in range(2))
        return first, second

    def test_its_position(self, served: Served, queued: tuple[str, str]) -> None:
        reader = Reader(served, queued[1])
        assert reader.look()
        assert reader.job["queue_position"] == 2
        served.http.post(f"/jobs/{queued[0]}/cancel").raise_for_status()
        assert reader.look()
        assert reader.job["queue_position"] == 1
        assert not reader.look()

    def test_a_worker_comes_and_goes(self, served: Served, queued: tuple[str, str]) -> None:
        reader, identity = Reader(served, queued[1]), WorkerIdentity(new_id("wrk"), "here", 1, ("cpu",))
        assert reader.look()
        with served.database.writing() as session:
            workers.register(session, identity)
        assert reader.look()
        assert reader.job["waiting_for"] == "a_free_slot"
        with served.database.writing() as session:
            session.execute(update(Worker).values(last_seen_at=now() - 60))
        assert reader.look()
        with served.database.writing() as session:
            session.execute(delete(Worker))
        assert not reader.look()

    def test_its_time_comes(self, served: Served, queued: tuple[str, str]) -> None:
        with served.database.writing() as session:
            workers.register(session, WorkerIdentity(new_id("wrk"), "here", 1, ("cpu",)))
            session.execute(update(Job).where(Job.id == queued[1]).values(not_before=now() + 3600))
        reader = Reader(served, queued[1])
        assert reader.look()
        assert reader.job["waiting_for"] == "retry_backoff"
        with served.database.writing() as session:
            session.execute(update(Job).where(Job.id == queued[1]).values(not_before=now()))
        assert reader.look()
        assert reader.job["waiting_for"] == "a_free_slot"


def test_no_answer_is_older_than_its_question(served: Served) -> None:
    """While a worker writes as fast as it can, an answer never shows less than was committed before the request."""
    job_id = served.add_job()
    lease, committed, over = Lease(job_id, 1, "wrk_test"), [0], threading.Event()

    def work() -> None:
        for step in itertools.count(1):
            with served.database.writing() as session:
                leases.heartbeat(session, lease, 60, progress={"step": step // 3})  # two of three change nothing
            committed[0] = step // 3
            if over.is_set():
                return

    writer = threading.Thread(target=work)
    writer.start()
    try:
        tag, shown = "", -1
        for _ in range(300):
            before = committed[0]
            answer = served.http.get(f"/jobs/{job_id}", headers={"If-None-Match": tag} if tag else {})
            if answer.status_code == 200:
                tag, shown = answer.headers["etag"], answer.json()["progress"]["step"]
            assert shown >= before
    finally:
        over.set()
        writer.join()


def test_the_history_never_runs_ahead_of_the_state(served: Served) -> None:
    """Where the two are read one after the other, as on PostgreSQL, a change may come in between."""
    job_id = served.http.post("/jobs", json={"dataset": "digits"}).json()["id"]
    with served.database.reading() as session:
        row = jobs.read_job(session, "local", job_id)
    served.http.post(f"/jobs/{job_id}/cancel").raise_for_status()
    with served.database.reading() as session:
        [job] = describe_jobs(session, served.settings, [row])
    assert (job.state, [change.state for change in job.state_history]) == ("queued", ["queued"])


def test_the_client_waits_by_tags(served: Served) -> None:
    job_id = served.add_job()
    answers: list[tuple[int, int]] = []
    with Client(served.url) as client:
        client._http.event_hooks["response"].append(lambda answer: answers.append(_told(answer)))

        def finish_later(job: Answer) -> None:
            if job["state"] == "running" and job["progress"]["step"] == 5:
                with served.database.writing() as session:
                    leases.end_attempt(session, Lease(job_id, 1, "wrk_test"), Ending(succeeded=True), first_backoff_s=1)

        threading.Thread(target=lambda: _advance_after(served, job_id, answers)).start()
        job = client.wait(job_id, timeout_s=60, poll_s=0.001, on_change=finish_later)
    assert job["state"] == "succeeded"
    assert [status for status, _ in answers].count(200) == 3
    assert {size for status, size in answers if status == 304} == {0}
    assert len(answers) > 8


def _told(answer: httpx.Response) -> tuple[int, int]:
    return answer.status_code, len(answer.read())


def _advance_after(served: Served, job_id: str, answers: list[tuple[int, int]]) -> None:
    while len(answers) < 8:
        threading.Event().wait(0.001)
    with served.database.writing() as session:
        leases.heartbeat(session, Lease(job_id, 1, "wrk_test"), 60, progress={"step": 5})


def test_whoever_asks_while_the_database_is_read_is_answered_by_the_next_read(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many who ask at once each gets its own job, as it stands after its question."""
    made = [served.http.post("/jobs", json={"dataset": "digits"}).json()["id"] for _ in range(3)]
    reader: JobReader = served.app.state.services.jobs
    begun, go_on, sizes = threading.Event(), threading.Event(), []
    read_all = reader._read_all

    def read_slowly(questions: Any) -> Any:
        sizes.append(len(questions))
        answers = read_all(questions)
        begun.set()
        assert go_on.wait(60)
        return answers

    monkeypatch.setattr(reader, "_read_all", read_slowly)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(served.http.get, f"/jobs/{made[0]}")
        assert begun.wait(60)
        served.http.post(f"/jobs/{made[0]}/cancel").raise_for_status()  # after the first question was answered
        later = [pool.submit(served.http.get, f"/jobs/{job_id}") for job_id in [*made, "job_nowhere"]]
        wait_until(lambda: len(reader._asked) == 4, 60)
        go_on.set()
        assert first.result().json()["state"] == "queued"
        *answers, missing = [answer.result() for answer in later]
    assert [answer.json()["id"] for answer in answers] == made
    assert [answer.json()["state"] for answer in answers] == ["cancelled", "queued", "queued"]
    error_of(missing, 404, "job_not_found")
    assert sizes == [1, 4]


def test_a_read_that_fails_fails_for_those_who_asked_and_no_later_one(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = served.add_job()
    reader: JobReader = served.app.state.services.jobs
    read_all = reader._read_all

    def fail(questions: Any) -> Any:
        monkeypatch.setattr(reader, "_read_all", read_all)
        raise DatabaseUnavailable

    monkeypatch.setattr(reader, "_read_all", fail)
    error_of(served.http.get(f"/jobs/{job_id}"), 503, "database_unavailable")
    assert served.http.get(f"/jobs/{job_id}").status_code == 200
