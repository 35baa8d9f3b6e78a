"""Jobs as clients see them, and one reader for all requests for a job that arrive at the same time.

A request that arrives while the database is being read waits for the next read, which serves all requests that came in
the meantime. So no answer is older than its request, and the more clients ask at once, the less each of them costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import anyio.to_thread
from sqlalchemy.orm import Session

from api.schemas.jobs import JobRead
from trainyard.database.connection import Database
from trainyard.database.tables import Job, JobRow
from trainyard.jobs import jobs
from trainyard.jobs.events import StateChange, list_state_changes
from trainyard.scheduling.queue_view import Outlook, find_positions, get_outlook
from trainyard.settings import Settings
from trainyard.states import JobState

Question = tuple[str, str]  # owner and job


def describe_jobs(session: Session, settings: Settings, rows: Sequence[Job | JobRow]) -> list[JobRead]:
    """Return jobs as clients see them, with a few queries for any number of them."""
    changes = list_state_changes(session, [job.id for job in rows])
    outlook, positions = find_places(session, settings, rows)

    def history(job: Job | JobRow) -> list[StateChange]:  # no change that came after the row was read
        return [change for change in changes[job.id] if change.seq <= job.event_seq]

    return [JobRead.of(job, history(job), outlook=outlook, position=positions.get(job.id)) for job in rows]


def find_places(session: Session, settings: Settings, rows: Sequence[Job | JobRow]) -> tuple[Outlook, dict[str, int]]:
    """Return how things stand for the queued jobs among some, and their positions in the queue."""
    owners = {job.owner for job in rows if job.state == JobState.QUEUED}  # the others wait for nothing
    outlook = get_outlook(session, owners, settings.max_running_per_owner) if owners else Outlook(0.0, 0, None, {})
    return outlook, find_positions(session, rows, outlook)


class JobReader:
    """Returns jobs as JSON. It runs on the event loop, except for the queries."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._asked: dict[Question, asyncio.Future[bytes | None]] = {}
        self._work: asyncio.Task[None] | None = None
        self._turn = anyio.CapacityLimiter(1)

    async def read(self, owner: str, job_id: str) -> bytes:
        """Return the job as it is at some moment after this call.

        Raises:
            JobNotFound: see `jobs.get_job`.
            DatabaseUnavailable: the database does not answer.
        """
        answer = self._asked.get((owner, job_id))
        if answer is None:
            answer = self._asked[owner, job_id] = asyncio.get_running_loop().create_future()
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._answer_all())
        body = await asyncio.shield(answer)  # a client that goes away takes no answer from the others
        if body is None:
            raise jobs.no_such_job(job_id)
        return body

    async def _answer_all(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, {}
            try:
                bodies = await anyio.to_thread.run_sync(self._read_all, list(asked), limiter=self._turn)
            except Exception as exc:
                for answer in asked.values():
                    answer.set_exception(exc)
                    answer.exception()  # seen, also where every client is gone
            else:
                for question, answer in asked.items():
                    answer.set_result(bodies.get(question))

    def _read_all(self, questions: Iterable[Question]) -> dict[Question, bytes]:
        by_owner: dict[str, list[str]] = {}
        for owner, job_id in questions:
            by_owner.setdefault(owner, []).append(job_id)
        found: dict[Question, bytes] = {}
        with self._database.reading() as session:
            for owner, job_ids in by_owner.items():
                for job in describe_jobs(session, self._settings, jobs.read_jobs(session, owner, job_ids)):
                    found[owner, job.id] = job.model_dump_json().encode()
        return found
