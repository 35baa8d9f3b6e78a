"""Uploads by the tus protocol, over HTTP."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from tests.api.served import Served, error_of, wait_until
from tests.api.tus import PATCH, TUS, begin, content_of, encoded, files_of, offset_of, send
from trainyard.artifacts.upload_files import UploadFile
from trainyard.database.connection import now
from trainyard.database.tables import Upload
from trainyard.upkeep.abandoned_uploads import AbandonedUploads
from trainyard.upload_errors import DiskFull

Serve = Callable[..., Served]
MIB = 1024 * 1024


def look(served: Served, path: str) -> dict[str, Any]:
    response = served.http.get(path)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_a_file_arrives_in_pieces(served: Served) -> None:
    data = bytes(range(256)) * 5000
    path = begin(served, len(data), **{"Upload-Metadata": f"filename {encoded('flöwers.zip')},empty"})
    assert offset_of(served, path) == 0
    for start in range(0, len(data), 500_000):
        piece = data[start : start + 500_000]
        response = send(served, path, start, piece)
        assert response.status_code == 204
        assert response.headers["upload-offset"] == str(start + len(piece))
        assert response.headers["tus-resumable"] == "1.0.0"
        assert "GMT" in response.headers["upload-expires"]
    found = look(served, path)
    assert (found["state"], found["name"], found["size_bytes"]) == ("whole", "flöwers.zip", len(data))
    assert found["offset_bytes"] == len(data)
    assert found["sha256"] == hashlib.sha256(data).hexdigest()
    assert content_of(served, path) == data
    head = served.http.head(path, headers=TUS)
    assert head.headers["upload-length"] == str(len(data))
    assert head.headers["upload-metadata"] == f"filename {encoded('flöwers.zip')},empty"
    assert head.headers["cache-control"] == "no-store"


def test_the_sha256_is_right_where_another_process_began(served: Served) -> None:
    data = b"x" * 300_000
    path = begin(served, len(data))
    send(served, path, 0, data[:100_000])
    served.app.state.services.uploads._place.digests._known.clear()
    send(served, path, 100_000, data[100_000:])
    assert look(served, path)["sha256"] == hashlib.sha256(data).hexdigest()


def test_options_say_what_is_supported(served: Served) -> None:
    response = served.http.options("/uploads")
    assert response.status_code == 204
    assert response.headers["tus-version"] == "1.0.0"
    assert response.headers["tus-max-size"] == str(20 * 2**30)
    assert set(response.headers["tus-extension"].split(",")) == {
        *("creation", "creation-with-upload", "creation-defer-length"),
        *("checksum", "expiration", "termination"),
    }
    assert "sha1" in response.headers["tus-checksum-algorithm"].split(",")


def test_the_first_bytes_may_come_with_the_creation(served: Served) -> None:
    headers = PATCH | {"Upload-Length": "5"}
    response = served.http.post("/uploads", content=b"123", headers=headers)
    assert (response.status_code, response.headers["upload-offset"]) == (201, "3")
    path = response.headers["location"]
    assert send(served, path, 3, b"45").status_code == 204
    assert (content_of(served, path), look(served, path)["state"]) == (b"12345", "whole")


def test_the_length_may_come_later(served: Served) -> None:
    path = begin(served, None)
    assert served.http.head(path, headers=TUS).headers["upload-defer-length"] == "1"
    assert send(served, path, 0, b"123").headers["upload-offset"] == "3"
    assert look(served, path)["state"] == "open"
    wrong = send(served, path, 3, b"45", **{"Upload-Length": "2"})
    error_of(wrong, 409, "upload_offset_mismatch")
    assert send(served, path, 3, b"45", **{"Upload-Length": "5"}).status_code == 204
    assert look(served, path)["state"] == "whole"


def test_the_length_of_a_complete_one_may_come_alone(served: Served) -> None:
    path = begin(served, None)
    send(served, path, 0, b"123")
    assert send(served, path, 3, b"", **{"Upload-Length": "3"}).status_code == 204
    assert look(served, path)["state"] == "whole"


def test_an_empty_file_is_whole_at_once(served: Served) -> None:
    path = begin(served, 0)
    assert look(served, path)["state"] == "whole"


@pytest.mark.parametrize("headers", [{}, {"Upload-Length": "5", "Upload-Defer-Length": "1"}, {"Upload-Length": "-1"}])
def test_a_creation_says_the_length_in_one_way(served: Served, headers: dict[str, str]) -> None:
    error_of(served.http.post("/uploads", headers=TUS | headers), 422, "invalid_request")


@pytest.mark.parametrize(
    "metadata", ["filename ***", "a b c", "filename Zg==,filename Zg==", "ö Zg==", "a " + "A" * 9000]
)
def test_wrong_metadata_is_refused(served: Served, metadata: str) -> None:
    headers = TUS | {"Upload-Length": "1", "Upload-Metadata": metadata}
    in_bytes = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    error = error_of(served.http.post("/uploads", headers=in_bytes), 422, "invalid_request")
    assert error["param"] == "Upload-Metadata"


def test_names_are_text_and_never_paths(served: Served) -> None:
    path = begin(
        served, 1, **{"Upload-Metadata": f"filename {encoded('../../etc/pass' + chr(0) + 'wd' + chr(0x202E))}"}
    )
    assert look(served, path)["name"] == "passwd"


@pytest.mark.parametrize("version", [None, "0.2.2", "2.0.0"])
def test_another_version_is_refused(served: Served, version: str | None) -> None:
    headers = {"Upload-Length": "5"} | ({"Tus-Resumable": version} if version else {})
    response = served.http.post("/uploads", headers=headers)
    error_of(response, 412, "tus_version_unsupported")
    assert response.headers["tus-version"] == "1.0.0"
    assert response.headers["tus-resumable"] == "1.0.0"


def test_a_wrong_offset_is_refused_and_changes_nothing(served: Served) -> None:
    path = begin(served, 10)
    send(served, path, 0, b"12345")
    for offset in (0, 4, 6, 11):
        error = error_of(send(served, path, offset, b"x"), 409, "upload_offset_mismatch")
        assert "goes on at 5" in error["message"]
    error_of(send(served, path, -1, b"x"), 422, "invalid_request")
    assert (offset_of(served, path), content_of(served, path)) == (5, b"12345")


def test_a_complete_upload_takes_no_more(served: Served) -> None:
    path = begin(served, 3)
    send(served, path, 0, b"123")
    for offset, data in ((0, b"456"), (3, b"456"), (3, b"")):
        error = error_of(send(served, path, offset, data), 409, "upload_offset_mismatch")
        assert "complete" in error["message"]
    assert content_of(served, path) == b"123"


@pytest.mark.parametrize("content_type", ["application/zip", ""])
def test_another_type_is_refused(served: Served, content_type: str) -> None:
    path = begin(served, 3)
    response = send(served, path, 0, b"123", **{"Content-Type": content_type})
    error_of(response, 415, "unsupported_media_type")
    assert offset_of(served, path) == 0


class TestChecksums:
    @staticmethod
    def of(data: bytes, algorithm: str = "sha1") -> dict[str, str]:
        digest = hashlib.new(algorithm, data).digest()
        return {"Upload-Checksum": f"{algorithm} {base64.b64encode(digest).decode()}"}

    @pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
    def test_bytes_that_match_are_taken(self, served: Served, algorithm: str) -> None:
        path = begin(served, 3)
        assert send(served, path, 0, b"123", **self.of(b"123", algorithm)).status_code == 204
        assert look(served, path)["state"] == "whole"

    def test_bytes_that_differ_are_dropped(self, served: Served) -> None:
        path = begin(served, 6)
        send(served, path, 0, b"123")
        error_of(send(served, path, 3, b"xyz", **self.of(b"456")), 460, "checksum_mismatch")
        assert offset_of(served, path) == 3
        assert send(served, path, 3, b"456", **self.of(b"456")).status_code == 204
        assert content_of(served, path) == b"123456"
        assert look(served, path)["sha256"] == hashlib.sha256(b"123456").hexdigest()

    @pytest.mark.parametrize("given", ["crc32 AAAA", "sha1 AAAA", "sha1 ***", "sha1"])
    def test_a_wrong_header_is_refused(self, served: Served, given: str) -> None:
        path = begin(served, 3)
        error_of(send(served, path, 0, b"123", **{"Upload-Checksum": given}), 422, "invalid_request")
        assert offset_of(served, path) == 0


class TestSizes:
    def test_a_too_large_file_is_refused_before_a_byte(self, serve: Serve) -> None:
        served = serve(max_dataset_upload_bytes=MIB)
        for size in (MIB + 1, 10**12):
            response = served.http.post("/uploads", headers=TUS | {"Upload-Length": str(size)})
            error_of(response, 413, "body_too_large")
        error_of(served.http.post("/uploads", headers=TUS | {"Upload-Length": str(10**30)}), 422, "invalid_request")
        assert served.http.get("/uploads").json()["data"] == []
        path = begin(served, None)
        error_of(send(served, path, 0, b"", **{"Upload-Length": str(MIB + 1)}), 413, "body_too_large")

    def test_a_body_beyond_the_length_is_refused(self, served: Served) -> None:
        path = begin(served, 5)
        error_of(send(served, path, 0, b"123456"), 413, "body_too_large")
        error_of(send(served, path, 0, iter([b"123", b"456"])), 413, "body_too_large")
        assert offset_of(served, path) == 0

    def test_a_body_in_chunks_beyond_the_limit_is_refused(self, serve: Serve) -> None:
        served = serve(max_dataset_upload_bytes=MIB)
        path = begin(served, None)
        error_of(send(served, path, 0, (b"x" * 65536 for _ in range(40))), 413, "body_too_large")
        assert offset_of(served, path) <= MIB


class TestQuotas:
    def test_bytes_are_counted_when_they_are_announced(self, serve: Serve) -> None:
        served = serve(max_dataset_bytes_per_owner=1000)
        path = begin(served, 600)
        response = served.http.post("/uploads", headers=TUS | {"Upload-Length": "401"})
        error_of(response, 403, "quota_exceeded")
        assert begin(served, 400)
        assert served.http.delete(path).status_code == 204
        assert begin(served, 600)

    def test_bytes_that_were_not_announced_are_counted_as_they_come(self, serve: Serve) -> None:
        served = serve(max_dataset_bytes_per_owner=1000)
        path = begin(served, None)
        error_of(send(served, path, 0, b"x" * 1001), 403, "quota_exceeded")
        error_of(send(served, path, 0, b"", **{"Upload-Length": "1001"}), 403, "quota_exceeded")
        assert send(served, path, 0, b"x" * 1000).status_code == 204

    def test_uploads_are_counted(self, serve: Serve) -> None:
        served = serve(max_open_uploads_per_owner=2)
        begin(served, 1)
        begin(served, 1)
        response = served.http.post("/uploads", headers=TUS | {"Upload-Length": "1"})
        error_of(response, 403, "quota_exceeded")

    def test_free_space_is_left(self, serve: Serve) -> None:
        served = serve(min_free_disk_bytes=2**60)
        response = served.http.post("/uploads", headers=TUS | {"Upload-Length": "1"})
        error_of(response, 507, "disk_full")
        assert int(response.headers["retry-after"]) > 0
        assert served.http.get("/uploads").json()["data"] == []


def test_what_a_full_disk_took_stays_and_the_sha256_is_right(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    path, data = begin(served, 300_000), bytes(range(250)) * 1200
    genuine = UploadFile.append

    def append_half(file: UploadFile, piece: bytes | memoryview) -> None:
        genuine(file, memoryview(piece)[: len(piece) // 2])
        raise DiskFull

    with monkeypatch.context() as patch:
        patch.setattr(UploadFile, "append", append_half)
        error_of(send(served, path, 0, data), 507, "disk_full")
    offset = offset_of(served, path)
    assert 0 < offset < 300_000
    assert send(served, path, offset, data[offset:]).status_code == 204
    assert look(served, path)["sha256"] == hashlib.sha256(data).hexdigest()


class TestEnd:
    def test_a_cancelled_upload_is_gone_with_its_bytes(self, served: Served) -> None:
        path = begin(served, 10)
        send(served, path, 0, b"123")
        assert served.http.delete(path, headers=TUS).status_code == 204
        error_of(served.http.get(path), 404, "upload_not_found")
        error_of(send(served, path, 3, b"4"), 404, "upload_not_found")
        error_of(served.http.delete(path), 404, "upload_not_found")
        assert files_of(served) == []

    def test_an_expired_upload_is_gone_and_swept(self, served: Served) -> None:
        path, stays = begin(served, 10), begin(served, 10)
        for each in (path, stays):
            send(served, each, 0, b"123")
        with served.database.writing() as session:
            name = path.rpartition("/")[2]
            session.execute(update(Upload).where(Upload.id == name).values(expires_at=now() - 1))
        error_of(served.http.get(path), 404, "upload_not_found")
        error_of(send(served, path, 3, b"4"), 404, "upload_not_found")
        sweep(served)
        assert files_of(served) == [f"{stays.rpartition('/')[2]}/content"]
        with served.database.reading() as session:
            assert session.get(Upload, name) is None

    def test_one_that_a_dataset_is_made_of_stays(self, served: Served) -> None:
        path = begin(served, 3)
        send(served, path, 0, b"123")
        body = {"name": "flowers", "upload": path.rpartition("/")[2]}
        assert served.http.post("/datasets", json=body).json()["state"] == "validating"
        assert look(served, path)["expires_at"] is None
        error_of(served.http.delete(path), 409, "in_use")
        sweep(served)
        assert content_of(served, path) == b"123"

    def test_a_dataset_waits_for_its_upload(self, served: Served) -> None:
        path = begin(served, 3)
        body = {"name": "flowers", "upload": path.rpartition("/")[2]}
        dataset = served.http.post("/datasets", json=body).json()
        assert (dataset["state"], dataset["upload"], dataset["links"]["upload"]) == ("uploading", body["upload"], path)
        send(served, path, 0, b"123")
        found = served.http.get(f"/datasets/{dataset['id']}").json()
        assert (found["state"], found["upload"]) == ("validating", body["upload"])
        assert {row["upload"] for row in served.http.get("/datasets").json()["data"] if not row["builtin"]} == {
            body["upload"]
        }
        assert look(served, path)["expires_at"] is None

    @pytest.mark.parametrize("end", ["cancelled", "expired"])
    def test_a_dataset_whose_upload_ends_before_it_is_whole_is_rejected(self, served: Served, end: str) -> None:
        path = begin(served, 3)
        body = {"name": "flowers", "upload": path.rpartition("/")[2]}
        dataset = served.http.post("/datasets", json=body).json()
        if end == "cancelled":
            assert served.http.delete(path).status_code == 204
        else:
            with served.database.writing() as session:
                session.execute(update(Upload).values(expires_at=now() - 1))
            sweep(served)
        found = served.http.get(f"/datasets/{dataset['id']}").json()
        assert (found["state"], found["error"]["code"]) == ("rejected", "upload_missing")
        assert "upload" not in found["links"]
        error_of(served.http.post("/datasets", json=body), 404, "upload_not_found")

    def test_bytes_without_a_row_are_swept(self, served: Served) -> None:
        made, folder = (
            served.settings.data_dir / place for place in ("made", "uploads/upl_0000000000000000000000000a")
        )
        made.mkdir()
        (made / "content").write_bytes(b"x")
        folder.parent.mkdir(exist_ok=True)
        made.rename(folder)  # the API sweeps, too
        sweep(served)
        assert not folder.exists()

    def test_one_whose_process_was_killed_at_its_end_is_completed(self, served: Served) -> None:
        path = begin(served, 3)
        with served.database.writing() as session:
            session.execute(update(Upload).values(offset_bytes=3))
        (served.settings.data_dir / path.strip("/") / "content").write_bytes(b"123")
        assert look(served, path)["state"] == "open"
        sweep(served)
        found = look(served, path)
        assert (found["state"], found["sha256"]) == ("whole", hashlib.sha256(b"123").hexdigest())


def sweep(served: Served) -> None:
    """What the reconciler does every few seconds."""
    services = served.app.state.services
    folder = services.uploads._folder
    AbandonedUploads(served.database, services.storage, folder, expires_s=3600).tick()


def test_a_foreign_upload_is_not_there(served: Served) -> None:
    path = begin(served, 10)
    send(served, path, 0, b"123")
    with served.database.writing() as session:
        session.execute(update(Upload).values(owner="another"))
    assert served.http.get("/uploads").json()["data"] == []
    for response in (
        served.http.get(path),
        send(served, path, 3, b"4"),
        send(served, path, 3, b"4", **{"Upload-Length": "7"}),
        served.http.delete(path),
    ):
        error_of(response, 404, "upload_not_found")
    assert content_of(served, path) == b"123"


def test_uploads_are_listed_newest_first(served: Served) -> None:
    paths = [begin(served, number) for number in range(1, 4)]
    listed = served.http.get("/uploads?limit=2").json()
    assert [entry["links"]["self"] for entry in listed["data"]] == [paths[2], paths[1]]
    rest = served.http.get(f"/uploads?after={listed['last_id']}").json()
    assert [entry["links"]["self"] for entry in rest["data"]] == [paths[0]]


def test_a_post_may_stand_for_a_patch(served: Served) -> None:
    path = begin(served, 3)
    headers = PATCH | {"Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    assert served.http.post(path, content=b"123", headers=headers).status_code == 204
    headers = TUS | {"X-HTTP-Method-Override": "DELETE"}
    assert served.http.post(path, headers=headers).status_code == 204
    error_of(served.http.get(path), 404, "upload_not_found")
    error_of(served.http.post(path, headers=TUS), 405, "method_not_allowed")


@pytest.mark.parametrize("name", ["upl_x%00", "upl_..%2f..%2fx", "job_1", "upl_" + "a" * 500, "%F0%9F%98%80"])
def test_what_is_no_id_is_not_found(served: Served, name: str) -> None:
    path = f"/uploads/{name}"
    for response in (served.http.get(path), served.http.delete(path), send(served, path, 0, b"x")):
        assert response.status_code == 404, response.text


def test_the_bytes_of_another_process_s_disk_are_not_touched(served: Served) -> None:
    path = begin(served, 10)
    send(served, path, 0, b"123")
    with served.database.writing() as session:
        session.execute(update(Upload).values(folder_id="store_elsewhere"))
    error = error_of(send(served, path, 3, b"4567890"), 503, "storage_unavailable")
    assert "another API process" in error["message"]
    assert content_of(served, path) == b"123"


def test_what_a_killed_process_wrote_beyond_the_offset_is_cut_off(served: Served) -> None:
    path = begin(served, 10)
    send(served, path, 0, b"123")
    with (served.settings.data_dir / path.strip("/") / "content").open("ab") as file:
        file.write(b"never named to a client")
    assert offset_of(served, path) == 3
    assert send(served, path, 3, b"4567890").status_code == 204
    assert content_of(served, path) == b"1234567890"
    assert look(served, path)["sha256"] == hashlib.sha256(b"1234567890").hexdigest()


def test_bytes_that_were_on_disk_and_are_not_are_told(served: Served) -> None:
    path = begin(served, 10)
    send(served, path, 0, b"12345")
    with (served.settings.data_dir / path.strip("/") / "content").open("r+b") as file:
        file.truncate(3)
    error = error_of(send(served, path, 5, b"67890"), 503, "storage_unavailable")
    assert "lost bytes" in error["message"]
    assert served.http.delete(path).status_code == 204


def test_two_patches_at_once_never_mix(served: Served) -> None:
    """Both offer a file from its start; at every moment one of them is the only writer."""
    path, start = begin(served, 8 * MIB), threading.Barrier(2)
    answers: dict[bytes, int | str] = {}

    def offer(letter: bytes) -> None:
        def pieces() -> Any:
            start.wait(60)
            for _ in range(8):
                yield letter * MIB

        try:
            answers[letter] = send(served, path, 0, pieces()).status_code
        except Exception as exc:  # the connection of the one that ended is closed
            answers[letter] = type(exc).__name__

    threads = [threading.Thread(target=offer, args=(letter,)) for letter in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    offset = offset_of(served, path)
    content = content_of(served, path)[:offset]
    assert len(set(content)) <= 1, "bytes of both"
    assert [answers[letter] for letter in (b"a", b"b")].count(204) <= 1, answers
    if offset < 8 * MIB:
        assert send(served, path, offset, b"c" * (8 * MIB - offset)).status_code == 204
    assert look(served, path)["state"] == "whole"


@pytest.fixture(params=["the same process", "another process"])
def other(request: pytest.FixtureRequest, served: Served, serve: Serve) -> Served:
    """Where a second request arrives. A second app with the same folder shares no memory with the first."""
    return served if request.param == "the same process" else serve()


def test_a_client_that_comes_back_ends_its_own_stale_request(served: Served, other: Served) -> None:
    """Its line was cut without a word: the old connection still waits for bytes."""
    path, going_on = begin(served, 3 * MIB), threading.Event()
    began = threading.Event()

    def pieces() -> Any:
        yield b"a" * MIB
        began.set()
        going_on.wait(20)
        yield b"a" * MIB

    def offer() -> None:
        try:
            send(served, path, 0, pieces())
        except Exception:
            return

    stale = threading.Thread(target=offer)
    stale.start()
    assert began.wait(10)
    wait_until(lambda: (served.settings.data_dir / path.strip("/") / "content").stat().st_size >= MIB)
    offset = offset_of(other, path)
    assert offset == MIB
    assert send(other, path, offset, b"b" * (2 * MIB)).status_code == 204
    going_on.set()
    stale.join(20)
    assert content_of(served, path) == b"a" * MIB + b"b" * (2 * MIB)


def test_a_second_client_does_not_disturb_one_whose_bytes_still_come(served: Served, other: Served) -> None:
    path, enough = begin(served, 40 * MIB), threading.Event()
    sent: list[int] = []

    def pieces() -> Any:
        for _ in range(40):
            yield b"a" * MIB
            enough.wait(0.15)

    first = threading.Thread(target=lambda: sent.append(send(served, path, 0, pieces()).status_code))
    first.start()
    wait_until(lambda: (served.settings.data_dir / path.strip("/") / "content").stat().st_size >= MIB)
    head = other.http.head(path, headers=TUS)
    assert (head.status_code, head.headers["retry-after"]) == (423, "1")
    error_of(send(other, path, 0, b"b"), 423, "upload_locked")
    assert other.http.get(path).status_code == 200, "only who wants to resume is refused"
    enough.set()
    first.join(20)
    assert sent == [204]
    assert look(served, path)["state"] == "whole"
