"""Random lives of jobs over the HTTP API, with workers and reaper played step by step; judged after every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pydantic import SecretStr
from sqlalchemy import delete, select

from api.app import create_app
from api.serving.runtime import go_on
from tests.api.served import FakeRuntime, Served
from tests.chaos.history import FINAL, Event, Look, Record, judge
from tests.postgres import create_database
from tests.trainyard.rows import commit, look, write
from trainyard.database.connection import Database
from trainyard.database.schema import migrate
from trainyard.database.tables import Base, JobEvent
from trainyard.errors import LeaseLost
from trainyard.scheduling import leases
from trainyard.scheduling.claim_message import claim_at_once
from trainyard.scheduling.leases import Ending, Lease
from trainyard.scheduling.queue import QueueUnavailable, SilentWaker
from trainyard.settings import Settings
from trainyard.upkeep.reconciler import Reaper, Relay

FAR_S = 1e6  # between two rounds of the app's own reconciler: here the machine makes them
REAPER_S = 10.0
MOST_JOBS = 2  # few, so that much happens to each
_KEPT = {"counters", "datasets", "workers"}
ENDINGS = [
    Ending(succeeded=True, weights_sha256="a" * 64),
    Ending(stopped="drain"),
    *[Ending(failure=code) for code in ("internal_error", "hung", "trainer_killed", "disk_full", "diverged")],
]


class BrokenWaker(SilentWaker):
    """The queue is down."""

    def waiting(self) -> int:
        raise QueueUnavailable("down")


class NoRuntime(FakeRuntime):
    """Without one the app loads nothing: it would find the files of our checkpoints gone, and say so at any moment."""

    def start(self, pause: Callable[[], object] = go_on) -> None:
        raise RuntimeError("there is no torch")


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    url = None
    if request.param == "postgres":
        url = SecretStr(create_database(request.getfixturevalue("postgres_url")))
    folder = tmp_path_factory.mktemp("machine")
    settings = Settings(data_dir=folder, database_url=url, relay_s=FAR_S, reaper_s=FAR_S, backoff_s=0)
    database = Database(settings.sqlalchemy_url)
    migrate(database)
    app = create_app(settings, database=database, waker=SilentWaker(), runtime=NoRuntime())
    served = Served(app, database, settings)
    yield served
    served.stop()
    database.close()


class Jobs(RuleBasedStateMachine):
    """Owners by HTTP, workers by the database."""

    served: Served

    @initialize()
    def begin(self) -> None:
        self.database, self.http = self.served.database, self.served.http
        with self.database.writing() as session:
            for table in reversed(Base.metadata.sorted_tables):
                if table.name not in _KEPT:
                    session.execute(delete(table))
        self.clock = 0.0
        self.reaper = Reaper(
            self.database, interval_s=REAPER_S, lease_ttl_s=60, first_backoff_s=0, clock=lambda: self.clock
        )
        self.has_reaped = False
        self.by_key: dict[str, str] = {}
        self.jobs: list[str] = []
        self.live: list[Lease] = []
        self.dead: list[Lease] = []
        self.cancelled: dict[str, float] = {}
        self.looks: dict[str, list[Look]] = {}
        self.step = self.slot = 0
        self.submit(None)
        self.claim("wrk_a")

    def _pick(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(self.jobs))

    def _lease(self, data: st.DataObject, leases_: list[Lease]) -> Lease:
        return data.draw(st.sampled_from(leases_))

    # --- the owner ---

    @precondition(lambda self: len(self.jobs) < MOST_JOBS)
    @rule(key=st.sampled_from(["a", "b", None]))
    def submit(self, key: str | None) -> None:
        headers = {"Idempotency-Key": key} if key else {}
        answer = self.http.post("/jobs", json={"dataset": "digits", "seed": 1}, headers=headers)
        job_id = answer.json()["id"]
        if key in self.by_key:
            assert (answer.status_code, job_id) == (200, self.by_key[key])
            return
        assert answer.status_code == 202
        self.jobs.append(job_id)
        if key:
            self.by_key[key] = job_id

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), action=st.sampled_from(["cancel", "pause", "resume"]))
    def ask(self, data: st.DataObject, action: str) -> None:
        job_id = self._pick(data)
        before = look(self.database, job_id).shown_state
        answer = self.http.post(f"/jobs/{job_id}/{action}")
        assert answer.status_code in {202, 409}, answer.text
        if answer.status_code == 409:
            assert look(self.database, job_id).shown_state == before
        elif action == "cancel":
            self.cancelled[job_id] = 0.0
            assert answer.json()["state"] in {"cancelling", "cancelled"}
        elif action == "pause":
            assert answer.json()["state"] in {"pausing", "paused"}

    @precondition(lambda self: 0 < len(self.jobs) < MOST_JOBS)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        job_id = self._pick(data)
        answer = self.http.post(f"/jobs/{job_id}/retry", json={"from": "start"})
        if look(self.database, job_id).state in FINAL:
            assert (answer.status_code, answer.json()["parent_id"]) == (202, job_id)
            self.jobs.append(answer.json()["id"])
        else:
            assert answer.status_code == 409

    # --- workers ---

    @rule(worker=st.sampled_from(["wrk_a", "wrk_b"]))
    def claim(self, worker: str) -> None:
        """Also what a wake-up without a job does."""
        self.slot += 1
        claimed = claim_at_once(self.database, worker, 60, slot=self.slot)
        if claimed is not None:
            assert claimed[0].id not in {lease.job_id for lease in self.live}
            self.live.append(claimed[1])

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        lease = self._lease(data, self.live)
        self.step += 1
        with self.database.writing() as session:
            leases.heartbeat(session, lease, 60, progress={"step": self.step})

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def checkpoint(self, data: st.DataObject) -> None:
        self.step += 1
        commit(self.database, self._lease(data, self.live), self.step)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), ending=st.sampled_from(ENDINGS))
    def finish(self, data: st.DataObject, ending: Ending) -> None:
        lease = self._lease(data, self.live)
        stopped = look(self.database, lease.job_id).desired
        with self.database.writing() as session:
            leases.end_attempt(
                session, lease, Ending(stopped=stopped) if stopped == "pause" else ending, first_backoff_s=0
            )
        self._bury(lease)

    @precondition(lambda self: self.dead)
    @rule(data=st.data(), act=st.sampled_from(["heartbeat", "checkpoint", "finish"]))
    def stale(self, data: st.DataObject, act: str) -> None:
        """Whatever a worker writes whose lease is over is refused."""
        self._refuse(self._lease(data, self.dead), act)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), act=st.sampled_from(["heartbeat", "checkpoint", "finish"]))
    def take_over(self, data: st.DataObject, act: str) -> None:
        """A worker freezes, another one gets its job, and the first one writes when it wakes."""
        lease = self._lease(data, self.live)
        write(self.database, lease.job_id, lease_expires_at=1.0)
        self.reap(1.0)
        assert lease in self.dead
        self.claim("wrk_b")
        self._refuse(lease, act)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def cancel_and_succeed(self, data: st.DataObject) -> None:
        """The last step is done before the worker hears of the cancel."""
        lease = self._lease(data, self.live)
        assert self.http.post(f"/jobs/{lease.job_id}/cancel").status_code == 202
        self.cancelled[lease.job_id] = 0.0
        self._write(lambda session: leases.end_attempt(session, lease, ENDINGS[0], first_backoff_s=0))
        self._bury(lease)

    def _refuse(self, lease: Lease, act: str) -> None:
        acts: dict[str, Callable[[], object]] = {
            "heartbeat": lambda: self._write(lambda session: leases.heartbeat(session, lease, 60)),
            "checkpoint": lambda: commit(self.database, lease, self.step + 1),
            "finish": lambda: self._write(
                lambda session: leases.end_attempt(session, lease, ENDINGS[0], first_backoff_s=0)
            ),
        }
        with pytest.raises(LeaseLost):
            acts[act]()

    def _write(self, act: Callable[..., object]) -> None:
        with self.database.writing() as session:
            act(session)

    def _bury(self, lease: Lease) -> None:
        self.live.remove(lease)
        self.dead.append(lease)

    # --- faults and the reconciler ---

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def kill_worker(self, data: st.DataObject) -> None:
        write(self.database, self._lease(data, self.live).job_id, lease_expires_at=1.0)

    @rule(slept=st.sampled_from([1.0, 1.0, 1000.0]))
    def reap(self, slept: float) -> None:
        """After a jump of the clock every lease lives on."""
        self.clock += slept
        reaped = self.reaper.tick()
        assert not (reaped and self.has_reaped and slept > 2 * REAPER_S)
        self.has_reaped = True
        for lease in [it for it in self.live if it.job_id in reaped]:
            self._bury(lease)

    @rule(waker=st.sampled_from([BrokenWaker, SilentWaker]))
    def relay(self, waker: type[SilentWaker]) -> None:
        """Wake-up messages and their failure change no history."""
        before = self._events()
        Relay(self.database, waker(), wake_again_s=0, clock=lambda: self.clock).tick()
        assert self._events() == before

    # --- the verdict ---

    def _events(self) -> dict[str, list[Event]]:
        events: dict[str, list[Event]] = {job_id: [] for job_id in self.jobs}
        with self.database.reading() as session:
            for row in session.scalars(select(JobEvent).order_by(JobEvent.job_id, JobEvent.seq)):
                told = (row.seq, row.at, row.type, row.state, row.reason, row.lease_epoch, row.worker_id, row.data)
                events.setdefault(row.job_id, []).append(Event(*told))
        return events

    @invariant()
    def keeps_every_promise(self) -> None:
        if not hasattr(self, "jobs"):
            return
        listed = self.http.get("/jobs", params={"limit": 100}).json()["data"]
        for job in listed:
            step = (job["progress"] or {}).get("step") or 0
            told = (job["state"], job["attempt"], step, job["finished_at"], job["weights_sha256"])
            self.looks.setdefault(job["id"], []).append(Look(float(len(self.looks.get(job["id"], []))), *told))
        assert {job["id"] for job in listed} == set(self.jobs)
        events = self._events()
        for job in listed:
            assert events[job["id"]][-1].state == job["state"]
        records = [Record(job_id, told, self.looks[job_id]) for job_id, told in events.items()]
        broken = [line for line in judge(records, self.jobs) if not line.startswith("1 no loss: it ended nowhere")]
        assert broken == []
        for job_id in self.cancelled:
            assert events[job_id][-1].state in {"cancelling", "cancelled"}


def _pass(served: Served, examples: int, steps: int) -> None:
    Jobs.served = served
    checks = list(HealthCheck)
    run_state_machine_as_test(
        Jobs,
        settings=profile(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks, database=None
        ),
    )


def test_random_lives_of_jobs(served: Served) -> None:
    _pass(served, 10, 30)


@pytest.mark.chaos
def test_many_random_lives_of_jobs(served: Served) -> None:
    _pass(served, 200, 50)
