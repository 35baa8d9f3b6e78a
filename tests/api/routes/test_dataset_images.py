"""Looking at the images of a dataset over HTTP."""

from __future__ import annotations

import shutil
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from alexnet_core.data.inspection import preview, thumbnails
from alexnet_core.data.inspection.mean_image import compute_mean
from alexnet_core.data.inspection.selection import select
from tests.alexnet_core.data.inspection.test_thumbnails import read_png
from tests.alexnet_core.data.intake.test_packing import write_classes
from tests.api.conftest import Serve
from tests.api.served import Served, error_of
from tests.api.stored_datasets import add_classes, add_dataset, add_folder, make_digits_ready
from trainyard.states import DatasetState

VIEWS = ["images", "images/train/0", "sprite", "preview", "mean.png", "histogram"]


def pages(http: httpx.Client, path: str, **query: Any) -> list[dict[str, Any]]:
    """All entries of a list, page by page."""
    found: list[dict[str, Any]] = []
    while True:
        page = http.get(path, params=query).json()
        assert page["object"] == "list"
        assert page["data"] or not page["has_more"]
        found += page["data"]
        if not page["has_more"]:
            return found
        query["after"] = page["last_id"]


def test_images_come_in_pages_with_the_files_that_they_were_read_from(served: Served, tmp_path: Path) -> None:
    dataset_id, pack = add_classes(served, tmp_path)
    found = pages(served.http, f"/datasets/{dataset_id}/images", limit=17)
    assert len(found) == 114
    assert [row["position"] for row in found] == select(pack).tolist()
    assert found[0] == {
        "id": "train-0",
        "object": "dataset.image",
        "split": "train",
        "index": 0,
        "position": 0,
        "label": "cat",
        "file": "train/cat/000.png",
        "url": f"/datasets/{dataset_id}/images/train/0",
    }
    assert found[-1]["file"] == "test/dog/001.png"
    for row in (found[0], found[80], found[105], found[113]):
        assert np.array_equal(read_png(served.http.get(row["url"]).content), pack.images[row["position"]])


def test_images_can_be_of_one_split_and_class(served: Served, tmp_path: Path) -> None:
    dataset_id, _ = add_classes(served, tmp_path)
    path = f"/datasets/{dataset_id}/images"
    assert [row["file"] for row in pages(served.http, path, split="validation", label="dog", limit=3)] == [
        f"val/dog/{number:03}.png" for number in range(4)
    ]
    assert len(pages(served.http, path, label="dog", limit=100)) == 36
    assert [row["id"] for row in pages(served.http, path, split="test", limit=2)] == [f"test-{n}" for n in range(5)]
    error = error_of(served.http.get(path, params={"label": "cow"}), 422, "invalid_request")
    assert error["param"] == "label"
    assert "'cat', 'dog'" in error["message"]


@pytest.mark.parametrize("after", ["train-100", "x", "train-", "cow-1", "test-99999999999999999999"])
def test_a_page_after_no_image_is_refused(served: Served, tmp_path: Path, after: str) -> None:
    dataset_id, _ = add_classes(served, tmp_path)
    response = served.http.get(f"/datasets/{dataset_id}/images", params={"after": after})
    assert error_of(response, 422, "invalid_request")["param"] == "after"


def test_a_built_in_dataset_is_looked_at_by_name_too_and_has_no_files(served: Served) -> None:
    pack = make_digits_ready(served)
    rows = served.http.get("/datasets/digits/images?split=test&label=3&limit=2").json()["data"]
    assert [row["label"] for row in rows] == ["3", "3"]
    assert rows[0]["file"] is None
    assert rows[0]["url"].startswith("/datasets/ds_digits/images/test/")
    drawn = read_png(served.http.get(rows[0]["url"], params={"px": 64}).content)
    assert np.array_equal(drawn, pack.images[rows[0]["position"]].repeat(8, 0).repeat(8, 1))


def test_a_sprite_shows_the_page_that_the_list_has(served: Served, tmp_path: Path) -> None:
    dataset_id, pack = add_classes(served, tmp_path)
    positions = select(pack, split="train", label=0)
    for page, rows in ((0, 8), (1, 1)):
        response = served.http.get(f"/datasets/{dataset_id}/sprite?split=train&label=cat&page={page}&px=24")
        assert response.headers["content-type"] == "image/png"
        sprite = read_png(response.content)
        assert sprite.shape == (24 * rows, 192, 3)
        for i, position in enumerate(positions[64 * page : 64 * (page + 1)]):
            tile = sprite[i // 8 * 24 : i // 8 * 24 + 24, i % 8 * 24 : i % 8 * 24 + 24]
            assert np.array_equal(tile, pack.images[position].repeat(2, 0).repeat(2, 1))
    error = error_of(served.http.get(f"/datasets/{dataset_id}/sprite?label=cat&page=2"), 404, "image_not_found")
    assert error["param"] == "page"
    assert "78 are selected" in error["message"]


def test_preview_and_mean_are_those_of_the_core(served: Served, tmp_path: Path) -> None:
    dataset_id, pack = add_classes(served, tmp_path)
    assert served.http.get(f"/datasets/{dataset_id}/preview?px=32").content == preview.draw_preview(pack, px=32)
    for query, label in (("", None), ("?label=dog", 1)):
        mean = compute_mean(pack, label=label)
        assert mean is not None
        assert served.http.get(f"/datasets/{dataset_id}/mean.png{query}").content == mean.draw()
    assert (
        error_of(served.http.get(f"/datasets/{dataset_id}/preview?page=1"), 404, "image_not_found")["param"] == "page"
    )


def test_the_histogram_counts_by_class_and_split(served: Served, tmp_path: Path) -> None:
    dataset_id, _ = add_classes(served, tmp_path)
    assert served.http.get(f"/datasets/{dataset_id}/histogram").json() == {
        "object": "dataset.histogram",
        "dataset": dataset_id,
        "classes": [
            {"label": "cat", "index": 0, "train": 70, "validation": 5, "test": 3, "total": 78},
            {"label": "dog", "index": 1, "train": 30, "validation": 4, "test": 2, "total": 36},
        ],
        "train": 100,
        "validation": 9,
        "test": 5,
        "total": 114,
    }


@pytest.mark.parametrize(
    ("path", "status", "code", "param"),
    [
        ("images/train/100", 404, "image_not_found", "index"),
        ("images/train/-1", 422, "invalid_request", "index"),
        ("images/train/99999999999999999999", 422, "invalid_request", "index"),
        ("images/trains/0", 422, "invalid_request", "split"),
        ("images/train/0?px=7", 422, "invalid_request", "px"),
        ("images/train/0?px=513", 422, "invalid_request", "px"),
        ("sprite?px=129", 422, "invalid_request", "px"),
        ("sprite?page=-1", 422, "invalid_request", "page"),
        ("sprite?page=1000000000000", 404, "image_not_found", "page"),
        ("sprite?split=all", 422, "invalid_request", "split"),
        ("mean.png?label=cow", 422, "invalid_request", "label"),
        ("images?limit=101", 422, "invalid_request", "limit"),
        (f"images?label={'x' * 201}", 422, "invalid_request", "label"),
        ("images?label=%00", 422, "invalid_request", "label"),
    ],
)
def test_what_can_not_be_shown_is_refused(
    served: Served, tmp_path: Path, path: str, status: int, code: str, param: str
) -> None:
    dataset_id, _ = add_classes(served, tmp_path)
    assert error_of(served.http.get(f"/datasets/{dataset_id}/{path}"), status, code)["param"] == param


@pytest.mark.parametrize("view", VIEWS)
def test_a_client_keeps_an_answer_by_id_and_asks_again_by_name(served: Served, tmp_path: Path, view: str) -> None:
    dataset_id, _ = add_classes(served, tmp_path)
    first = served.http.get(f"/datasets/{dataset_id}/{view}")
    assert first.headers["cache-control"] == "private, max-age=2592000, immutable"
    known = {"If-None-Match": first.headers["etag"]}
    again = served.http.get(f"/datasets/{dataset_id}/{view}", headers=known)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    named = served.http.get(f"/datasets/mine/{view}")
    assert named.headers["cache-control"] == "no-cache, private", "the newest dataset of a name may be another tomorrow"
    assert named.content == first.content
    other = write_classes(tmp_path / "other", {"train/ape": 4, "train/bee": 3, "val/ape": 1}, (16, 16))
    add_folder(served, other)
    changed = served.http.get(f"/datasets/mine/{view}", headers={"If-None-Match": named.headers["etag"]})
    assert changed.status_code == 200
    assert changed.content != named.content


@pytest.mark.parametrize("view", VIEWS)
def test_what_is_not_ready_says_so(served: Served, view: str) -> None:
    error = error_of(served.http.get(f"/datasets/digits/{view}"), 409, "dataset_not_ready")
    assert "before the first job" in error["message"]
    for state in (DatasetState.UPLOADING, DatasetState.VALIDATING):
        coming = add_dataset(served, None, state=state)
        error = error_of(served.http.get(f"/datasets/{coming}/{view}"), 409, "dataset_not_ready")
        assert f"is {state}" in error["message"]
    rejected = add_dataset(served, None, state=DatasetState.REJECTED)
    assert "report" in error_of(served.http.get(f"/datasets/{rejected}/{view}"), 409, "dataset_rejected")["message"]


@pytest.mark.parametrize("view", VIEWS)
def test_another_owners_dataset_is_not_there(served: Served, tmp_path: Path, view: str) -> None:
    _, pack = add_classes(served, tmp_path)
    foreign = add_dataset(served, pack, owner="somebody", name="theirs")
    for reference in (foreign, "theirs", "ds_nope"):
        error_of(served.http.get(f"/datasets/{reference}/{view}"), 404, "dataset_not_found")


@pytest.mark.parametrize("harm", ["gone", "cut"])
def test_a_pack_that_is_lost_or_damaged_is_no_500(served: Served, tmp_path: Path, harm: str) -> None:
    dataset_id, pack = add_classes(served, tmp_path)
    if harm == "gone":
        shutil.rmtree(pack.path)
    else:
        (pack.path / "labels.npy").write_bytes(b"x")
    for view in VIEWS:
        error = error_of(served.http.get(f"/datasets/{dataset_id}/{view}"), 409, "dataset_not_ready")
        assert "missing from the store or damaged" in error["message"]


def test_class_names_of_all_kinds_are_found(served: Served, tmp_path: Path) -> None:
    names = ["\u00c4&B", "a b", "\u732b", "100%", "q?x=1"]
    folder = write_classes(tmp_path / "odd", {f"train/{name}": 3 for name in names} | {"val/a b": 1})
    dataset_id, _ = add_folder(served, folder, name="odd")
    for name in names:
        rows = pages(served.http, f"/datasets/{dataset_id}/images", split="train", label=name)
        assert rows
        assert {row["label"] for row in rows} == {name}
    decomposed = unicodedata.normalize("NFD", names[0])
    assert decomposed != names[0]
    assert len(pages(served.http, f"/datasets/{dataset_id}/images", label=decomposed)) == 3


def test_pictures_are_drawn_beside_the_event_loop_and_once(serve: Serve, tmp_path: Path, monkeypatch: Any) -> None:
    served = serve()
    dataset_id, _ = add_classes(served, tmp_path)
    drawing, gate, calls = threading.Event(), threading.Event(), []
    draw = thumbnails.draw_sprite

    def slow(*args: Any) -> bytes:
        calls.append(threading.current_thread().name)
        drawing.set()
        assert gate.wait(60)
        return draw(*args)

    monkeypatch.setattr(thumbnails, "draw_sprite", slow)
    with ThreadPoolExecutor(20) as clients:
        waiting = [
            clients.submit(httpx.get, f"{served.url}/datasets/{dataset_id}/sprite", timeout=60) for _ in range(20)
        ]
        assert drawing.wait(60)
        assert served.http.get("/healthz", timeout=30).status_code == 200
        assert served.http.get(f"/datasets/{dataset_id}/histogram", timeout=30).status_code == 200
        gate.set()
        answers = {response.result().content for response in waiting}
    assert len(answers) == 1
    assert len(calls) == 1
    assert calls[0].startswith("pictures")


def test_too_many_pictures_at_a_time_are_refused(serve: Serve, tmp_path: Path, monkeypatch: Any) -> None:
    served = serve()
    dataset_id, _ = add_classes(served, tmp_path)
    gate = threading.Event()
    draw = thumbnails.draw_image

    def slow(*args: Any) -> bytes:
        assert gate.wait(20)
        return draw(*args)

    monkeypatch.setattr(thumbnails, "draw_image", slow)
    with ThreadPoolExecutor(80) as clients:
        url = f"{served.url}/datasets/{dataset_id}/images/train"
        waiting = [clients.submit(httpx.get, f"{url}/{n}", timeout=30) for n in range(80)]
        while sum(it.done() for it in waiting) < 16:
            gate.wait(0.01)
        gate.set()
        answers = [it.result() for it in waiting]
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(503)) == (64, 16)
    refused_answer = next(answer for answer in answers if answer.status_code == 503)
    assert error_of(refused_answer, 503, "too_many_pictures")
    assert refused_answer.headers["retry-after"] == "1"
