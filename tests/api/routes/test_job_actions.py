from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.served import Served, error_of


@pytest.fixture
def job_id(http: httpx.Client) -> str:
    body = {"dataset": "digits", "name": "old", "metadata": {"team": "a"}}
    return str(http.post("/jobs", json=body).json()["id"])


def test_a_change_shows_in_the_job_its_filters_and_its_events(http: httpx.Client, job_id: str) -> None:
    before = http.get(f"/jobs/{job_id}")
    body = {"name": "new", "note": "tried\r\nlr .1\tonly", "metadata": {"team": "b"}, "priority": 7}
    changed = http.patch(f"/jobs/{job_id}", json=body)
    assert changed.status_code == 200
    job = changed.json()
    assert {key: job[key] for key in body} == body | {"note": "tried\nlr .1\tonly"}
    assert job == http.get(f"/jobs/{job_id}").json()
    assert http.get(f"/jobs/{job_id}", headers={"If-None-Match": before.headers["etag"]}).status_code == 200
    assert [it["id"] for it in http.get("/jobs?metadata[team]=b").json()["data"]] == [job_id]
    assert http.get("/jobs?metadata[team]=a").json()["data"] == []
    event = http.get(f"/jobs/{job_id}/events").json()["data"][-1]
    assert (event["type"], event["data"]) == ("changed", {"fields": ["metadata", "name", "note", "priority"]})


def test_null_removes_and_what_is_left_out_stays(http: httpx.Client, job_id: str) -> None:
    job = http.patch(f"/jobs/{job_id}", json={"name": None}).json()
    assert (job["name"], job["metadata"], job["priority"]) == (None, {"team": "a"}, 0)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, None),
        ({"priority": None}, "priority"),
        ({"priority": 101}, "priority"),
        ({"metadata": None}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {f"k{n}": "" for n in range(17)}}, "metadata"),
        ({"name": ""}, "name"),
        ({"note": "x" * 2001}, "note"),
        ({"note": "a\x07b"}, "note"),
        ({"state": "succeeded"}, "state"),
        ([], None),
    ],
)
def test_a_bad_change_is_refused_and_nothing_is_written(
    http: httpx.Client, job_id: str, body: Any, param: str | None
) -> None:
    before = http.get(f"/jobs/{job_id}").content
    error = error_of(http.patch(f"/jobs/{job_id}", json=body), 422, "invalid_request")
    assert error["param"] == param
    assert http.get(f"/jobs/{job_id}").content == before


def test_the_priority_of_a_running_job_is_refused(served: Served) -> None:
    job_id = served.add_job()
    error = error_of(served.http.patch(f"/jobs/{job_id}", json={"priority": 1}), 409, "illegal_transition")
    assert error["param"] == "priority"
    assert "queued or paused" in error["message"]


def test_an_unknown_job_is_not_found(http: httpx.Client) -> None:
    error_of(http.patch("/jobs/job_0", json={"name": "x"}), 404, "job_not_found")
