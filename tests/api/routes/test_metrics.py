from __future__ import annotations

from typing import Any

import pytest

from alexnet_core.messages import AnyReport, EpochEnd, Interval
from tests.api.served import Served, error_of
from trainyard.scheduling import leases
from worker.report_writer import write_reports


def report(served: Served, job_id: str, *reports: AnyReport) -> None:
    with served.database.writing() as session:
        lease = leases.Lease(job_id, 1, "wrk_test")
        write_reports(session, lease, reports, keep_latest=2)


def interval(step: int, loss: float) -> Interval:
    return Interval(step=step, epoch=0, train_loss=loss, lr=0.1, images_per_s=9.0, gradient_norm=1.0, dead_relu=0.0)


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


@pytest.mark.parametrize("query", ["after=x", "after=-2", "max_points=9", "max_points=5001"])
def test_a_query_that_is_refused(served: Served, query: str) -> None:
    error_of(served.http.get(f"/jobs/{served.add_job()}/metrics?{query}"), 422, "invalid_request")


def test_the_end_of_the_log(served: Served) -> None:
    job_id = served.add_job()
    empty = served.http.get(f"/jobs/{job_id}/logs")
    assert (empty.status_code, empty.text) == (200, "")
    assert empty.headers["content-type"] == "text/plain; charset=utf-8"
    folder = served.settings.data_dir / "logs" / "jobs"
    folder.mkdir(parents=True)
    (folder / f"{job_id}.log").write_bytes(b"first attempt\n<b>\xff\nsecond attempt\n")
    assert served.http.get(f"/jobs/{job_id}/logs", params={"tail": 2}).text == "<b>\ufffd\nsecond attempt\n"
    for tail in ("0", "-1", "10001", "x"):
        error_of(served.http.get(f"/jobs/{job_id}/logs", params={"tail": tail}), 422, "invalid_request")


@pytest.mark.parametrize("name", ["metrics", "logs"])
def test_of_no_job(served: Served, name: str) -> None:
    for job_id in ("job_nowhere", "..%2F..%2Fqueue"):
        assert served.http.get(f"/jobs/{job_id}/{name}").status_code == 404
