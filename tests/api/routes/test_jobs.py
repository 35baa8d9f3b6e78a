from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, text, update

from alexnet_core.data.published.builtin import BUILTINS
from alexnet_core.recipes import resolve
from tests.api.served import Served, error_of, png, wait_until
from trainyard.artifacts import deletion
from trainyard.database.tables import Job, Outbox
from trainyard.scheduling.leases import Ending, Lease, end_attempt

FIELDS = [
    "id",
    "object",
    "name",
    "note",
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


def test_the_job_is_committed_and_its_wake_up_stored_before_the_answer(served: Served) -> None:
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

    def test_a_repetition_waits_for_no_writer(self, served: Served) -> None:
        first = served.http.post("/jobs", json={"dataset": "digits"}, headers=self.HEADERS)
        with served.database.writing() as session:
            session.execute(text("SELECT 1"))  # from here on nobody else can begin to write
            again = served.http.post("/jobs", json={"dataset": "digits"}, headers=self.HEADERS, timeout=9)
        assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])

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
        from trainyard.scheduling.leases import Ending, Lease, end_attempt

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


def end_job(served: Served, job_id: str, **ending: Any) -> None:
    with served.database.writing() as session:
        lease = Lease(job_id, 1, "wrk_test")
        end_attempt(session, lease, Ending(**(ending or {"failure": "diverged"})), first_backoff_s=1)


def complete_job(served: Served, *epochs: int) -> tuple[str, list[str]]:
    """A job of five epochs with a complete config that failed after some of them."""
    job_id = served.add_job()
    config = resolve("quick", {"epochs": 5}, BUILTINS["digits"].facts)[1].model_dump(mode="json")
    with served.database.writing() as session:
        session.execute(update(Job).where(Job.id == job_id).values(config=config))
    made = [served.add_checkpoint(job_id, epoch).id for epoch in epochs]
    end_job(served, job_id)
    return job_id, made


class TestNewFields:
    def test_they_are_kept_and_shown(self, served: Served) -> None:
        _, made = complete_job(served, 1)
        body = {"dataset": "digits", "priority": -7, "max_runtime_s": 90, "init_from": made[0]}
        job = served.http.post("/jobs", json=body).json()
        assert (job["priority"], job["max_runtime_s"], job["init_from"]) == (-7, 90.0, made[0])

    @pytest.mark.parametrize(
        ("field", "value"),
        [("priority", 101), ("priority", 1.5), ("priority", "high"), ("max_runtime_s", 0), ("max_runtime_s", -1),
         ("max_runtime_s", 1e9), ("max_runtime_s", "1h"), ("init_from", ""), ("resources", {"gpus": 2})],
    )  # fmt: skip
    def test_what_can_not_be_is_refused(self, http: httpx.Client, field: str, value: object) -> None:
        error = error_of(http.post("/jobs", json={"dataset": "digits", field: value}), 422, "invalid_request")
        assert error["param"] == field

    @pytest.mark.parametrize("wanted", ["ckpt_0", "latest", "job_0", "\u00e9"])
    def test_an_unknown_checkpoint_to_begin_with_is_404(self, http: httpx.Client, wanted: str) -> None:
        response = http.post("/jobs", json={"dataset": "digits", "init_from": wanted})
        assert error_of(response, 404, "checkpoint_not_found")["param"] == "init_from"
        assert http.get("/jobs").json()["data"] == []


class TestFirstWeights:
    """`init_from`: what fits, and what is refused before it is queued."""

    def test_other_classes_and_other_rates_are_no_other_network(self, served: Served) -> None:
        _, made = complete_job(served, 1)
        for body in (
            {"dataset": "mnist", "overrides": {"lr": 0.002, "dropout": 0.5, "activation": "tanh"}},
            {"dataset": "cifar100", "overrides": {"channels": 1}},
        ):
            served.http.post("/jobs", json=body | {"init_from": made[0]}).raise_for_status()

    @pytest.mark.parametrize(
        ("body", "layer"),
        [
            ({"recipe": "small-images"}, "conv1.weight"),
            ({"overrides": {"fc_widths": [256, 33]}}, "fc7.weight"),
            ({"overrides": {"norm": "none"}}, "conv1.bias"),
            ({"overrides": {"image_px": 64}}, "fc6.weight"),
            ({"overrides": {"channels": 3}}, "conv1.weight"),
            ({"dataset": "cifar10"}, "conv1.weight"),
        ],
    )
    def test_another_network_is_refused_and_nothing_is_queued(
        self, served: Served, body: dict[str, Any], layer: str
    ) -> None:
        job_id, made = complete_job(served, 1)
        response = served.http.post("/jobs", json={"dataset": "digits", "init_from": made[0]} | body)
        error = error_of(response, 422, "invalid_request")
        assert error["param"] == "init_from"
        assert all(word in error["message"] for word in (made[0], job_id, layer)), error
        assert [job["id"] for job in served.http.get("/jobs").json()["data"]] == [job_id]

    def test_a_retry_from_the_start_can_not_become_another_network(self, served: Served) -> None:
        _, made = complete_job(served, 1)
        second = served.http.post("/jobs", json={"dataset": "digits", "init_from": made[0]}).json()["id"]
        served.http.post(f"/jobs/{second}/cancel").raise_for_status()
        wide = {"from": "start", "overrides": {"width_multiplier": 2.0}}
        refusal = error_of(served.http.post(f"/jobs/{second}/retry", json=wide), 422, "invalid_request")
        assert refusal["param"] == "overrides"
        longer = {"from": "start", "overrides": {"epochs": 9}}
        assert served.http.post(f"/jobs/{second}/retry", json=longer).status_code == 202

    def test_a_config_of_another_version_is_refused_with_its_reason(self, served: Served) -> None:
        job_id, made = complete_job(served, 1)
        with served.database.writing() as session:
            session.execute(update(Job).where(Job.id == job_id).values(config={"model": "of long ago"}))
        begun = served.http.post("/jobs", json={"dataset": "digits", "init_from": made[0]})
        assert job_id in error_of(begun, 422, "invalid_request")["message"]
        retried = served.http.post(f"/jobs/{job_id}/retry", json={"from": "start"})
        assert job_id in error_of(retried, 422, "invalid_request")["message"]


class TestRetry:
    def test_a_retry_is_a_new_job_and_the_same_request_makes_one(self, served: Served) -> None:
        job_id, made = complete_job(served, 1, 2)
        path, headers = f"/jobs/{job_id}/retry", {"Idempotency-Key": "once"}
        body = {"from": "latest", "overrides": {"epochs": 9}}
        first = served.http.post(path, json=body, headers=headers)
        again = served.http.post(path, json=body, headers=headers)
        assert (first.status_code, again.status_code) == (202, 200)
        assert again.headers["idempotent-replayed"] == "true"
        job = first.json()
        assert first.headers["location"] == f"/jobs/{job['id']}"
        assert again.json()["id"] == job["id"] != job_id
        assert (job["parent_id"], job["resume_from"], job["state"]) == (job_id, made[1], "queued")
        assert job["config"]["epochs"] == 9
        error_of(served.http.post(path, json={"from": "start"}, headers=headers), 422, "idempotency_key_reused")
        created = served.http.post("/jobs", json={"dataset": "digits"}, headers=headers)
        assert created.status_code == 202, "a key is of its route"

    def test_an_override_that_can_not_be_built_is_refused(self, served: Served) -> None:
        job_id, _ = complete_job(served, 1)
        path = f"/jobs/{job_id}/retry"
        wrong = served.http.post(path, json={"from": "start", "overrides": {"lr": -1}})
        assert error_of(wrong, 422, "config_invalid")["param"] == "overrides.lr"
        unknown = served.http.post(path, json={"from": "start", "overrides": {"image_px": 8, "model": "alexnet"}})
        error_of(unknown, 422, "config_invalid")
        small = served.http.post(path, json={"from": "start", "overrides": {"image_px": 8, "padding": "valid"}})
        assert "larger images" in error_of(small, 422, "config_invalid")["message"]
        more = served.http.post(path, json={"from": "latest", "overrides": {"lr": 0.1}})
        assert error_of(more, 422, "invalid_request")["param"] == "overrides.lr"

    @pytest.mark.parametrize(
        "body", [{}, {"from": "end"}, {"from": 3}, {"from": "start", "origin": "start"}, {"origin": "start"}, []]
    )
    def test_a_bad_body_is_refused(self, http: httpx.Client, body: object) -> None:
        error_of(http.post("/jobs/job_0/retry", json=body), 422, "invalid_request")

    def test_a_job_that_has_not_ended_and_one_that_is_not_there(self, http: httpx.Client) -> None:
        job_id = http.post("/jobs", json={"dataset": "digits"}).json()["id"]
        error_of(http.post(f"/jobs/{job_id}/retry", json={"from": "start"}), 409, "illegal_transition")
        error_of(http.post("/jobs/job_0/retry", json={"from": "start"}), 404, "job_not_found")

    def test_a_checkpoint_of_another_job_is_404(self, served: Served) -> None:
        job_id, _ = complete_job(served, 1)
        _, made = complete_job(served, 1)
        response = served.http.post(f"/jobs/{job_id}/retry", json={"from": made[0]})
        assert error_of(response, 404, "checkpoint_not_found")["param"] == "from"


class TestDelete:
    def test_the_job_is_gone_and_latest_falls_back_at_once(self, served: Served) -> None:
        older, older_made = complete_job(served, 1)
        job_id, made = complete_job(served, 1)

        def latest() -> httpx.Response:
            return served.http.post("/predict", files={"file": png()})

        wait_until(lambda: latest().headers.get("x-trainyard-checkpoint") == made[0])
        assert served.http.delete(f"/jobs/{job_id}").status_code == 204
        assert latest().json()["model"]["checkpoint"] == older_made[0]
        for response in (
            served.http.get(f"/jobs/{job_id}"),
            served.http.delete(f"/jobs/{job_id}"),
            served.http.get(f"/jobs/{job_id}/checkpoints"),
            served.http.post(f"/predict?model={job_id}", files={"file": png()}),
        ):
            error_of(response, 404, "job_not_found")
        error_of(served.http.get(f"/checkpoints/{made[0]}"), 404, "checkpoint_not_found")
        assert not (served.settings.data_dir / "checkpoints" / job_id).exists()
        assert (served.settings.data_dir / "checkpoints" / older).exists()
        assert served.http.delete(f"/jobs/{older}").status_code == 204
        error_of(latest(), 503, "no_checkpoint")

    def test_latest_falls_back_where_another_process_deleted_the_job(self, served: Served) -> None:
        _, older_made = complete_job(served, 1)
        job_id, made = complete_job(served, 1)

        def latest() -> str | None:
            answer = served.http.post("/predict", files={"file": png()})
            checkpoint: str | None = answer.headers.get("x-trainyard-checkpoint")
            return checkpoint

        wait_until(lambda: latest() == made[0])
        with served.database.writing() as session:
            deletion.delete_job(session, "local", job_id)
        wait_until(lambda: latest() == older_made[0])

    def test_a_job_that_is_needed_or_has_not_ended_stays(self, served: Served) -> None:
        job_id, made = complete_job(served, 1)
        user = served.http.post("/jobs", json={"dataset": "digits", "init_from": made[0]}).json()["id"]
        assert user in error_of(served.http.delete(f"/jobs/{job_id}"), 409, "in_use")["message"]
        error_of(served.http.delete(f"/jobs/{user}"), 409, "illegal_transition")
        served.http.post(f"/jobs/{user}/cancel")
        assert served.http.delete(f"/jobs/{job_id}").status_code == 204


# --- rows of a table ---


def test_a_row_is_the_job_without_its_options_and_history(served: Served, http: httpx.Client) -> None:
    made = [http.post("/jobs", json={"dataset": "digits", "name": f"run {n}"}).json() for n in range(3)]
    http.post(f"/jobs/{made[0]['id']}/cancel")
    http.post(f"/jobs/{made[1]['id']}/pause")
    page = http.get("/jobs", params={"view": "row", "limit": 1000}).json()
    assert [row["id"] for row in page["data"]] == [job["id"] for job in reversed(made)]
    for row in page["data"]:
        job = http.get(f"/jobs/{row['id']}").json()
        beside = {name: job.pop(name) for name in ("config", "state_history", "links")}
        assert None not in beside.values()
        assert row == job | {"spark": []}
    assert page["counts"] == {
        "queued": 1, "running": 0, "pausing": 0, "cancelling": 0, "paused": 1, "succeeded": 0, "failed": 0,
        "cancelled": 1,
    }  # fmt: skip
    assert (page["has_more"], page["last_id"]) == (False, made[0]["id"])


def test_rows_are_filtered_by_states_recipe_and_text(http: httpx.Client) -> None:
    ids = [http.post("/jobs", json={"dataset": "digits", "name": f"Run {n}"}).json()["id"] for n in range(3)]
    http.post(f"/jobs/{ids[0]}/cancel")
    http.post(f"/jobs/{ids[1]}/pause")

    def find(**filters: Any) -> list[str]:
        return [job["id"] for job in http.get("/jobs", params=filters).json()["data"]]

    assert find(state=["paused", "cancelled"]) == [ids[1], ids[0]]
    assert find(state=["paused", "cancelled"], view="row") == [ids[1], ids[0]]
    assert find(q="run 2", recipe="quick", view="row") == [ids[2]]
    assert find(recipe="small-images") == []
    assert http.get("/jobs?view=row&state=paused&q=run").json()["counts"]["queued"] == 1


@pytest.mark.parametrize(
    "query", ["limit=101", "limit=1001&view=row", "view=column", "state=gone", "q=", "q=%00", "recipe=", "state="]
)
def test_a_list_that_can_not_be_is_refused(http: httpx.Client, query: str) -> None:
    assert error_of(http.get(f"/jobs?{query}"), 422, "invalid_request")["param"] == query.partition("=")[0]
