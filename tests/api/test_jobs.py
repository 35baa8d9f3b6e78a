from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import httpx
import pytest
from sqlalchemy import func, select

from tests.api.served import Served, error_of
from trainyard.tables import Job, Outbox

FIELDS = [
    "id",
    "object",
    "name",
    "state",
    "state_reason",
    "state_history",
    "dataset",
    "recipe",
    "config",
    "metadata",
    "priority",
    "owner",
    "parent_id",
    "init_from",
    "resume_from",
    "max_runtime_s",
    "seed",
    "attempt",
    "failures",
    "max_failures",
    "waiting_for",
    "queue_position",
    "created_at",
    "queued_at",
    "started_at",
    "finished_at",
    "worker",
    "progress",
    "metrics",
    "best",
    "latest_checkpoint",
    "weights_sha256",
    "error",
    "links",
    "test",
]


def test_a_dataset_is_enough_for_a_job(http: httpx.Client) -> None:
    response = http.post("/jobs", json={"dataset": "digits"})
    job = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/jobs/{job['id']}"
    assert sorted(job) == sorted(FIELDS)
    assert job["object"] == "job"
    assert job["state"] == "queued"
    assert job["waiting_for"] == "no_live_worker"
    assert job["recipe"] == "quick"
    assert job["dataset"] == "ds_digits"
    assert [change["state"] for change in job["state_history"]] == ["queued"]
    assert sorted(job["progress"]) == sorted(["epoch", "epochs", "step", "steps", "fraction", "images_per_s", "eta_s"])
    assert job["progress"]["epochs"] == job["config"]["epochs"]
    assert 0 <= job["seed"] < 2**32
    assert job["created_at"].endswith("Z")
    assert datetime.fromisoformat(job["created_at"]).tzinfo is not None
    assert http.get(job["links"]["self"]).json() == job


def test_what_was_asked_for_is_kept(http: httpx.Client) -> None:
    body = {
        "dataset": "ds_digits",
        "recipe": "quick",
        "overrides": {"epochs": 2},
        "name": "größer 🚂",
        "metadata": {"team": "a b", "empty": ""},
        "seed": 2**63 - 1,
    }
    job = http.post("/jobs", json=body).json()
    assert (job["name"], job["metadata"], job["seed"]) == (body["name"], body["metadata"], body["seed"])
    assert job["config"]["epochs"] == 2


def test_the_job_is_committed_and_its_bell_left_before_the_answer(served: Served) -> None:
    job_id = served.http.post("/jobs", json={"dataset": "digits"}).json()["id"]
    with served.database.reading() as session:
        assert session.get(Job, job_id) is not None


def test_too_much_metadata_is_refused(http: httpx.Client) -> None:
    body = {"dataset": "digits", "metadata": {f"key{number}": "" for number in range(17)}}
    assert error_of(http.post("/jobs", json=body), 422, "invalid_request")["param"] == "metadata"
    body = {"dataset": "digits", "metadata": {"key": "x" * 513}}
    error_of(http.post("/jobs", json=body), 422, "invalid_request")


class TestIdempotency:
    HEADERS = {"Idempotency-Key": "order 66"}  # noqa: RUF012

    def test_the_same_request_gives_the_same_job(self, http: httpx.Client) -> None:
        first = http.post("/jobs", json={"dataset": "digits"}, headers=self.HEADERS)
        again = http.post("/jobs", json={"dataset": "digits"}, headers=self.HEADERS)
        assert (first.status_code, again.status_code) == (202, 200)
        assert again.headers["idempotent-replayed"] == "true"
        assert "idempotent-replayed" not in first.headers
        assert again.json()["id"] == first.json()["id"]

    def test_another_body_is_refused(self, http: httpx.Client) -> None:
        http.post("/jobs", json={"dataset": "digits"}, headers=self.HEADERS)
        response = http.post("/jobs", json={"dataset": "digits", "seed": 1}, headers=self.HEADERS)
        error_of(response, 422, "idempotency_key_reused")

    @pytest.mark.parametrize("key", ["", "x" * 256])
    def test_a_bad_key_is_refused(self, http: httpx.Client, key: str) -> None:
        response = http.post("/jobs", json={"dataset": "digits"}, headers={"Idempotency-Key": key})
        assert error_of(response, 422, "invalid_request")["param"] == "Idempotency-Key"

    def test_fifty_at_once_make_one_job(self, served: Served) -> None:
        def post(_: int) -> httpx.Response:
            return served.http.post("/jobs", json={"dataset": "digits"}, headers=self.HEADERS)

        with ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(post, range(50)))
        assert sorted({answer.status_code for answer in answers}) == [200, 202]
        assert [answer.status_code for answer in answers].count(202) == 1
        assert len({answer.json()["id"] for answer in answers}) == 1
        with served.database.reading() as session:
            assert session.scalar(select(func.count()).select_from(Job)) == 1


class TestList:
    def test_pages_are_newest_first_and_whole(self, http: httpx.Client) -> None:
        ids = [http.post("/jobs", json={"dataset": "digits"}).json()["id"] for _ in range(5)]
        first = http.get("/jobs", params={"limit": 2}).json()
        assert first["object"] == "list"
        assert [job["id"] for job in first["data"]] == ids[:-3:-1]
        assert (first["first_id"], first["last_id"], first["has_more"]) == (ids[4], ids[3], True)
        http.post("/jobs", json={"dataset": "digits"})
        rest = http.get("/jobs", params={"limit": 100, "after": first["last_id"]}).json()
        assert [job["id"] for job in rest["data"]] == ids[2::-1]
        assert rest["has_more"] is False

    def test_an_empty_list_has_no_ids(self, http: httpx.Client) -> None:
        assert http.get("/jobs").json() == {
            "object": "list",
            "data": [],
            "first_id": None,
            "last_id": None,
            "has_more": False,
        }

    def test_filters_are_all_applied(self, http: httpx.Client) -> None:
        wanted = http.post("/jobs", json={"dataset": "digits", "metadata": {"team": "a&b", "n": "1"}}).json()["id"]
        other = http.post("/jobs", json={"dataset": "fashion-mnist", "metadata": {"team": "c"}}).json()["id"]
        http.post(f"/jobs/{other}/cancel")

        def found(**params: str) -> list[str]:
            return [job["id"] for job in http.get("/jobs", params=params).json()["data"]]

        assert found(dataset="digits") == [wanted]
        assert found(state="cancelled") == [other]
        assert found(state="queued") == [wanted]
        assert found(state="pausing") == []
        assert found(**{"metadata[team]": "a&b"}) == [wanted]
        assert found(**{"metadata[team]": "a&b", "metadata[n]": "2"}) == []

    @pytest.mark.parametrize(
        ("query", "param"),
        [
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("limit=x", "limit"),
            ("state=nope", "state"),
            ("after=job_0", "after"),
            ("after=%00", "after"),
            ("metadata[]=x", "metadata"),
            ("metadata[%00]=x", "metadata"),
        ],
    )
    def test_a_bad_query_is_refused(self, http: httpx.Client, query: str, param: str) -> None:
        assert error_of(http.get(f"/jobs?{query}"), 422, "invalid_request")["param"] == param

    def test_an_unknown_dataset_is_404(self, http: httpx.Client) -> None:
        error_of(http.get("/jobs?dataset=nope"), 404, "dataset_not_found")


class TestCancel:
    def test_a_queued_job_is_cancelled_at_once_and_again_is_harmless(self, http: httpx.Client) -> None:
        job_id = http.post("/jobs", json={"dataset": "digits"}).json()["id"]
        for _ in range(2):
            response = http.post(f"/jobs/{job_id}/cancel")
            assert response.status_code == 202
            assert response.json()["state"] == "cancelled"
        assert response.json()["finished_at"]
        assert [change["state"] for change in response.json()["state_history"]] == ["queued", "cancelled"]

    def test_a_running_job_is_cancelling(self, served: Served) -> None:
        job_id = served.add_job()
        job = served.http.post(f"/jobs/{job_id}/cancel").json()
        assert job["state"] == "cancelling"
        assert job["worker"] == "wrk_test"
        assert job["waiting_for"] is None

    def test_a_finished_job_is_not(self, served: Served) -> None:
        from trainyard.leases import Ending, Lease, end_attempt

        job_id = served.add_job()
        with served.database.writing() as session:
            end_attempt(session, Lease(job_id, 1, "wrk_test"), Ending(succeeded=True), first_backoff_s=1)
        error = error_of(served.http.post(f"/jobs/{job_id}/cancel"), 409, "illegal_transition")
        assert "succeeded" in error["message"]


def test_the_relay_rings_for_a_new_job(serve: Callable[..., Served]) -> None:
    from tests.api.served import wait_until

    served = serve(relay_s=60)
    served.http.post("/jobs", json={"dataset": "digits"})

    def outbox_is_empty() -> bool:
        with served.database.reading() as session:
            return session.scalar(select(func.count()).select_from(Outbox)) == 0

    wait_until(outbox_is_empty)


def test_not_a_number_in_metrics_is_null(served: Served) -> None:
    job_id = served.add_job()
    checkpoint = served.add_checkpoint(job_id, 1)
    job = served.http.get(f"/jobs/{job_id}").json()
    assert job["metrics"] == {"val_top1": 0.5, "val_loss": None}
    assert job["best"]["checkpoint"] == job["latest_checkpoint"] == checkpoint.id


class TestPauseAndResume:
    def test_a_queued_job_waits_and_goes_on(self, http: httpx.Client) -> None:
        job_id = http.post("/jobs", json={"dataset": "digits"}).json()["id"]
        for _ in range(2):
            answer = http.post(f"/jobs/{job_id}/pause")
            assert (answer.status_code, answer.json()["state"]) == (202, "paused")
        for _ in range(2):
            answer = http.post(f"/jobs/{job_id}/resume")
            assert (answer.status_code, answer.json()["state"]) == (202, "queued")
        history = [(change["state"], change["reason"]) for change in answer.json()["state_history"]]
        assert history == [("queued", "submitted"), ("paused", "paused"), ("queued", "resumed")]

    def test_a_running_job_is_pausing_until_its_worker_has_stopped_it(self, served: Served) -> None:
        job_id = served.add_job()
        assert served.http.post(f"/jobs/{job_id}/pause").json()["state"] == "pausing"
        assert [job["id"] for job in served.http.get("/jobs?state=pausing").json()["data"]] == [job_id]
        assert "pausing" in error_of(served.http.post(f"/jobs/{job_id}/resume"), 409, "illegal_transition")["message"]
        assert served.http.post(f"/jobs/{job_id}/cancel").json()["state"] == "cancelling"
        error_of(served.http.post(f"/jobs/{job_id}/pause"), 409, "illegal_transition")

    @pytest.mark.parametrize("action", ["pause", "resume"])
    def test_a_final_state_never_changes(self, http: httpx.Client, action: str) -> None:
        job_id = http.post("/jobs", json={"dataset": "digits"}).json()["id"]
        http.post(f"/jobs/{job_id}/cancel")
        error = error_of(http.post(f"/jobs/{job_id}/{action}"), 409, "illegal_transition")
        assert "cancelled" in error["message"]

    @pytest.mark.parametrize("action", ["pause", "resume"])
    def test_an_unknown_job_is_404(self, http: httpx.Client, action: str) -> None:
        error_of(http.post(f"/jobs/job_0/{action}"), 404, "job_not_found")
