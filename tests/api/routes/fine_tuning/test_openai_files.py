"""`files` of OpenAI's own package: archives that are sent become datasets, which jobs train on."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.alexnet_core.data.intake.test_packing import write_classes
from tests.api.served import Served, error_of
from tests.api.stored_datasets import add_classes, add_dataset
from tests.api.tus import files_of
from tests.api.uploads.test_bodies import assert_nothing_stays
from trainyard.states import DatasetState

PATH = "/v1/files"
PURPOSE = {"purpose": "fine-tune"}


def archive(folder: Path, name: str = "flowers.zip") -> Path:
    """A zip of two class folders."""
    write_classes(folder / "flowers", {"rose": 3, "daisy": 3})
    path = folder / name
    with zipfile.ZipFile(path, "w") as target:
        for image in sorted((folder / "flowers").rglob("*.png")):
            target.write(image, image.relative_to(folder / "flowers"))
    return path


def send(http: httpx.Client, fields: dict[str, str], *, content: bytes = b"PK", name: str = "x.zip") -> httpx.Response:
    return http.post(PATH, files={"file": (name, content)}, data=fields)


def test_an_archive_becomes_a_dataset_that_a_job_trains_on(served: Served, client: OpenAI, tmp_path: Path) -> None:
    path = archive(tmp_path)
    made = client.files.create(file=path, purpose="fine-tune")
    assert (made.object, made.filename, made.purpose, made.status) == ("file", "flowers.zip", "fine-tune", "uploaded")
    assert made.bytes == path.stat().st_size
    dataset = served.http.get(f"/datasets/{made.id}").json()
    assert (dataset["name"], dataset["state"]) == ("flowers", "validating")
    assert client.files.retrieve(made.id) == made
    for file in (made.id, "flowers"):
        job = client.fine_tuning.jobs.create(model="quick", training_file=file)
        assert (job.training_file, job.status) == (made.id, "validating_files")
    with pytest.raises(openai.ConflictError):
        client.files.delete(made.id)


def test_the_same_file_is_the_same_dataset(client: OpenAI, served: Served, tmp_path: Path) -> None:
    path = archive(tmp_path)
    first, again = (client.files.create(file=path, purpose="fine-tune") for _ in range(2))
    assert first.id == again.id
    assert len(files_of(served)) == 1


def test_fields_of_datasets_may_come_along(client: OpenAI, served: Served, tmp_path: Path) -> None:
    options: Any = {"name": "roses", "image_px": "32", "flip_safe": "false"}
    made = client.files.create(file=archive(tmp_path), purpose="fine-tune", extra_body=options)
    dataset = served.http.get(f"/datasets/{made.id}").json()
    assert (dataset["name"], dataset["options"]) == ("roses", {"image_px": 32, "flip_safe": False})
    assert made.filename == "flowers.zip"


def test_files_come_in_pages_with_the_built_in_ones(client: OpenAI, served: Served) -> None:
    made = [add_dataset(served, None, name=f"d{number}", state=DatasetState.VALIDATING) for number in range(5)]
    pages = list(client.files.list(limit=2))
    assert [file.id for file in pages][:5] == made[::-1]
    assert {"ds_digits", "ds_fashion-mnist"} <= {file.id for file in pages}
    assert [file.id for file in client.files.list(purpose="fine-tune")] == [file.id for file in pages]
    assert list(client.files.list(purpose="batch")) == []
    digits = client.files.retrieve("digits")
    assert (digits.id, digits.filename, digits.status) == ("ds_digits", "digits", "processed")
    with pytest.raises(openai.UnprocessableEntityError, match="order"):
        client.files.list(order="asc")


def test_a_rejected_dataset_is_a_file_with_an_error(client: OpenAI, served: Served) -> None:
    dataset_id = add_dataset(served, None, state=DatasetState.REJECTED)
    assert client.files.retrieve(dataset_id).status == "error"
    with pytest.raises(openai.ConflictError) as caught:
        client.files.content(dataset_id)
    assert (caught.value.code, caught.value.param) == ("dataset_rejected", "file_id")


def test_the_content_is_an_archive_that_can_be_sent_again(client: OpenAI, served: Served, tmp_path: Path) -> None:
    dataset_id, _ = add_classes(served, tmp_path)
    content = client.files.content(dataset_id).read()
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        names = tar.getnames()
    assert names
    assert all(name.endswith(".png") for name in names)
    made = client.files.create(file=("again.tar", content), purpose="fine-tune")
    assert (made.filename, made.bytes, made.id != dataset_id) == ("again.tar", len(content), True)


def test_a_file_is_deleted_once(client: OpenAI, served: Served) -> None:
    dataset_id = add_dataset(served, None, name="flowers")
    gone = client.files.delete("flowers")
    assert (gone.id, gone.deleted, gone.object) == (dataset_id, True, "file")
    with pytest.raises(openai.NotFoundError) as caught:
        client.files.delete(dataset_id)
    assert (caught.value.code, caught.value.param) == ("dataset_not_found", "file_id")
    with pytest.raises(openai.ConflictError):
        client.files.delete("digits")


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({}, 422, "invalid_request", "purpose"),
        ({"purpose": "batch"}, 422, "invalid_request", "purpose"),
        ({"purpose": "fine-tune", "expires_after[seconds]": "3600"}, 422, "invalid_request", "expires_after"),
        ({"purpose": "fine-tune", "image_px": "many"}, 422, "invalid_request", "image_px"),
        ({"purpose": "fine-tune", "colour": "red"}, 422, "invalid_request", "colour"),
        ({"purpose": "fine-tune", "parent_id": "ds_nowhere"}, 404, "dataset_not_found", "parent_id"),
    ],
)
def test_what_cannot_be_taken_is_refused_and_nothing_stays(
    served: Served, fields: dict[str, str], status: int, code: str, param: str
) -> None:
    assert error_of(send(served.http, fields), status, code)["param"] == param
    assert_nothing_stays(served)


def test_a_file_that_is_no_form_or_has_no_name_is_refused(served: Served) -> None:
    zipped = {"Content-Type": "application/zip"}
    error_of(served.http.post(PATH, content=b"PK", headers=zipped), 415, "unsupported_media_type")
    error_of(served.http.post(PATH, json={"file": "x"}), 415, "unsupported_media_type")
    error = error_of(send(served.http, PURPOSE, name=".zip"), 422, "invalid_request")
    assert error["param"] == "name"
    assert_nothing_stays(served)


def test_a_file_over_the_limit_is_refused_before_it_is_sent(serve: Any) -> None:
    served: Served = serve(max_dataset_upload_bytes=1024)
    error_of(send(served.http, PURPOSE, content=b"x" * 4_000_000), 413, "body_too_large")
    assert_nothing_stays(served)
    assert send(served.http, PURPOSE, content=b"x" * 1000).status_code == 200


def test_a_large_file_goes_to_the_disk_though_other_bodies_may_not_be_so_large(serve: Any) -> None:
    served: Served = serve(max_body_bytes=1024, max_upload_bytes=1024, max_upload_bytes_at_once=1024)
    made = send(served.http, PURPOSE, content=b"x" * 3_000_000)
    assert (made.status_code, made.json()["bytes"]) == (200, 3_000_000)
