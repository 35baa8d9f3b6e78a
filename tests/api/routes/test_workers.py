from __future__ import annotations

from typing import Any

import httpx
import pytest
from sqlalchemy import update

from tests.api.conftest import Serve
from tests.api.served import Served
from trainyard.artifacts import datasets
from trainyard.client import Client
from trainyard.database.connection import now
from trainyard.database.tables import Job, Worker
from trainyard.jobs import jobs
from trainyard.jobs.jobs import NewJob
from trainyard.scheduling import leases, workers
from trainyard.scheduling.workers import DeviceReading, WorkerIdentity

NO_READING = {"device_name": None, "memory_bytes": None, "memory_used_bytes": None, "utilisation": None}


def add_worker(served: Served, worker_id: str, *devices: str, **columns: Any) -> None:
    with served.database.writing() as session:
        workers.register(session, WorkerIdentity(worker_id, "host-1", 7, devices or ("cpu",)))
        session.flush()
        if columns:
            session.execute(update(Worker).where(Worker.id == worker_id).values(columns))


def queue_job(served: Served, **fields: Any) -> str:
    response = served.http.post("/jobs", json={"dataset": "digits"} | fields)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def claim(served: Served, worker_id: str, slot: int) -> str:
    with served.database.writing() as session:
        claimed = leases.claim(session, worker_id, 60, slot=slot)
        assert claimed is not None
        return claimed[0].id


def listed(http: httpx.Client, path: str) -> list[dict[str, Any]]:
    response = http.get(path)
    assert response.status_code == 200, response.text
    return list(response.json()["data"])


class TestWorkers:
    def test_a_worker_has_its_slots_and_the_jobs_in_them(self, served: Served) -> None:
        assert listed(served.http, "/workers") == []
        add_worker(served, "wrk_1", "cuda:0", "cuda:1")
        job = queue_job(served)
        assert claim(served, "wrk_1", 1) == job
        [worker] = listed(served.http, "/workers")
        assert (worker["object"], worker["host"], worker["pid"], worker["state"]) == ("worker", "host-1", 7, "live")
        assert worker["version"]
        assert worker["slots"] == [
            NO_READING | {"device": "cuda:0", "busy": False, "job": None},
            NO_READING | {"device": "cuda:1", "busy": True, "job": job},
        ]
        assert served.http.get(f"/jobs/{job}").json()["worker"] == "wrk_1"
        served.http.post(f"/jobs/{job}/cancel")
        with served.database.writing() as session:
            lease = leases.Lease(job, 1, "wrk_1")
            leases.end_attempt(session, lease, leases.Ending(stopped="cancel"), first_backoff_s=0)
        assert listed(served.http, "/workers")[0]["slots"][1] == NO_READING | {
            "device": "cuda:1",
            "busy": False,
            "job": None,
        }

    def test_how_full_and_how_busy_a_device_is_comes_with_the_heartbeat(self, served: Served) -> None:
        add_worker(served, "wrk_1", "cuda:0", "cpu")
        identity = WorkerIdentity("wrk_1", "host-1", 7, ("cuda:0", "cpu"))
        reading = DeviceReading("H100", 80_000, 9_100, 0.62)
        with served.database.writing() as session:
            workers.mark_seen(session, identity, draining=False, readings=[reading, None])
        gpu, cpu = listed(served.http, "/workers")[0]["slots"]
        told = {"device_name": "H100", "memory_bytes": 80_000, "memory_used_bytes": 9_100, "utilisation": 0.62}
        assert (gpu, cpu) == (
            told | {"device": "cuda:0", "busy": False, "job": None},
            NO_READING | {"device": "cpu", "busy": False, "job": None},
        )
        with served.database.writing() as session:
            session.execute(update(Worker).values(last_seen_at=now() - 20))
        [lost] = listed(served.http, "/workers")
        assert lost["slots"][0] == gpu | {"memory_used_bytes": None, "utilisation": None}, "nobody knows them any more"
        with served.database.writing() as session:
            workers.mark_seen(session, identity, draining=False, readings=[None, None])
        assert listed(served.http, "/workers")[0]["slots"][0] == NO_READING | {
            "device": "cuda:0",
            "busy": False,
            "job": None,
        }

    def test_the_job_of_another_owner_is_not_named(self, served: Served) -> None:
        add_worker(served, "wrk_1")
        job = queue_job(served)
        claim(served, "wrk_1", 0)
        with served.database.writing() as session:
            session.execute(update(Job).where(Job.id == job).values(owner="bob"))
        assert listed(served.http, "/workers")[0]["slots"] == [
            NO_READING | {"device": "cpu", "busy": True, "job": None}
        ]

    @pytest.mark.parametrize(
        ("columns", "state", "is_listed"),
        [
            ({}, "live", True),
            ({"draining": True}, "draining", True),
            ({"last_seen_at": now() - 20}, "lost", True),
            ({"last_seen_at": now() - 20, "draining": True}, "lost", True),
            ({"last_seen_at": now() - 4000}, "lost", False),
            ({"stopped_at": now(), "draining": True}, "stopped", True),
            ({"stopped_at": now() - 4000, "last_seen_at": now() - 4000}, "stopped", False),
        ],
    )
    def test_how_a_worker_stands(self, served: Served, columns: dict[str, Any], state: str, is_listed: bool) -> None:
        add_worker(served, "wrk_1", **columns)
        for wanted in ("live", "draining", "lost", "stopped"):
            found = [worker["state"] for worker in listed(served.http, f"/workers?state={wanted}")]
            assert found == ([state] if wanted == state else [])
        assert [worker["id"] for worker in listed(served.http, "/workers")] == (["wrk_1"] if is_listed else [])

    def test_pages_go_from_the_newest_on(self, served: Served) -> None:
        for number in range(5):
            add_worker(served, f"wrk_{number}", started_at=float(number))
        page = served.http.get("/workers?limit=3").json()
        assert ([row["id"] for row in page["data"]], page["has_more"]) == (["wrk_4", "wrk_3", "wrk_2"], True)
        rest = served.http.get(f"/workers?limit=3&after={page['last_id']}").json()
        assert ([row["id"] for row in rest["data"]], rest["has_more"]) == (["wrk_1", "wrk_0"], False)
        assert served.http.get("/workers?after=wrk_9").status_code == 422
        assert served.http.get("/workers?state=asleep").status_code == 422

    def test_several_states_are_listed_and_all_are_counted(self, served: Served) -> None:
        for number in range(3):
            add_worker(served, f"wrk_live_{number}")
        add_worker(served, "wrk_draining", draining=True)
        add_worker(served, "wrk_lost", last_seen_at=now() - 4000)
        for number in range(25):
            add_worker(served, f"wrk_stopped_{number:02}", stopped_at=now() - 4000, started_at=float(number))
        page = served.http.get("/workers?state=live&state=draining&limit=100").json()
        assert {row["state"] for row in page["data"]} == {"live", "draining"}
        assert (len(page["data"]), page["has_more"]) == (4, False)
        assert page["counts"] == {"live": 3, "draining": 1, "lost": 1, "stopped": 25}
        stopped = served.http.get("/workers?state=stopped").json()
        assert ([row["id"] for row in stopped["data"][:2]], stopped["has_more"]) == (
            ["wrk_stopped_24", "wrk_stopped_23"],
            True,
        )
        assert stopped["counts"] == page["counts"]
        with Client(served.url) as client:
            assert {worker["state"] for worker in client.list_workers(state=["draining", "lost"])} == {
                "draining",
                "lost",
            }

    def test_a_forgotten_worker_that_wakes_is_there_again(self, served: Served) -> None:
        add_worker(served, "wrk_1", last_seen_at=now() - 100_000)
        add_worker(served, "wrk_2", last_seen_at=now() - 80_000)
        with served.database.writing() as session:
            workers.forget_gone(session)
        assert [row["id"] for row in listed(served.http, "/workers?state=lost")] == ["wrk_2"]
        with served.database.writing() as session:
            workers.mark_seen(session, WorkerIdentity("wrk_1", "host-1", 7, ("cpu",)), draining=False)
        assert [row["id"] for row in listed(served.http, "/workers")] == ["wrk_1"]


class TestQueue:
    def test_it_lists_what_waits_in_the_order_of_the_claims(self, served: Served) -> None:
        assert listed(served.http, "/queue") == []
        first, second, third = (queue_job(served, name=f"n{number}") for number in range(3))
        rows = listed(served.http, "/queue")
        assert [(row["id"], row["position"], row["waiting_for"]) for row in rows] == [
            (first, 1, "no_live_worker"),
            (second, 2, "no_live_worker"),
            (third, 3, "no_live_worker"),
        ]
        assert rows[0] | {"queued_at": None} == {
            "id": first,
            "object": "queued_job",
            "position": 1,
            "waiting_for": "no_live_worker",
            "name": "n0",
            "dataset": "ds_digits",
            "recipe": "quick",
            "priority": 0,
            "queued_at": None,
            "due_at": None,
            "links": {"job": f"/jobs/{first}", "cancel": f"/jobs/{first}/cancel"},
        }
        add_worker(served, "wrk_1")
        assert claim(served, "wrk_1", 0) == first
        assert [row["id"] for row in listed(served.http, "/queue")] == [second, third]

    def test_the_job_says_the_same(self, serve: Serve) -> None:
        served = serve(max_running_per_owner=1)
        add_worker(served, "wrk_1")
        running, waiting, retried = (queue_job(served) for _ in range(3))
        assert claim(served, "wrk_1", 0) == running
        with served.database.writing() as session:
            late = {"not_before": now() + 100, "state_reason": "disk_full"}
            session.execute(update(Job).where(Job.id == retried).values(late))
        for job_id, position, reason in ((waiting, 1, "owner_limit"), (retried, 2, "disk_full")):
            job = served.http.get(f"/jobs/{job_id}").json()
            assert (job["queue_position"], job["waiting_for"]) == (position, reason)
        rows = listed(served.http, "/queue")
        assert [(row["id"], row["waiting_for"]) for row in rows] == [(waiting, "owner_limit"), (retried, "disk_full")]
        assert rows[1]["due_at"] > rows[0]["queued_at"]
        job = served.http.get(f"/jobs/{running}").json()
        assert (job["queue_position"], job["waiting_for"]) == (None, None)

    def test_pages_and_positions_skip_other_owners(self, served: Served) -> None:
        own = [queue_job(served) for _ in range(3)]
        with served.database.writing() as session:
            new = NewJob(recipe="quick", config={}, seed=1, max_failures=3)
            foreign = jobs.submit(session, "bob", datasets.get_dataset(session, "bob", "digits"), new).id
            session.execute(update(Job).where(Job.id == foreign).values(priority=1))
        page = served.http.get("/queue?limit=2").json()
        assert [(entry["id"], entry["position"]) for entry in page["data"]] == [(own[0], 2), (own[1], 3)]
        assert page["has_more"]
        page = served.http.get(f"/queue?limit=2&after={page['last_id']}").json()
        assert ([entry["id"] for entry in page["data"]], page["has_more"]) == ([own[2]], False)
        refusal = served.http.get(f"/queue?after={foreign}")
        assert (refusal.status_code, refusal.json()["error"]["param"]) == (422, "after")

    def test_the_client_lists_both(self, served: Served) -> None:
        job = queue_job(served)
        add_worker(served, "wrk_1")
        with Client(served.url) as client:
            assert [entry["id"] for entry in client.list_queue()] == [job]
            assert [worker["id"] for worker in client.list_workers()] == ["wrk_1"]
            assert client.list_workers(state="lost") == []
