"""`/predictions` over HTTP, with a worker that the test plays."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pandas
import pytest
from pyarrow import parquet as pq
from sqlalchemy import select, update

from api.streams import result_stream
from api.streams.event_stream import EventHub
from tests.api.predicted import (
    add_dataset,
    add_model,
    add_upload,
    claim,
    end,
    reject,
    row,
    store,
    submit,
)
from tests.api.served import Served, error_of, wait_until
from trainyard.artifacts import calibrations, checkpoints, uploads
from trainyard.database.prediction_tables import PredictionSegment
from trainyard.database.tables import Checkpoint, Job, Removal, Upload
from trainyard.errors import StorageUnavailable
from trainyard.states import JobState
from trainyard.upkeep.garbage import Garbage


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.text.splitlines()]


def test_a_prediction_is_queued_with_the_checkpoint_that_the_model_names_now(served: Served) -> None:
    checkpoint_id = add_model(served)
    made = submit(served, dataset=add_dataset(served), split="test", name="mine", top_k=3)
    assert made["id"].startswith("pred_")
    assert (made["state"], made["split"], made["top_k"], made["name"]) == ("queued", "test", 3, "mine")
    assert (made["model"]["checkpoint"], made["model"]["asked"]) == (checkpoint_id, "latest")
    assert made["waiting_for"] == "no_live_worker"
    assert made["summary"] == {"num_rows": 0, "num_errors": 0, "num_labelled": 0, "top1": None, "top5": None}
    assert served.http.get(f"/predictions/{made['id']}").json() == made
    assert [it["id"] for it in served.http.get("/predictions").json()["data"]] == [made["id"]]
    assert served.http.get("/jobs").json()["data"][0]["id"].startswith("job_"), "a prediction is no job to its user"
    assert served.http.get(f"/jobs/{made['id']}").status_code == 404


def test_calibrated_probabilities_need_a_calibration(served: Served) -> None:
    checkpoint_id = add_model(served)
    body = {"dataset": add_dataset(served), "calibrated": True}
    error_of(served.http.post("/predictions", json=body), 404, "calibration_not_found")
    with served.database.writing() as session:
        calibrations.keep_of_checkpoint(session, checkpoint_id, {"temperature": 1.7, "unfamiliarity_threshold": 0.0})
    assert submit(served, **body)["temperature"] == 1.7


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid_request"),
        ({"dataset": "shapes", "upload": "upl_1"}, 422, "invalid_request"),
        ({"upload": "upl_1", "split": "test"}, 422, "invalid_request"),
        ({"dataset": "shapes", "split": "validation"}, 422, "invalid_request"),
        ({"dataset": "shapes", "split": "all"}, 422, "invalid_request"),
        ({"dataset": "shapes", "top_k": 0}, 422, "invalid_request"),
        ({"dataset": "shapes", "model": "best"}, 404, "alias_not_found"),
        ({"dataset": "shapes", "model": "The best"}, 422, "invalid_request"),
        ({"dataset": "shapes", "model": "ckpt_none"}, 404, "checkpoint_not_found"),
        ({"dataset": "shapes", "model": "a\x00b"}, 422, "invalid_request"),
        ({"dataset": "others"}, 404, "dataset_not_found"),
        ({"upload": "upl_none"}, 404, "upload_not_found"),
    ],
)
def test_bad_requests_are_refused_with_what_to_do(served: Served, body: dict[str, Any], status: int, code: str) -> None:
    add_model(served)
    add_dataset(served)
    add_upload(served)
    error_of(served.http.post("/predictions", json=body), status, code)
    assert served.http.get("/predictions").json()["data"] == []


def test_without_a_checkpoint_or_a_usable_dataset_nothing_is_queued(served: Served) -> None:
    add_dataset(served, "validating")
    error_of(served.http.post("/predictions", json={"dataset": "shapes"}), 409, "dataset_not_ready")
    reject(served)
    error_of(served.http.post("/predictions", json={"dataset": "shapes"}), 409, "dataset_rejected")
    add_upload(served)
    error_of(served.http.post("/predictions", json={"upload": "upl_1"}), 503, "no_checkpoint")


def test_a_repeated_request_makes_one_prediction(served: Served) -> None:
    add_model(served)
    body, headers = {"dataset": add_dataset(served)}, {"Idempotency-Key": "once"}
    first = served.http.post("/predictions", json=body, headers=headers)
    second = served.http.post("/predictions", json=body, headers=headers)
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.json()["id"] == second.json()["id"]
    assert first.headers["location"] == f"/predictions/{first.json()['id']}"


def test_an_owner_may_have_only_so_many_open_predictions(served: Served) -> None:
    served.settings.max_open_predictions_per_owner = 1
    add_model(served)
    made = submit(served, dataset=add_dataset(served))
    error_of(served.http.post("/predictions", json={"dataset": "shapes"}), 403, "quota_exceeded")
    served.http.post(f"/predictions/{made['id']}/cancel")
    submit(served, dataset="shapes")


def test_results_are_streamed_while_others_are_computed_and_end_when_it_has_ended(served: Served) -> None:
    add_model(served)
    made = submit(served, dataset=add_dataset(served))
    lease = claim(served)
    store(served, lease, [row(number) for number in range(10)])
    got: list[dict[str, Any]] = []

    def read() -> None:
        with served.http.stream("GET", f"/predictions/{made['id']}/results") as response:
            got.extend(json.loads(line) for line in response.iter_lines())

    thread = threading.Thread(target=read)
    thread.start()
    wait_until(lambda: len(got) == 10)
    store(served, lease, [row(number) for number in range(10, 17)])
    wait_until(lambda: len(got) == 17)
    assert thread.is_alive(), "it has not ended"
    end(served, lease)
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert got == [row(number) for number in range(17)]
    found = served.http.get(f"/predictions/{made['id']}").json()
    assert (found["state"], found["summary"]["num_rows"], found["summary"]["num_errors"]) == ("succeeded", 17, 3)


def test_results_that_wait_for_a_row_keep_the_connection_alive_and_stay_readable(served: Served) -> None:
    hub = EventHub(served.database, lambda: False, max_streams=1, tick_s=0.02, heartbeat_s=0.05)
    served.app.state.services.events = hub
    add_model(served)
    made = submit(served, dataset=add_dataset(served))
    lease = claim(served)
    store(served, lease, [row(0)])
    got = bytearray()

    def read() -> None:
        with served.http.stream("GET", f"/predictions/{made['id']}/results") as response:
            for piece in response.iter_raw():
                got.extend(piece)

    thread = threading.Thread(target=read)
    thread.start()
    wait_until(lambda: got.endswith(b"\n  "))
    store(served, lease, [row(1)])
    wait_until(lambda: got.endswith(b"}\n  "))
    end(served, lease)
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert [json.loads(line) for line in got.split(b"\n") if line.strip()] == [row(0), row(1)]
    assert list(pandas.read_json(io.BytesIO(got), lines=True)["row"]) == [0, 1]
    if (jq := shutil.which("jq")) is not None:
        printed = subprocess.run([jq, "-c", ".row"], input=bytes(got), capture_output=True, check=True).stdout
        assert printed == b"0\n1\n"


@pytest.mark.parametrize("after", [-1, 0, 8, 9, 10, 15, 16, 500])
def test_results_go_on_behind_any_row(served: Served, after: int) -> None:
    add_model(served)
    made = submit(served, dataset=add_dataset(served))
    lease = claim(served)
    store(served, lease, [row(number) for number in range(10)])
    store(served, lease, [row(number) for number in range(10, 17)])
    end(served, lease)
    found = lines(served.http.get(f"/predictions/{made['id']}/results", params={"after": after}))
    assert [it["row"] for it in found] == list(range(max(0, after + 1), 17))


@pytest.mark.parametrize("form", ["ndjson", "csv", "parquet"])
def test_results_that_can_not_be_read_are_refused_before_the_answer_begins(served: Served, form: str) -> None:
    add_model(served)
    made = submit(served, dataset=add_dataset(served))
    lease = claim(served)
    store(served, lease, [row(0)])
    end(served, lease)
    next((served.settings.data_dir / "predictions" / made["id"]).rglob("rows.ndjson")).unlink()
    error_of(served.http.get(f"/predictions/{made['id']}/results", params={"format": form}), 503, "storage_unavailable")


def test_results_whose_store_goes_away_are_cut_and_told_in_a_line(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add_model(served)
    made = submit(served, dataset=add_dataset(served))
    lease = claim(served)
    store(served, lease, [row(0)])
    store(served, lease, [row(1)])
    end(served, lease)
    path = f"/predictions/{made['id']}/results"

    def read_one(_storage: object, segment: PredictionSegment, from_row: int) -> Iterator[bytes]:
        if from_row > 0:
            raise StorageUnavailable("the store is away")
        yield json.dumps(row(0)).encode() + b"\n"

    monkeypatch.setattr(result_stream, "read_rows", read_one)
    with pytest.raises(httpx.RemoteProtocolError):
        served.http.get(path)
    wait_until(lambda: "an answer was cut off" in caplog.text)
    assert [record for record in caplog.records if record.exc_info] == []
    monkeypatch.undo()
    assert [it["row"] for it in lines(served.http.get(path, params={"after": 0}))] == [1]


def test_results_as_csv_have_no_formula_and_all_rows(served: Served) -> None:
    add_model(served)
    made = submit(served, dataset=add_dataset(served), top_k=2)
    lease = claim(served)
    error_of(
        served.http.get(f"/predictions/{made['id']}/results", params={"format": "csv"}), 409, "prediction_not_ended"
    )
    store(served, lease, [row(0, file='=cmd|"calc"'), row(1, file='a,"b".png'), *(row(it) for it in range(2, 10))])
    store(served, lease, [row(number) for number in range(10, 12)])
    end(served, lease)
    answer = served.http.get(f"/predictions/{made['id']}/results", params={"format": "csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert f'filename="{made["id"]}.csv"' in answer.headers["content-disposition"]
    table = list(csv.DictReader(io.StringIO(answer.text)))
    assert [it["row"] for it in table] == [str(number) for number in range(12)]
    assert (table[0]["file"], table[1]["file"]) == ('\'=cmd|"calc"', 'a,"b".png')
    assert (table[0]["prediction_1"], table[0]["probability_1"], table[0]["prediction_2"]) == ("a", "0.75", "b")
    assert (table[4]["error"], table[4]["prediction_1"]) == ("image_unreadable", "")


def test_results_as_parquet_are_the_same_rows(served: Served) -> None:
    add_model(served)
    made = submit(served, dataset=add_dataset(served))
    lease = claim(served)
    store(served, lease, [row(number) for number in range(12)])
    end(served, lease)
    answer = served.http.get(f"/predictions/{made['id']}/results", params={"format": "parquet"})
    assert pq.read_table(io.BytesIO(answer.content)).to_pylist() == [row(number) for number in range(12)]


def test_a_table_whose_later_rows_are_gone_is_cut_and_its_place_is_free_again(served: Served) -> None:
    add_model(served)
    made = submit(served, dataset=add_dataset(served))
    lease = claim(served)
    store(served, lease, [row(0)])
    store(served, lease, [row(1)])
    end(served, lease)
    stored = (served.settings.data_dir / "predictions" / made["id"]).rglob("rows.ndjson")
    next(path for path in stored if b'"row":1' in path.read_bytes().replace(b" ", b"")).unlink()
    for _ in range(10):  # there are eight places
        with pytest.raises(httpx.RemoteProtocolError):
            served.http.get(f"/predictions/{made['id']}/results", params={"format": "csv"})


def test_events_tell_of_stored_rows(served: Served) -> None:
    add_model(served)
    made = submit(served, dataset=add_dataset(served))
    lease = claim(served)
    store(served, lease, [row(0)])
    end(served, lease)
    events = served.http.get(f"/predictions/{made['id']}/events").json()["data"]
    assert [(it["type"], it["state"]) for it in events] == [
        ("state", "queued"),
        ("state", "running"),
        ("results", "running"),
        ("state", "succeeded"),
    ]
    assert (events[2]["data"], events[2]["prediction"]) == ({"rows": 1, "images": 100}, made["id"])
    stream = served.http.get(f"/predictions/{made['id']}/events", headers={"Accept": "text/event-stream"})
    assert stream.text.count("event: ") == 4


def test_a_cancel_ends_a_waiting_prediction_and_a_final_state_stays(served: Served) -> None:
    add_model(served)
    made = submit(served, dataset=add_dataset(served))
    assert served.http.post(f"/predictions/{made['id']}/cancel").json()["state"] == "cancelled"
    assert served.http.post(f"/predictions/{made['id']}/cancel").status_code == 202
    other = submit(served, dataset="shapes")
    lease = claim(served)
    error_of(served.http.delete(f"/predictions/{other['id']}"), 409, "illegal_transition")
    assert served.http.post(f"/predictions/{other['id']}/cancel").json()["state"] == "cancelling"
    end(served, lease)
    assert served.http.get(f"/predictions/{other['id']}").json()["state"] == "cancelled"


def test_a_deleted_prediction_leaves_nothing(served: Served) -> None:
    add_model(served)
    made = submit(served, dataset=add_dataset(served))
    lease = claim(served)
    store(served, lease, [row(0)])
    end(served, lease)
    assert served.http.delete(f"/predictions/{made['id']}").status_code == 204
    error_of(served.http.get(f"/predictions/{made['id']}"), 404, "prediction_not_found")
    error_of(served.http.get(f"/predictions/{made['id']}/results"), 404, "prediction_not_found")
    assert not (served.settings.data_dir / "predictions" / made["id"]).exists()


def test_a_prediction_expires_with_its_results(served: Served) -> None:
    add_model(served)
    made = submit(served, dataset=add_dataset(served))
    lease = claim(served)
    store(served, lease, [row(0)])
    end(served, lease)
    storage = served.app.state.services.storage
    Garbage(served.database, storage, grace_s=0, keep_predictions_s=3600).tick()
    assert served.http.get(f"/predictions/{made['id']}").status_code == 200
    with served.database.writing() as session:
        session.execute(update(Job).where(Job.id == made["id"]).values(finished_at=Job.finished_at - 3601))
    Garbage(served.database, storage, grace_s=0, keep_predictions_s=3600).tick()
    assert served.http.get(f"/predictions/{made['id']}").status_code == 404
    assert not (served.settings.data_dir / "predictions" / made["id"]).exists()
    with served.database.reading() as session:
        assert session.scalars(select(Removal.key)).all() == []


def test_what_an_unfinished_prediction_needs_can_not_be_removed(served: Served) -> None:
    checkpoint_id = add_model(served)
    made = submit(served, dataset=add_dataset(served))
    with served.database.writing() as session:
        job_id = session.scalars(select(Checkpoint.job_id).where(Checkpoint.id == checkpoint_id)).one()
        session.execute(update(Job).where(Job.id == job_id).values(state=JobState.SUCCEEDED, finished_at=1.0))
        assert session.scalar(select(Checkpoint.id).where(checkpoints.is_in_use())) == checkpoint_id
    assert "predicts with" in error_of(served.http.delete(f"/jobs/{job_id}"), 409, "in_use")["message"]
    error_of(served.http.delete("/datasets/shapes"), 409, "in_use")
    served.http.post(f"/predictions/{made['id']}/cancel")
    assert served.http.delete("/datasets/shapes").status_code == 204
    assert served.http.delete(f"/jobs/{job_id}").status_code == 204
    found = served.http.get(f"/predictions/{made['id']}").json()
    assert (found["dataset"], found["model"]["checkpoint"]) == ("ds_shapes", checkpoint_id), "it still says what it was"
    assert served.http.delete(f"/predictions/{made['id']}").status_code == 204


def test_an_upload_is_kept_until_its_predictions_have_ended(served: Served) -> None:
    add_model(served)
    first = submit(served, upload=add_upload(served))
    second = submit(served, upload="upl_1", top_k=1)
    error_of(served.http.delete("/uploads/upl_1", headers={"Tus-Resumable": "1.0.0"}), 409, "in_use")
    for made in (first, second):
        with served.database.writing() as session:
            assert uploads.expire(session) == []
        served.http.post(f"/predictions/{made['id']}/cancel")
    with served.database.writing() as session:
        assert uploads.expire(session) == ["uploads/upl_1"]
        assert session.scalar(select(Upload.id)) is None


def test_a_prediction_waits_for_its_upload_or_fails_with_it(served: Served) -> None:
    add_model(served)
    made = submit(served, upload=add_upload(served, whole=False))
    assert made["waiting_for"] == "upload"
    with served.database.writing() as session:
        assert uploads.finish(session, "upl_1", size_bytes=10, sha256="0" * 64, expires_s=60)
    assert served.http.get(f"/predictions/{made['id']}").json()["waiting_for"] == "no_live_worker"
    with served.database.writing() as session:
        session.execute(update(Upload).values(state="open", expires_at=1.0))
        session.execute(update(Job).where(Job.id == made["id"]).values(not_before=float("inf")))
        uploads.expire(session)
    found = served.http.get(f"/predictions/{made['id']}").json()
    assert (found["state"], found["error"]["code"]) == ("failed", "upload_missing")
