"""Whose turn it is: the order in which queued jobs are claimed, and what each of them waits for.

The claim takes the first job of `in_turn` and `GET /queue` shows the whole walk, so the two can't differ. The highest
priority goes first; within it the owner with the fewest running jobs, then the one whose last claim is longest ago;
among an owner's jobs the one that took its place first, and a job that comes back from a worker keeps its place. An
owner with as many running jobs as one may have gets no turn.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, select, true, tuple_
from sqlalchemy.orm import Session, aliased

from trainyard.database.connection import now
from trainyard.database.ids import has_form
from trainyard.database.pages import Page
from trainyard.database.tables import Job, JobRow
from trainyard.errors import InvalidRequest
from trainyard.scheduling.workers import count_of_this_release, count_workers
from trainyard.states import JobState

FIRST_FETCH = 50  # jobs of an owner read at once; doubled each time, so that a deep page costs no more than its depth
POSITIONS_WITHIN = 1000  # a job further back is not told its position: counting so far would make every look slow

_QUEUED = Job.state == JobState.QUEUED
_ABOVE_ALL = 2**31 - 1  # a priority that no job has
_IN_LINE = (Job.priority.desc(), Job.queued_at, Job.id)


class WaitsFor(StrEnum):
    """What a queued job waits for."""

    NO_LIVE_WORKER = "no_live_worker"  #: no worker that takes jobs was seen just now
    NO_WORKER_OF_THIS_VERSION = "no_worker_of_this_version"  #: workers were seen, but all are of another release
    RETRY_BACKOFF = "retry_backoff"  #: it failed, and its next try is not due
    DISK_FULL = "disk_full"  #: the disk was full; it looks again soon
    OWNER_LIMIT = "owner_limit"  #: its owner has as many running jobs as one may have
    A_FREE_SLOT = "a_free_slot"  #: every slot is taken, or a worker is just about to take it


@dataclass(frozen=True)
class Turn:
    """A queued job, as far as the order needs it."""

    job_id: str
    owner: str
    priority: int
    queued_at: float


@dataclass(frozen=True)
class Waiting:
    """A queued job and how it stands."""

    job: Job
    position: int  #: from 1, over the jobs of all owners
    waits_for: WaitsFor


@dataclass(frozen=True)
class Outlook:
    """What decides, beside the job itself, what it waits for."""

    moment: float  #: the database's clock
    num_workers: int  #: live ones of this release
    max_running_per_owner: int | None
    running: dict[str, int]  #: owner -> running jobs; empty where there is no limit
    num_others: int = 0  #: live workers of other releases, which can't take jobs from these tables
    sole_owner: str | None = None  #: whose jobs are all that is in the queue

    def waits_for(self, job: Job | JobRow) -> WaitsFor | None:
        """What a job waits for right now; None: it is not queued."""
        if job.state != JobState.QUEUED:
            return None
        if self.num_workers == 0:
            return WaitsFor.NO_WORKER_OF_THIS_VERSION if self.num_others else WaitsFor.NO_LIVE_WORKER
        if job.not_before > self.moment:
            return WaitsFor.DISK_FULL if job.state_reason == "disk_full" else WaitsFor.RETRY_BACKOFF
        limit = self.max_running_per_owner
        if limit is not None and self.running.get(job.owner, 0) >= limit:
            return WaitsFor.OWNER_LIMIT
        return WaitsFor.A_FREE_SLOT


def get_outlook(session: Session, owners: Collection[str], max_running_per_owner: int | None) -> Outlook:
    """How things stand for the queued jobs of some owners."""
    moment, num_workers, num_live, first, last = session.connection().execute(_standing()).one()
    counts: dict[str, int] = {}
    if max_running_per_owner is not None:
        running = select(Job.owner, func.count()).where(Job.state == JobState.RUNNING, Job.owner.in_(owners))
        counts = {owner: int(count) for owner, count in session.execute(running.group_by(Job.owner))}
    return Outlook(
        *(moment, num_workers, max_running_per_owner, counts),
        num_others=num_live - num_workers,
        sole_owner=first if first == last else None,
    )


@cache
def _standing() -> Select[Any]:
    """The database's clock, the live workers of this release and of any, and the queue's first and last owner."""
    ends = (select(end(Job.owner)).where(_QUEUED).scalar_subquery() for end in (func.min, func.max))
    counts = (query.scalar_subquery() for query in (count_of_this_release(), count_workers()))
    return select(now(), *counts, *ends)


# --- the order ---


@dataclass(order=True)
class _Line:
    """An owner's jobs that may be claimed; lines compare by whose turn it is."""

    key: tuple[int, int, int, float, str] = field(init=False)
    head: Turn = field(compare=False)
    running: int = field(compare=False)
    last_claim: int = field(compare=False)
    fetched: deque[Turn] = field(default_factory=deque, compare=False)
    fetch: int = field(default=FIRST_FETCH, compare=False)

    def __post_init__(self) -> None:
        self._sort()

    def _sort(self) -> None:
        head = self.head
        self.key = (-head.priority, self.running, self.last_claim, head.queued_at, head.job_id)

    def step(self, session: Session, moment: float, claim_number: int) -> bool:
        """As if its head was claimed with that number; False: no other job stands behind it."""
        self.running, self.last_claim = self.running + 1, claim_number
        if not self.fetched and self.fetch:
            behind = _list_behind(session, moment, self.head, self.fetch)
            self.fetch = 2 * self.fetch if len(behind) == self.fetch else 0
            self.fetched.extend(behind)
        if not self.fetched:
            return False
        self.head = self.fetched.popleft()
        self._sort()
        return True


def in_turn(
    session: Session, moment: float, max_running_per_owner: int | None, *, beyond_limit: bool = False
) -> Iterator[Turn]:
    """The jobs that may be claimed at a moment, in the order of the claims, if no job ended meanwhile.

    Args:
        session: any.
        moment: by the database's clock.
        max_running_per_owner: None: no limit.
        beyond_limit: go on with the jobs that their owners' limit holds back.
    """
    lines, held_back = _list_lines(session, moment), []
    number = max((line.last_claim for line in lines), default=0)
    for limit in (max_running_per_owner, None) if beyond_limit else (max_running_per_owner,):
        heapq.heapify(lines)
        while lines:
            line = heapq.heappop(lines)
            if limit is not None and line.running >= limit:
                held_back.append(line)
                continue
            yield line.head
            number += 1
            if line.step(session, moment, number):
                heapq.heappush(lines, line)
        lines, held_back = held_back, []


def _list_lines(session: Session, moment: float) -> list[_Line]:
    """One line an owner who has a job that may be claimed; costs by the number of owners, not of jobs."""
    rows = session.connection().execute(_standings(), {"moment": moment})
    return [_Line(Turn(*row[:4]), int(row.running), int(row.last_claim)) for row in rows]


@cache
def _standings() -> Select[Any]:
    """Of each owner in the queue the first job, the number of running ones and the last claim.

    Hops from owner to owner, and to each one's first job, through the index `ix_jobs_turn`. Made once: to make it takes
    longer than to run it.
    """
    owners = select(func.min(Job.owner).label("owner")).where(_QUEUED).cte("owners", recursive=True)
    later, ahead, running, past = (aliased(Job) for _ in range(4))
    queued = JobState.QUEUED
    next_owner = select(func.min(later.owner)).where(later.state == queued, later.owner > owners.c.owner)
    hop = select(next_owner.correlate(owners).scalar_subquery()).where(owners.c.owner.is_not(None))
    owners = owners.union_all(hop)
    head = (
        select(ahead.id)
        .where(ahead.state == queued, ahead.owner == owners.c.owner, ahead.not_before <= bindparam("moment"))
        .order_by(ahead.priority.desc(), ahead.queued_at, ahead.id)
        .limit(1)
    )
    num_running = select(func.count()).where(running.state == JobState.RUNNING, running.owner == owners.c.owner)
    last_claim = select(func.max(past.claim_number)).where(past.owner == owners.c.owner)
    parts = {"id": head, "running": num_running, "last_claim": last_claim}
    columns = (part.correlate(owners).scalar_subquery().label(name) for name, part in parts.items())
    standings = select(owners.c.owner, *columns).where(owners.c.owner.is_not(None)).cte("standings")
    standings = standings.prefix_with("MATERIALIZED", dialect="postgresql")  # else each head is looked for three times
    of_head = (
        select(column).where(Job.id == standings.c.id).correlate(standings).scalar_subquery()
        for column in (Job.priority, Job.queued_at)
    )
    return select(standings.c.id, standings.c.owner, *of_head, standings.c.running, standings.c.last_claim).where(
        standings.c.id.is_not(None)
    )


def _list_behind(session: Session, moment: float, turn: Turn, limit: int) -> list[Turn]:
    """The jobs of the same owner that stand behind one: those of its priority, then lower ones.

    Two searches, as each begins at its place in the index; one for both would begin at the front.
    """
    of_owner = _turns().where(_QUEUED, Job.owner == turn.owner, Job.not_before <= moment)
    found: list[Turn] = []
    for behind in (_is_behind(turn), Job.priority < turn.priority):
        query = of_owner.where(behind).order_by(*_IN_LINE).limit(limit - len(found))
        found += [Turn(*row) for row in session.execute(query)]
        if len(found) == limit:
            break
    return found


def _is_behind(turn: Turn) -> ColumnElement[bool]:
    place = tuple_(Job.queued_at, Job.id) > tuple_(turn.queued_at, turn.job_id)
    return and_(Job.priority == turn.priority, place)


def _turns() -> Select[str, str, int, float]:
    return select(Job.id, Job.owner, Job.priority, Job.queued_at)


# --- the whole queue ---


def walk(session: Session, moment: float, max_running_per_owner: int | None) -> Iterator[Turn]:
    """Every queued job: first those that may be claimed, then those beyond their owner's limit, then those not due."""
    yield from in_turn(session, moment, max_running_per_owner, beyond_limit=True)
    yield from _list_not_due(session, moment)


def _list_not_due(session: Session, moment: float) -> Iterator[Turn]:
    not_due = _turns().where(_QUEUED, Job.not_before > moment)
    for row in session.execute(not_due.order_by(Job.not_before, *_IN_LINE)):
        yield Turn(*row)


def list_queue(
    session: Session, owner: str, *, limit: int, after: str | None, max_running_per_owner: int | None
) -> Page[Waiting]:
    """A page of an owner's queued jobs, the next one to be claimed first.

    A cursor whose job has left the queue meanwhile means its front: what stood before it has most likely left too.
    While jobs of several owners wait, a page costs by its depth, as they are counted from the front.

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
    """A job; None: it has left the queue."""
    query = select(Job).where(Job.id == job_id, Job.owner == owner)
    job = session.scalar(query) if has_form(job_id, "job") else None
    if job is None:
        raise InvalidRequest(f"there is no job {job_id!r} of yours: take `last_id` of a page", param="after")
    return job if job.state == JobState.QUEUED else None


def _walk_among(session: Session, outlook: Outlook, owner: str, last: Job | None) -> Iterator[tuple[int, Turn]]:
    """An owner's jobs behind one, with their positions, where others' wait too."""
    passed = last is None
    for position, turn in enumerate(walk(session, outlook.moment, outlook.max_running_per_owner), start=1):
        if passed and turn.owner == owner:
            yield position, turn
        passed = passed or (last is not None and turn.job_id == last.id)


def _walk_alone(session: Session, moment: float, owner: str, last: Job | None) -> Iterator[tuple[int, Turn]]:
    """The same where nobody else's wait: what stands before is counted in the index and not read."""
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
    """An owner's jobs behind one that may be claimed."""
    fetch = FIRST_FETCH
    while behind := _list_behind(session, moment, turn, fetch):
        yield from behind
        turn, fetch = behind[-1], 2 * fetch


def _count_due(
    session: Session, moment: float, owner: str, *, ahead_of: Job | JobRow | None, at_most: int | None = None
) -> int:
    """How many of an owner's jobs may be claimed, all of them or those before one; `at_most` ends the count there."""
    parts: list[ColumnElement[bool]] = [true()]
    if ahead_of is not None:
        before = tuple_(Job.queued_at, Job.id) < tuple_(ahead_of.queued_at, ahead_of.id)
        parts = [Job.priority > ahead_of.priority, and_(Job.priority == ahead_of.priority, before)]
    count = 0
    for part in parts:
        line = select(Job.id).where(_QUEUED, Job.owner == owner, Job.not_before <= moment, part).limit(at_most)
        count += session.connection().execute(select(func.count()).select_from(line.subquery())).scalar_one()
    return count


def find_positions(session: Session, rows: Sequence[Job | JobRow], outlook: Outlook) -> dict[str, int]:
    """The positions of queued jobs, from 1; a job that stands too far back is left out."""
    queued = [job for job in rows if job.state == JobState.QUEUED]
    if len(queued) == 1 and outlook.sole_owner is not None and queued[0].not_before <= outlook.moment:
        [job] = queued
        ahead = _count_due(session, outlook.moment, job.owner, ahead_of=job, at_most=POSITIONS_WITHIN)
        return {job.id: ahead + 1} if ahead < POSITIONS_WITHIN else {}
    wanted, found = {job.id for job in queued}, dict[str, int]()
    if not wanted:
        return found
    if outlook.sole_owner is not None:
        line = select(Job.id).where(_QUEUED, Job.owner == outlook.sole_owner, Job.not_before <= outlook.moment)
        ids = list(session.connection().execute(line.order_by(*_IN_LINE).limit(POSITIONS_WITHIN)).scalars())
        if len(ids) < POSITIONS_WITHIN:
            ids += [turn.job_id for turn in islice(_list_not_due(session, outlook.moment), POSITIONS_WITHIN - len(ids))]
        return {job_id: position for position, job_id in enumerate(ids, start=1) if job_id in wanted}
    for position, turn in enumerate(walk(session, outlook.moment, outlook.max_running_per_owner), start=1):
        if turn.job_id in wanted:
            found[turn.job_id] = position
        if len(found) == len(wanted) or position == POSITIONS_WITHIN:
            break
    return found
