"""The queue as it is shown: what each job waits for, its position, and the pages of `GET /queue`.

The order is that of `claim_order`. If only one owner's jobs wait, as in every yard with one key, jobs before a page are
counted in the index and not read one by one: a page deep in a queue of 100,000 jobs took 2.4 s, and now takes 6 ms
(`bench/job_reads.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select, true, tuple_
from sqlalchemy.orm import Session

from trainyard.database.connection import now
from trainyard.database.ids import has_form
from trainyard.database.pages import Page
from trainyard.database.tables import NOT_YET, Job, JobRow
from trainyard.errors import InvalidRequest
from trainyard.scheduling.claim_order import FIRST_FETCH, IN_LINE, Turn, in_turn, is_queued, list_behind, select_turns
from trainyard.scheduling.workers import count_of_this_release, count_workers
from trainyard.states import JobState, WorkKind

POSITIONS_WITHIN = 1000  # a job further back is not told its position: counting so far would make every look slow
_ABOVE_ALL = 2**31 - 1  # a priority that no job has


class WaitsFor(StrEnum):
    """What a queued job waits for."""

    NO_LIVE_WORKER = "no_live_worker"  #: no worker that takes jobs was seen just now
    NO_WORKER_OF_THIS_VERSION = "no_worker_of_this_version"  #: workers were seen, but all are of another release
    RETRY_BACKOFF = "retry_backoff"  #: it failed, and its next try is not due yet
    DISK_FULL = "disk_full"  #: the disk was full; it is tried again soon
    OWNER_LIMIT = "owner_limit"  #: its owner has the allowed number of running jobs
    DATASET = "dataset"  #: its dataset is still uploaded or validated
    UPLOAD = "upload"  #: of a dataset's validation: the upload is not complete
    A_FREE_SLOT = "a_free_slot"  #: every slot is taken, or a worker is just about to take it


@dataclass(frozen=True)
class Waiting:
    """A queued job, its position and what it waits for."""

    job: Job
    position: int  #: from 1, over the jobs of all owners
    waits_for: WaitsFor


@dataclass(frozen=True)
class Outlook:
    """What determines, besides the job itself, what it waits for."""

    moment: float  #: the database's clock
    num_workers: int  #: live ones of this release
    max_running_per_owner: int | None
    running: dict[str, int]  #: owner -> running jobs; empty where there is no limit
    num_others: int = 0  #: live workers of other releases, which can't take jobs from these tables
    sole_owner: str | None = None  #: whose jobs are all that is in the queue

    def waits_for(self, job: Job | JobRow) -> WaitsFor | None:
        """Return what a job waits for right now. None: it is not queued."""
        if job.state != JobState.QUEUED:
            return None
        if job.not_before == NOT_YET:
            return WaitsFor.DATASET if job.kind is WorkKind.TRAIN else WaitsFor.UPLOAD
        if self.num_workers == 0:
            return WaitsFor.NO_WORKER_OF_THIS_VERSION if self.num_others else WaitsFor.NO_LIVE_WORKER
        if job.not_before > self.moment:
            return WaitsFor.DISK_FULL if job.state_reason == "disk_full" else WaitsFor.RETRY_BACKOFF
        limit = self.max_running_per_owner
        if job.kind is WorkKind.TRAIN and limit is not None and self.running.get(job.owner, 0) >= limit:
            return WaitsFor.OWNER_LIMIT
        return WaitsFor.A_FREE_SLOT


def get_outlook(session: Session, owners: Collection[str], max_running_per_owner: int | None) -> Outlook:
    """Return the outlook for the queued jobs of some owners."""
    moment, num_workers, num_live, first, last = session.connection().execute(_standing()).one()
    counts: dict[str, int] = {}
    if max_running_per_owner is not None:
        running = select(Job.owner, func.count()).where(
            Job.owner.in_(owners), Job.kind == WorkKind.TRAIN, Job.state == JobState.RUNNING
        )
        counts = {owner: int(count) for owner, count in session.execute(running.group_by(Job.owner))}
    return Outlook(
        *(moment, num_workers, max_running_per_owner, counts),
        num_others=num_live - num_workers,
        sole_owner=first if first == last else None,
    )


@cache
def _standing() -> Select[Any]:
    """Select the database's time, the live workers of this release and of any, and the queue's first and last owner."""
    ends = (select(end(Job.owner)).where(is_queued()).scalar_subquery() for end in (func.min, func.max))
    counts = (query.scalar_subquery() for query in (count_of_this_release(), count_workers()))
    return select(now(), *counts, *ends)


def find_positions(session: Session, rows: Sequence[Job | JobRow], outlook: Outlook) -> dict[str, int]:
    """Return the positions of queued jobs, from 1, without jobs that are too far back.

    If only one owner's jobs wait, one query reads their order in the index: 1 ms with 10,000 queued jobs, where reading
    a thousand turns takes 17 to 33 ms (SQLite, a busy machine).
    """
    wanted = {job.id for job in rows if job.state == JobState.QUEUED}
    if not wanted:
        return {}
    if outlook.sole_owner is not None:
        line = select(Job.id).where(is_queued(), Job.owner == outlook.sole_owner, Job.not_before <= outlook.moment)
        ids = list(session.connection().execute(line.order_by(*IN_LINE).limit(POSITIONS_WITHIN)).scalars())
        if len(ids) < POSITIONS_WITHIN:
            ids += [turn.job_id for turn in islice(_list_not_due(session, outlook.moment), POSITIONS_WITHIN - len(ids))]
        return {job_id: position for position, job_id in enumerate(ids, start=1) if job_id in wanted}
    found: dict[str, int] = {}
    for position, turn in enumerate(walk(session, outlook.moment, outlook.max_running_per_owner), start=1):
        if turn.job_id in wanted:
            found[turn.job_id] = position
        if len(found) == len(wanted) or position == POSITIONS_WITHIN:
            break
    return found


def walk(session: Session, moment: float, max_running_per_owner: int | None) -> Iterator[Turn]:
    """Yield every queued job: first those that may be claimed, then those beyond the limit, then those not due."""
    yield from in_turn(session, moment, max_running_per_owner, beyond_limit=True)
    yield from _list_not_due(session, moment)


def _list_not_due(session: Session, moment: float) -> Iterator[Turn]:
    not_due = select_turns().where(is_queued(), Job.not_before > moment)
    for row in session.execute(not_due.order_by(Job.not_before, *IN_LINE)):
        yield Turn(*row)


def list_queue(
    session: Session, owner: str, *, limit: int, after: str | None, max_running_per_owner: int | None
) -> Page[Waiting]:
    """Return a page of an owner's queued jobs, the next one to be claimed first.

    If the cursor's job has left the queue in the meantime, the page is the front of the queue: the jobs before it have
    most likely left too. While jobs of several owners wait, the cost of a page grows with its depth, because jobs are
    counted from the front.

    Raises:
        InvalidRequest: `after` names no job of this owner.
    """
    last = None if after is None else _find_queued(session, owner, after)
    outlook = get_outlook(session, [owner], max_running_per_owner)
    if outlook.sole_owner == owner:
        places = _walk_alone(session, outlook.moment, owner, last)
    else:
        places = _walk_among(session, outlook, owner, last)
    positions = {turn.job_id: position for position, turn in islice(places, limit + 1)}
    shown = list(positions)[:limit]
    jobs = {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(shown)))}
    items = [
        Waiting(jobs[job_id], positions[job_id], waits_for)
        for job_id in shown
        if job_id in jobs and (waits_for := outlook.waits_for(jobs[job_id]))
    ]
    return Page(items=items, has_more=len(positions) > limit)


def _find_queued(session: Session, owner: str, job_id: str) -> Job | None:
    """Return a job of the owner. None: it has left the queue."""
    query = select(Job).where(Job.id == job_id, Job.owner == owner)
    job = session.scalar(query) if has_form(job_id, "job") else None
    if job is None:
        raise InvalidRequest(f"there is no job {job_id!r} of yours: take `last_id` of a page", param="after")
    return job if job.state == JobState.QUEUED else None


def _walk_among(session: Session, outlook: Outlook, owner: str, last: Job | None) -> Iterator[tuple[int, Turn]]:
    """Yield an owner's jobs after one, with their positions, when other owners' jobs wait too."""
    passed = last is None
    for position, turn in enumerate(walk(session, outlook.moment, outlook.max_running_per_owner), start=1):
        if passed and turn.owner == owner:
            yield position, turn
        passed = passed or (last is not None and turn.job_id == last.id)


def _walk_alone(session: Session, moment: float, owner: str, last: Job | None) -> Iterator[tuple[int, Turn]]:
    """Do the same when only this owner's jobs wait: earlier jobs are counted in the index and not read."""
    if last is None or last.not_before <= moment:
        position, head = 0, Turn("", owner, _ABOVE_ALL, 0.0)
        if last is not None:
            position = _count_due(session, moment, owner, ahead_of=last) + 1
            head = Turn(last.id, owner, last.priority, last.queued_at)
        for turn in _follow_line(session, moment, head):
            position += 1
            yield position, turn
        last = None
    else:
        position = _count_due(session, moment, owner, ahead_of=None)
    for turn in _list_not_due(session, moment):
        position += 1
        if last is None:
            yield position, turn
        elif turn.job_id == last.id:
            last = None


def _follow_line(session: Session, moment: float, turn: Turn) -> Iterator[Turn]:
    """Yield an owner's jobs after one that may be claimed."""
    fetch = FIRST_FETCH
    while behind := list_behind(session, moment, turn, fetch):
        yield from behind
        turn, fetch = behind[-1], 2 * fetch


def _count_due(session: Session, moment: float, owner: str, *, ahead_of: Job | None) -> int:
    """Count an owner's jobs that may be claimed, all of them or those before one."""
    parts: list[ColumnElement[bool]] = [true()]
    if ahead_of is not None:
        before = tuple_(Job.queued_at, Job.id) < tuple_(ahead_of.queued_at, ahead_of.id)
        parts = [Job.priority > ahead_of.priority, and_(Job.priority == ahead_of.priority, before)]
    count = 0
    for part in parts:
        line = select(func.count()).where(is_queued(), Job.owner == owner, Job.not_before <= moment, part)
        count += session.connection().execute(line).scalar_one()
    return count
