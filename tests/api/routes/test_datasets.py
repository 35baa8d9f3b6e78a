from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import event, select

from alexnet_core.config import DatasetFacts
from alexnet_core.recipes import resolve_to_json
from api import submission
from api.uploads import reception
from tests.alexnet_core.data.intake.test_packing import write_classes
from tests.api.served import Served, wait_until
from tests.api.stored_datasets import add_classes, add_dataset, make_digits_ready
from trainyard.artifacts import dataset_intake, uploads
from trainyard.artifacts.dataset_intake import MadePack
from trainyard.database.tables import Dataset
from trainyard.errors import DatabaseUnavailable
from trainyard.scheduling.claim_message import claim_at_once
from trainyard.scheduling.leases import Ending, Lease, end_attempt, heartbeat
from trainyard.states import DatasetState, WorkKind

FACTS = DatasetFacts(name="x", num_classes=2, class_names=["a", "b"], image_px=64, channels=3, flip_safe=True)
MADE = MadePack(FACTS, digest="d" * 64, size_bytes=1000)


@pytest.fixture
def folders(serve: Callable[..., Served], tmp_path: Path) -> Served:
    """An API that takes folders, of which one is there."""
    write_classes(tmp_path / "pictures" / "shapes", {"round": 6, "square": 6})
    return serve(dataset_folders=str(tmp_path / "pictures"))


def create(served: Served, **body: Any) -> httpx.Response:
    folder = f"{served.settings.dataset_folders}/shapes"
    return served.http.post("/datasets", json={"name": "shapes", "path": folder} | body)


def claim(served: Served) -> Lease:
    claimed = claim_at_once(served.database, "wrk_a", 60, kind=WorkKind.VALIDATE)
    assert claimed is not None
    return claimed[1]


def end(served: Served, lease: Lease, ending: Ending, **kw: Any) -> None:
    with served.database.writing() as session:
        end_attempt(session, lease, ending, first_backoff_s=0)
        dataset_intake.settle(session, lease.job_id, complete=resolve_to_json, **kw)


def test_a_dataset_is_found_by_id_and_by_name(http: httpx.Client) -> None:
    digits = http.get("/datasets/digits").json()
    assert digits == http.get("/datasets/ds_digits").json()
    assert (digits["num_classes"], digits["builtin"], digits["flip_safe"]) == (10, True, False)
    assert "ds_digits" in [row["id"] for row in http.get("/datasets").json()["data"]]


def test_a_ready_dataset_names_what_can_be_looked_at(served: Served, tmp_path: Path) -> None:
    links = served.http.get("/datasets/digits").json()["links"]
    assert links == {"self": "/datasets/ds_digits", "events": "/datasets/ds_digits/events"}
    dataset_id, _ = add_classes(served, tmp_path)
    links = served.http.get(f"/datasets/{dataset_id}").json()["links"]
    assert {"images", "sprite", "preview", "mean", "histogram", "report", "rejected", "download"} <= set(links)
    for link in links.values():
        assert served.http.get(link).status_code == 200, link
    make_digits_ready(served)
    builtin = served.http.get("/datasets/digits").json()["links"]
    assert set(links) - set(builtin) == {"report", "rejected"}
    for link in builtin.values():
        assert served.http.get(link).status_code == 200, link


def test_a_dataset_shows_a_short_report_and_the_list_of_datasets_none(served: Served) -> None:
    lines = [{"file": f"{n}.png", "code": "image_unreadable", "reason": "It is cut off."} for n in range(5000)]
    groups = [[f"{n}-{m}.png" for m in range(20)] for n in range(1000)]
    report = {"num_images": 7, "rejected": lines, "near_duplicates": {"num_groups": 1000, "within": groups}}
    dataset_id = add_dataset(served, None, state=DatasetState.REJECTED, report=report)
    found = served.http.get(f"/datasets/{dataset_id}")
    short = found.json()["report"]
    assert (short["num_images"], short["num_rejected"], short["rejected"]) == (7, 5000, lines[:10])
    assert short["near_duplicates"] == {"num_groups": 1000, "within": [group[:10] for group in groups[:10]]}
    assert len(found.content) < 10_000
    whole = served.http.get(found.json()["links"]["report"]).json()
    assert whole["report"]["near_duplicates"] == report["near_duplicates"]
    with counting(served) as statements:
        listed = served.http.get("/datasets").json()["data"]
    assert {row["report"] for row in listed} == {None}
    reads = [statement for statement in statements if "datasets" in statement]
    assert reads
    assert not any("report" in statement for statement in reads), "a page of reports may have hundreds of megabytes"


@contextlib.contextmanager
def counting(served: Served) -> Iterator[list[str]]:
    """The SQL statements that are sent while the block runs."""
    statements: list[str] = []

    def note(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(served.database.engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(served.database.engine, "before_cursor_execute", note)


def test_a_folder_is_taken_in_and_shown_at_every_stage(folders: Served) -> None:
    answer = create(folders, image_px=32)
    dataset = answer.json()
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/datasets/{dataset['id']}")
    assert (dataset["state"], dataset["progress"], dataset["waiting_for"]) == ("validating", None, "no_live_worker")
    assert (dataset["num_classes"], dataset["class_names"], dataset["options"]) == (None, None, {"image_px": 32})
    assert dataset["upload"] is None, "it comes from a path"
    lease = claim(folders)
    progress = {"phase": "packing", "done": 3, "total": 12}
    with folders.database.writing() as session:
        heartbeat(session, lease, 60, progress=progress)
    dataset = folders.http.get("/datasets/shapes").json()
    assert (dataset["state"], dataset["progress"], dataset["waiting_for"]) == ("validating", progress, None)
    end(folders, lease, Ending(succeeded=True), made=MADE, report={"num_files": 12})
    dataset = folders.http.get("/datasets/shapes").json()
    assert (dataset["state"], dataset["progress"], dataset["digest"]) == ("ready", None, "d" * 64)
    assert (dataset["name"], dataset["num_classes"], dataset["report"]["num_files"]) == ("shapes", 2, 12)
    assert [row["state"] for row in folders.http.get("/datasets").json()["data"] if not row["builtin"]] == ["ready"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"path": "/etc"}, "path"),
        ({"path": "shapes"}, "path"),
        ({"path": None}, None),
        ({"upload": "upl_x"}, None),
        ({"image_px": 7}, "image_px"),
        ({"validation_fraction": 0.9}, "validation_fraction"),
        ({"test_fraction": "a"}, "test_fraction"),
        ({"split_seed": -1}, "split_seed"),
        ({"name": ""}, "name"),
        ({"name": "a\0"}, "name"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_what_can_not_be_meant_is_refused_and_nothing_is_stored(
    folders: Served, body: dict[str, Any], param: str | None
) -> None:
    answer = create(folders, **body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")
    if param is not None:
        assert answer.json()["error"]["param"] == param
    assert all(row["builtin"] for row in folders.http.get("/datasets").json()["data"])


def test_without_the_setting_no_path_is_taken(served: Served) -> None:
    answer = served.http.post("/datasets", json={"name": "x", "path": "/tmp"})
    assert answer.status_code == 422
    assert "TRAINYARD_DATASET_FOLDERS" in answer.json()["error"]["message"]


def test_a_parent_must_exist(folders: Served) -> None:
    answer = create(folders, parent_id="ds_none")
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "parent_id")
    parent = create(folders).json()["id"]
    assert create(folders, parent_id=parent).json()["parent_id"] == parent


def test_the_same_key_gives_the_same_dataset(folders: Served) -> None:
    key = {"Idempotency-Key": "once"}
    body = {"name": "shapes", "path": f"{folders.settings.dataset_folders}/shapes"}
    first = folders.http.post("/datasets", json=body, headers=key)
    again = folders.http.post("/datasets", json=body, headers=key)
    other = folders.http.post("/datasets", json=body | {"image_px": 16}, headers=key)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    assert other.json()["error"]["code"] == "idempotency_key_reused"


def test_a_job_waits_for_its_dataset_and_shows_what_was_asked_for(folders: Served) -> None:
    dataset = create(folders).json()["id"]
    answer = folders.http.post("/jobs", json={"dataset": dataset, "overrides": {"epochs": 3}})
    job = answer.json()
    assert (answer.status_code, job["state"], job["waiting_for"]) == (202, "queued", "dataset")
    assert (job["recipe"], job["config"], job["progress"]["epochs"]) == (None, {"epochs": 3}, 3)
    queued = folders.http.get("/queue").json()["data"][0]
    assert (queued["waiting_for"], queued["due_at"], queued["recipe"]) == ("dataset", None, None)
    end(folders, claim(folders), Ending(succeeded=True), made=MADE)
    job = folders.http.get(f"/jobs/{job['id']}").json()
    assert (job["recipe"], job["config"]["epochs"], job["waiting_for"]) == ("torchvision", 3, "no_live_worker")
    assert job["config"]["lr"] > 0


def test_overrides_that_fit_no_recipe_are_refused_before_the_dataset_is_ready(folders: Served) -> None:
    dataset = create(folders).json()["id"]
    for body, code in (
        ({"overrides": {"epochs": -3}}, "config_invalid"),
        ({"overrides": {"nonsense": 1}}, "config_invalid"),
        ({"recipe": "nonsense"}, "recipe_unknown"),
    ):
        answer = folders.http.post("/jobs", json={"dataset": dataset} | body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, code)


def test_a_rejected_dataset_says_why_and_fails_what_waits_for_it(folders: Served) -> None:
    dataset = create(folders).json()["id"]
    job = folders.http.post("/jobs", json={"dataset": dataset}).json()["id"]
    ending = Ending(failure="dataset_invalid", message="There is only one class.")
    end(folders, claim(folders), ending, report={"problem": "too_few_classes"})
    shown = folders.http.get(f"/datasets/{dataset}").json()
    assert (shown["state"], shown["error"]["message"]) == ("rejected", "There is only one class.")
    assert shown["report"]["problem"] == "too_few_classes"
    job = folders.http.get(f"/jobs/{job}").json()
    assert (job["state"], job["error"]["code"]) == ("failed", "dataset_rejected")
    assert "only one class" in job["error"]["message"]
    answer = folders.http.post("/jobs", json={"dataset": dataset})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "dataset_rejected")
    retry = folders.http.post(f"/jobs/{job['id']}/retry", json={"from": "start"})
    assert (retry.status_code, retry.json()["error"]["code"]) == (422, "invalid_request")


def test_a_dataset_is_deleted_unless_a_job_needs_it(folders: Served) -> None:
    dataset = create(folders).json()["id"]
    job = folders.http.post("/jobs", json={"dataset": dataset}).json()["id"]
    answer = folders.http.delete(f"/datasets/{dataset}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "in_use")
    assert job in answer.json()["error"]["message"]
    folders.http.post(f"/jobs/{job}/cancel")
    assert folders.http.delete(f"/datasets/{dataset}").status_code == 204
    assert folders.http.get(f"/datasets/{dataset}").status_code == 404
    assert folders.http.delete(f"/datasets/{dataset}").status_code == 404
    assert folders.http.get(f"/jobs/{job}").json()["dataset"] == dataset
    retry = folders.http.post(f"/jobs/{job}/retry", json={"from": "start"})
    assert retry.status_code in {404, 422}
    assert folders.http.delete("/datasets/digits").json()["error"]["code"] == "conflict"


def test_events_of_a_dataset_are_listed_and_streamed_in_its_words(folders: Served) -> None:
    dataset = create(folders).json()["id"]
    path, seen = f"/datasets/{dataset}/events", list[str]()

    def follow() -> None:
        with folders.http.stream("GET", path, headers={"Accept": "text/event-stream"}) as stream:
            seen.extend(line for line in stream.iter_lines() if line.startswith("data: "))

    thread = threading.Thread(target=follow)
    thread.start()
    wait_until(lambda: len(seen) >= 0 and folders.app.state.services.events.num_watchers == 1)
    end(folders, claim(folders), Ending(succeeded=True), made=MADE)
    thread.join(timeout=20)
    listed = folders.http.get(path).json()["data"]
    assert [(row["state"], row["reason"], row["dataset"]) for row in listed] == [
        ("validating", "submitted", dataset),
        ("validating", "claimed", dataset),
        ("ready", "finished", dataset),
    ]
    assert len(seen) == 3
    assert '"state":"ready"' in seen[-1]
    assert folders.http.get(path, params={"after": 9}).status_code == 422
    known = {"Accept": "text/event-stream", "Last-Event-ID": "3"}
    assert folders.http.get(path, headers=known).status_code == 204
    assert folders.http.get("/datasets/digits/events").json()["data"] == []


def send(served: Served, content: bytes, **query: Any) -> httpx.Response:
    """Send an archive as the whole body."""
    return served.http.post(
        "/datasets", params={"name": "shapes"} | query, content=content, headers={"Content-Type": "application/zip"}
    )


def test_the_same_file_with_the_same_options_gives_the_dataset_that_is_there(served: Served) -> None:
    first, again = send(served, b"some bytes"), send(served, b"some bytes")
    assert (first.status_code, again.status_code) == (202, 200)
    assert (again.json()["id"], again.headers["Idempotent-Replayed"]) == (first.json()["id"], "true")
    others = [
        send(served, b"other bytes"),
        send(served, b"some bytes", image_px=32),
        send(served, b"some bytes", name="x"),
    ]
    assert [answer.status_code for answer in others] == [202, 202, 202]
    assert len({first.json()["id"], *(answer.json()["id"] for answer in others)}) == 4
    assert len(served.http.get("/uploads").json()["data"]) == 4, "the file that was sent twice is kept once"


def test_the_same_file_is_tried_again_after_a_rejection(served: Served) -> None:
    first = send(served, b"some bytes").json()["id"]
    end(served, claim(served), Ending(failure="dataset_invalid", message="It is no archive."))
    again = send(served, b"some bytes")
    assert again.status_code == 202
    assert again.json()["id"] != first


def test_a_file_that_is_there_already_is_kept_for_another_dataset_that_needs_it(served: Served) -> None:
    send(served, b"some bytes")
    other = send(served, b"some bytes", name="other").json()["id"]
    with served.database.reading() as session:
        upload = session.scalars(select(Dataset.source["upload"].as_string()).where(Dataset.id == other)).one()
    again = served.http.post("/datasets", json={"name": "shapes", "upload": upload})
    assert again.status_code == 200
    assert served.http.get(f"/uploads/{upload}").status_code == 200, "`other` is still to be validated"


def test_a_file_stays_whose_dataset_is_committed_when_the_answer_fails(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise DatabaseUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(submission, "describe_datasets", fail)
        assert send(served, b"some bytes").status_code == 503
    dataset = served.http.get("/datasets/shapes").json()
    assert dataset["state"] == "validating"
    assert len(served.http.get("/uploads").json()["data"]) == 1, "a worker needs the file"


def test_a_file_does_not_expire_while_it_is_stored(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "BODY_EXPIRES_S", 2.0)
    storage = served.app.state.services.storage
    publish = storage.publish

    def take_long(*given: Any) -> None:
        time.sleep(2.5)
        with served.database.writing() as session:
            uploads.expire(session)  # as the reconciler of some process does
        publish(*given)

    monkeypatch.setattr(storage, "publish", take_long)
    assert send(served, b"some bytes").status_code == 202
