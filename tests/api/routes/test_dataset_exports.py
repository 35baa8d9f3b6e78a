"""The report, the rejected files and the downloads of a dataset."""

from __future__ import annotations

import csv
import io
import tarfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from alexnet_core.data.inspection.class_folders import list_image_files
from alexnet_core.data.inspection.comparison import Contents, compare
from alexnet_core.data.inspection.thumbnails import draw_image
from alexnet_core.data.intake.options import IntakeOptions
from alexnet_core.data.intake.packing import pack_images
from alexnet_core.data.pack import Pack, open_pack
from alexnet_core.data.pack_draft import write_pack
from alexnet_core.layout import pack_key
from api.downloads import dataset_archives
from api.downloads.slots import MAX_DOWNLOADS
from api.downloads.stored_packs import StoredPack
from tests.alexnet_core.data.inspection.test_thumbnails import read_png
from tests.alexnet_core.data.intake.test_packing import write_classes
from tests.api.routes.test_dataset_images import pages
from tests.api.served import Served, error_of, read_member, wait_until
from tests.api.stored_datasets import add_classes, add_dataset, add_folder, make_digits_ready
from trainyard.artifacts import datasets
from trainyard.database.ids import new_id
from trainyard.states import DatasetState


def rejections(*files: str) -> list[dict[str, Any]]:
    return [{"file": file, "code": "image_unreadable", "reason": f"Number {n}."} for n, file in enumerate(files)]


def test_the_report_of_a_dataset_comes_without_its_rejected_files(served: Served, tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"cat": 30, "dog": 30})
    (folder / "dog" / "broken.png").write_bytes(b"no image")
    dataset_id, _ = add_folder(served, folder)
    response = served.http.get(f"/datasets/{dataset_id}/report")
    body = response.json()
    assert (body["object"], body["dataset"], body["num_rejected"]) == ("dataset.report", dataset_id, 1)
    assert "rejected" not in body["report"]
    assert body["report"]["num_images"] == 60
    assert {finding["code"] for finding in body["report"]["findings"]} == {"rejected_files"}
    listed = served.http.get(body["links"]["rejected"]).json()
    assert [(row["file"], row["code"]) for row in listed["data"]] == [("dog/broken.png", "image_format_unsupported")]
    known = {"If-None-Match": response.headers["etag"]}
    assert served.http.get(f"/datasets/{dataset_id}/report", headers=known).status_code == 304


def test_rejected_files_come_in_pages_also_for_a_dataset_that_was_refused(served: Served) -> None:
    report = {"rejected": rejections(*(f"cat/{n}.png" for n in range(57)))}
    dataset_id = add_dataset(served, None, state=DatasetState.REGISTERED, report=report)
    found = pages(served.http, f"/datasets/{dataset_id}/rejected", limit=20)
    assert [row["file"] for row in found] == [f"cat/{n}.png" for n in range(57)]
    assert found[33] == {
        "id": "33",
        "object": "dataset.rejected_file",
        "file": "cat/33.png",
        "code": "image_unreadable",
        "reason": "Number 33.",
    }
    for query in ("after=x", "after=-1", "limit=0", "format=xml"):
        error_of(served.http.get(f"/datasets/{dataset_id}/rejected?{query}"), 422, "invalid_request")


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\r=1", "\n=1", "  =1", "\uff1d1", "=cmd|' /C calc'!A0"]
PLAIN = ["cat/1.png", 'say "hi".png', "a;b,c.png", "two\nlines.png", "\u732b.png", "a=b", ""]


def read_csv(response: httpx.Response) -> list[list[str]]:
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.reader(io.StringIO(response.content.decode(), newline="")))


def test_the_csv_has_all_of_them_and_nothing_that_a_spreadsheet_would_run(served: Served) -> None:
    names = FORMULAS + PLAIN
    dataset_id = add_dataset(served, None, state=DatasetState.REGISTERED, report={"rejected": rejections(*names)})
    path = f"/datasets/{dataset_id}/rejected"
    response = served.http.get(path, params={"format": "csv"})
    header, *rows = read_csv(response)
    assert header == ["file", "code", "reason"]
    assert [row[0] for row in rows] == [f"'{name}" for name in FORMULAS] + PLAIN
    assert response.headers["content-disposition"] == f'attachment; filename="{dataset_id}-rejected.csv"'
    assert response.headers["vary"] == "Accept"
    by_header = served.http.get(path, headers={"Accept": "text/csv"})
    assert by_header.content == response.content
    assert "object" in served.http.get(path, headers={"Accept": "text/csv"}, params={"format": "json"}).json()
    for accept, is_csv in (("application/json, text/csv;q=0.5", False), ("Text/CSV, application/json", True)):
        found = served.http.get(path, headers={"Accept": accept})
        assert found.headers["content-type"].startswith("text/csv") == is_csv, accept


def test_a_long_csv_is_whole(served: Served) -> None:
    report = {"rejected": rejections(*(f"cat/{n}.png" for n in range(2500)))}
    dataset_id = add_dataset(served, None, state=DatasetState.REGISTERED, report=report)
    rows = read_csv(served.http.get(f"/datasets/{dataset_id}/rejected?format=csv"))
    assert [row[0] for row in rows[1:]] == [f"cat/{n}.png" for n in range(2500)]


@pytest.mark.parametrize("part", ["report", "rejected"])
def test_a_dataset_without_a_report_says_so(served: Served, part: str) -> None:
    error = error_of(served.http.get(f"/datasets/digits/{part}"), 404, "report_not_found")
    assert "built in" in error["message"]
    unread = add_dataset(served, None, state=DatasetState.REJECTED)
    error = error_of(served.http.get(f"/datasets/{unread}/{part}"), 404, "report_not_found")
    assert "its `error` says why" in error["message"]
    foreign = add_dataset(served, None, owner="somebody", state=DatasetState.REGISTERED, report={"rejected": []})
    error_of(served.http.get(f"/datasets/{foreign}/{part}"), 404, "dataset_not_found")


def test_a_downloaded_pack_is_the_pack(served: Served, tmp_path: Path) -> None:
    dataset_id, pack = add_classes(served, tmp_path)
    response = served.http.get(f"/datasets/{dataset_id}/download")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-tar"
    assert response.headers["content-disposition"] == f'attachment; filename="{dataset_id}.tar"'
    assert int(response.headers["content-length"]) == len(response.content)
    with tarfile.open(fileobj=io.BytesIO(response.content)) as tar:
        assert tar.getnames()[-1] == f"{dataset_id}/pack.json", "without it nobody takes the folder for a pack"
        assert {name.split("/")[1] for name in tar.getnames()} == {path.name for path in pack.path.iterdir()}
        tar.extractall(tmp_path / "out", filter="data")
    unpacked = open_pack(tmp_path / "out" / dataset_id)
    unpacked.verify()
    assert unpacked.digest == pack.digest
    assert (unpacked.path / "report.json").read_bytes() == (pack.path / "report.json").read_bytes()


def test_the_download_of_a_pack_goes_on_at_any_byte(served: Served, tmp_path: Path) -> None:
    dataset_id, _ = add_classes(served, tmp_path)
    path = f"/datasets/{dataset_id}/download"
    whole = served.http.get(path)
    size = len(whole.content)
    for start in (0, 100, size // 2, size - 1):
        part = served.http.get(path, headers={"Range": f"bytes={start}-", "If-Range": whole.headers["etag"]})
        assert (part.status_code, part.content) == (206, whole.content[start:])
    assert served.http.get(path, headers={"Range": f"bytes={size}-"}).status_code == 416
    images = served.http.get(f"{path}?format=images", headers={"Range": "bytes=100-"})
    assert (images.status_code, images.headers["accept-ranges"]) == (200, "none"), "its length is not known before"


@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
def test_the_rest_of_a_damaged_pack_is_not_sent_to_its_end(served: Served, tmp_path: Path, name: str) -> None:
    """The damage is in the part that the client has already."""
    dataset_id, pack = add_classes(served, tmp_path)
    content = bytearray((pack.path / name).read_bytes())
    content[-8] ^= 1
    (pack.path / name).write_bytes(content)
    whole = served.http.head(f"/datasets/{dataset_id}/download")
    start = int(whole.headers["content-length"]) - 4000
    headers = {"Range": f"bytes={start}-"}
    received = bytearray()
    with served.http.stream("GET", f"/datasets/{dataset_id}/download", headers=headers) as response:
        assert response.status_code == 206
        with pytest.raises(httpx.RemoteProtocolError):
            receive(response, received)
    assert b"format_version" not in received


def test_a_built_in_pack_has_neither_report_nor_names(served: Served) -> None:
    make_digits_ready(served)
    response = served.http.get("/datasets/digits/download")
    with tarfile.open(fileobj=io.BytesIO(response.content)) as tar:
        names = ["images.npy", "labels.npy", "split.npy", "pack.json"]
        assert tar.getnames() == [f"ds_digits/{name}" for name in names]


def test_downloaded_images_are_files_in_class_folders_that_make_the_dataset_again(
    served: Served, tmp_path: Path
) -> None:
    dataset_id, pack = add_classes(served, tmp_path)
    response = served.http.get(f"/datasets/{dataset_id}/download?format=images")
    assert response.headers["content-disposition"] == f'attachment; filename="{dataset_id}-images.tar"'
    with tarfile.open(fileobj=io.BytesIO(response.content)) as tar:
        for file in list_image_files(pack):
            drawn = read_png(read_member(tar, f"{dataset_id}/{file.path}"))
            assert np.array_equal(drawn, pack.images[file.position])
        assert len(tar.getnames()) == len(pack.labels)
    (tmp_path / "download.tar").write_bytes(response.content)
    again = pack_images(tmp_path / "download.tar", tmp_path / "again", IntakeOptions(name="again"))
    diff = compare(Contents.of(pack), Contents.of(again))
    assert (diff.num_unchanged, diff.num_added, diff.num_moved) == (114, 0, 0)


def receive(response: httpx.Response, received: bytearray) -> None:
    for piece in response.iter_bytes():
        received += piece


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "split.npy"])
def test_a_damaged_pack_is_never_sent_to_its_end(served: Served, tmp_path: Path, name: str) -> None:
    dataset_id, pack = add_classes(served, tmp_path)
    path = pack.path / name
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # another label, or other pixels: still values that can be
    path.write_bytes(content)
    with served.http.stream("GET", f"/datasets/{dataset_id}/download") as response:
        received = bytearray()
        with pytest.raises(httpx.RemoteProtocolError):
            receive(response, received)
        length = int(response.headers["content-length"])
    assert b"format_version" not in received, "pack.json was not sent"
    assert len(received) < length
    assert served.http.get(f"/datasets/{dataset_id}/download?format=images").status_code == 200, "the place is free"


@pytest.mark.parametrize("what", ["pack", "images"])
def test_what_is_not_ready_or_not_ones_own_can_not_be_downloaded(served: Served, tmp_path: Path, what: str) -> None:
    _, pack = add_classes(served, tmp_path)
    foreign = add_dataset(served, pack, owner="somebody")
    lost = add_dataset(served, pack)
    for reference, status, code in (
        ("digits", 409, "dataset_not_ready"),
        (foreign, 404, "dataset_not_found"),
        (lost, 409, "dataset_not_ready"),
    ):
        for _ in range(MAX_DOWNLOADS + 1):  # a refusal takes no place
            error_of(served.http.get(f"/datasets/{reference}/download?format={what}"), status, code)
    error_of(served.http.get("/datasets/digits/download?format=zip"), 422, "invalid_request")


def test_a_download_has_a_place_until_it_ends_or_its_client_leaves(served: Served, tmp_path: Path) -> None:
    counts = {"train/cat": 40, "train/dog": 40, "val/cat": 5, "val/dog": 5}
    folder = write_classes(tmp_path / "large", counts, (256, 256, 3))
    dataset_id, _ = add_folder(served, folder)  # 17 MB, more than the buffers of a connection
    url = f"/datasets/{dataset_id}/download"
    clients = [httpx.Client(base_url=served.url, trust_env=False) for _ in range(MAX_DOWNLOADS)]
    streams = [client.stream("GET", url) for client in clients]
    try:
        assert {stream.__enter__().status_code for stream in streams} == {200}
        error = error_of(served.http.get(url), 503, "too_many_downloads")
        assert "Try again" in error["message"]
        assert served.http.head(f"/datasets/{dataset_id}").status_code == 200
    finally:
        for stream, client in zip(streams, clients, strict=True):
            stream.__exit__(None, None, None)
            client.close()
    wait_until(lambda: served.http.head(url).status_code == 200)
    assert [served.http.head(url).status_code for _ in range(MAX_DOWNLOADS + 1)] == [200] * (MAX_DOWNLOADS + 1)


def test_an_export_of_odd_class_names_is_a_dataset_that_intake_takes(served: Served, tmp_path: Path) -> None:
    names = ("..", "nul", "C:\\cat", "T-shirt/top", ".hidden", "test", "\u732b" * 100, "a*b", "a?b")
    dataset_id = new_id("ds")
    random = np.random.default_rng(0)
    pack = write_pack(
        served.settings.data_dir / pack_key(dataset_id),
        name="odd",
        class_names=names,
        images_NHWC=random.integers(0, 256, (81, 8, 8, 3)).astype(np.uint8),
        labels_N=np.arange(81) % 9,
        split_N=(np.arange(81) // 9 % 3).astype(np.uint8),
        flip_safe=True,
    )
    add_dataset(served, pack, dataset_id=dataset_id)
    (tmp_path / "odd.tar").write_bytes(served.http.get(f"/datasets/{dataset_id}/download?format=images").content)
    again = pack_images(tmp_path / "odd.tar", tmp_path / "again", IntakeOptions(name="again"))
    assert len(again.class_names) == 9
    diff = compare(Contents.of(pack), Contents.of(again))
    assert (diff.num_added, diff.num_removed, diff.num_unchanged + diff.num_relabelled) == (0, 0, 81)


def test_images_are_drawn_as_they_are_sent(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_classes(tmp_path / "many", {"train/a": 60, "train/b": 60, "val/a": 1}, (64, 64, 3))
    dataset_id, _ = add_folder(served, folder)
    drawn: list[int] = []

    def draw(pack: Pack, position: int) -> bytes:
        drawn.append(position)
        return draw_image(pack, position)

    monkeypatch.setattr(dataset_archives, "draw_image", draw)
    services = served.app.state.services
    with services.database.reading() as session:
        stored = StoredPack.of(datasets.get_dataset(session, "local", dataset_id))
    archive = dataset_archives.ImageArchive(services.storage, stored, services.downloads.take())
    sizes = []
    for piece in archive.pieces():
        sizes.append(len(piece))
        assert len(drawn) <= 25 * len(sizes), "a piece is a quarter of a megabyte, some twenty of these images"
    archive.close()
    assert len(drawn) == 121
    assert max(sizes) < 300_000
    assert len(sizes) > 4
