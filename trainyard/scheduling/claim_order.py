"""The order in which queued jobs are claimed, among those of one kind.

The highest priority goes first; within a priority the owner with the fewest running jobs, then the owner whose last
claim is longest ago. Among an owner's jobs the one that took its place first goes first; a job that comes back from a
worker keeps its place. An owner with the allowed number of running jobs gets no turn. The claim takes the first job of
`in_turn`, and `queue_view` shows the same order, so the two can't differ.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import CTE, ColumnElement, Float, Select, and_, bindparam, func, or_, select, true, tuple_
from sqlalchemy.orm import Session, aliased

from trainyard.database.tables import Job
from trainyard.states import JobState, WorkKind

FIRST_FETCH = 50  # jobs of an owner read at once; doubled each time, so that a deep page costs no more than its depth
_KIND: ColumnElement[WorkKind] = bindparam("kind", type_=Job.kind.type)
_MOMENT: ColumnElement[float] = bindparam("moment", type_=Float())
IN_LINE = (Job.priority.desc(), Job.queued_at, Job.id)  # the order of an owner's jobs


@dataclass(frozen=True)
class Turn:
    """A queued job, with what the order depends on."""

    job_id: str
    owner: str
    priority: int
    queued_at: float


@dataclass(order=True)
class _Line:
    """An owner's jobs that may be claimed. Lines compare by whose turn it is."""

    key: tuple[int, int, int, float, str] = field(init=False)
    kind: WorkKind = field(compare=False)
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
        """Go on as if the first job was claimed with that number. False: no other job is behind it."""
        self.running, self.last_claim = self.running + 1, claim_number
        if not self.fetched and self.fetch:
            behind = list_behind(session, moment, self.head, self.fetch, self.kind)
            self.fetch = 2 * self.fetch if len(behind) == self.fetch else 0
            self.fetched.extend(behind)
        if not self.fetched:
            return False
        self.head = self.fetched.popleft()
        self._sort()
        return True


def is_queued(kind: WorkKind = WorkKind.TRAIN) -> ColumnElement[bool]:
    """Build the condition that a row is in the queue of its kind."""
    return and_(Job.state == JobState.QUEUED, Job.kind == kind)


def in_turn(
    session: Session,
    moment: float,
    max_running_per_owner: int | None,
    *,
    kind: WorkKind = WorkKind.TRAIN,
    beyond_limit: bool = False,
) -> Iterator[Turn]:
    """Yield the jobs that may be claimed at a moment, in the order of claims, as if no job ended in between.

    Args:
        session: any.
        moment: by the database's clock.
        max_running_per_owner: None: no limit.
        kind: of the jobs; an owner's others don't count.
        beyond_limit: go on with the jobs that their owners' limit holds back.
    """
    lines, held_back = _list_lines(session, moment, kind), []
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


def _list_lines(session: Session, moment: float, kind: WorkKind) -> list[_Line]:
    """Return a line for each owner with a job that may be claimed. It costs by the number of owners, not of jobs."""
    heads = _hop_laterally if session.get_bind().dialect.name == "postgresql" else _hop
    rows = session.connection().execute(_standings(heads, _MOMENT, _KIND), {"moment": moment, "kind": kind})
    return [_Line(kind, Turn(*row[:4]), int(row.running), int(row.last_claim)) for row in rows]


def first_in_turn(
    moment: ColumnElement[float], max_running_per_owner: ColumnElement[int], kind: ColumnElement[WorkKind]
) -> Select[str]:
    """Select the id of the job that `in_turn` yields first, for a statement that claims it. A limit of NULL is none."""
    lines = _standings(_hop_laterally, moment, kind).subquery()
    has_turn = or_(max_running_per_owner.is_(None), lines.c.running < max_running_per_owner)
    order = (lines.c.priority.desc(), lines.c.running, lines.c.last_claim, lines.c.queued_at, lines.c.id)
    return select(lines.c.id).where(has_turn).order_by(*order).limit(1)


@cache
def _standings(
    heads: Callable[[ColumnElement[float], ColumnElement[WorkKind]], CTE],
    moment: ColumnElement[float],
    kind: ColumnElement[WorkKind],
) -> Select[Any]:
    """Select each owner with a job that may be claimed: its first one, the number of running jobs and the last claim.

    It is built once, because to build it takes longer than to run it.
    """
    lines = heads(moment, kind)
    running, past = aliased(Job), aliased(Job)
    runs = (running.owner == lines.c.owner, running.kind == kind, running.state == JobState.RUNNING)
    num_running = select(func.count()).where(*runs)
    last_claim = select(func.max(past.claim_number)).where(past.owner == lines.c.owner, past.kind == kind)
    parts = {"running": num_running, "last_claim": last_claim}
    return select(lines, *(part.correlate(lines).scalar_subquery().label(name) for name, part in parts.items()))


def _hop(moment: ColumnElement[float], kind: ColumnElement[WorkKind]) -> CTE:
    """Go from one owner's first job to the next owner's in the index `ix_jobs_turn`."""
    heads = select(_head(moment, kind).scalar_subquery().label("id")).cte("heads", recursive=True)
    here = aliased(Job)
    owner = select(here.owner).where(here.id == heads.c.id).correlate(heads).scalar_subquery()
    hop = select(_head(moment, kind, after=owner).correlate(heads).scalar_subquery()).where(heads.c.id.is_not(None))
    heads = heads.union_all(hop)
    of_head = (
        select(column).where(Job.id == heads.c.id).correlate(heads).scalar_subquery().label(column.key)
        for column in (Job.owner, Job.priority, Job.queued_at)  # a join might begin at the jobs
    )
    return select(heads.c.id, *of_head).where(heads.c.id.is_not(None)).cte("lines")


def _hop_laterally(moment: ColumnElement[float], kind: ColumnElement[WorkKind]) -> CTE:
    """Do the same as PostgreSQL can. It names fewer tables, and the server plans a claim anew each time."""
    first = _head(moment, kind, whole=True).subquery()
    lines = select(first).cte("lines", recursive=True)
    behind = _head(moment, kind, after=lines.c.owner, whole=True).correlate(lines).lateral()
    return lines.union_all(select(behind).select_from(lines.join(behind, true())))


def _head(
    moment: ColumnElement[float],
    kind: ColumnElement[WorkKind],
    *,
    after: ColumnElement[str] | None = None,
    whole: bool = False,
) -> Select[Any]:
    """Select the first job (or its id alone) of the first owner (after a given one) who has one that may be claimed."""
    job = aliased(Job)
    owners = () if after is None else (job.owner > after,)
    queued = (job.state == JobState.QUEUED, job.kind == kind)
    columns = (job.id, job.owner, job.priority, job.queued_at) if whole else (job.id,)
    due = select(*columns).where(*queued, job.not_before <= moment, *owners)
    return due.order_by(job.owner, job.priority.desc(), job.queued_at, job.id).limit(1)


def list_behind(session: Session, moment: float, turn: Turn, limit: int, kind: WorkKind = WorkKind.TRAIN) -> list[Turn]:
    """Return the jobs of the same owner that come after one: those of its priority, then lower ones.

    It needs two searches, each of which begins at its place in the index; a single search would begin at the front.
    """
    of_owner = select_turns().where(is_queued(kind), Job.owner == turn.owner, Job.not_before <= moment)
    found: list[Turn] = []
    for behind in (_is_behind(turn), Job.priority < turn.priority):
        query = of_owner.where(behind).order_by(*IN_LINE).limit(limit - len(found))
        found += [Turn(*row) for row in session.execute(query)]
        if len(found) == limit:
            break
    return found


def _is_behind(turn: Turn) -> ColumnElement[bool]:
    place = tuple_(Job.queued_at, Job.id) > tuple_(turn.queued_at, turn.job_id)
    return and_(Job.priority == turn.priority, place)


def select_turns() -> Select[str, str, int, float]:
    """Select what the order needs to know about jobs, without a condition."""
    return select(Job.id, Job.owner, Job.priority, Job.queued_at)
