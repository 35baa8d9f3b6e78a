"""A dataset's file as the body of one request: it arrives whole, or nothing of it stays."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import select

from tests.api.http.test_connections import answer_of, connected, send_much
from tests.api.served import Served, error_of, wait_until
from tests.api.tus import content_of, files_of
from tests.api.uploads.test_forms import END, field_part, file_part
from trainyard.database.tables import Upload

Serve = Callable[..., Served]
MIB = 1024 * 1024
ZIP = {"Content-Type": "application/zip"}
FORM = {"Content-Type": "multipart/form-data; boundary=XX"}
POST = b"POST /datasets?name=x HTTP/1.1\r\nHost: localhost\r\n"


def post(served: Served, content: Any, headers: dict[str, str]) -> httpx.Response:
    return served.http.post("/datasets?name=x", content=content, headers=headers)


def uploads_of(served: Served) -> list[str]:
    with served.database.reading() as session:
        return list(session.scalars(select(Upload.id)))


def assert_nothing_stays(served: Served) -> None:
    wait_until(lambda: files_of(served) == [] and uploads_of(served) == [])


def only_upload(served: Served) -> dict[str, Any]:
    [found] = served.http.get("/uploads").json()["data"]
    assert isinstance(found, dict)
    return found


def test_a_raw_body_is_the_file(served: Served) -> None:
    data = bytes(range(256)) * 20_000
    answer = served.http.post("/datasets?name=flowers&image_px=32&flip_safe=false", content=data, headers=ZIP)
    assert (answer.status_code, answer.headers["location"]) == (202, f"/datasets/{answer.json()['id']}")
    dataset = answer.json()
    assert (dataset["name"], dataset["state"]) == ("flowers", "validating")
    assert dataset["options"] == {"image_px": 32, "flip_safe": False}
    found = only_upload(served)
    assert (found["state"], found["size_bytes"], found["expires_at"]) == ("whole", len(data), None)
    assert found["sha256"] == hashlib.sha256(data).hexdigest()
    assert content_of(served, f"/uploads/{found['id']}") == data


def test_a_body_in_chunks_is_the_file(served: Served) -> None:
    assert post(served, iter([b"12", b"345"]), ZIP).status_code == 202
    assert content_of(served, f"/uploads/{only_upload(served)['id']}") == b"12345"


@pytest.mark.parametrize("query", ["", "?name=flowers"])
def test_the_file_of_a_form_is_stored_with_its_name_and_fields(served: Served, query: str) -> None:
    data = bytes(range(256)) * 20_000
    fields = {"image_px": "32"} | ({} if query else {"name": "flowers"})
    answer = served.http.post(f"/datasets{query}", files={"file": ("flowers.zip", data)}, data=fields)
    assert answer.status_code == 202, answer.text
    assert (answer.json()["name"], answer.json()["options"]) == ("flowers", {"image_px": 32})
    found = only_upload(served)
    assert (found["name"], found["size_bytes"], found["state"]) == ("flowers.zip", len(data), "whole")
    assert content_of(served, f"/uploads/{found['id']}") == data


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("", "name"),
        ("?name=", "name"),
        ("?name=x&image_px=7", "image_px"),
        ("?name=x&image_px=abc", "image_px"),
        ("?name=x&colour=red", "colour"),
        ("?name=x&name=y", "name"),
        ("?name=x&path=/etc", "path"),
        ("?name=x&parent_id=ds_none", "parent_id"),
    ],
)
def test_wrong_options_are_refused_and_nothing_stays(served: Served, query: str, param: str) -> None:
    response = served.http.post(f"/datasets{query}", content=b"x", headers=ZIP)
    assert (response.status_code, response.json()["error"]["param"]) == (404 if "none" in query else 422, param)
    assert_nothing_stays(served)


@pytest.mark.parametrize("fields", [{}, {"name": ""}, {"name": "x", "image_px": "7"}, {"name": "x", "colour": "red"}])
def test_wrong_fields_are_refused_and_nothing_stays(served: Served, fields: dict[str, str]) -> None:
    response = served.http.post("/datasets", files={"file": ("a.zip", b"x")}, data=fields)
    error_of(response, 422, "invalid_request")
    assert_nothing_stays(served)


def test_wrong_options_are_refused_before_the_body(served: Served) -> None:
    with connected(served) as client:
        head = b"POST /datasets?image_px=7 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000000\r\n"
        client.sendall(head + b"Content-Type: multipart/form-data; boundary=XX\r\nExpect: 100-continue\r\n\r\n")
        error_of(answer_of(client), 422, "invalid_request")


def test_a_repetition_with_the_same_key_and_file_gives_the_first_dataset(served: Served) -> None:
    key = ZIP | {"Idempotency-Key": "once"}
    first, second = post(served, b"12345", key), post(served, b"12345", key)
    assert (first.status_code, second.status_code) == (202, 200)
    assert second.headers["idempotent-replayed"] == "true"
    assert first.json()["id"] == second.json()["id"]
    assert content_of(served, f"/uploads/{only_upload(served)['id']}") == b"12345"  # and no second one
    error_of(post(served, b"other", key), 422, "idempotency_key_reused")
    assert len(files_of(served)) == 1


def test_json_still_names_an_upload_or_a_path(served: Served) -> None:
    error_of(served.http.post("/datasets", json={"name": "x"}), 422, "invalid_request")
    error_of(served.http.post("/datasets", json={"name": "x", "upload": "upl_none"}), 404, "upload_not_found")
    error_of(served.http.post("/datasets"), 422, "invalid_request")


def test_the_number_of_datasets_is_limited(serve: Serve) -> None:
    served = serve(max_datasets_per_owner=1)
    assert post(served, b"12345", ZIP).status_code == 202
    error_of(post(served, b"12345", ZIP), 403, "quota_exceeded")
    assert len(files_of(served)) == 1


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "image/png"])
def test_another_type_is_refused(served: Served, content_type: str) -> None:
    error_of(post(served, b"x", {"Content-Type": content_type}), 415, "unsupported_media_type")
    assert_nothing_stays(served)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", ZIP, 422),
        (b"", FORM, 400),
        (file_part(b"") + END, FORM, 422),
        (file_part() + file_part() + END, FORM, 400),
        (field_part("name") + END, FORM, 422),
        (b"".join(field_part(f"f{n}") for n in range(10_000)) + file_part() + END, FORM, 400),
        (file_part(b"x" * 3 * MIB)[:-2], FORM, 400),
        (file_part(b"x" * 3 * MIB) + field_part("name", b"\xff") + END, FORM, 400),
        (b"--XX\r\nX-Large: " + b"a" * MIB + b"\r\n\r\n" + END, FORM, 400),
        (b"x", {"Content-Type": "multipart/form-data; boundary=" + "b" * 10_000}, 400),
        (b"x", {"Content-Type": "multipart/form-data"}, 400),
    ],
    ids=[
        *("empty", "empty-form", "empty-file", "two-files", "no-file", "ten-thousand-parts", "cut-form"),
        *("bad-field-after-the-file", "megabyte-header", "long-boundary", "no-boundary"),
    ],
)
def test_a_body_that_is_no_file_leaves_nothing(
    served: Served, body: bytes, headers: dict[str, str], status: int
) -> None:
    began = time.process_time()
    response = post(served, body, headers)
    error_of(response, status, "body_unreadable" if status == 400 else "invalid_request")
    assert time.process_time() - began < 2
    assert_nothing_stays(served)


class TestSizes:
    def test_an_honest_length_is_refused_before_the_body(self, serve: Serve) -> None:
        served = serve(max_dataset_upload_bytes=MIB)
        for size in (4 * MIB, 10**12):
            with connected(served) as client:
                head = POST + b"Content-Type: application/zip\r\nContent-Length: %d\r\n\r\n" % size
                send_much(client, head, b"", len(head))
                error_of(answer_of(client), 413, "body_too_large")
        assert_nothing_stays(served)

    @pytest.mark.parametrize("headers", [ZIP, FORM])
    def test_a_body_in_chunks_is_refused_at_the_limit(self, serve: Serve, headers: dict[str, str]) -> None:
        served = serve(max_dataset_upload_bytes=MIB)

        def pieces() -> Iterator[bytes]:
            if headers is FORM:
                yield file_part()[:-6]
            for _ in range(64):
                yield b"x" * 65536

        error_of(post(served, pieces(), headers), 413, "body_too_large")
        assert_nothing_stays(served)

    def test_a_length_that_is_too_short_makes_the_rest_no_part_of_the_file(self, served: Served) -> None:
        """What follows would be the next request, and is none: the connection ends, and with it what was begun."""
        with connected(served) as client:
            head = POST + b"Content-Type: application/zip\r\nContent-Length: 10\r\n\r\n"
            send_much(client, head + b"0123456789" + b"x" * 100, b"", 1)
            with suppress(ConnectionResetError):
                assert client.recv(12) in {b"", b"HTTP/1.1 202", b"HTTP/1.1 400"}
        assert served.http.get("/healthz").status_code == 200
        for name in files_of(served):
            assert (served.settings.data_dir / "uploads" / name).read_bytes() == b"0123456789"

    def test_a_length_that_is_too_long_leaves_nothing(self, serve: Serve) -> None:
        served = serve(door={"body_grace_s": 0.5, "stream_pause_s": 0.5})
        with connected(served) as client:
            client.sendall(POST + b"Content-Type: application/zip\r\nContent-Length: 1000000\r\n\r\n0123456789")
            error_of(answer_of(client), 408, "request_timeout")
        assert_nothing_stays(served)

    def test_a_file_larger_than_other_bodies_may_be_is_taken(self, serve: Serve) -> None:
        served = serve(max_body_bytes=1024, max_upload_bytes=1024, max_upload_bytes_at_once=1024)
        assert post(served, b"x" * 3 * MIB, ZIP).status_code == 202
        assert post(served, (b"y" * MIB for _ in range(3)), ZIP).status_code == 202
        json = {"Content-Type": "application/json"}
        error_of(served.http.post("/jobs", content=b"x" * 2048, headers=json), 413, "body_too_large")

    def test_quotas_and_free_space_hold(self, serve: Serve) -> None:
        served = serve(max_dataset_bytes_per_owner=MIB)
        error_of(post(served, b"x" * (MIB + 1), ZIP), 403, "quota_exceeded")
        error_of(post(served, (b"x" * MIB for _ in range(70)), ZIP), 403, "quota_exceeded")
        assert_nothing_stays(served)
        full = serve(min_free_disk_bytes=2**60)
        error_of(post(full, b"x", ZIP), 507, "disk_full")
        assert_nothing_stays(full)


@pytest.mark.parametrize("content_type", [b"application/zip", b"multipart/form-data; boundary=XX"])
def test_clients_that_leave_in_the_middle_leave_nothing(served: Served, content_type: bytes) -> None:
    """Twenty times, at any point."""
    body = file_part(b"x" * 3 * MIB) if b"XX" in content_type else b"x" * 3 * MIB
    for number in range(20):
        with connected(served) as client:
            client.sendall(POST + b"Content-Type: %s\r\nContent-Length: 5000000\r\n\r\n" % content_type)
            client.sendall(body[: len(body) * number // 20])
            if number % 2:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not an end
    assert_nothing_stays(served)
    assert served.http.get("/healthz").status_code == 200


def test_without_the_key_no_more_than_64_kb_are_read(serve: Serve) -> None:
    served = serve(admin_key=SecretStr("k" * 20))
    with connected(served) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        head = POST + b"Content-Type: application/zip\r\nContent-Length: 60000000\r\nExpect: 100-continue\r\n\r\n"
        client.sendall(head)
        error_of(answer_of(client), 401, "unauthenticated")  # and no 100 before it
    with connected(served) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        sent = send_much(client, head.replace(b"Expect: 100-continue\r\n", b""), b"x" * 65536, 60_000_000)
    assert sent < 8 * MIB  # what the kernel's buffers took
    assert files_of(served) == []


def test_only_so_many_files_arrive_at_once_and_predictions_keep_their_places(serve: Serve) -> None:
    served = serve(max_uploads_at_once=2, max_queued_predictions=1, max_upload_bytes_at_once=MIB)
    head = POST + b"Content-Type: application/zip\r\nContent-Length: 5000000\r\n\r\n"
    with connected(served) as first, connected(served) as second, connected(served) as third:
        for client in (first, second):
            client.sendall(head + b"x" * 100_000)
        wait_until(lambda: served.door.admission._free_streams == 0)
        third.sendall(head)
        error_of(answer_of(third), 503, "too_many_uploads")
        response = served.http.post("/predict", content=b"x" * 100_000, headers={"Content-Type": "image/png"})
        assert response.status_code != 503 or response.json()["error"]["code"] == "no_checkpoint"
    wait_until(lambda: served.door.admission._free_streams == 2)
    assert post(served, b"x" * 100_000, ZIP).status_code == 202


def test_an_owner_leaves_a_place_to_the_others(serve: Serve) -> None:
    served = serve(max_uploads_at_once=4)
    head = POST + b"Content-Type: application/zip\r\nContent-Length: 5000000\r\n\r\n"
    with ExitStack() as clients:
        for _ in range(3):
            clients.enter_context(connected(served)).sendall(head + b"x" * 100_000)
        wait_until(lambda: len(files_of(served)) == 3)
        fourth = clients.enter_context(connected(served))
        fourth.sendall(head + b"x" * 100_000)
        assert "you are sending 3 files" in error_of(answer_of(fourth), 503, "too_many_uploads")["message"]
    assert_nothing_stays(served)


def test_a_slow_body_within_the_limits_is_taken(serve: Serve) -> None:
    served = serve(door={"stream_pause_s": 1.0})

    def slowly() -> Iterator[bytes]:
        for _ in range(10):
            time.sleep(0.2)
            yield b"x" * 10_000

    assert post(served, slowly(), ZIP).status_code == 202


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
@pytest.mark.parametrize("headers", [ZIP, FORM], ids=["raw", "form"])
def test_a_large_file_costs_no_memory(tmp_path: Path, headers: dict[str, str]) -> None:
    def pieces() -> Iterator[bytes]:
        if headers is FORM:
            yield file_part()[:-6]
        for _ in range(300):
            yield b"x" * MIB
        if headers is FORM:
            yield b"\r\n" + END

    command = [sys.executable, "-m", "tests.api.served_alone", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def read_peak() -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        port = int(process.stdout.readline())
        read_peak()
        before = read_peak()
        url = f"http://127.0.0.1:{port}/datasets?name=large"
        answer = httpx.post(url, content=pieces(), headers=headers, timeout=120, trust_env=False)
        assert answer.status_code == 202, answer.text
        assert read_peak() - before < 30 * MIB
        process.stdin.close()
        process.wait(60)
