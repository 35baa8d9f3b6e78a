import base64
import hashlib
import io
import tarfile

import pytest

from tests.alexnet_core.test_regular_files import Impostor, fifo, link, put_in_place
from tests.api.served import FILES, Served, error_of, png, read_member, sha256
from trainyard.database.tables import Job

PNG = {"Content-Type": "image/png"}


def test_checkpoints_are_listed_newest_first_with_the_best_marked(served: Served) -> None:
    job_id = served.add_job()
    ids = [served.add_checkpoint(job_id, epoch).id for epoch in (1, 2)]
    for path in ("/checkpoints", f"/jobs/{job_id}/checkpoints"):
        page = served.http.get(path).json()
        assert [row["id"] for row in page["data"]] == ids[::-1]
        assert [row["is_best"] for row in page["data"]] == [True, False]
        assert page["data"][0]["metrics"] == {"val_top1": 0.5, "val_loss": None}
    one = served.http.get(f"/checkpoints/{ids[0]}").json()
    assert (one["object"], one["job"], one["kind"], one["epoch"]) == ("checkpoint", job_id, "epoch", 1)


def test_a_download_is_a_whole_tar(served: Served) -> None:
    checkpoint = served.add_checkpoint(served.add_job(), 1)
    response = served.http.get(f"/checkpoints/{checkpoint.id}/download")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-tar"
    assert response.headers["content-disposition"] == f'attachment; filename="{checkpoint.id}.tar"'
    assert int(response.headers["content-length"]) == len(response.content)
    with tarfile.open(fileobj=io.BytesIO(response.content)) as tar:
        names = tar.getnames()
        assert names == [f"{checkpoint.id}/{name}" for name in (*FILES, "manifest.json", "MODEL_CARD.md")]
        weights = tar.extractfile(names[0])
        assert weights is not None
        assert sha256(weights.read()) == checkpoint.files[FILES[0]]["sha256"]


def test_a_download_goes_on_at_any_byte(served: Served) -> None:
    checkpoint = served.add_checkpoint(served.add_job(), 1)
    path = f"/checkpoints/{checkpoint.id}/download"
    whole = served.http.get(path)
    assert whole.headers["accept-ranges"] == "bytes"
    digest = base64.b64encode(hashlib.sha256(whole.content).digest()).decode()
    assert whole.headers["repr-digest"] == f"sha-256=:{digest}:"
    tag, size = whole.headers["etag"], len(whole.content)
    for asked, start, end in (("700-", 700, size), ("5-5", 5, 6), ("-10", size - 10, size), ("600-1200", 600, 1201)):
        part = served.http.get(path, headers={"Range": f"bytes={asked}", "If-Range": tag})
        assert (part.status_code, part.content) == (206, whole.content[start:end])
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
        assert (part.headers["etag"], int(part.headers["content-length"])) == (tag, end - start)
    other = served.http.get(path, headers={"Range": "bytes=700-", "If-Range": '"another"'})
    assert (other.status_code, other.content) == (200, whole.content)
    head = served.http.head(path)
    assert (head.headers["etag"], head.headers["content-length"]) == (tag, str(size))
    beyond = served.http.get(path, headers={"Range": f"bytes={size}-"})
    error_of(beyond, 416, "beyond_the_end")
    assert beyond.headers["content-range"] == f"bytes */{size}"


def test_a_checkpoint_whose_card_has_changed_is_another_file(served: Served) -> None:
    job_id = served.add_job()
    checkpoint = served.add_checkpoint(job_id, 1)
    path = f"/checkpoints/{checkpoint.id}/download"
    tag = served.http.get(path).headers["etag"]
    served.add_checkpoint(job_id, 2)
    with served.database.writing() as session:
        session.get_one(Job, job_id).name = "another name"
    changed = served.http.get(path, headers={"Range": "bytes=700-", "If-Range": tag})
    assert (changed.status_code, changed.headers["etag"] != tag) == (200, True)


def test_a_damaged_file_is_never_sent(served: Served) -> None:
    checkpoint = served.add_checkpoint(served.add_job(), 1)
    path = served.settings.data_dir / checkpoint.key / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    error_of(served.http.get(f"/checkpoints/{checkpoint.id}/download"), 404, "checkpoint_not_found")
    assert served.http.get("/checkpoints").json()["data"] == []


@pytest.mark.parametrize("impostor", [fifo, link])
@pytest.mark.parametrize("name", ["weights.safetensors", "manifest.json"])
def test_something_else_in_the_place_of_a_file_is_neither_waited_for_nor_sent(
    served: Served, impostor: Impostor, name: str
) -> None:
    job_id = served.add_job()
    checkpoint = served.add_checkpoint(job_id, 1)
    put_in_place(served.settings.data_dir / checkpoint.key / name, impostor)
    error_of(served.http.get(f"/checkpoints/{checkpoint.id}/download"), 404, "checkpoint_not_found")
    error_of(
        served.http.post(f"/predict?model={checkpoint.id}", content=png(), headers=PNG), 404, "checkpoint_not_found"
    )


@pytest.mark.parametrize("impostor", [fifo, link])
def test_logs_and_event_files_are_files(served: Served, impostor: Impostor) -> None:
    job_id = served.add_job()
    checkpoint = served.add_checkpoint(job_id, 1)
    log = served.settings.data_dir / "logs" / "jobs" / f"{job_id}.log"
    events = served.settings.data_dir / "tensorboard" / job_id / "steps" / "events.out.tfevents.1.x"
    for path in (log, events):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"secret")
        put_in_place(path, impostor)
    assert served.http.get(f"/jobs/{job_id}/logs").content == b""
    response = served.http.get(f"/checkpoints/{checkpoint.id}/download?what=tensorboard")
    error_of(response, 404, "event_files_not_found")


def test_a_format_that_does_not_exist_is_refused(served: Served) -> None:
    checkpoint = served.add_checkpoint(served.add_job(), 1)
    response = served.http.get(f"/checkpoints/{checkpoint.id}/download?format=pickle")
    assert error_of(response, 422, "invalid_request")["param"] == "format"


def test_a_pruned_checkpoint_says_so(served: Served) -> None:
    job_id = served.add_job()
    ids = [served.add_checkpoint(job_id, epoch).id for epoch in range(1, 4)]
    error_of(served.http.get(f"/checkpoints/{ids[0]}"), 404, "checkpoint_pruned")


def write_event_files(served: Served, job_id: str) -> dict[str, bytes]:
    names = ("epochs/events-000001.out.tfevents.17.host.1", "steps/events-000001.out.tfevents.17.host.1")
    content = {name: name.encode() * 100 for name in names}
    for name, data in content.items():
        path = served.settings.data_dir / "tensorboard" / job_id / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    (served.settings.data_dir / "tensorboard" / job_id / "notes.txt").write_text("not an event file")
    return content


def test_the_event_files_of_a_checkpoints_job_come_as_a_tar(served: Served) -> None:
    job_id = served.add_job()
    checkpoint = served.add_checkpoint(job_id, 1)
    content = write_event_files(served, job_id)
    write_event_files(served, "job_of_somebody_else")
    response = served.http.get(f"/checkpoints/{checkpoint.id}/download?what=tensorboard")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-tar"
    assert response.headers["content-disposition"] == f'attachment; filename="{job_id}-tensorboard.tar"'
    assert int(response.headers["content-length"]) == len(response.content)
    with tarfile.open(fileobj=io.BytesIO(response.content)) as tar:
        assert {name: read_member(tar, name) for name in tar.getnames()} == {
            f"{job_id}/{name}": data for name, data in content.items()
        }


def test_a_job_without_event_files_says_so(served: Served) -> None:
    checkpoint = served.add_checkpoint(served.add_job(), 1)
    response = served.http.get(f"/checkpoints/{checkpoint.id}/download?what=tensorboard")
    assert error_of(response, 404, "event_files_not_found")["param"] == "what"
    (served.settings.data_dir / "tensorboard" / checkpoint.job_id).mkdir(parents=True)
    response = served.http.get(f"/checkpoints/{checkpoint.id}/download?what=tensorboard")
    error_of(response, 404, "event_files_not_found")


def test_nothing_else_can_be_downloaded(served: Served) -> None:
    checkpoint = served.add_checkpoint(served.add_job(), 1)
    response = served.http.get(f"/checkpoints/{checkpoint.id}/download?what=logs")
    assert error_of(response, 422, "invalid_request")["param"] == "what"
