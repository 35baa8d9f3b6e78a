from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy.orm import Session

from alexnet_core.messages import AnyReport, EpochEnd, Interval
from api import series_reader
from api.routes.measurements import metrics as routes_metrics
from api.schemas.runs.series import SeriesRead
from api.series_reader import Section
from api.services import MAX_SERIES
from tests.api.served import Served, error_of
from trainyard.client import Client, NotFound
from trainyard.scheduling import leases
from worker.report_writer import write_reports


def report(served: Served, job_id: str, *reports: AnyReport) -> None:
    with served.database.writing() as session:
        lease = leases.Lease(job_id, 1, "wrk_test")
        write_reports(session, lease, reports, keep_latest=2, ttl_s=60)


def interval(step: int, loss: float) -> Interval:
    return Interval(
        step=step,
        epoch=0,
        train_loss=loss,
        lr=0.1,
        images_per_s=9.0,
        seconds=0.5 * step,
        gradient_norm=1.0,
        dead_relu=0.0,
    )


def test_the_series_and_what_is_new_in_them(served: Served) -> None:
    job_id = served.add_job()
    path = f"/jobs/{job_id}/metrics"
    empty: dict[str, Any] = {
        "object": "metrics", "job": job_id, "by_step": [], "by_epoch": [], "last_step": None, "thinned": False,
    }  # fmt: skip
    assert served.http.get(path).json() == empty
    report(served, job_id, interval(2, 1.5), interval(4, float("nan")))
    first = served.http.get(path).json()
    assert [(point["step"], point["train_loss"]) for point in first["by_step"]] == [(2, 1.5), (4, None)]
    report(served, job_id, EpochEnd(step=4, epoch=1, metrics={"val_top1": 0.5}), interval(6, 0.5))
    new = served.http.get(path, params={"after": first["last_step"]}).json()
    assert [point["step"] for point in new["by_step"]] == [6]
    assert new["by_epoch"] == [{"step": 4, "epoch": 1, "val_top1": 0.5}]  # it came after its step's interval
    assert new["last_step"] == 6


def test_a_long_series_is_thinned(served: Served) -> None:
    job_id = served.add_job()
    report(served, job_id, *(interval(step, 1.0 if step != 37 else 0.1) for step in range(1, 101)))
    answer = served.http.get(f"/jobs/{job_id}/metrics", params={"max_points": 10}).json()
    steps = [point["step"] for point in answer["by_step"]]
    assert answer["thinned"]
    assert len(steps) <= 10
    assert {1, 37, 100} <= set(steps)


@pytest.mark.parametrize(
    "query",
    ["after=x", "after=-2", "max_points=9", "max_points=5001", "from_step=-1", "to_step=x", "from_step=2&to_step=1"],
)
def test_a_query_that_is_refused(served: Served, query: str) -> None:
    error_of(served.http.get(f"/jobs/{served.add_job()}/metrics?{query}"), 422, "invalid_request")


@pytest.mark.parametrize("name", ["metrics", "logs"])
def test_of_no_job(served: Served, name: str) -> None:
    for job_id in ("job_nowhere", "..%2F..%2Fqueue"):
        assert served.http.get(f"/jobs/{job_id}/{name}").status_code == 404


def test_a_zoom_shows_what_lies_in_it(served: Served) -> None:
    job_id = served.add_job()
    report(served, job_id, *(interval(step, 1 / step) for step in range(1, 101)))
    report(served, job_id, *(EpochEnd(step=25 * n, epoch=n, metrics={"val_top1": 0.1 * n}) for n in range(1, 5)))
    path = f"/jobs/{job_id}/metrics"
    zoom = served.http.get(path, params={"from_step": 40, "to_step": 60}).json()
    assert [point["step"] for point in zoom["by_step"]] == list(range(40, 61))
    assert [point["step"] for point in zoom["by_epoch"]] == [50]
    assert not zoom["thinned"]
    newer = served.http.get(path, params={"from_step": 40, "to_step": 60, "after": 57}).json()
    assert [point["step"] for point in newer["by_step"]] == [58, 59, 60]
    assert served.http.get(path, params={"from_step": 101}).json()["by_step"] == []


def test_a_point_says_how_long_was_trained_until_it(served: Served) -> None:
    job_id = served.add_job()
    report(served, job_id, interval(2, 1.0), EpochEnd(step=4, epoch=1, metrics={"seconds": 2.5}))
    answer = served.http.get(f"/jobs/{job_id}/metrics").json()
    assert answer["by_step"][0]["seconds"] == 1.0
    assert answer["by_epoch"][0]["seconds"] == 2.5


def test_the_band_holds_every_loss_that_a_thinned_series_leaves_out(served: Served) -> None:
    job_id = served.add_job()
    losses = {step: 1.0 + (step % 7) / 10 for step in range(1, 401)} | {203: 9.0, 77: float("nan")}
    report(served, job_id, *(interval(step, loss) for step, loss in losses.items()))
    path = f"/jobs/{job_id}/metrics"
    answer = served.http.get(path, params={"max_points": 20, "band": True}).json()
    points = answer["by_step"]
    assert answer["thinned"]
    assert len(points) <= 20
    assert max(point["train_loss_max"] for point in points) == 9.0
    assert min(point["train_loss_min"] for point in points) == 1.0
    for point in points:
        assert point["train_loss_min"] <= point["train_loss"] <= point["train_loss_max"]
    near_the_spike = max((point for point in points if point["step"] <= 203), key=lambda point: point["step"])
    assert near_the_spike["train_loss_max"] == 9.0
    whole = served.http.get(path, params={"from_step": 76, "to_step": 78, "band": True}).json()["by_step"]
    assert [(it["train_loss_min"], it["train_loss_max"]) for it in whole] == [(it["train_loss"],) * 2 for it in whole]
    assert whole[1]["train_loss_max"] is None
    assert "train_loss_min" not in served.http.get(path, params={"max_points": 20}).json()["by_step"][0]


def test_an_unchanged_series_is_not_sent_again(served: Served) -> None:
    job_id = served.add_job()
    path = f"/jobs/{job_id}/metrics"
    report(served, job_id, interval(2, 1.0))
    tag = served.http.get(path).headers["etag"]
    again = served.http.get(path, headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    report(served, job_id, interval(4, 1.0))
    assert served.http.get(path, headers={"If-None-Match": tag}).status_code == 200


def test_series_of_several_jobs(served: Served) -> None:
    first, second = served.add_job(), served.add_job()
    report(served, first, *(interval(step, 1.0) for step in range(1, 101)))
    answer = served.http.get("/series", params={"job": [second, first, second], "max_points": 10})
    found = answer.json()
    assert (found["object"], list(found["data"])) == ("series", [second, first])
    alone = served.http.get(f"/jobs/{first}/metrics", params={"max_points": 10}).json()
    assert found["data"][first] == {key: alone[key] for key in ("by_step", "by_epoch", "last_step", "thinned")}
    assert found["data"][second] == {"by_step": [], "by_epoch": [], "last_step": None, "thinned": False}
    again = served.http.get(str(answer.url), headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


def test_series_that_are_refused(served: Served) -> None:
    job_id = served.add_job()
    error_of(served.http.get("/series"), 422, "invalid_request")
    too_many = served.http.get("/series", params={"job": [f"{job_id}{n}" for n in range(21)]})
    assert error_of(too_many, 422, "invalid_request")["param"] == "job"
    unknown = served.http.get("/series", params={"job": [job_id, "job_0"]})
    assert error_of(unknown, 404, "job_not_found")["param"] == "job"
    error_of(served.http.get("/series", params={"job": job_id, "max_points": 9}), 422, "invalid_request")


def test_many_who_compare_at_once_take_turns_and_hold_up_nobody_else(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, begun, gate = served.add_job(), threading.Semaphore(0), threading.Event()

    def read(session: Session, read_id: str, section: Section) -> SeriesRead:
        begun.release()
        assert gate.wait(10)
        return series_reader.read_section(session, read_id, section)

    monkeypatch.setattr(routes_metrics, "read_section", read)

    def compare(timeout_s: float) -> int:
        return served.http.get("/series", params={"job": job_id}, timeout=timeout_s).status_code

    with ThreadPoolExecutor(6) as clients:
        answers = [clients.submit(compare, 10) for _ in range(MAX_SERIES)]
        for _ in answers:
            assert begun.acquire(timeout=10)
        with pytest.raises(httpx.ReadTimeout):
            compare(0.2)  # it leaves while it waits
        answers += [clients.submit(compare, 10) for _ in range(3)]
        assert not begun.acquire(timeout=0.3)
        assert served.http.get(f"/jobs/{job_id}").status_code == 200
        gate.set()
        assert [answer.result() for answer in answers] == [200] * len(answers)
    for _ in range(3):
        assert begun.acquire(timeout=10)
    assert not begun.acquire(timeout=0.2)  # nothing was read for who had left


def test_the_client_asks_for_the_series_of_any_number_of_jobs(served: Served) -> None:
    job_ids = [served.add_job() for _ in range(23)]
    report(served, job_ids[-1], interval(10, 2.0))
    with Client(served.url) as client:
        series = client.get_series(job_ids)
        assert list(series) == job_ids
        assert series[job_ids[-1]].to_pandas("by_step")["train_loss"].to_dict() == {10: 2.0}
        assert client.get_series([]) == {}
        with pytest.raises(NotFound, match="job_not_found"):
            client.get_series([*job_ids, "job_missing"])
